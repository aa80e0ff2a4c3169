"""What a model is and costs: parameters, and the price of a byte of text in arithmetic and in memory."""

from journey.measure import Bench, NoSettings, Seen, measure
from journey.report.blocks import Block, Cell, Table, TableRow
from journey.report.format import big, bytes_, number, si
from journey.scores import Taken


@measure(
    of="model",
    title="What it costs",
    why="Per byte of text, not per token: a longer token is read once for more text. A token costs the forward pass, "
    "all weights read once in fp32, and its keys and values in fp32.",
    reads=("documents",),
    version=1,
    default=False,
)
def costs(bench: Bench, config: NoSettings) -> Taken:
    """A byte's cost is a token's over the bytes that a token of the first text's dev split stands for."""
    if not bench.corpora:
        return Taken()
    c, line = bench.model.config, bench.node.lineage
    texts = next(iter(bench.corpora.values())).texts("dev")
    tokens = sum(len(ids) for ids in bench.tokenizer.encode_batch(texts))
    bytes_per_token = sum(len(text.encode()) for text in texts) / tokens
    embeddings = c.vocab_size * c.n_embd * (1 if c.tied else 2)
    facts: dict[str, float] = {
        "parameters": c.n_params,
        "body_parameters": c.n_params - embeddings,
        "bytes_per_token": bytes_per_token,
        "flops_per_byte": c.flops_per_token(c.n_ctx) / 3 / bytes_per_token,
        "weights_read_per_byte": 4 * c.n_matmul / bytes_per_token,
        "cache_per_byte": 4 * c.n_cached / bytes_per_token,
        "seconds": line.get("seconds") or 0.0,
    }
    if read := line.get("tokens"):
        facts |= {"tokens": read, "text_bytes": read * bytes_per_token, "flops": line["flops"]}
    return Taken(facts=dict(facts))


@costs.chapter
def draw(seen: Seen) -> list[Block]:
    """A row a model."""
    said = {
        "parameters": ("parameters", big),
        "body_parameters": ("without embeddings", big),
        "bytes_per_token": ("bytes per token", number),
        "flops_per_byte": ("FLOPs per byte", lambda v: si(v or 0.0, "FLOP")),
        "weights_read_per_byte": ("weights read per byte", bytes_),
        "cache_per_byte": ("cache per byte", bytes_),
    }
    rows: list[TableRow] = [
        [Cell(s.name), *(show(_float(taken, key)) for key, (_, show) in said.items())] for s, taken in seen.items()
    ]
    return [Table("A model and a byte of text", ["Model", *(head for head, _ in said.values())], rows)]


def _float(taken: Taken, key: str) -> float:
    value = taken.facts[key]
    assert isinstance(value, int | float)
    return float(value)
