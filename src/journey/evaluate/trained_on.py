"""What a model and all that it was made from were trained on: the texts that test items are looked for in."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from journey.checkpoint import LINEAGE, Node, made_nodes, open_tokenizer
from journey.data import conversations, instructions, preferences, translations
from journey.data.corpus import Corpus
from journey.data.shards import open_shards
from journey.errors import JourneyError
from journey.evaluate import contamination
from journey.model.sizes import RANDOM

Texts = Callable[[], Iterable[str]]

_ASKING = ("sft", "pairs")  # stages that take of a text its questions, not its documents
_PREFERRING = ("dpo",)  # stages whose files hold preferences; those of others hold conversations
_FROM_TOKENIZER = ("pretrain", "seq2seq")  # stages whose parent is a tokenizer, which leaves no weights


@dataclass(frozen=True)
class TrainedOn:
    """The training texts that stand on disk, by what they are (`docs (base)`), and what could not be looked at: an
    item that is clean in those may stand in these."""

    texts: tuple[tuple[str, Texts], ...] = ()
    unknown: tuple[str, ...] = ()

    def read(self) -> Iterator[str]:
        """All of them, one after the other."""
        return chain.from_iterable(texts() for _, texts in self.texts)


def trained_on(node: Node, made: Iterable[Node]) -> TrainedOn:
    """What a node and its ancestors were trained on, found among the nodes beside it (`checkpoint.made_nodes`).

    Of a text the whole training split, though a short training may have read a part of it. What a tokenizer was made of
    does not count: it leaves no weights. What is unknown is said: an imported model's past, what is gone or changed.
    """
    search = _Search({other.id: other for other in made} | {node.id: node})
    search.follow(node)
    return TrainedOn(tuple(search.texts), tuple(search.unknown))


def items_read(node: Node, items: Sequence[str]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Which items stand in what the node's whole lineage was trained on: facts for a page (which texts were looked at,
    what is unknown, how many were read), and columns for a measure's items, none where there was nothing to look at."""
    found = trained_on(node, made_nodes(node.path.parent)) if node.is_model else TrainedOn()
    facts = {
        "texts": [name for name, _ in found.texts],
        "unknown": [*found.unknown],
        "convention": contamination.CONVENTION,
    }
    if not found.texts:
        return facts, {}
    told: dict[str, list[Any]] = {**contamination.columns(contamination.overlap(items, found.read()))}
    return facts | {part: sum(told[part]) for part in ("overlapping", "clean")}, told


class _Search:
    """The walk from a model back to where it began."""

    def __init__(self, beside: Mapping[str, Node]) -> None:
        self._beside = beside
        self._seen: set[str] = set()
        self._read: set[tuple[str, bool]] = set()  # a text that comes again, as replay does, is read once
        self.texts: list[tuple[str, Texts]] = []
        self.unknown: list[str] = []

    def follow(self, node: Node) -> None:
        """Look at a node, at what it read, and at what it was made from."""
        waiting = [node]
        while waiting:
            here = waiting.pop(0)
            if here.id in self._seen or here.stage == "tokenizer":
                continue
            self._seen.add(here.id)
            for id in here.parents:
                if id in self._beside:
                    waiting.append(self._beside[id])
                elif here.stage not in _FROM_TOKENIZER:
                    self.unknown.append(f"the node that {here.name} was made from ({id[:10]}): it is not here any more")
            if not (here.path / LINEAGE).exists() or here.stage == "import":
                if here.lineage.get("config", {}).get("path") not in RANDOM:
                    self.unknown.append(f"what {here.name} was trained on before it was imported")
                continue
            read = here.lineage["data"]
            for name, said in read.items():
                found = self._beside.get(said.get("id", ""))
                if found and found.is_model:  # whose training goes on, for one
                    waiting.append(found)
                elif "id" in said:
                    self._node(here, said)
                elif not any(other.startswith(f"{name}:") for other in read):  # those are the texts of a mixture
                    self._file(here, name, said["fingerprint"])

    def _node(self, here: Node, said: Mapping[str, Any]) -> None:
        """A text, tokens of one, pairs or translations that a node read."""
        asks = here.stage in _ASKING
        text = said.get("text", said)
        if (text["id"], asks) in self._read:
            return
        self._read.add((text["id"], asks))
        found = [self._beside[id] for id in (text["id"], said["id"]) if id in self._beside]
        texts = next((texts for each in found if (texts := _texts(each.path, here, asks))), None)
        if texts is None:
            gone = "its folder is not here any more" if not found else "nothing in its folder can be read"
            self.unknown.append(f"{text['name']}, which {here.name} was trained on: {gone}")
        else:
            self.texts.append((f"{text['name']} ({here.name})", texts))

    def _file(self, here: Node, name: str, fingerprint: str) -> None:
        """A file of conversations or of preferences that a node read: its training split."""
        path = str(here.lineage["config"].get(name, ""))
        try:
            if instructions.fingerprint(path) != fingerprint:
                raise JourneyError("it has been changed since")
        except (JourneyError, OSError) as error:
            why = "it is not there any more" if isinstance(error, OSError) else str(error)
            self.unknown.append(f"{path}, which {here.name} was trained on: {why}")
            return
        training = _preferences if here.stage in _PREFERRING else _conversations
        self.texts.append((f"{path} ({here.name})", partial(training, path, here.lineage["seed"])))


def _texts(folder: Path, reader: Node, asks: bool) -> Texts | None:
    """The training split of what stands in a node's folder; None where it has none."""
    if (folder / "train.parquet").exists():
        text = Corpus(folder)
        return (lambda: _questions(text)) if asks else (lambda: text.stream("train"))
    if (folder / "shards.json").exists():
        return lambda: _decoded(folder, reader)
    if (path := folder / "pairs-train.jsonl").exists():
        return lambda: _answers(preferences.saved(path))
    if (path := folder / "translations-train.jsonl").exists():
        return lambda: (text for pair in translations.saved(path) for text in (pair.source, pair.target))
    return None


def _decoded(folder: Path, reader: Node) -> Iterator[str]:
    """The documents of token shards, without the mark before each."""
    tokenizer = open_tokenizer(reader.path)
    for ids, ends in open_shards(folder, "train", tokenizer):
        for start, end in pairwise([0, *ends.tolist()]):
            yield tokenizer.decode(ids[start + 1 : end].tolist())


def _questions(text: Corpus) -> Iterator[str]:
    for question in text.questions("train"):
        yield f"{question.passage}\n\n{question.question}\n\n{question.answer}"


def _conversations(path: str, seed: int) -> Iterator[str]:
    return map(_said, conversations.split(conversations.load(path)[0], seed)["train"])


def _preferences(path: str, seed: int) -> Iterator[str]:
    pairs = preferences.load(path)[0]
    return _answers(conversations.split(pairs, seed, lambda pair: conversations.first_question(pair.prompt))["train"])


def _answers(pairs: Sequence[preferences.Pair]) -> Iterator[str]:
    """What was asked with each answer: training reads the rejected one too."""
    for pair in pairs:
        yield _said([*pair.prompt, *pair.chosen])
        yield _said([*pair.prompt, *pair.rejected])


def _said(messages: conversations.Messages) -> str:
    return "\n\n".join(message["content"] for message in messages)
