"""What a stage tells of itself on the page: a line of the first screen, and its section.

    @mine.tells
    def tell(told: Told) -> Story: ...

A stage that tells nothing gets the facts of its lineage, its curves through training, and what it `shows`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from journey.checkpoint import Node
from journey.files import read_json
from journey.report.blocks import Block, Curves, Facts, Line, Mark, Row, Shown
from journey.report.format import big, duration, join
from journey.scores import Taken, estimates


@dataclass(frozen=True)
class Told:
    """What a stage has to go by: its finished node, the one before, and what was measured at it."""

    node: Node
    parent: Node | None
    parents: Sequence[str] = ()  # their names
    text: str = ""  # the name of the text that it was trained on
    taken: Mapping[str, Taken] = field(default_factory=dict)
    colour: int = 0


@dataclass(frozen=True)
class Story:
    """Blocks for the section and, where what the stage `shows` is not its number, the line of the first screen."""

    blocks: Sequence[Block] = ()
    big: str = ""
    what: str = ""
    said: str = ""
    changes: Sequence[Shown] = ()


class Moment(TypedDict, total=False):
    """A line of history.json, as far as it is drawn."""

    tokens: int
    loss: float
    dev_loss: float
    dev_accuracy: float
    dev_exact_match: float
    dev_bits_per_byte: float
    dev_bits_per_byte_replay: float


def by_default(told: Told) -> Story:
    """The facts, and the curves through training."""
    return Story([facts(told), *curves(told)])


def facts(told: Told) -> Facts:
    """What the lineage says in a few words."""
    line = told.node.lineage
    rows = [
        ("read", f"{big(line['tokens'])} tokens" if line.get("tokens") else None),
        ("work", f"{big(line['flops'])} FLOPs" if line.get("flops") else None),
        ("time", duration(line["seconds"]) if line.get("seconds") else None),
        ("from", join(list(told.parents)) or None),
        ("text", told.text or None),
        ("shape", _shape(told.node.path)),
    ]
    return Facts([(name, value) for name, value in rows if value])


def _shape(folder: Path) -> str | None:
    """Family, layers and width from a Hugging Face config, in any of its dialects."""
    if not (folder / "config.json").exists():
        return None
    config = read_json(folder / "config.json")
    if "encoder_layers" in config:
        layers, width = f"{config['encoder_layers']} + {config['decoder_layers']}", config["d_model"]
    else:
        layers = config.get("num_hidden_layers", config.get("n_layer"))
        width = config.get("hidden_size", config.get("n_embd"))
    return f"{config.get('model_type', '')}, {layers} layers, width {width}"


def history(node: Node) -> list[Moment]:
    """What a training wrote down, a line a step; nothing for another node."""
    path = node.path / "history.json"
    found: list[Moment] = read_json(path) if path.exists() else []
    return found


def curves(told: Told, unit: str = "nats/token") -> list[Block]:
    """Training loss in `unit`, and what was scored on the dev split along the way, with the n-grams as marks."""
    lines = history(told.node)
    found: list[Block] = []
    for key, name, y, caption in (
        ("loss", "training loss", unit, "Loss on the training text, means of neighbouring steps."),
        ("dev_loss", "dev loss", unit, "Loss on the held-out dev split through training."),
        ("dev_accuracy", "dev accuracy", "share of pairs", "Pairs of the dev split told apart through training."),
    ):
        if len(points := _points(lines, key)) > 1:
            title = f"{name.capitalize()} of {told.node.name}"
            found.append(Curves(title, "tokens", y, [Line(name, points, told.colour)], caption=caption))
    replayed = told.node.lineage.get("data", {}).get("replay_data", {}).get("name", "replayed text")
    held = [
        Line(name, points, told.colour, faint)
        for key, name, faint in (("dev_bits_per_byte", told.text, False), ("dev_bits_per_byte_replay", replayed, True))
        if len(points := _points(lines, key)) > 1
    ]
    if held:
        marks = _ngrams(told)
        beside = " The dashed marks are the n-gram models on the test split." if marks else ""
        caption = f"Bits per byte on the dev split through training.{beside}"
        title = f"Dev bits per byte of {told.node.name}"
        found.append(Curves(title, "tokens", "bits/byte", held, marks, caption))
    return [Row(found)] if found else []


def _points(history: Sequence[Moment], key: str) -> list[tuple[float, float]]:
    return [(line["tokens"], line[key]) for line in history if key in line and "tokens" in line]  # type: ignore[literal-required]


def _ngrams(told: Told) -> list[Mark]:
    """Of the text trained on: scores of this model's measures that are compared with its own."""
    return [
        Mark(e.value, key.removeprefix(f"bits_per_byte.{told.text}."))
        for taken in told.taken.values()
        for key, e in estimates(taken).items()
        if key.startswith(f"bits_per_byte.{told.text}.")
    ]
