"""Measuring what a person names: a node of a journey on the journey's texts, or any folder on texts that are given."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from journey import measuring, runner
from journey.checkpoint import LINEAGE, Node, made_nodes, open_node
from journey.console import Console
from journey.data.corpus import WHOLE, Corpus
from journey.data.sources import SOURCES
from journey.errors import JourneyError
from journey.evaluate.contamination import overlap
from journey.evaluate.trained_on import trained_on
from journey.fields import chosen
from journey.files import digest
from journey.measures import load
from journey.scores import Taken
from journey.stages import a, kind_of
from journey.stages.inputs import source_of
from journey.stages.run import text_of

EVERY = 10**9  # documents: all that there are


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
    (`configs`, by measure) that are not the recipe's, or a node from elsewhere, what was found is kept in `out`, by the
    settings.
    Files that neither the node nor what it was made from was trained on are read whole; of any other text the test
    split, and of none more documents than the settings say.

    Errors: JourneyError for a measure that is not of such a node, and where texts are needed and none are named.
    """
    node = runner.find_node(name, journey)
    plan = runner.standing_plan(journey)
    entry = next((entry for entry in plan["stages"] if entry["id"] == node.id), None) if plan else None
    if entry and not measures and not texts and (stands := measuring.read(node, journey)):
        return node, stands
    for measure in map(load, measures):
        if measure.of != kind_of(node):
            raise JourneyError(f"{measure.name} is taken of {a(measure.of)}, {name} is {a(kind_of(node))}")
    settings, seed = measuring.Measuring(), plan["seed"] if plan else 0  # the same items of any node
    if plan and entry:
        settings = measuring.Measuring.read(plan["measure"])
    recipe = settings.configs
    settings = settings.only(measures or [*settings.configs, "perplexity"]) if measures or texts else settings
    settings = dataclasses.replace(settings, configs={**settings.configs, **configs})
    own = any(recipe.get(measure) != config for measure, config in configs.items())  # not as the recipe has it
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
    whole = bool(texts) and all(_made_here(text, out) for text in held_out) and not _read_by(node, held_out)
    if whole:
        settings = dataclasses.replace(settings, drawn=dataclasses.replace(settings.drawn, documents=EVERY))
        n = {text.name: len(Corpus(text.path).documents(WHOLE)) for text in held_out}
        console.say(f"{name}: on all documents of {', '.join(f'{text} ({count:,})' for text, count in n.items())}")
    reading = [measure.name for measure in wanted if {*measure.reads} - {"parent"}]
    if reading and not held_out:
        raise JourneyError(
            f"{name}: {reading[0]} needs text: name some, as in --text my-texts/ or --text installed-docs"
        )
    before = [runner.find_node(parent, journey) for parent in entry["parents"]] if entry else []
    place = journey if entry and not texts else out
    if own:  # what a person asks of several benchmarks is the same of each, so it is one folder
        place = out / digest(sorted({digest(chosen(config)) for config in configs.values()}))[:8]
    found = measuring.take(
        node,
        next((parent for parent in before if parent.is_model), None) if entry else runner.model_before(node),
        by_name,
        place,
        settings,
        seed=seed,
        console=console,
        split=WHOLE if whole else measuring.SPLIT,
    )
    return node, found.taken


def _made_here(text: Node, out: Path) -> bool:
    """Whether a text was made of files that a person named, and is no text of a journey or of ours."""
    return text.path.parent.resolve() == (out / "texts").resolve() and text.lineage["config"]["source"] not in SOURCES


def _read_by(node: Node, texts: Sequence[Node]) -> bool:
    """Whether a node, or one that it was made from, was trained on one of these texts, however it was split; or on one
    that shares a tenth of its documents."""
    made = made_nodes(node.path.parent)
    fingerprints = {Corpus(other.path).fingerprint for other in made if kind_of(other) == "text" and _gave(other, node)}
    if any(Corpus(text.path).fingerprint in fingerprints for text in texts):
        return True
    read = trained_on(node, made)
    if not read.texts:
        return False
    documents = [document.text for text in texts for document in Corpus(text.path).documents(WHOLE)]
    return bool((overlap(documents, read.read()) > 0.5).mean() > 0.1)


def _gave(text: Node, node: Node) -> bool:
    """Whether a text is among what a node and its ancestors read, as it is or as tokens made of it."""
    lines = [given for other in runner.ancestors(node) for given in other.lineage.get("data", {}).values()]
    return any(text.id in (given.get("id"), given.get("text", {}).get("id")) for given in lines)


def _text(name: str, journey: Path, out: Path, seed: int, console: Console) -> Node:
    """A text of the journey, a text node's folder, or one made here of a built-in source or of files."""
    found = runner.stage_node(name, journey) if (journey / runner.PLAN).exists() else None
    if found is None and (Path(name) / LINEAGE).exists():
        found = open_node(name)
    if found and kind_of(found) != "text":
        raise JourneyError(f"{name} is a {found.stage} node: --text wants a text")
    return found or text_of(source_of(name), out / "texts", seed, console)
