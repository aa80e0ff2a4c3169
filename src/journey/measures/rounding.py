"""What quantization did to a model's predictions and inner states, against the model that it was made of."""

from dataclasses import dataclass, replace

from journey.evaluate.conventions import WILSON
from journey.fields import Several
from journey.measure import Bench, Seen, dots, measure, score_keys, skipped, thinned
from journey.report.blocks import Block, Curves, Line, Mark, Place, Row
from journey.scores import Items, Score, Taken, estimate

_RESAMPLED = "bootstrap over documents, 2,000 resamples"


@dataclass(frozen=True)
class Rounding:
    """Settings of the measure."""

    documents: Several = 100
    """Of each text; two models are run over them."""


@measure(
    of="model",
    title="Quantized weights",
    why="Which predictions the rounding of the weights flipped, and how its error grows from block to block. What it "
    "costs in bits per byte and in KL stands with those measures.",
    keys=("flipped.{text}", "stream_error.{text}", "flipped_choices"),
    reads=("documents", "choices", "parent"),
    version=1,
)
def rounding(bench: Bench, config: Rounding) -> Taken:
    """Flipped tokens and the error of each block's output by document, and flipped answers; nothing for a model whose
    weights are not quantized."""
    from journey.interpret import diff
    from journey.interpret import rounding as between
    from journey.model.huggingface import is_quantized

    if not is_quantized(bench.node.path) or bench.parent is None or bench.before is None:
        return Taken()
    before, its_tokenizer = bench.before
    if reason := diff.obstacle(before, bench.model, its_tokenizer, bench.tokenizer):
        return Taken(facts={"skipped": reason})
    parent, items, scores = bench.parent.name, {}, []
    for name, held_out in bench.documents.items():
        some = thinned(held_out, config.documents)
        items[name] = Items.of(between.predictions(before, bench.model, bench.tokenizer, some))
        scores += [
            Score(
                key=f"flipped.{name}",
                label=f"tokens of {name} whose likeliest guess flipped",
                num="flipped",
                den="tokens",
                items=name,
                unit="%",
                stated=f"0: the same guess as {parent}'s everywhere",
                question=f"How many of its guesses in {name} are others than {parent}'s?",
                item="documents",
                convention=f"the likeliest next token, at every token of held-out text; {_RESAMPLED}",
                brief=True,
            ),
            Score(
                key=f"stream_error.{name}",
                label=f"error of the last block's output, {name}",
                num=f"block.{before.config.n_layer - 1}",
                items=name,
                unit="%",
                stated="0: the same numbers",
                question=f"How far are the inner states that it predicts {name} from off {parent}'s?",
                item="documents",
                convention=f"length of the difference over that of {parent}'s residual stream, of each document, mean; "
                f"without the document mark; {_RESAMPLED}",
            ),
        ]
    if bench.choices:
        items["choices"] = Items.of(between.picks(before, bench.model, bench.tokenizer, bench.choices))
        scores.append(
            Score(
                key="flipped_choices",
                label="multiple-choice answers flipped",
                num="flipped",
                items="choices",
                share=True,
                unit="%",
                stated=f"0: every answer as {parent}'s",
                question=f"How many of {parent}'s answers did it change, to right ones or to wrong?",
                convention=f"another option picked, by log-probability per character; {WILSON}",
            )
        )
    return Taken(items, scores, {"n_layer": before.config.n_layer})


@rounding.chapter
def draw(seen: Seen) -> list[Block]:
    """The flips of every model, and the error by block."""
    flips = [key for key in score_keys(seen) if key.startswith("flipped")]
    made: list[Block] = [dots(seen, key, marks=[Mark(0.0, "no change")]) for key in flips]
    return [*skipped(seen), Row([*made, *_by_block(seen)])]


def _by_block(seen: Seen) -> list[Block]:
    """The error of each block's output, a figure a text, a line a model."""
    found: dict[str, list[Line]] = {}
    for subject, taken in seen.items():
        for score in taken.scores:
            if not score.key.startswith("stream_error."):
                continue
            layers = [replace(score, num=f"block.{layer}") for layer in range(int(str(taken.facts["n_layer"])))]
            estimates = {layer: e for layer, each in enumerate(layers) if (e := estimate(taken, each)) is not None}
            points = [Place(float(layer), e.value, e.low, e.high) for layer, e in estimates.items()]
            found.setdefault(score.items, []).append(Line(subject.name, points, subject.colour))
    return [
        Curves(
            f"Error by block, {text}",
            "block",
            "%",
            lines,
            caption=f"How far the residual stream after each block is from the unquantized model's, on {text}, in "
            "percent of its length, with 95 % intervals.",
            values=sorted({float(place.x) for line in lines for place in line.points if isinstance(place, Place)}),
        )
        for text, lines in found.items()
    ]
