"""The measurements that every model node gets, by one code path, so that any two nodes can be compared item by item.

All of it on the test split: nothing was chosen on it. The items are the same for every node of a life.
"""

import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from journey.checkpoint import Node
from journey.console import Console
from journey.errors import JourneyError
from journey.files import digest, read_json, write_json
from journey.lineage import source_version, surroundings
from journey.pair import open_pair
from journey.stages.run import Stopped

if TYPE_CHECKING:
    from journey.data.corpus import Choice, Corpus, Document, Question
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

SPLIT = "test"
COMPARED = 100  # of the documents, for what runs two models over whole distributions: it took most of the time
COUNTED = 50_000_000  # tokens: an n-gram model counts them in memory, 70 bytes for each, so 3.5 GB
PARTS = {"model": 9, "dpo": 10, "quantize": 1, "index": 2}  # measurements, for the progress bar
BY_STAGE = ("quantize", "index")  # what is no model and is measured all the same
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Measuring:
    """How many items of the test split every model is measured on, drawn at random by the recipe's seed."""

    documents: int = 400  # of each text
    choices: int = 400
    questions: int = 200


@dataclasses.dataclass(frozen=True)
class Items:
    """What every node of a life is measured on."""

    documents: dict[str, list["Document"]]
    questions: list["Question"]
    choices: list["Choice"]

    @classmethod
    def of(cls, corpora: Mapping[str, "Corpus"], measuring: Measuring, seed: int) -> "Items":
        """Drawn from the texts of a life."""
        questions = [q for corpus in corpora.values() for q in corpus.questions(SPLIT)]
        choices = [c for corpus in corpora.values() for c in corpus.choices(SPLIT)]
        documents = {k: draw(corpus.documents(SPLIT), measuring.documents, seed) for k, corpus in corpora.items()}
        return cls(documents, draw(questions, measuring.questions, seed), draw(choices, measuring.choices, seed))


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
    node: Node,
    parent: Node | None,
    texts: dict[str, Node],
    workspace: Path,
    console: Console,
    seed: int,
    measuring: Measuring,
) -> dict[str, Any] | None:
    """Measure a node on every text; None when that is done already. `parent` is the model that it was made from."""
    # The weights too: `--from` after an update of torch may bring others under the same id.
    models = [(model.id, model.lineage.get("weights_sha256")) for model in (node, parent) if model]
    named = {name: text.id for name, text in texts.items()}
    key = digest([models, named, seed, dataclasses.asdict(measuring), source_version(__name__)])
    path = place(node, workspace)
    if path.exists() and read_json(path)["key"] == key:
        return None
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
    from journey.data.corpus import Corpus

    corpora = {name: Corpus(text.path) for name, text in texts.items()}
    items = Items.of(corpora, measuring, seed)
    if node.is_model:
        parts = _model(node, parent, texts, corpora, items, path.parent, seed)
    else:
        assert parent is not None  # the table of stages wants one
        parts = {"quantize": _quantized, "index": _index}[node.stage](node, parent, items, seed)
    for done, (name, part) in enumerate(parts, 1):
        found[name] = part
        if console.stopping:
            raise Stopped
        console.progress(node.name, done, PARTS.get(node.stage, PARTS["model"]), "measurements", {})
    found["seconds"] = round(time.monotonic() - start, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


def _model(
    node: Node,
    parent: Node | None,
    texts: dict[str, Node],
    corpora: dict[str, "Corpus"],
    items: Items,
    folder: Path,
    seed: int,
) -> Iterator[tuple[str, Any]]:
    """What every model is measured on, and the held-out preferences of one that was trained on some."""
    from journey.evaluate import answers, choices, harness, perplexity
    from journey.interpret import heads

    model, tokenizer = open_model(node)
    documents, asked = items.documents, items.questions
    convention = perplexity.convention(model.config.n_ctx)
    yield (
        "bits_per_byte",
        {
            name: {"items": perplexity.score(model, tokenizer, held_out), "convention": convention}
            for name, held_out in documents.items()
        },
    )
    yield "baselines", _baselines(node, texts, corpora, documents, tokenizer, model.config.n_ctx, folder / "tokens")
    if items.choices:
        scored = choices.score(model, tokenizer, items.choices)
        harness.write_task(items.choices, folder / "lm-eval")
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
    before = open_model(parent) if parent else None
    yield "against_parent", _against(parent.id, *before, model, tokenizer, documents) if parent and before else None
    if node.stage == "dpo" and before:
        yield "preferences", _preferences(node, before[0], model, tokenizer, asked, seed)


def open_model(node: Node) -> tuple["GPT", "Tokenizer"]:
    """A node's model, where it computes fastest, and its tokenizer."""
    import torch

    model, tokenizer = open_pair(node.path)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _preferences(
    node: Node, before: "GPT", model: "GPT", tokenizer: "Tokenizer", asked: Sequence["Question"], seed: int
) -> dict[str, Any]:
    """How often the model tells the better of two held-out answers, against the model it was before."""
    from journey.data.preferences import load
    from journey.evaluate import preferences

    held_out, _ = load(node.path / "pairs-test.jsonl")
    return preferences.measure(model, before, tokenizer, held_out, asked, seed)


def _quantized(node: Node, parent: Node, items: Items, seed: int) -> Iterator[tuple[str, Any]]:
    """The GGUF files in llama.cpp, against the model they were made from."""
    from journey.evaluate import quantized

    yield "quantized", quantized.measure(node.path, parent.path, items.documents, items.questions)


def _index(node: Node, parent: Node, items: Items, seed: int) -> Iterator[tuple[str, Any]]:
    """What is found, what finding it does to the answers, and how long each part of one answer took."""
    from journey.infer.timeline import timeline
    from journey.retrieve import evaluate
    from journey.retrieve.answer import ask
    from journey.retrieve.index import Index

    if not items.questions:
        return
    model, tokenizer = open_model(parent)
    yield "retrieval", evaluate.measure(node.path, model, tokenizer, items.questions, seed)
    question = next((q for q in items.questions if q.named), items.questions[0]).question
    limit = evaluate.new_tokens(model)
    index = Index(node.path, model, tokenizer)
    ask(question, index, model, tokenizer, max_new_tokens=limit)  # a first search also reads the files
    reply = ask(question, index, model, tokenizer, max_new_tokens=limit)
    answered = timeline(model, tokenizer, reply.prompt, max_new_tokens=limit, stop=tokenizer.stop)
    sources = [hit.passage.title for hit in reply.sources]
    asked = {"question": question, "sources": sources, "used": reply.used}
    machine = surroundings()["machine"]["cpu"]
    yield "timeline", asked | {"retrieval": {"ms": reply.milliseconds}, "machine": machine} | answered


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
    scratch: Path,
) -> dict[str, Any]:
    """Kneser–Ney models trained on the very tokens a pre-trained node saw, scored on the same held-out documents.

    None for a model that read more than `COUNTED` tokens.
    """
    from journey.data import shards
    from journey.data.stream import TokenStream
    from journey.evaluate import perplexity
    from journey.evaluate.ngram import KneserNey

    if node.stage != "pretrain" or node.lineage["tokens"] > COUNTED:
        return {}
    data = node.lineage["data"]["data"]
    trained_on = data.get("text", data)["id"]
    name = next((name for name, text in texts.items() if text.id == trained_on), None)
    if name is None:
        return {}
    shards.write(corpora[name], tokenizer, ("train",), scratch)
    rows = TokenStream(shards.open_shards(scratch, "train", tokenizer), n_ctx, node.lineage["seed"])
    seen = rows.first(node.lineage["tokens"] // n_ctx)
    shutil.rmtree(scratch)
    marks = {
        word: perplexity.score_ngram(
            KneserNey(seen, order, tokenizer.vocab_size, tokenizer.bos), tokenizer, documents[name]
        )
        for word, order in (("bigram", 2), ("trigram", 3))
    }
    return {name: {**marks, "trained_tokens": len(seen)}}


def _against(
    parent: str,
    before: "GPT",
    its_tokenizer: "Tokenizer",
    model: "GPT",
    tokenizer: "Tokenizer",
    documents: dict[str, list[Any]],
) -> dict[str, Any]:
    """How far the node is from its parent: in its weights, its predictions, and what its layers hold."""
    from journey.interpret import diff

    reason = diff.obstacle(before, model, its_tokenizer, tokenizer)
    if reason:
        return {"parent": parent, "skipped": reason, "weights": [], "kl": {}, "cka": []}
    some = {name: held_out[:: max(1, len(held_out) // COMPARED)] for name, held_out in documents.items()}
    return {
        "parent": parent,
        "weights": diff.weights(before, model),
        "kl": {name: diff.kl(before, model, tokenizer, held_out) for name, held_out in some.items()},
        "cka": diff.cka(before, model, tokenizer, next(iter(some.values()))),
    }
