"""What a source of text is, and what it gives: documents."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from journey.chat import SPECIALS

Progress = Callable[..., None]
Files = Sequence[tuple[str, Path]]  # (relative path, path)


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
