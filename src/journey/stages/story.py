"""What a stage tells of itself on the page: a line of the first screen, and its section.

    @mine.tells
    def tell(told: Told) -> Story: ...

A stage that tells nothing gets the facts of its lineage, its curves through training, and what it `shows`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from journey.checkpoint import Node
from journey.files import read_json
from journey.model import adapter
from journey.report.blocks import Block, Curves, Facts, Fold, Line, Mark, Row, Sample, Samples, Shown
from journey.report.format import big, bytes_, duration, join, number
from journey.scores import Taken, estimates
from journey.train.history import read_history
from journey.train.log import LOG
from journey.train.tail import Tail


@dataclass(frozen=True)
class Told:
    """What a stage has to go by: its finished node, the one before, and what was measured at it."""

    node: Node
    parent: Node | None
    parents: Sequence[str] = ()  # their names
    texts: Sequence[str] = ()  # the names of the text that it was trained on, or of those of a mixture
    taken: Mapping[str, Taken] = field(default_factory=dict)
    colour: int = 0

    @property
    def text(self) -> str:
        """The name of the text that it was trained on, or the names of several."""
        return join(list(self.texts))


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
    lr: float
    grad_norm: float
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
        ("chosen", "; ".join(line.get("chosen", {}).get("why", [])) or None),
        *_adapter(told.node),
    ]
    return Facts([(name, value) for name, value in rows if value])


def _adapter(node: Node) -> list[tuple[str, str]]:
    """Of an adapter how much of it there is, against its model, and what the model in four bits made of it."""
    metrics = node.lineage.get("metrics", {})
    if "trained_parameters" not in metrics:
        return []
    ours, whole = map(adapter.n_bytes, (node.path, adapter.chain(node.path)[-1]))
    n = big(metrics["trained_parameters"]["value"])
    rows = [("trained", f"{n} parameters, {bytes_(ours)} beside a model of {bytes_(whole)}")]
    if "dev_loss_merged" in metrics:
        quantized, merged = (number(metrics[name]["value"]) for name in ("dev_loss", "dev_loss_merged"))
        rows.append(("four bits", f"dev loss {quantized} nats/token in them, {merged} merged into fp32"))
    return rows


def _shape(folder: Path) -> str | None:
    """Family, layers and width from a Hugging Face config, in any of its dialects."""
    folder = adapter.holding(folder, "config.json")
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
    return read_history(node.path)  # type: ignore[return-value]


def curves(told: Told, unit: str = "nats/token") -> list[Block]:
    """Training loss in `unit`, what was scored on the dev split along the way, with the n-grams as marks, and, for who
    opens it, how the training itself went."""
    lines = history(told.node)
    found: list[Block] = []
    target = told.node.lineage.get("config", {}).get("target")
    for key, name, y, caption in (
        ("loss", "training loss", unit, "Loss on the training text, means of neighbouring steps."),
        ("dev_loss", "dev loss", unit, "Loss on the held-out dev split through training."),
        ("dev_accuracy", "dev accuracy", "share of pairs", "Pairs of the dev split told apart through training."),
        ("dev_perplexity", "dev perplexity", "", "Perplexity on the dev split through training: per token, so that it "
         "compares under one vocabulary alone."),
        *((key, key.removeprefix("dev_"), "", "Taken on the dev split through training.") for key in _taken(lines)),
    ):  # fmt: skip
        if len(points := _points(lines, key)) > 1:
            title = f"{name[0].upper()}{name[1:]} of {told.node.name}"
            marks = [Mark(target, "to be reached")] if key == "dev_loss" and target else []
            found.append(Curves(title, "tokens", y, [Line(name, points, told.colour)], marks, caption))
    replayed = told.node.lineage.get("data", {}).get("replay_data", {}).get("name", "replayed text")
    whole = "dev_bits_per_byte"
    parts = {key: key.removeprefix(f"{whole}_") for line in lines for key in line if key.startswith(f"{whole}_")}
    held = [
        Line(name, points, told.colour, key != whole)
        for key, name in ({whole: told.text} | parts | {f"{whole}_replay": replayed}).items()
        if len(points := _points(lines, key)) > 1
    ]
    if held:
        marks = _ngrams(told)
        beside = " The dashed marks are the n-gram models on the test split." if marks else ""
        caption = f"Bits per byte on the dev split through training.{beside}"
        title = f"Dev bits per byte of {told.node.name}"
        found.append(Curves(title, "tokens", "bits/byte", held, marks, caption))
    return [Row(found), *_written(told, lines), *_by_the_way(told, lines)] if found else []


def _taken(lines: Sequence[Moment]) -> list[str]:
    """The numbers of measures that were taken through training: `dev_` and a score's key, which has a dot."""
    return list(dict.fromkeys(key for line in lines for key in line if key.startswith("dev_") and "." in key))


def _written(told: Told, lines: Sequence[Any]) -> list[Block]:
    """What the model wrote after one prompt as it learned, where samples were taken: some of the times, spread."""
    sampled = [line for line in lines if line.get("samples")]
    if not sampled:
        return []
    chosen = [sampled[round(i * (len(sampled) - 1) / 5)] for i in range(6)] if len(sampled) > 6 else sampled
    said = [Sample(f"after {big(line['tokens'])} tokens", line["samples"][0]["text"], told.colour) for line in chosen]
    prompt = sampled[0]["samples"][0]["prompt"].rstrip()
    return [Fold("What it wrote as it learned", [Samples(said, prompt, "To be continued")])]


def _by_the_way(told: Told, history: Sequence[Moment]) -> list[Block]:
    """Learning rate, gradient, speed and how far each layer moved: the last two from the log, which says what this
    one run did."""
    path, name = told.node.path / LOG, told.node.name
    logged = [line for line in (Tail(path).new() if path.is_file() else []) if "tokens" in line and "step" in line]
    found: list[Block] = []
    for key, title, y, caption, lines in (
        ("lr", "Learning rate", "", "Of AdamW, where there are two optimizers.", history),
        ("grad_norm", "Gradient norm", "", "Of all weights, before it is clipped.", history),
        ("tokens_per_second", "Speed", "tokens/s", "Of each step, without evaluating and saving.", logged),
    ):
        if len(points := _points(lines, key)) > 1:
            what = Line(title.lower(), points, told.colour)
            found.append(Curves(f"{title} of {name}", "tokens", y, [what], caption=caption, name=title))
    if moved := _moved(logged):
        caption = "‖Δw‖/‖w‖ of one step: how far it moves a layer's weights, against their size."
        title = f"Update of the layers of {name}"
        found.append(Curves(title, "tokens", "", moved, caption=caption, log=True, name="Update by layer"))
    return [Fold("How the training went", [Row(found)], small="rate, gradient, speed, layers")] if found else []


def _moved(logged: Sequence[Mapping[str, Any]]) -> list[Line]:
    """A line each of the embedding, the head, and of all blocks the first, the middle and the last."""
    looked = [line for line in logged if isinstance(line.get("update_norms"), dict)]
    if len(looked) < 2:
        return []
    names = list(looked[-1]["update_norms"])
    blocks = [name for name in names if name.startswith("block")]
    shown = {*names} - {*blocks} | {blocks[i] for i in (0, len(blocks) // 2, -1) if blocks}
    return [
        Line(name, [(line["tokens"], at) for line in looked if (at := line["update_norms"].get(name))], colour)
        for colour, name in enumerate(name for name in names if name in shown)
    ]


def _points(history: Sequence[Any], key: str) -> list[tuple[float, float]]:
    return [(line["tokens"], line[key]) for line in history if key in line and "tokens" in line]


def _ngrams(told: Told) -> list[Mark]:
    """Of the text trained on: scores of this model's measures that are compared with its own."""
    return [
        Mark(e.value, key.removeprefix(f"bits_per_byte.{told.text}."))
        for taken in told.taken.values()
        for key, e in estimates(taken).items()
        if key.startswith(f"bits_per_byte.{told.text}.")
    ]
