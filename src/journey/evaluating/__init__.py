"""Measuring what a person names: a node of a journey on the journey's texts, or any folder on texts that are given."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from journey import measuring, runner
from journey.checkpoint import LINEAGE, Node, open_node
from journey.console import Console
from journey.errors import JourneyError
from journey.measures import load
from journey.scores import Taken
from journey.stages import a, kind_of
from journey.stages.inputs import source_of
from journey.stages.run import text_of


def evaluate(
    name: str,
    measures: Sequence[str],
    texts: Sequence[str],
    journey: Path,
    out: Path,
    console: Console,
    configs: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Node, dict[str, Taken]]:
    """A node and what was measured at it, by measure: all that stands, or what is asked for, taken where it does not
    stand yet. A node of `journey` is measured on its texts and as its recipe says; with texts named, settings
    (`configs`, by measure) that are not the recipe's, or a node from elsewhere, what was found is kept in `out`.

    Errors: JourneyError for a measure that is not of such a node, and where texts are needed and none are named.
    """
    node = runner.find_node(name, journey)
    plan = runner.read_plan(journey) if (journey / runner.PLAN).exists() else None
    entry = next((entry for entry in plan["stages"] if entry["id"] == node.id), None) if plan else None
    if entry and not measures and not texts and (stands := measuring.read(node, journey)):
        return node, stands
    for measure in map(load, measures):
        if measure.of != kind_of(node):
            raise JourneyError(f"{measure.name} is taken of {a(measure.of)}, {name} is {a(kind_of(node))}")
    settings, seed = measuring.Measuring(), 0
    if plan and entry:
        settings, seed = measuring.Measuring.read(plan["measure"]), plan["seed"]
    recipe = settings.configs
    settings = settings.only(measures) if measures else settings
    settings = dataclasses.replace(settings, configs={**settings.configs, **configs})
    elsewhere = any(name in recipe and recipe[name] != config for name, config in configs.items())
    wanted = measuring.wanted(node, settings).values()
    if not wanted:
        raise JourneyError(f"{name} is {a(kind_of(node))}: no measure is taken of such a node")
    if texts:
        held_out = [_text(text, journey, out, seed, console) for text in texts]
    else:
        held_out = runner.texts(journey) if entry else []
    by_name = {text.name: text for text in held_out}
    if len(by_name) < len(held_out):
        raise JourneyError(f"two texts have one name ({', '.join(text.name for text in held_out)}): rename one")
    reading = [measure.name for measure in wanted if {*measure.reads} - {"parent"}]
    if reading and not held_out:
        raise JourneyError(
            f"{name}: {reading[0]} needs text: name some, as in --text my-texts/ or --text installed-docs"
        )
    before = [runner.find_node(parent, journey) for parent in entry["parents"]] if entry else []
    found = measuring.take(
        node,
        next((parent for parent in before if parent.is_model), None) if entry else runner.model_before(node),
        by_name,
        journey if entry and not texts and not elsewhere else out,
        settings,
        seed=seed,
        console=console,
    )
    return node, found.taken


def _text(name: str, journey: Path, out: Path, seed: int, console: Console) -> Node:
    """A text of the journey, a text node's folder, or one made here of a built-in source or of files."""
    found = runner.stage_node(name, journey) if (journey / runner.PLAN).exists() else None
    if found is None and (Path(name) / LINEAGE).exists():
        found = open_node(name)
    if found and kind_of(found) != "text":
        raise JourneyError(f"{name} is a {found.stage} node: --text wants a text")
    return found or text_of(source_of(name), out / "texts", seed, console)
