"""A text in passages: pieces short enough for a prompt, each under the name of what it is about."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import regex

from journey.data.corpus import SPLITS, Corpus
from journey.data.questions import PASSAGE, Question, passage, summary
from journey.data.sources import Document
from journey.data.words import UNSPACED

_UNSPACED = regex.compile(UNSPACED, regex.V1)


@dataclass(frozen=True)
class Passage:
    """Some 420 bytes of a document, as a prompt has it. `id` is the document's and the number of the piece, from 1."""

    id: str
    title: str
    text: str
    headed: bool = False  # whether the text opens with a heading that only says whose piece it is
    named: bool = False  # whether the title is the name of what it is about, and not a file's and a line's

    @property
    def searched(self) -> str:
        """What is indexed: where every piece repeated the name, one that asks by name would find any of them."""
        return self.text.partition("\n\n")[2] if self.headed else self.text


def read(corpus: Corpus, whole: bool = False) -> Iterator[Passage]:
    """The passages of all splits: one looks things up in the whole text, held-out documents too.

    Of documentation the opening of each document alone, unless `whole`: that is where it says what the thing is. On the
    pocket's dev questions BM25 has the right one among the first five for 97 % of them, and for 95 % with three times
    the passages, which take three times as long to embed and to search.
    """
    documented = "questions" in corpus.facts["splits"]["train"]
    for split in SPLITS:
        for document in corpus.documents(split):
            if not documented:
                yield from plain(document)
            else:
                yield from documentation(document) if whole else [opening(document)]


def gold(question: Question) -> str:
    """The id of the passage that a question was made from."""
    return first(question.id.rpartition("#")[0])


def first(document_id: str) -> str:
    """The id of a document's first passage."""
    return f"{document_id}#1"


def opening(document: Document) -> Passage:
    """The passage that `data.questions` gives with a question about this document."""
    body = document.text.partition("\n\n")[2].rstrip("\n")
    known = replace(document, body=body, name=document.id)  # a corpus keeps id and text alone
    return Passage(first(document.id), document.id, passage(known, summary(known)), named=True)


def documentation(document: Document) -> Iterator[Passage]:
    """The opening, then the rest under the object's name."""
    start = opening(document)
    yield start
    told = start.text.partition("\n\n")[2]
    body = document.text.partition("\n\n")[2]
    room = max(PASSAGE // 2, PASSAGE - len(document.id.encode()) - 2)
    for number, piece in enumerate(cut(body[len(told) :], room), 2):
        yield Passage(f"{document.id}#{number}", document.id, f"{document.id}\n\n{piece}", headed=True)


def plain(document: Document) -> Iterator[Passage]:
    """A text of one's own, cut as it comes."""
    for number, piece in enumerate(cut(document.text), 1):
        yield Passage(f"{document.id}#{number}", document.id, piece)


def cut(text: str, size: int = PASSAGE) -> Iterator[str]:
    """The text in pieces of at most `size` bytes that end with a line in their second half, else with a word, else
    between two characters; no piece is white space alone. Where words are not set apart by spaces, a piece ends at a
    space in its second half, else before a letter."""
    text = text.strip()
    while len(text[: size + 1].encode()) > size:
        piece = text[:size].encode()[:size].decode(errors="ignore")
        line, word = piece.rfind("\n"), piece.rfind(" ")
        if max(line, word) < len(piece) // 2:
            word = max(word, *(match.start() for match in _UNSPACED.finditer(text[: len(piece) + 1])), 0)
        end = line if line >= len(piece) // 2 else word if word > 0 else len(piece)
        yield piece[:end].rstrip()
        text = text[end:].lstrip()
    if text:
        yield text
