"""PTQ: post-training quantization. The same model with weights of 8 or 4 bits, in a folder that other tools open."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.fields import Count
from journey.files import read_json, write_json
from journey.metrics import metric
from journey.model import adapter
from journey.pair import open_pair
from journey.report.blocks import Block, Cell, Curves, Fold, Line, Row, Table, TableRow, Text
from journey.report.format import bytes_, number
from journey.stages.cost import Cost, parameters, writing
from journey.stages.inputs import Input, names
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told, facts

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.tokenizer.formats import Tokenizer

FACTS = "ptq.json"  # of the node: how each weight was rounded
ERROR = (
    "How far rounding moved each weight matrix: the length of the difference over that of the matrix (Frobenius "
    "norms), in percent."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PTQ:
    """Settings of the ptq stage."""

    method: Literal["int8", "llm.int8", "int4", "awq"] = "int8"
    """int8: 8 bits, a scale for each output channel; llm.int8: those, and inputs of 8 bits too, but for the large ones;
    int4: 4 bits, a scale for each group of inputs; awq: those, after the inputs that are usually large on a text were
    given finer steps."""
    group: Literal[32, 64, 128] = 64
    """Of 4 bits, how many inputs share a scale: 32 make 5 bits a weight, 64 make 4.5 and 128 make 4.25."""
    head: bool = True
    """Quantize the output head too, to 8 bits whatever the blocks have (llm.int8 leaves it as it is, as its paper does,
    and a GPT-2 of 4 bits must)."""

    data: str = names("", Input(("text",)), "awq: the text on whose dev split it finds which inputs are large")
    tokens: Count = 32_768
    """awq: how many tokens of it are read."""

    def __post_init__(self) -> None:
        if self.method == "awq" and not self.data:
            raise JourneyError("awq needs data: name the text that it finds its scales on (the dev split alone)")

    def cost(self, before: Sequence[Any]) -> Cost:
        """By the size of the model; to try scales takes about a second for a million parameters."""
        made, n = writing(before), parameters(before)
        return Cost(made.seconds + n / 1e6, made.bytes) if n and self.method == "awq" else made


@stage(
    takes="model",
    makes="model",
    why=(
        "Every weight is rounded to a whole number of 8 or 4 bits times a scale that many of them share. Nothing is "
        "learned. To write a token a model reads each of its weights once, so fewer bits are *faster* as well as "
        "smaller; the question is what the rounding costs."
    ),
    example=(
        "journey ptq preferred --out int8\n"
        "journey ptq preferred --method int4 --group 32 --out int4\n"
        "journey ptq preferred --method awq --data my-texts/ --out awq"
    ),
    shows=("flipped.{others}", "kl.{others}"),
    version=1,
)
def ptq(parent: Node, config: PTQ, run: Run) -> dict[str, Any]:
    """Write the parent with weights of 8 or 4 bits, in formats that transformers opens."""
    from journey.model import awq, compressed, huggingface, quantized

    model, tokenizer = open_pair(parent.path)
    if quantized.is_quantized(model):
        raise JourneyError(f"{parent.path} is quantized already: take the model that it was made of")
    bits: quantized.Bits = 8 if config.method in ("int8", "llm.int8") else 4
    mixed = bits == 4 and bool(compressed.turned(model.config))
    head = config.head and not mixed and config.method != "llm.int8"
    if config.head and mixed:
        run.say(f"{run.name}: the head stays as it is: transformers would not open this family's 4 bits beside its 8")
    if head and model.config.tied:
        V, C = model.embed.weight.shape
        run.say(f"{run.name}: the head, no longer tied to the embedding, takes {V * (C + 4):,} bytes of its own")
    scaled = []
    if config.method == "awq":
        rows = _rows(tokenizer, run.corpora["data"], model.config.n_ctx, config.tokens)
        run.say(
            f"{run.name}: scales are chosen on {sum(map(len, rows)):,} tokens of {run.given['data'].name}'s dev split"
        )
        progress = functools.partial(run.progress, unit="layers")
        scaled = [dataclasses.asdict(choice) for choice in awq.apply(model, rows, bits, config.group, progress)]
    kind = quantized.OutlierLinear if config.method == "llm.int8" else quantized.QuantizedLinear
    errors = quantized.quantize(model, bits, config.group, head, kind)
    huggingface.save_like(model, parent.path, run.folder)
    n_bytes, before = adapter.n_bytes(run.folder), 4 * huggingface.load_config(parent.path).n_params
    inside = sum(errors.values()) / len(errors)
    write_json(run.folder / FACTS, {"bytes": n_bytes, "bytes_fp32": before, "weight_error": errors, "scaled": scaled})
    return {
        "metrics": {
            "bytes": metric(n_bytes, "bytes"),
            "bytes_fp32": metric(before, "bytes", "of the model in fp32, an adapter merged"),
            "weight_error": metric(100 * inside, "%", "of the weight's length, mean over the matrices"),
        }
    }


def _rows(tokenizer: "Tokenizer", text: "Corpus", n_ctx: int, tokens: int) -> list[list[int]]:
    """Documents of the dev split, each behind its mark and cut to the context, until there are so many tokens."""
    rows: list[list[int]] = []
    for document in text.stream("dev"):
        if (left := tokens - sum(map(len, rows))) <= 0:
            break
        rows.append([tokenizer.bos, *tokenizer.encode(document)][: min(n_ctx, left)])
    if not rows:
        raise JourneyError(f"the dev split of {text.name} is empty: name a text with one")
    return rows


@ptq.tells
def tell(told: Told) -> Story:
    """What it weighs, and how far each matrix moved."""
    found = read_json(told.node.path / FACTS)
    share, errors = 100 * found["bytes"] / found["bytes_fp32"], found["weight_error"]
    said = f"{bytes_(found['bytes'])} of {bytes_(found['bytes_fp32'])}"
    return Story(
        [facts(told), Text(f"The folder has {said}."), Row([_by_layer(told, errors), *_scaled(found["scaled"])])],
        big=f"{number(share, decimals=0)}\u00a0%",
        what=f"of the fp32 bytes: {said}",
    )


def _by_layer(told: Told, errors: dict[str, float]) -> Curves:
    """A line a kind of matrix, over the layers; the head, which is in none, is named in the caption."""
    kinds: dict[str, list[tuple[float, float]]] = {}
    for name, error in errors.items():
        if name.startswith("blocks."):
            _, layer, kind = name.split(".", 2)
            kinds.setdefault(kind, []).append((float(layer), 100 * error))
    head = f" The head moved by {number(100 * errors['head'])} %." if "head" in errors else ""
    return Curves(
        f"Error of the weights of {told.node.name}",
        "layer",
        "%",
        [Line(kind, points, colour) for colour, (kind, points) in enumerate(kinds.items())],
        caption=ERROR + head,
        values=sorted({x for points in kinds.values() for x, _ in points}),
    )


def _scaled(choices: list[dict[str, Any]]) -> list[Block]:
    """What activation-aware scales did for the outputs of the layers that have them."""
    if not choices:
        return []
    rows: list[TableRow] = [
        [
            Cell(", ".join(name.removeprefix("blocks.") for name in choice["names"]), code=True),
            number(choice["alpha"]),
            number(100 * choice["error_unscaled"]),
            number(100 * choice["error"]),
        ]
        for choice in choices
    ]
    head = ["layers", "alpha", "rounded as they were, %", "scaled first, %"]
    return [Fold("What scaling did", [Table("Relative error of the layers' outputs on the dev split", head, rows)])]
