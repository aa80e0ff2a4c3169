"""How well a model predicts text that it has never seen, and n-gram models of the same tokens beside it."""

import shutil
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from journey.measure import Bench, Seen, dots, measure
from journey.report.blocks import Block, Cell, Mark, Row, Table
from journey.scores import Against, Items, Score, Taken, estimate

if TYPE_CHECKING:
    import numpy as np

ORDERS = {"bigram": 2, "trigram": 3}
COUNTED = 50_000_000  # tokens: an n-gram model counts them in memory, 70 bytes for each, so 3.5 GB


@dataclass(frozen=True)
class BitsPerByte:
    """Settings of the measure."""

    ngrams: bool = True
    """Beside a model that began from random weights, n-gram models of the very tokens that it read."""


@measure(
    of="model",
    title="Bits per byte",
    why="How many bits the model needs, on average, for one byte of text it has never seen: a compressor with "
    "this model inside would need that many. Lower is better. Unlike perplexity it can be compared between "
    "models whose tokenizers differ. An *n-gram* model counts which token followed the last one "
    "(bigram) or two (trigram): it is the simplest thing a network has to beat, and on text that repeats "
    "itself the trigram is a hard mark.",
    keys=("bits_per_byte.{text}", "bits_per_byte.{text}.bigram", "bits_per_byte.{text}.trigram"),
    reads=("documents",),
    version=1,
)
def bits_per_byte(bench: Bench, config: BitsPerByte) -> Taken:
    """Bits and bytes of each held-out document of each text."""
    from journey.evaluate import perplexity

    convention = perplexity.convention(bench.model.config.n_ctx)
    items, scores = {}, []
    read = _tokens_read(bench) if config.ngrams else {}
    for name, documents in bench.documents.items():
        scored = perplexity.score(bench.model, bench.tokenizer, documents)
        rows = [{"id": i["id"], "bits": i["nats"] / log(2), "bytes": i["bytes"], "tokens": i["tokens"]} for i in scored]
        orders = []
        if name in read:
            orders = list(ORDERS)
            for order, column in _ngrams(bench, read[name], name).items():
                rows = [row | {order: bits} for row, bits in zip(rows, column, strict=True)]
        items[name] = Items.of(rows)
        scores.append(
            Score(
                key=f"bits_per_byte.{name}",
                label=f"bits per byte, {name}",
                num="bits",
                den="bytes",
                items=name,
                unit="bits/byte",
                better="lower",
                parent=True,
                change="percent",
                against=tuple(_against(order, name, len(read[name])) for order in orders),
                question=f"Does it predict {name} better than {{parent}}?",
                item="documents",
                convention=convention,
                compared=f"{convention}; n-grams: interpolated Kneser-Ney" if name in read else "",
                full=30.0,
                brief=True,
            )
        )
        scores += [
            Score(
                key=f"bits_per_byte.{name}.{order}",
                label=f"bits per byte, {name}, {order}",
                num=order,
                den="bytes",
                items=name,
                unit="bits/byte",
                item="documents",
                convention=f"interpolated Kneser-Ney; {convention}",
            )
            for order in orders
        ]
    return Taken(items, scores)


def _against(order: str, name: str, n: int) -> Against:
    question = f"Does it predict {name} better than a {order} model trained on the same {n:,} tokens?"
    return Against(order, f"for the {order}", question, num=order)


def _tokens_read(bench: Bench) -> "dict[str, np.ndarray]":
    """The text that a model was trained on from random weights, or each of a mixture, and the very tokens that it read
    of it, in order; nothing for any other model, and for one that read more than `COUNTED`."""
    from journey.data import shards
    from journey.data.mixture import Turns, parse
    from journey.data.stream import TokenStream

    line = bench.node.lineage
    if bench.node.stage != "pretrain" or not 0 < line["tokens"] <= COUNTED or "resume_from" in line["data"]:
        return {}
    scratch, n_ctx, data = bench.scratch / "tokens", bench.model.config.n_ctx, line["data"]
    n_rows = line["tokens"] // n_ctx
    rows = {"data": n_rows}
    if any(field.startswith("data:") for field in data):
        shares = parse(line["config"]["data"])
        counts = Turns(list(shares.values())).counts(n_rows)
        rows = {f"data:{text}": n for text, n in zip(shares, counts, strict=True) if n}
    found = {}
    for field, n in rows.items():
        trained_on = data[field].get("text", data[field])["id"]
        name = next((name for name, text in bench.texts.items() if text.id == trained_on), None)
        if name is not None:
            shards.write(bench.corpora[name], bench.tokenizer, ("train",), scratch)
            stream = TokenStream(shards.open_shards(scratch, "train", bench.tokenizer), n_ctx, line["seed"])
            found[name] = stream.first(n)
            shutil.rmtree(scratch)
    return found


def _ngrams(bench: Bench, seen: "np.ndarray", name: str) -> dict[str, list[float]]:
    """Bits of each held-out document under each n-gram model."""
    from journey.evaluate import perplexity
    from journey.evaluate.ngram import KneserNey

    tokenizer, found = bench.tokenizer, {}
    for word, order in ORDERS.items():
        model = KneserNey(seen, order, tokenizer.n_ids, tokenizer.bos)
        scored = perplexity.score_ngram(model, tokenizer, bench.documents[name])
        found[word] = [item["nats"] / log(2) for item in scored]
    return found


@bits_per_byte.chapter
def draw(seen: Seen) -> list[Block]:
    """Every model on every text, beside the n-grams."""
    by_key = {(subject.name, s.key): estimate(taken, s) for subject, taken in seen.items() for s in taken.scores}
    texts = list(dict.fromkeys(name for taken in seen.values() for name in taken.items))
    figures, rows = [], []
    for name in texts:
        key = f"bits_per_byte.{name}"
        marks = {
            order: next((e for (_, k), e in by_key.items() if k == f"{key}.{order}" and e is not None), None)
            for order in ORDERS
        }
        if not any(k == key and e is not None for (_, k), e in by_key.items()):
            continue
        lines = [Mark(e.value, order) for order, e in marks.items() if e]
        figures.append(dots(seen, key, f"{name}, held out. Lower is better.", lines))
        rows.append([Cell(name), *(by_key.get((s.name, key)) for s in seen), *marks.values()])
    head = ["Text", *(subject.name for subject in seen), *ORDERS]
    return [Row(figures), Table("Bits per byte of held-out text, with 95 % intervals", head, rows)]
