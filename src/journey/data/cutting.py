"""Where the text of a .txt or .md file is cut into documents."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from journey.data.source import Notes
from journey.data.textfile import LONGEST, parted
from journey.errors import JourneyError

PIECE = 4_000  # bytes; a longer text file becomes several documents, or there would be nothing to hold out
SMALLEST = 200  # bytes of a piece of a small text
LONG = 4 << 20  # bytes; what is longer and has no blank line is no document but a list of them, or a book
BLANK_LINE, LINE = "blank-line", "line"

_BLANK = re.compile(r"\n[^\S\n]+(?=\n)")
_SENTENCE = re.compile(rb"[.!?][\"')\]]*\s+|" + b"|".join(mark.encode() for mark in "。！？।"))
_SPACE = re.compile(rb"\s+")


@dataclass(frozen=True)
class Cut:
    """How a text is cut into documents.

    separator: "blank-line", "line", or a string that stands between them.
    piece: bytes; paragraphs that blank lines end are put together to as many, and what is too long is cut near them.
    fine: whether all of over four pieces is too long; else only what hardly fits in memory, or has no blank line.
    """

    separator: str = BLANK_LINE
    piece: int = PIECE
    fine: bool = False

    def __post_init__(self) -> None:
        if not self.separator:
            raise JourneyError('separator is empty: give blank-line, line, or a string such as "<|endoftext|>"')

    @property
    def longest(self) -> int:
        """Bytes of a document; a longer one is cut into pieces."""
        if self.fine:
            return 4 * self.piece
        return LONG if self.separator == BLANK_LINE else LONGEST

    def finer(self, n_bytes: int, few: int) -> "Cut":
        """For a text of that length with too few documents: into twice as many pieces, or more."""
        return Cut(self.separator, min(PIECE, max(SMALLEST, n_bytes // (2 * few))), fine=True)


def documents(texts: Iterable[str], cut: Cut, notes: Notes) -> Iterator[str]:
    """The documents of a text that comes in parts; the notes count those that were too long and became pieces.

    Where blank lines separate, a newline belongs to one blank line only: of three in a row, the third begins what
    follows.
    """
    if cut.separator == BLANK_LINE:
        return glued(texts, "\n\n", cut, notes)
    if cut.separator == LINE:
        return glued(texts, "\n", cut, notes)
    # A mark often has lines of its own, whose ends belong to no document.
    return (text.strip("\n") for text in glued(texts, cut.separator, cut, notes))


def glued(texts: Iterable[str], joint: str, cut: Cut, notes: Notes) -> Iterator[str]:
    """What stands between joints, in pieces where it is too long; between blank lines, put together to a piece."""
    least = cut.piece if joint == "\n\n" else 0
    held, size, long, waiting = list[str](), 0, False, False
    for part, ended in parted(texts, joint):
        parts = [joint, part] if waiting else [part]
        held += parts
        size += sum(map(n_bytes, parts))
        waiting = False
        if size > cut.longest and not long:
            long = True
            notes.long_documents += 1
        if long and (ended or size > 4 * cut.piece):
            *pieces, rest = in_pieces("".join(held), cut.piece, ended)
            yield from pieces
            held, size = [rest], n_bytes(rest)
        if ended and (long or size + len(joint) >= least):
            yield "".join(held)
            held, size, long = [], 0, False
        else:
            waiting = ended
    if waiting:
        yield "".join(held)


def n_bytes(text: str) -> int:
    """The length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def in_pieces(text: str, piece: int, final: bool = True) -> Iterator[str]:
    """A text in pieces of about that many bytes: of whole lines, where there are some of a fair length, else to the end
    of a sentence or of a word. What comes last is what is left over, and is as long as it must be to see where it is to
    be cut, if it is not the `final` part of the text."""
    data, start = text.encode(), 0
    while len(data) - start > (piece * 3 // 2 if final else 4 * piece):
        end = _end(data, start, piece)
        yield data[start:end].decode().strip("\n")
        start = end
    yield data[start:].decode()


def _end(data: bytes, start: int, piece: int) -> int:
    near, far = start + piece, start + 2 * piece
    if end := data.find(b"\n", near, start + 4 * piece) + 1:
        return end
    if found := _SENTENCE.search(data, near, far) or _SPACE.search(data, near, far):
        return found.end()
    while data[near] & 0xC0 == 0x80:  # within a character
        near += 1
    return near


def blank_lines(texts: Iterable[str]) -> Iterator[str]:
    """A text with nothing in its blank lines: one that holds a space ends a paragraph too."""
    rest, before = "\n", 1  # a newline and what may be a blank line; how much of it stands before the text
    for text in texts:
        text = rest + text
        start = text.rfind("\n")
        if start >= 0 and not text[start:].strip():
            done, rest = _BLANK.sub("\n", text[: start + 1])[:-1], text[start:]
        else:
            done, rest = _BLANK.sub("\n", text), ""
        yield done[before:]
        before = 0 if done else before
    yield rest[before:]


def split_text(text: str) -> list[str]:
    """Cuts a text at blank lines into pieces of at least PIECE bytes; a short text is one piece."""
    return list(glued([text], "\n\n", Cut(), Notes()))
