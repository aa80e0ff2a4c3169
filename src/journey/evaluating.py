"""Measuring what a person names: a node of a journey on the journey's texts, or any folder on texts that are given."""

from collections.abc import Sequence
from pathlib import Path

from journey import measuring, runner
from journey.checkpoint import LINEAGE, Node, open_node
from journey.console import Console
from journey.errors import JourneyError
from journey.measures import load
from journey.scores import Taken
from journey.stages import kind_of
from journey.stages.inputs import source_of
from journey.stages.run import Run, identify
from journey.stages.text import Text
from journey.stages.text import text as read_text


def evaluate(
    name: str, measures: Sequence[str], texts: Sequence[str], journey: Path, out: Path, console: Console
) -> tuple[Node, dict[str, Taken]]:
    """A node and what was measured at it, by measure: all that stands, or what is asked for, taken where it does not
    stand yet. A node of `journey` is measured on its texts and as its recipe says; with texts named, or a node from
    elsewhere, what was found is kept in `out`.

    Errors: JourneyError for a measure that is not of such a node, and where texts are needed and none are named.
    """
    node = runner.find_node(name, journey)
    plan = runner.read_plan(journey) if (journey / runner.PLAN).exists() else None
    inside = plan is not None and any(entry["id"] == node.id for entry in plan["stages"])
    if inside and not measures and not texts and (stands := measuring.read(node, journey)):
        return node, stands
    for measure in map(load, measures):
        if measure.of != kind_of(node):
            raise JourneyError(f"{measure.name} is taken of a {measure.of} node, {name} is a {kind_of(node)}")
    settings, seed = measuring.Measuring(), 0
    if inside and plan:
        settings, seed = measuring.Measuring.read(plan["measure"]), plan["seed"]
    settings = settings.only(measures) if measures else settings
    if texts:
        held_out = [_text(text, journey, out, seed, console) for text in texts]
    else:
        held_out = runner.texts(journey) if inside else []
    reading = [m.name for m in measuring.wanted(node, settings).values() if {*m.reads} - {"parent"}]
    if reading and not held_out:
        raise JourneyError(
            f"{name}: {reading[0]} needs text: name some, as in --text my-texts/ or --text installed-docs"
        )
    found = measuring.take(
        node,
        runner.model_before(node),
        {text.name: text for text in held_out},
        journey if inside and not texts else out,
        settings,
        seed=seed,
        console=console,
    )
    return node, found.taken


def _text(name: str, journey: Path, out: Path, seed: int, console: Console) -> Node:
    """A text of the journey, a text node's folder, or one made here of a built-in source or of files."""
    if (journey / runner.PLAN).exists() and (found := runner.stage_node(name, journey)):
        return found
    if (Path(name) / LINEAGE).exists():
        return open_node(name)
    config = Text(source=source_of(name))
    label = Path(config.source).stem or "text"
    id = identify(read_text, config, [], {}, seed)
    return read_text(None, config, Run(out / "texts" / f"{label}-{id[:10]}", seed, label, console))
