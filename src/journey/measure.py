"""What a measure is: a function from a bench to items and scores, in a file of its own.

    @measure(of="model", title="…", why="…", keys=("mine.share",), reads=("questions",), version=1)
    def mine(bench: Bench, config: Mine) -> Taken: ...

    @mine.chapter                      # optional: by default the dots of each score, and a table
    def draw(seen: Seen) -> list[Block]: ...

The bench opens the node, its parent and the held-out items once, for all measures that follow each other.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from journey.checkpoint import Node
from journey.data.drawing import draw
from journey.fields import Several
from journey.machine import device, gpus
from journey.pair import open_pair
from journey.report.blocks import Block, Cell, Dot, Dots, Mark, Row, Table, Text
from journey.scores import Taken, estimate

if TYPE_CHECKING:
    from journey.data.corpus import Choice, Corpus, Document, Question
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

Reads = Literal["documents", "questions", "choices", "parent"]


@dataclasses.dataclass(frozen=True)
class NoSettings:
    """Of a measure that has none."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """How many items of a split every node is measured on, drawn at random by the recipe's seed."""

    documents: Several = 400  # of each text
    choices: Several = 400
    questions: Several = 200


@dataclasses.dataclass(frozen=True)
class Subject:
    """A node as a chapter names it: its colour is the same in every chart."""

    name: str
    stage: str
    colour: int
    parent: str = ""


Progress = Callable[[int, int, str], None]  # so many of so many units are done
Seen = Mapping[Subject, Taken]  # what a measure found at every node that it was taken of
Draw = Callable[[Seen], Sequence[Block]]


class Bench:
    """A node on the bench: everything that a measure may ask for, opened when it is first asked for.

    A measure declares what it reads, for that stands in the key of its cache; to read another thing is our mistake.
    """

    def __init__(
        self,
        node: Node,
        parent: Node | None,
        texts: Mapping[str, Node],
        *,
        drawn: Drawn,
        seed: int,
        split: str,
        scratch: Path,
    ) -> None:
        self.node, self.texts, self.drawn, self.seed, self.split, self.scratch = (
            node,
            texts,
            drawn,
            seed,
            split,
            scratch,
        )
        self._parent = parent
        self.reads: tuple[Reads, ...] = ()  # of the measure at work
        self.progress: Progress = lambda done, total, unit: None

    def _allow(self, what: Reads) -> None:
        assert what in self.reads, f"this measure reads {what}: declare it in reads=(…)"

    @functools.cached_property
    def opened(self) -> "tuple[GPT, Tokenizer]":
        """The node's model, where it computes fastest, and its tokenizer."""
        return open_model(self.node)

    @property
    def model(self) -> "GPT":
        """The node's model."""
        return self.opened[0]

    @property
    def tokenizer(self) -> "Tokenizer":
        """The node's tokenizer."""
        return self.opened[1]

    @property
    def parent(self) -> Node | None:
        """The model that the node was made from."""
        self._allow("parent")
        return self._parent

    @functools.cached_property
    def _before(self) -> "tuple[GPT, Tokenizer] | None":
        if self._parent is None:
            return None
        before, tokenizer = open_model(self._parent)
        if gpus() and self.node.is_model and before.embed.weight.device != self.model.embed.weight.device:
            before.cpu(), self.model.cpu()  # together, where one of them has no room
        return before, tokenizer

    @property
    def before(self) -> "tuple[GPT, Tokenizer] | None":
        """The parent's model and tokenizer."""
        self._allow("parent")
        return self._before

    @functools.cached_property
    def corpora(self) -> "dict[str, Corpus]":
        """The texts of the life, by name."""
        from journey.data.corpus import Corpus

        return {name: Corpus(text.path) for name, text in self.texts.items()}

    @functools.cached_property
    def _documents(self) -> "dict[str, list[Document]]":
        return {k: draw(c.documents(self.split), self.drawn.documents, self.seed) for k, c in self.corpora.items()}

    @property
    def documents(self) -> "dict[str, list[Document]]":
        """Held-out documents of each text."""
        self._allow("documents")
        return self._documents

    @functools.cached_property
    def _questions(self) -> "list[Question]":
        found = [q for corpus in self.corpora.values() for q in corpus.questions(self.split)]
        return draw(found, self.drawn.questions, self.seed)

    @property
    def questions(self) -> "list[Question]":
        """Held-out questions of all texts."""
        self._allow("questions")
        return self._questions

    @functools.cached_property
    def _choices(self) -> "list[Choice]":
        found = [c for corpus in self.corpora.values() for c in corpus.choices(self.split)]
        return draw(found, self.drawn.choices, self.seed)

    @property
    def choices(self) -> "list[Choice]":
        """Held-out multiple choice of all texts."""
        self._allow("choices")
        return self._choices


def open_model(node: Node) -> "tuple[GPT, Tokenizer]":
    """A node's model, where it computes fastest and has room, and its tokenizer."""
    model, tokenizer = open_pair(node.path)
    return model.to(device(4 * model.config.n_params)), tokenizer


@dataclasses.dataclass
class Measure:
    """A measure: what it is of, what it reads, and what it means."""

    body: Callable[[Bench, Any], Taken]
    of: str  # the kind of node, as stages say what they make: model, gguf, index
    title: str
    why: str  # our own words, with marks as `report.blocks.Prose` has them
    keys: tuple[str, ...]  # of its scores, {text} standing for the name of a text
    reads: tuple[Reads, ...] = ()
    libraries: tuple[str, ...] = ()  # packages whose update measures anew
    version: int = 1
    first: bool = False  # its chapter comes before the stages
    default: bool = True  # taken unless a recipe says false; else only where a recipe or a person names it
    data: Callable[[Any], Mapping[str, str]] | None = None  # by its settings: fingerprints of what else it reads
    draws: Draw | None = None

    @property
    def name(self) -> str:
        """As recipes and `journey eval --measure` name it."""
        return self.body.__name__

    @property
    def config(self) -> type:
        """The dataclass of its settings."""
        found = typing.get_type_hints(self.body)["config"]
        assert dataclasses.is_dataclass(found) and isinstance(found, type)
        return found

    def chapter(self, draws: Draw) -> Draw:
        """What its chapter of the page shows."""
        self.draws = draws
        return draws

    def drawn(self, seen: Seen) -> Sequence[Block]:
        """The blocks of its chapter."""
        return (self.draws or by_default)(seen)


def measure(
    of: str,
    title: str,
    why: str,
    keys: tuple[str, ...] = (),
    reads: tuple[Reads, ...] = (),
    libraries: tuple[str, ...] = (),
    version: int = 1,
    first: bool = False,
    default: bool = True,
    data: Callable[[Any], Mapping[str, str]] | None = None,
) -> Callable[[Callable[[Bench, Any], Taken]], Measure]:
    """Make a measure of a function `body(bench, config) -> Taken`; the version rises when its results change."""
    return lambda body: Measure(body, of, title, why, keys, reads, libraries, version, first, default, data)


def by_default(seen: Seen) -> list[Block]:
    """The dots of each score over all models, beside its marks, and a table."""
    return [Row([dots(seen, key) for key in score_keys(seen)]), table(seen)]


def thinned(documents: "Sequence[Document]", n: int) -> "Sequence[Document]":
    """About n of them, from all over."""
    return documents[:: max(1, len(documents) // n)]


def skipped(seen: Seen, named: Callable[[Subject], str] = lambda subject: subject.name) -> list[Block]:
    """A line for each model that was not compared with its parent, with the reason."""
    return [
        Text(f"{named(subject)}: not compared, {taken.facts['skipped']}.", "nothing")
        for subject, taken in seen.items()
        if taken.facts.get("skipped")
    ]


def score_keys(seen: Seen) -> list[str]:
    """The keys of all scores that have an estimate somewhere, in the order of first sight."""
    return list(dict.fromkeys(s.key for taken in seen.values() for s in taken.scores if estimate(taken, s) is not None))


def dots(seen: Seen, key: str, caption: str = "", marks: Sequence[Mark] = (), title: str = "") -> Dots:
    """One score of every model, beside the constants that it is compared with; an empty chart where none has it."""
    found = {
        subject: (score, e)
        for subject, taken in seen.items()
        for score in taken.scores
        if score.key == key and (e := estimate(taken, score)) is not None
    }
    if not found:
        return Dots(title or key, "", [])
    score = next(iter(found.values()))[0]
    marks = marks or [Mark(a.value, f"{a.name} {a.value:.4g}") for a in score.against if a.value is not None]
    rows = [Dot(subject.name, e, subject.colour) for subject, (_, e) in found.items()]
    unit = f"{score.label} ({score.unit})" if score.unit else score.label
    better = f"{score.better.capitalize()} is better." if score.better else ""
    return Dots(title or sentence(score.label), unit, rows, marks, caption or better, score.convention)


def table(seen: Seen, caption: str = "With 95 % intervals") -> Table:
    """Models down, scores across."""
    scores = {s.key: s for taken in seen.values() for s in taken.scores}
    keys = score_keys(seen)
    rows = [
        [Cell(subject.name), *(estimate(taken, own[key]) if key in own else None for key in keys)]
        for subject, taken in seen.items()
        for own in ({s.key: s for s in taken.scores},)
    ]
    head = [scores[key].label + (f", {scores[key].unit}" if scores[key].unit else "") for key in keys]
    return Table(caption, ["Model", *head], rows)


def sentence(words: str) -> str:
    """With a capital letter."""
    return words[:1].upper() + words[1:]
