"""What a source of text is, and what it gives: documents."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journey.chat import SPECIALS

Progress = Callable[..., None]
Files = Sequence[tuple[str, Path]]  # (relative path, path)
FEWEST = 10  # documents; with fewer there is nothing to hold out
SHOWN = 3  # rows that were left out are shown, and the others counted


@dataclass(frozen=True)
class Document:
    """One text. `body` is what makes two documents the same; the rest is known of documentation only."""

    id: str
    text: str
    body: str = ""
    name: str = ""
    kind: str = ""
    parameters: tuple[str, ...] = ()

    def key(self) -> bytes:
        """What two documents have in common when they are the same but for capitals and white space."""
        return hashlib.sha256(" ".join((self.body or self.text).lower().split()).encode()).digest()

    def n_bytes(self) -> int:
        """The length of the text in UTF-8."""
        return len(self.text.encode())

    def special_spellings(self) -> int:
        """How often a special token is spelled out in the text."""
        return sum(map(self.text.count, SPECIALS)) if "<|" in self.text else 0


class TooFew(Exception):
    """A text of `n` documents, fewer than FEWEST."""

    def __init__(self, n: int) -> None:
        self.n = n


@dataclass
class Notes:
    """What came up while files were read that those who asked for it should be told."""

    replaced: Counter[str] | None = None  # bytes that were not UTF-8, by file; None where they are refused
    left_out: Counter[str] = field(default_factory=Counter)  # rows without a text, by reason
    first_left_out: list[str] = field(default_factory=list)  # where the first of them stand
    prose: int = 0  # bytes of .txt and .md files, which can be cut into more documents
    marks: int = 0  # spellings of <|endoftext|> in them
    long_documents: int = 0  # of them, that were cut into pieces
    finer: dict[str, int] | None = None  # the documents found first, so few that the text was cut finer, and how fine

    def leave_out(self, where: str, reason: str) -> None:
        """Count a row that cannot be used."""
        self.left_out[reason] += 1
        if len(self.first_left_out) < SHOWN:
            self.first_left_out.append(where)

    def facts(self) -> dict[str, Any]:
        """What corpus.json says of it."""
        facts: dict[str, Any] = {}
        if self.replaced is not None:
            facts |= {"replaced_bytes": self.replaced.total(), "replaced_files": len(self.replaced)}
        if self.left_out:
            facts |= {"left_out": dict(self.left_out), "first_left_out": self.first_left_out}
        if self.finer:
            facts["cut_finer"] = self.finer
        elif self.long_documents:
            facts["long_documents_cut"] = self.long_documents
        if self.marks >= FEWEST:
            facts["endoftext_marks"] = self.marks
        return facts


def silent(done: int, total: int, **numbers: object) -> None:
    """A progress callback for those who want none."""


@dataclass(frozen=True)
class Source:
    """A built-in source, by a name of `sources.SOURCES`.

    files: every file that it reads; the fingerprint in a text's id is of their names and content.
    documents: what it makes of them, sorted, in a fixed order and one after the other; told how far it is.
    """

    name: str  # of what is made of it, in corpus.json
    files: Callable[[], Files]
    documents: Callable[[Files, Progress], Iterator[Document]]
