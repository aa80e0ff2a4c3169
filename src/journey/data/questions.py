"""Questions and multiple-choice items made from documentation: what does X do? Which summary belongs to this heading?

The answer is always the documented summary, the first sentence of the docstring, so nothing is invented.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from journey.data.installed import PACKAGES
from journey.data.source import Document

SHORTEST, LONGEST = 20, 160  # characters of a summary
PASSAGE = 420  # bytes
REPEATS = 3  # summaries of one shape ("Constructs a _ tokenizer.") that may become training questions


@dataclass(frozen=True)
class Question:
    """A question, its documented answer, and the passage that holds it; `named` if the question names its object."""

    id: str
    question: str
    answer: str
    passage: str
    named: bool


@dataclass(frozen=True)
class Choice:
    """Which of the options is the summary of the heading in `context`? `options[gold]`."""

    id: str
    context: str
    options: tuple[str, ...]
    gold: int


ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|resp|approx|Fig|Eq|al|incl|aka|a\.k\.a|w\.r\.t|No)|\b[A-Z])\.$")
SENTENCE = re.compile(r"[.!?](?=\s|$)")
PROSE = re.compile(r"""[A-Z"'`*][^\n]*""")
NOT_PROSE = re.compile(
    r"::|>>>|https?:|\\[a-z]+\{|\.\. |[{}|<>]|[^\x20-\x7e]|\bTODO\b|\bdeprecated\b"
    r"|^(?:Arg|Return|Example|Note|Warning)s?:",
    re.IGNORECASE,
)
NAME = re.compile(r"`[^`]*`|\b\w*(?:[a-z0-9][A-Z]|[A-Z]{2}|_|\d)\w*\b")

NAMED = {
    True: ("What does `{name}` do?", "What does the {kind} `{name}` do?", "Describe `{name}` in one sentence."),
    False: ("What is `{name}`?", "What is the {kind} `{name}`?", "Describe `{name}` in one sentence."),
}
BY_PARAMETERS = {
    True: ("What does the {kind} with the parameters {those} do?", "A {kind} takes {those}. What does it do?"),
    False: ("What is the {kind} with the parameters {those}?", "A {kind} takes {those}. What is it?"),
}
BY_SENTENCE = {
    True: (
        'What does the {kind} do whose documentation says "{said}"?',
        'Of a {kind} it is said: "{said}" What does it do?',
    ),
    False: ('What is the {kind} whose documentation says "{said}"?', 'Of a {kind} it is said: "{said}" What is it?'),
}


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, each on one line and with its full stop; what has none at the end is left out."""
    text = " ".join(paragraph.split())
    found, start = [], 0
    for match in SENTENCE.finditer(text):
        sentence = text[start : match.end()]
        if ABBREVIATION.search(sentence):
            continue
        found.append(sentence.strip())
        start = match.end()
    return found


def summary(document: Document) -> str:
    """The first sentence of the documentation where it is a plain one of 20 to 160 characters, else an empty string."""
    paragraph = document.body.split("\n\n")[0]
    if re.search(r"\n\s+|\n[-*=~]", paragraph):  # a list, a parameter or a title, not a paragraph
        return ""
    first = next(iter(sentences(paragraph)), "")
    good = SHORTEST <= len(first) <= LONGEST and PROSE.match(first) and not NOT_PROSE.search(first)
    opens = document.body[: len(first)].split() == first.split()
    return first if good and opens and len(first.split()) >= 4 and first.endswith(".") else ""


def passage(document: Document, answer: str) -> str:
    """The start of a document, at most 420 bytes, cut at a line's or a word's end; the summary stands on one line."""
    heading = document.text.partition("\n\n")[0]
    if len(heading) > PASSAGE // 2:
        heading = document.name
    text = f"{heading}\n\n{answer}{document.body[len(answer) :]}"
    if len(text.encode()) <= PASSAGE:
        return text.rstrip()
    start = text.encode()[:PASSAGE].decode(errors="ignore")
    line, word = start.rfind("\n"), start.rfind(" ")
    end = len(heading) + 2 + len(answer)
    return start[: line if line >= max(end, len(start) // 2) else max(end, word)].rstrip()


def shape(text: str) -> str:
    """A sentence with its names and numbers blanked: what a template leaves the same."""
    return NAME.sub("_", text).lower()


def questions(splits: dict[str, list[Document]], seed: int) -> dict[str, list[Question]]:
    """Two questions at most from each document of a split: one names what it asks about, one describes it instead.

    What could be known from training is dropped from the other splits: a summary that is a training answer, or its
    twin but for names and numbers. Twins are kept once in these splits, and three times in training.
    """
    every = [document for documents in splits.values() for document in documents]
    signatures = Counter((d.kind, d.parameters) for d in every)
    shapes: dict[str, Counter[str]] = {}
    made: dict[str, list[Question]] = {}
    for split in sorted(splits, key=lambda name: name != "train"):
        known = shapes.get("train", Counter()) if split != "train" else Counter()
        counts = shapes[split] = Counter()
        made[split] = []
        for document in splits[split]:
            answer = summary(document)
            form = shape(answer)
            if not answer or known[form] or counts[form] >= (REPEATS if split == "train" else 1):
                continue
            counts[form] += 1
            made[split] += ask(document, answer, signatures, random.Random(f"{seed}:{document.id}"))
    return made


def ask(
    document: Document, answer: str, signatures: Counter[tuple[str, tuple[str, ...]]], rng: random.Random
) -> list[Question]:
    """The questions of one document; parameters stand for the name only where no other document has the same ones."""
    text = passage(document, answer)
    does = document.kind in ("function", "method")
    named = rng.choice(NAMED[does]).format(name=document.name, kind=document.kind)
    asked = [Question(f"{document.id}#named", named, answer, text, True)]
    described = []
    names = [f"`{name}`" for name in document.parameters]
    if 2 <= len(names) <= 5 and signatures[document.kind, document.parameters] == 1:
        described.append((BY_PARAMETERS, {"those": ", ".join(names[:-1]) + " and " + names[-1]}))
    if said := another_sentence(document):
        described.append((BY_SENTENCE, {"said": said}))
    if described:
        forms, words = rng.choice(described)
        question = rng.choice(forms[does]).format(kind=document.kind, **words)
        article = re.sub(r"\b(a|A) (?=attribute)", r"\1n ", question)
        asked.append(Question(f"{document.id}#described", article, answer, text, False))
    return asked


def another_sentence(document: Document) -> str:
    """A sentence after the summary that does not give the name away, or an empty string."""
    short = document.name.split(".")[-1].lower()
    paragraphs = [p for p in document.body.split("\n\n")[:3] if not re.search(r"\n\s+|\n[-*=~]", p)]
    for sentence in [s for p in paragraphs for s in sentences(p)][1:]:
        good = 40 <= len(sentence) <= 140 and PROSE.match(sentence) and not NOT_PROSE.search(sentence)
        if good and short not in sentence.lower() and '"' not in sentence:
            return sentence
    return ""


def choices(documents: Sequence[Document], taken: Iterable[Question], seed: int) -> list[Choice]:
    """One item for each document that has a question: its summary among three of other documents of the same split.

    The others are of similar length (within 30 %), from the same package first. No two are twins, since no two of the
    questions are. The place of the right one is drawn from the seed.
    """
    answers = {question.id.removesuffix("#named"): question.answer for question in taken if question.named}
    pool = [(document, answers[document.id]) for document in documents if document.id in answers]
    items = []
    for document, answer in pool:
        rng = random.Random(f"{seed}:{document.id}")
        near = [(d, a) for d, a in pool if 0.7 * len(answer) <= len(a) <= 1.3 * len(answer) and d is not document]
        rng.shuffle(near)
        near.sort(key=lambda other: not same_package(other[0], document))
        options = [answer, *(other for _, other in near[:3])]
        if len(options) == 4:
            rng.shuffle(options)
            heading = document.text.partition("\n\n")[0]
            items.append(Choice(document.id, heading + "\n\n", tuple(options), options.index(answer)))
    return items


def same_package(a: Document, b: Document) -> bool:
    """True for two documents of one installed package, or of the standard library."""
    first, second = (d.name.split(".")[0] if d.name.split(".")[0] in PACKAGES else "" for d in (a, b))
    return first == second
