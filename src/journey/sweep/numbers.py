"""What a sweep asks of a model: for each metric its sums an item, on dev, where the best is chosen, and on test."""

from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey.checkpoint import Node, open_node
from journey.errors import JourneyError, nearest
from journey.files import digest, read_json, write_json
from journey.lineage import source_version
from journey.recipe import Recipe

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

SPLITS = ("dev", "test")
PASSAGES = ("right", "shuffled", "none")


@dataclass(frozen=True)
class Asked:
    """What to measure: metrics by name, on texts, on how many items of a split, drawn by a seed."""

    metrics: tuple[str, ...]  # bits_per_byte (of every text), bits_per_byte.TEXT, answer_loss.right|shuffled|none
    texts: dict[str, Path]
    documents: int
    questions: int
    seed: int
    workspace: Path

    @classmethod
    def of(cls, recipe: Recipe, metrics: tuple[str, ...], texts: dict[str, Path], workspace: Path) -> "Asked":
        """As a recipe measures. Errors: JourneyError for a metric that cannot be measured."""
        n = recipe.measuring
        return cls(check(metrics, list(texts)), texts, n.documents, n.questions, recipe.seed, workspace)


def check(metrics: tuple[str, ...], texts: list[str]) -> tuple[str, ...]:
    """The metrics' full names. Errors: JourneyError for one that cannot be measured."""
    known = [*(f"bits_per_byte.{text}" for text in texts), *(f"answer_loss.{passage}" for passage in PASSAGES)]
    full = [name for asked in metrics for name in (known[: len(texts)] if asked == "bits_per_byte" else [asked])]
    for name in full:
        if name not in known:
            raise JourneyError(f'sweep: no metric "{name}"{nearest(name, known)} (there are: {", ".join(known)})')
    return tuple(dict.fromkeys(full))


def place(node_id: str, workspace: Path) -> Path:
    """Where a node's numbers stand."""
    return workspace / "measurements" / node_id / "sweep.json"


def key(node: Node, asked: Asked) -> str:
    """Says of what the numbers are."""
    texts = {name: open_node(path).id for name, path in asked.texts.items()}
    what = asdict(asked) | {"texts": texts, "workspace": None}
    return digest([node.id, node.lineage.get("weights_sha256"), what, source_version(__name__)])


def read(node: Node, asked: Asked) -> dict[str, Any] | None:
    """A node's numbers; None where it has none of these."""
    path = place(node.id, asked.workspace)
    found = read_json(path) if path.exists() else {}
    return found if found.get("key") == key(node, asked) else None


def measure(node: Node, asked: Asked) -> dict[str, Any]:
    """Measure a model, unless that is done, and keep what was found beside the nodes.

    {"items": {metric: {split: {"num": [...], "den": [...]}}}, "facts": {...}}: the metric is Σnum / Σden.
    """
    if found := read(node, asked):
        return found
    from journey.data.corpus import Corpus
    from journey.measure import open_model

    model, tokenizer = open_model(node)
    corpora = {name: Corpus(path) for name, path in asked.texts.items()}
    items: dict[str, dict[str, Any]] = {name: {} for name in asked.metrics}
    for split in SPLITS:
        for name, corpus in corpora.items():
            if (metric := f"bits_per_byte.{name}") in items:
                items[metric][split] = _bits(model, tokenizer, corpus, split, asked)
        losses = [metric for metric in asked.metrics if metric.startswith("answer_loss.")]
        if losses:
            for metric, sums in zip(losses, _answers(model, tokenizer, corpora, split, losses, asked), strict=True):
                items[metric][split] = sums
    found = {"key": key(node, asked), "node": node.id, "items": items}
    found["facts"] = _facts(node, model, tokenizer, next(iter(corpora.values())))
    path = place(node.id, asked.workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


def _bits(model: "GPT", tokenizer: "Tokenizer", corpus: "Corpus", split: str, asked: Asked) -> dict[str, list[float]]:
    from journey.evaluate import perplexity
    from journey.measure import draw

    scores = perplexity.score(model, tokenizer, draw(corpus.documents(split), asked.documents, asked.seed))
    return {"num": [s["nats"] / log(2) for s in scores], "den": [s["bytes"] for s in scores]}


def _answers(
    model: "GPT", tokenizer: "Tokenizer", corpora: dict[str, "Corpus"], split: str, metrics: list[str], asked: Asked
) -> list[dict[str, list[float]]]:
    from journey.evaluate.answers import answer_losses
    from journey.measure import draw

    questions = draw([q for corpus in corpora.values() for q in corpus.questions(split)], asked.questions, asked.seed)
    if not questions:
        raise JourneyError("the texts hold no questions, so answer_loss cannot be measured: only documentation does")
    items = answer_losses(model, tokenizer, questions, asked.seed)
    passages = [metric.partition(".")[2] for metric in metrics]
    return [{"num": [i[passage] for i in items], "den": [i["tokens"] for i in items]} for passage in passages]


def _facts(node: Node, model: "GPT", tokenizer: "Tokenizer", corpus: "Corpus") -> dict[str, float]:
    """What the model is and costs. A byte's cost is a token's over the bytes that a token of the dev split stands for;
    a token's: the forward pass, all weights read once in fp32, its keys and values in fp32."""
    c = model.config
    texts = corpus.texts("dev")
    bytes_per_token = sum(len(t.encode()) for t in texts) / sum(len(ids) for ids in tokenizer.encode_batch(texts))
    embeddings = c.vocab_size * c.n_embd * (1 if c.tied else 2)
    facts = {
        "parameters": c.n_params,
        "body_parameters": c.n_params - embeddings,
        "bytes_per_token": bytes_per_token,
        "flops_per_byte": c.flops_per_token(c.n_ctx) / 3 / bytes_per_token,
        "weights_read_per_byte": 4 * c.n_matmul / bytes_per_token,
        "cache_per_byte": 4 * 2 * c.n_layer * c.n_kv_head * c.head_dim / bytes_per_token,
        "seconds": node.lineage["seconds"],
    }
    if tokens := node.lineage.get("tokens"):
        facts |= {"tokens": tokens, "text_bytes": tokens * bytes_per_token, "flops": node.lineage["flops"]}
    return facts
