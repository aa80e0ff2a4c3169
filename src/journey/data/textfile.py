"""The text of a file, unpacked and decoded, a part at a time: no file is held in memory.

Whatever wrote the file, its text comes out the same: a byte order mark is no part of it, and lines end in \\n.
"""

import codecs
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from journey.errors import JourneyError

CHUNK = 1 << 18  # bytes that are read at once
LONGEST = 32 << 20  # characters of a line of JSON, of a document, of a word: 4 MB of gzip can hold 4 GB of them
EMPTIEST = 8 << 20  # of nothing but white space
PACKED = {".gz": "gzip", ".zst": "zstd"}
# Byte order marks; UTF-32's come before those of UTF-16, with which they begin.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# (bytes, errors, whether the text ends with them) -> text, and how many of the bytes it is of
DECODERS: dict[str, Callable[[bytes, str, bool], tuple[str, int]]] = {
    "utf-8": codecs.utf_8_decode,
    "utf-16-le": codecs.utf_16_le_decode,
    "utf-16-be": codecs.utf_16_be_decode,
    "utf-32-le": codecs.utf_32_le_decode,
    "utf-32-be": codecs.utf_32_be_decode,
}
_SPACE = re.compile(r"\s")


class NotUtf8(JourneyError):
    """Bytes that are not UTF-8, where nobody asked to replace them."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the system says of a file that it does not give becomes one line."""
    try:
        yield
    except FileNotFoundError:
        raise JourneyError(f"{path}: no such file, or it was taken away while it was read") from None
    except OSError as error:
        raise JourneyError(f"{path}: cannot be read ({error.strerror or error})") from None


def chunks(
    path: Path, file: BinaryIO | None = None, replaced: Counter[str] | None = None, prose: bool = False
) -> Iterator[str]:
    """The text of a file, perhaps open already, about CHUNK characters at a time.

    Bytes that are not of its encoding, UTF-8 where no mark says otherwise, raise NotUtf8, with their line unless the
    file is `prose`, whose lines have no numbers. With `replaced` they become U+FFFD, and it counts them by file.
    JourneyError for what is no text: NUL bytes, LONGEST of one word, EMPTIEST of none.
    """
    with reading(path), nullcontext(file) if file else path.open("rb") as opened:
        before, run = "", 0
        for text in _decoded_lines(path, unpacked(path, opened), replaced, prose):
            if "\0" in text and (text.count("\0") > 8 + len(text) // 10 or "\0" * 32 in text):
                raise JourneyError(f"{path}: holds many NUL bytes: it is no text, or a copy that broke off")
            what = "white space" if not text.strip() else "one word" if prose and not _SPACE.search(text) else ""
            run, before = len(text) + (run if what == before else 0), what
            if what and run > (LONGEST if what == "one word" else EMPTIEST):
                raise JourneyError(f"{path}: {run >> 20} MB of nothing but {what}: it is no text")
            yield text


def _decoded_lines(path: Path, blocks: Iterator[bytes], replaced: Counter[str] | None, prose: bool) -> Iterator[str]:
    """The bytes of a file as text whose lines end in \\n."""
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    start = next(blocks, b"")
    mark, encoding = mark_of(start, path)
    waiting, offset, line = start[len(mark) :], len(mark), 1
    for block in chain(blocks, [b""]):  # what follows those that wait to be decoded
        try:
            part, used = _decoded(waiting, encoding, not block, path, replaced)
        except UnicodeDecodeError as error:
            before = newlines.decode(waiting[: error.start].decode(encoding, "ignore"))
            place = "" if prose else f", in line {line + before.count(chr(10))},"
            raise _not_text(path, offset + error.start, place, encoding) from None
        waiting, offset = waiting[used:] + block, offset + used
        text = newlines.decode(part, not block)
        line += 0 if prose else text.count("\n")
        yield text


def unpacked(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The bytes of an open file, CHUNK at a time; those inside where its name ends in .gz or .zst."""
    kind = PACKED.get(path.suffix.lower())
    stream: Any = file
    try:
        if kind == "gzip":
            stream = gzip.GzipFile(fileobj=file)
        elif kind == "zstd":
            import pyarrow

            stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
        while block := stream.read(CHUNK):
            yield block
    except (OSError, EOFError, zlib.error) as error:  # errors of both kinds of packing are OSErrors too
        if not kind:
            raise
        raise JourneyError(f"{path}: damaged {kind} file ({error})") from None


def is_packed(path: Path) -> bool:
    """Whether a .gz or .zst file begins as one does; an empty one holds nothing, packed or not."""
    with reading(path), path.open("rb") as file:
        start = file.read(4)
    if PACKED[path.suffix.lower()] == "gzip":
        return not start or start.startswith(b"\x1f\x8b")
    skipped = start[1:] == b"\x2a\x4d\x18" and start[0] >> 4 == 5  # frames of other data, which zstd steps over
    return not start or start == b"\x28\xb5\x2f\xfd" or skipped


def decode(data: bytes, path: Path, place: str = "", replaced: Counter[str] | None = None) -> str:
    """The bytes of a whole file as text, or the UTF-8 bytes of a text inside of it, whose `place` is then given.

    Bad ones raise NotUtf8, which says which is the first; with `replaced` they become U+FFFD, and it counts them.
    """
    mark, encoding = (b"", "utf-8") if place else mark_of(data, path)
    try:
        return _decoded(data[len(mark) :], encoding, True, path, replaced)[0]
    except UnicodeDecodeError as error:
        raise _not_text(path, len(mark) + error.start, place, encoding) from None


def mark_of(start: bytes, path: Path) -> tuple[bytes, str]:
    """The byte order mark that a file begins with, or none, and its encoding.

    JourneyError for what seems to be UTF-16 or UTF-32 without a mark: in Latin letters it is good UTF-8, full of NULs.
    """
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return mark, encoding
    data = start[: 1 << 16]
    nul = [data[place::4].count(0) for place in range(4)]
    most, n_nul, wide = 0.9 * len(data) / 4, sum(nul), ""
    if min(nul[1], nul[2]) > most:
        wide = "UTF-32LE" if nul[3] > most > nul[0] else "UTF-32BE" if nul[0] > most > nul[3] else ""
    elif n_nul > max(3, len(data) / 100) or (n_nul > 1 and not _is_utf8(data)):
        odd = (nul[1] + nul[3]) / n_nul
        wide = "UTF-16LE" if odd > 0.95 else "UTF-16BE" if odd < 0.05 else ""
    if wide:
        raise JourneyError(
            f"{path}: looks like {wide} without a byte order mark, by its NUL bytes; "
            f"convert it with iconv -f {wide} -t UTF-8"
        )
    return b"", "utf-8"


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(data: bytes, encoding: str, final: bool, path: Path, replaced: Counter[str] | None) -> tuple[str, int]:
    """The text of the bytes, and of how many of them: the beginning of a character waits for the rest of it, unless
    they are the `final` ones."""
    read = DECODERS[encoding]
    try:
        return read(data, "strict", final)
    except UnicodeDecodeError:
        if replaced is None:
            raise
    good, _ = read(data, "ignore", final)
    text, used = read(data, "replace", final)
    replaced[str(path)] += used - len(good.encode(encoding))
    return text, used


def _not_text(path: Path, byte: int, place: str, encoding: str) -> NotUtf8:
    if encoding != "utf-8":
        name = encoding[:6].upper()
        return NotUtf8(f"{path}: byte {byte}{place} is not {name}, as its byte order mark says: the file is damaged")
    return NotUtf8(f"{path}: byte {byte}{place} is not UTF-8; convert it, say with iconv -f LATIN1 -t UTF-8")


def parted(texts: Iterable[str], separator: str) -> Iterator[tuple[str, bool]]:
    """What stands between separators, in parts no longer than a chunk: (part, whether a separator or the end follows).

    Cut as str.split cuts the whole.
    """
    rest, keep = "", len(separator) - 1
    for text in texts:
        *whole, rest = (rest + text).split(separator)
        for part in whole:
            yield part, True
        if len(rest) > keep:  # what may be the beginning of a separator waits
            yield rest[: len(rest) - keep], False
            rest = rest[len(rest) - keep :]
    yield rest, True


def lines(
    path: Path, file: BinaryIO | None = None, replaced: Counter[str] | None = None, blank: bool = False
) -> Iterator[tuple[int, str]]:
    """(number, line) of each line of a file that is not blank, or of all; errors as `chunks`, and for a line over
    LONGEST."""
    parts, size, number = list[str](), 0, 1
    for part, ended in parted(chunks(path, file, replaced), "\n"):
        parts.append(part)
        size += len(part)
        if size > LONGEST:
            raise JourneyError(f"{path}, line {number}: over {LONGEST >> 20} MB, more than a line may have")
        if ended:
            line = "".join(parts)
            if blank or (line and not line.isspace()):
                yield number, line
            parts, size, number = [], 0, number + 1
