"""How much text a token stands for: what a tokenizer spares every model that uses it."""

from journey.measure import Bench, NoSettings, measure
from journey.scores import Items, Score, Taken


@measure(
    of="tokenizer",
    title="Text in tokens",
    why="How many bytes of held-out text a token stands for, on average. One would be bytes alone; the more, the "
    "fewer steps a model takes for the same text.",
    keys=("bytes_per_token.{text}",),
    reads=("documents",),
    version=1,
)
def compression(bench: Bench, config: NoSettings) -> Taken:
    """The held-out documents of each text as this tokenizer cuts them."""
    from journey.checkpoint import open_tokenizer
    from journey.evaluate import perplexity

    tokenizer = open_tokenizer(bench.node.path)
    items, scores = {}, []
    for name, documents in bench.documents.items():
        encoded = perplexity.encode(tokenizer, documents, perplexity.MAX_BYTES)
        rows = zip(documents, encoded, strict=True)
        items[name] = Items.of([{"id": d.id, "bytes": n_bytes, "tokens": len(ids) - 1} for d, (ids, n_bytes) in rows])
        scores.append(
            Score(
                key=f"bytes_per_token.{name}",
                label=f"bytes of {name} per token",
                num="bytes",
                den="tokens",
                items=name,
                unit="bytes/token",
                stated="1 would be bytes alone",
                question=f"How many bytes of {name} does a token stand for?",
                item="documents",
                brief=True,
                convention=f"the first {perplexity.MAX_BYTES} bytes of each document, document marks not counted",
            )
        )
    return Taken(items, scores)
