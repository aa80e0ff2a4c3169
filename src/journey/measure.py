"""The measurements that every model node gets, by one code path, so that any two nodes can be compared item by item.

All of it on the test split: nothing was chosen on it. The items are the same for every node of a life.
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from journey.checkpoint import Node
from journey.console import Console
from journey.errors import JourneyError
from journey.files import digest, read_json, write_json
from journey.lineage import source_version
from journey.stages.run import Stopped, metric

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

SPLIT = "test"
DOCUMENTS, CHOICES, QUESTIONS = 400, 400, 200  # of each corpus at most, drawn by the recipe's seed
COMPARED = 100  # of those documents, for what runs two models over whole distributions: it took most of the time
_PARTS = 9
T = TypeVar("T")


def place(node: Node, workspace: Path) -> Path:
    """Where a node's measurement stands: beside the nodes, for a node never changes."""
    return workspace / "measurements" / node.id / "measurement.json"


def read(node: Node, workspace: Path) -> dict[str, Any]:
    """A node's measurement. Errors: JourneyError when there is none."""
    path = place(node, workspace)
    if not path.exists():
        raise JourneyError(f'"{node.name}" has not been measured: `journey run` measures every model')
    return read_json(path)


def measure(
    node: Node, parent: Node | None, texts: dict[str, Node], workspace: Path, console: Console, seed: int
) -> None:
    """Measure a model on every text, unless that is done."""
    # The weights too: `--from` after an update of torch may bring others under the same id.
    models = [(model.id, model.lineage.get("weights_sha256")) for model in (node, parent) if model]
    key = digest([models, {name: text.id for name, text in texts.items()}, seed, source_version(__name__)])
    path = place(node, workspace)
    if path.exists() and read_json(path)["key"] == key:
        return
    console.begin(node.name, "measuring")
    start = time.monotonic()
    found: dict[str, Any] = {
        "key": key,
        "node": node.id,
        "name": node.name,
        "stage": node.stage,
        "parent": parent and parent.id,
        "split": SPLIT,
    }
    for i, (name, part) in enumerate(_parts(node, parent, texts, path.parent, seed)):
        found[name] = part
        if console.stopping:
            raise Stopped
        console.progress(node.name, i + 1, _PARTS, "measurements", {})
    found["seconds"] = round(time.monotonic() - start, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    console.end(node.name, f"measured in {found['seconds']:.0f} s: {_headline(found)}")


def _parts(
    node: Node, parent: Node | None, texts: dict[str, Node], folder: Path, seed: int
) -> Iterator[tuple[str, Any]]:
    from journey.data.corpus import Corpus
    from journey.evaluate import answers, choices, harness, perplexity
    from journey.interpret import heads
    from journey.model import huggingface
    from journey.tokenizer.formats import Tokenizer

    model, tokenizer = huggingface.load(node.path).eval(), Tokenizer.load(node.path)
    corpora = {name: Corpus(text.path) for name, text in texts.items()}
    documents = {name: draw(corpus.documents(SPLIT), DOCUMENTS, seed) for name, corpus in corpora.items()}
    asked = draw([q for corpus in corpora.values() for q in corpus.questions(SPLIT)], QUESTIONS, seed)
    items = draw([c for corpus in corpora.values() for c in corpus.choices(SPLIT)], CHOICES, seed)

    convention = perplexity.convention(model.config.n_ctx)
    yield (
        "bits_per_byte",
        {
            name: {"items": perplexity.score(model, tokenizer, held_out), "convention": convention}
            for name, held_out in documents.items()
        },
    )
    yield "baselines", _baselines(node, texts, corpora, documents, tokenizer, model.config.n_ctx)
    if items:
        scored = choices.score(model, tokenizer, items)
        harness.write_task(items, folder / "lm-eval")
        theirs = harness.run(node.path, folder / "lm-eval")
        ours = {item["id"]: item for item in scored}
        agree = sum(
            int(ours[t["id"]]["picked_norm"] == ours[t["id"]]["gold"]) == t["acc_norm"] for t in theirs["items"]
        )
        checked = {"acc": theirs["acc"], "acc_norm": theirs["acc_norm"], "n": len(theirs["items"]), "agree": agree}
        yield "choices", {"items": scored, "convention": choices.CONVENTION, "harness": checked}
    yield from heads.repeat(model, tokenizer, seed=seed).items()
    if asked:
        yield (
            "answers",
            {"items": answers.answer_losses(model, tokenizer, asked, seed), "convention": answers.CONVENTION},
        )
        ended = answers.endings(model, tokenizer, asked)
        yield "endings", {"items": ended, "limit": answers.MAX_NEW_TOKENS}
    yield "samples", answers.samples(model, tokenizer, prompts(documents, asked), seed)
    yield "against_parent", _against(parent, model, tokenizer, documents) if parent else None


def draw(items: Sequence[T], n: int, seed: int) -> list[T]:
    """At most n of the items, at random by the seed, in their own order."""
    if len(items) <= n:
        return list(items)
    return [items[i] for i in np.sort(np.random.default_rng(seed).permutation(len(items))[:n])]


def prompts(documents: Mapping[str, Sequence[Any]], asked: Sequence[Any]) -> list[tuple[str, str]]:
    """Six prompts: beginnings of held-out documents to go on with and, where there are questions, three to answer."""
    from journey.data.conversations import question_messages

    chats = [q for q in asked if q.named][:2] + [q for q in asked if not q.named][:1]
    # Named ones from memory, the one that names nothing with its passage: without it, no one could know.
    answered = [("chat", question_messages(q, with_passage=not q.named)[0]["content"]) for q in chats]
    n = 6 - len(answered)
    # From each corpus in turn, and from all over it: neighbours in a corpus are of one package.
    spread = [
        [held_out[len(held_out) * i // n] for i in range(min(n, len(held_out)))] for held_out in documents.values()
    ]
    turns = [document for row in zip(*spread, strict=False) for document in row]
    return [("text", _beginning(document.text)) for document in turns[:n]] + answered


def _beginning(text: str) -> str:
    """A document's heading with the blank line after it (of documentation: name and parameters), or its first words."""
    heading, blank, _ = text[:160].partition("\n\n")
    return heading + blank if blank else text[:60].rpartition(" ")[0] or text[:60]


def _baselines(
    node: Node,
    texts: dict[str, Node],
    corpora: dict[str, "Corpus"],
    documents: dict[str, list[Any]],
    tokenizer: "Tokenizer",
    n_ctx: int,
) -> dict[str, Any]:
    """Kneser–Ney models trained on the very tokens a pre-trained node saw, scored on the same held-out documents."""
    from journey.data.stream import TokenStream, encode_documents
    from journey.evaluate import perplexity
    from journey.evaluate.ngram import KneserNey

    trained_on = node.lineage["data"]["data"]["id"] if node.stage == "pretrain" else None
    name = next((name for name, text in texts.items() if text.id == trained_on), None)
    if name is None:
        return {}
    train = encode_documents(corpora[name].texts("train"), tokenizer.encode_batch, tokenizer.bos)
    seen = TokenStream(train, n_ctx, node.lineage["seed"]).first(node.lineage["tokens"] // n_ctx)
    marks = {
        word: perplexity.score_ngram(
            KneserNey(seen, order, tokenizer.vocab_size, tokenizer.bos), tokenizer, documents[name]
        )
        for word, order in (("bigram", 2), ("trigram", 3))
    }
    return {name: {**marks, "trained_tokens": len(seen)}}


def _against(parent: Node, model: "GPT", tokenizer: "Tokenizer", documents: dict[str, list[Any]]) -> dict[str, Any]:
    """How far the node is from its parent: in its weights, its predictions, and what its layers hold."""
    from journey.interpret import diff
    from journey.model import huggingface
    from journey.tokenizer.formats import Tokenizer

    before, its_tokenizer = huggingface.load(parent.path).eval(), Tokenizer.load(parent.path)
    reason = diff.obstacle(before, model, its_tokenizer, tokenizer)
    if reason:
        return {"parent": parent.id, "skipped": reason, "weights": [], "kl": {}, "cka": []}
    some = {name: held_out[:: max(1, len(held_out) // COMPARED)] for name, held_out in documents.items()}
    return {
        "parent": parent.id,
        "weights": diff.weights(before, model),
        "kl": {name: diff.kl(before, model, tokenizer, held_out) for name, held_out in some.items()},
        "cka": diff.cka(before, model, tokenizer, next(iter(some.values()))),
    }


def summary(measurement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of a measurement with their 95 % intervals, by name, in the shape of `--json`."""
    from journey.evaluate import statistics
    from journey.report import effects

    m = measurement
    found = {
        f"bits_per_byte.{k}": effects.bits_per_byte(v["items"], v["convention"]) for k, v in m["bits_per_byte"].items()
    }
    for corpus, marks in m["baselines"].items():
        found |= {f"bits_per_byte.{corpus}.{k}": effects.bits_per_byte(marks[k]) for k in ("bigram", "trigram")}
    if "choices" in m:
        items = m["choices"]["items"]
        found["choices.acc"] = effects.accuracy(items, "picked")
        found["choices.acc_norm"] = effects.accuracy(items)
    found["repeat.first"] = statistics.mean(m["repeat"]["first"], "nats/token")
    found["repeat.second"] = statistics.mean(m["repeat"]["second"], "nats/token")
    if "answers" in m:
        found |= {
            f"answer_loss.{p}": effects.answer_loss(m["answers"]["items"], p) for p in ("right", "shuffled", "none")
        }
        found["ends_by_itself"] = effects.ended(m["endings"]["items"])
    return {
        name: metric(e.value, e.unit, e.convention, low=e.low, high=e.high, n=e.n)
        for name, e in found.items()
        if dataclasses.is_dataclass(e)
    }


def _headline(measurement: dict[str, Any]) -> str:
    metrics = summary(measurement)
    parts = [
        f"{key.split('.')[1]} {m['value']:.3f} bits/byte"
        for key, m in metrics.items()
        if key.count(".") == 1 and key.startswith("bits")
    ]
    if "ends_by_itself" in metrics:
        parts.append(f"{metrics['ends_by_itself']['value']:.0f} % of answers end by themselves")
    return ", ".join(parts)
