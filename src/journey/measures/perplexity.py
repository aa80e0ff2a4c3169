"""Perplexity of held-out text at a stated stride, and what a token costs by how much stood before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import cast

from journey.data.corpus import WHOLE
from journey.evaluate import statistics
from journey.fields import Amount
from journey.measure import Bench, Seen, Subject, dots, measure
from journey.report.blocks import Block, Cell, Curves, Fold, Line, Place, Prose, Row, Table, TableRow, Text
from journey.report.format import bytes_, number
from journey.scores import JSON, Against, Items, Score, Taken, estimate

HARDEST, BEGINS = 5, 80  # documents that are shown of each model and text, and characters of each

CONTEXT = Prose(
    "*Cost of a token* sorts tokens by how many the model had before them. Few there are only where a document begins, "
    "and beginnings are hard in themselves: compare the models, not the ends of one line. *Saved by further context* "
    "is of the same tokens predicted twice, once with so few before them and once with what stood further back too. At "
    "zero the model made nothing of that."
)


@dataclass(frozen=True)
class Perplexity:
    """Settings of the measure."""

    stride: Amount = 0
    """Tokens from one window to the next; 0: half of the context. 1 gives every token all the context there can be."""
    bytes: Amount = 0
    """How much of each document is read; 0: all."""


@measure(
    of="model",
    title="Perplexity",
    why="Between how many tokens, all equally likely, the model would waver as much as it does between its own. It is "
    "counted *per token*, so it tells nothing about two models whose tokenizers cut the text otherwise, and no "
    "change of it is claimed here: the bits per byte beside it are of the same windows, and can be compared.",
    keys=("perplexity.{text}", "perplexity.{text}.bits_per_byte", "perplexity.{text}.context"),
    reads=("documents",),
    version=1,
    default=False,
)
def perplexity(bench: Bench, config: Perplexity) -> Taken:
    """Nats, bits, bytes and tokens of each held-out document of each text, whole and by tokens of context."""
    from journey.evaluate import perplexity as scorer
    from journey.evaluate import positions

    n_ctx, most = bench.model.config.n_ctx, config.bytes or None
    stride = positions.checked(config.stride, n_ctx)
    counting = scorer.counting(n_ctx, most, stride)
    used = Against("none", "were it not used", "Does it use what stands further back in a document?", value=0)
    items, scores = {}, []
    for name, documents in bench.documents.items():
        scored = positions.score(bench.model, bench.tokenizer, documents, stride, most)
        begins = [" ".join(document.text[: 4 * BEGINS].split())[:BEGINS] for document in documents]
        items[name] = Items.of(
            {
                **row,
                "bits": row["nats"] / log(2),
                "perplexity.0": row["nats"],
                "perplexity.1": row["tokens"],
                "long": row["again"] > 0,
                "begins": words,
            }
            for row, words in zip(scored, begins, strict=True)
        )
        scores += [
            Score(
                key=f"perplexity.{name}",
                label=f"perplexity, {name}",
                num="perplexity",
                items=name,
                formula="perplexity",
                better="lower",
                stated=f"{bench.tokenizer.n_ids:,} would be no idea at all, 1 certainty",
                question=f"How many tokens does it waver between, at each token of {name}?",
                item="documents",
                convention=f"exp of the nats per token; {counting}",
                brief=True,
            ),
            Score(
                key=f"perplexity.{name}.bits_per_byte",
                label=f"bits per byte by the stride of {stride}, {name}",
                num="bits",
                den="bytes",
                items=name,
                unit="bits/byte",
                better="lower",
                parent=True,
                change="percent",
                question=f"Does it predict {name}, {_how_much(config)}, better than {{parent}}?",
                item="documents",
                convention=scorer.convention(n_ctx, most, stride),
            ),
            Score(
                key=f"perplexity.{name}.context",
                label=f"saved by what stood further back, {name}",
                num="saved",
                den="again",
                items=name,
                where="long",
                unit="nats/token",
                better="higher",
                against=(used,),
                item="documents",
                convention="tokens that a later window predicts again: −ln p there less −ln p when they were scored, "
                f"with {stride} or more tokens further back in view; {counting}",
            ),
        ]
    ends: list[JSON] = [[b[0], b[-1]] for b in positions.bins(n_ctx)]
    return Taken(items, scores, {"stride": stride, "n_ctx": n_ctx, "bins": ends, "split": bench.split})


def _how_much(config: Perplexity) -> str:
    return f"its first {config.bytes:,} bytes" if config.bytes else "whole documents"


@perplexity.chapter
def draw(seen: Seen) -> list[Block]:
    """Of each text: every model's perplexity, its curves by context, bits per byte beside it, its hardest documents."""
    blocks: list[Block] = []
    texts = list(dict.fromkeys(name for taken in seen.values() for name in taken.items))
    for name in texts:
        key = f"perplexity.{name}"
        if not dots(seen, key).rows:
            continue
        blocks += [Row([dots(seen, key), dots(seen, f"{key}.bits_per_byte")]), _numbers(seen, name)]
        blocks += [Row(_curves(seen, name))]
        blocks += [_hardest(subject, taken.items[name], name) for subject, taken in seen.items() if name in taken.items]
    return [Text(CONTEXT), *blocks] if blocks else []


def _numbers(seen: Seen, name: str) -> Table:
    """Perplexity beside bits per byte, and what they were counted on."""
    rows: list[TableRow] = []
    for subject, taken in seen.items():
        if name not in taken.items:
            continue
        found = {score.key: estimate(taken, score) for score in taken.scores}
        numbers = [found.get(f"perplexity.{name}{end}") for end in ("", ".bits_per_byte", ".context")]
        items = taken.items[name]
        tokens, size = (int(items.numbers(column).sum()) for column in ("tokens", "bytes"))
        counts = [f"{n:,}" for n in (len(items), tokens)]
        windows = f"{taken.facts['n_ctx']:,} every {taken.facts['stride']:,}"
        rows.append([Cell(subject.name), *numbers, *counts, bytes_(size), windows])
    head = ["Model", "perplexity", "bits per byte", "saved by further context, nats/token"]
    whole = any(taken.facts.get("split") == WHOLE for taken in seen.values())
    read = "all documents" if whole else "test split"
    caption = f"{name}, {read}, with 95 % intervals over documents; perplexities only of one tokenizer compare"
    return Table(caption, [*head, "documents", "tokens", "text", "windows"], rows)


def _curves(seen: Seen, name: str) -> list[Curves]:
    """Every model's cost of a token by what stood before it, and what more of that saved."""
    x = "tokens of context"
    found = [
        _curve(seen, name, ["nats"], "tokens", f"Cost of a token, {name}", x, "nats per token"),
        _curve(seen, name, ["less", "more"], "again", f"Saved by further context, {name}", x, "nats saved per token"),
    ]
    return [curve for curve in found if curve.values]


def _curve(seen: Seen, name: str, nums: Sequence[str], den: str, title: str, x: str, y: str) -> Curves:
    places = {subject: _places(taken, name, nums, den) for subject, taken in seen.items() if name in taken.items}
    lines = [Line(subject.name, points, subject.colour) for subject, points in places.items()]
    values = sorted({cast(float, point.x) for points in places.values() for point in points})
    ends = [0.0, *(cast(float, end) for points in places.values() for p in points for end in (p.low, p.high))]
    # From zero on, or an axis that may be logarithmic would be so upright too.
    return Curves(title, x, y, lines, values=values, y_range=(min(ends), max(ends)), log=True, name=title)


def _places(taken: Taken, name: str, nums: Sequence[str], den: str) -> list[Place]:
    """A point for each bin of context of which two documents have tokens: Σnums[0], less Σnums[1], by Σden."""
    found, items = [], taken.items[name]
    for first, last in cast(list[list[int]], taken.facts["bins"]):
        here = items.where(f"{den}.{first}")
        if len(here) < 2:
            continue
        num, *less = (here.numbers(f"{column}.{first}") for column in nums)
        n = here.numbers(f"{den}.{first}")
        e = statistics.ratio(num - less[0] if less else num, n)
        span = "1 token" if last == 1 else f"{first:,}–{last:,} tokens"
        said = f"{span} of context: {number(e.value, decimals=3)} nats, mean of {int(n.sum()):,} tokens"
        found.append(Place(first, e.value, e.low, e.high, said))
    return found


def _hardest(subject: Subject, items: Items, name: str) -> Fold:
    """The documents that cost most for their bytes, and how they begin."""
    known = [row for row in items.rows() if row["bytes"]]
    cost = {str(row["id"]): cast(float, row["bits"]) / cast(float, row["bytes"]) for row in known}
    known.sort(key=lambda row: -cost[str(row["id"])])
    rows: list[TableRow] = [
        [str(row["begins"]), number(cost[str(row["id"])], decimals=3), f"{row['bytes']:,}", f"{row['tokens']:,}"]
        for row in known[:HARDEST]
    ]
    table = Table(f"Hardest for {subject.name}", ["Begins", "bits per byte", "bytes", "tokens"], rows, "record")
    return Fold(f"The hardest documents of {name} for {subject.name}", [table], small=f"{len(rows)} of {len(items)}")
