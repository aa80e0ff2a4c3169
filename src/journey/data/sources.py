"""Where text comes from: a built-in source by its name, or a file or folder of the user's own."""

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from journey.data import installed
from journey.data.source import Document, Progress, Source, silent
from journey.errors import JourneyError, nearest
from journey.files import digest, sha256_file

if TYPE_CHECKING:
    import pyarrow

# name in a recipe and on the command line -> what its file says
SOURCES: dict[str, Source] = {
    "installed-docs": installed.DOCUMENTATION,
    "stdlib-code": installed.CODE,
}
ENDINGS = (".txt", ".md", ".jsonl", ".jsonl.gz", ".parquet")
PIECE = 4_000  # bytes; a longer text file becomes several documents, or there would be nothing to hold out

MB = 1_000_000


class NotUtf8(JourneyError):
    """Bytes that are not UTF-8, where `read` was not asked to replace them."""


def fingerprint(source: str) -> str:
    """A hash over each file that `read` would read: its relative path and its content."""
    return digest([[name, sha256_file(path)] for name, path in files(source)])


def replaced_facts(replaced: Counter[str] | None) -> dict[str, int]:
    """What corpus.json says of bytes that `read` replaced, if it was asked to."""
    return {} if replaced is None else {"replaced_bytes": replaced.total(), "replaced_files": len(replaced)}


def files(source: str) -> list[tuple[str, Path]]:
    """(relative path, path) of each file of a source, sorted; JourneyError when there is none."""
    if source in SOURCES:
        found = [*SOURCES[source].files()]
    else:
        if (Path(source) / "lineage.json").exists():  # read anew, its test split would be trained on
            raise JourneyError(f"{source} is a node, not a text to read: in a recipe name the stage, or its own source")
        found = own_files(source)
    return sorted(found)


def own_files(source: str) -> list[tuple[str, Path]]:
    path = Path(source).expanduser()
    if path.is_file():
        if not path.name.endswith(ENDINGS):
            raise JourneyError(f"{path}: cannot read this kind of file; use one of {', '.join(ENDINGS)}")
        return [(path.name, path)]
    if not path.is_dir():
        known = nearest(source, SOURCES)
        raise JourneyError(f"no such text: {source}{known or '; give a file, a folder, or ' + ' or '.join(SOURCES)}")
    found = [(p.relative_to(path).as_posix(), p) for p in path.rglob("*") if p.is_file() and p.name.endswith(ENDINGS)]
    if not found:
        raise JourneyError(f"{path}: no text in this folder; it should hold {', '.join(ENDINGS)} files")
    return found


def read(source: str, progress: Progress = silent, replaced: Counter[str] | None = None) -> Iterator[Document]:
    """The documents of a source, in a fixed order, one after the other: no file is held in memory.

    A bad record raises JourneyError with its file and line, bytes that are not UTF-8 raise NotUtf8. With `replaced`
    they become U+FFFD, and it counts them by file.
    """
    found = files(source)
    if source in SOURCES:
        yield from SOURCES[source].documents(found, progress)
    else:
        sizes = [path.stat().st_size for _, path in found]
        before, total, shown = 0, sum(sizes), 0
        for (name, path), size in zip(found, sizes, strict=True):
            with path.open("rb") as file:
                for document in own_documents(name, path, file, replaced):
                    yield document
                    if before + file.tell() >= shown + MB:
                        shown = before + file.tell()
                        progress(shown // MB, total // MB, unit="MB")
            before += size
            progress(before // MB, total // MB, unit="MB")


def own_documents(name: str, path: Path, file: BinaryIO, replaced: Counter[str] | None = None) -> Iterator[Document]:
    """The documents of an open file that are not blank."""
    if path.suffix in (".txt", ".md"):
        texts = text_pieces(path, file, replaced)
    elif path.suffix == ".parquet":
        texts = parquet_texts(path, file, replaced)
    else:
        lines = json_lines(path, file, replaced)
        texts = (text_column(record, path, line, replaced) for line, record in lines)
    for number, text in enumerate(texts, 1):
        if text.strip():
            yield Document(f"{name}:{number}", text, text)


def text_pieces(path: Path, file: BinaryIO, replaced: Counter[str] | None) -> Iterator[str]:
    offset = 0
    for piece, size in pieces(file):
        yield decode(piece, path, offset, replaced=replaced)
        offset += size


def split_text(text: str) -> list[str]:
    """Cuts a text at blank lines into pieces of at least PIECE bytes; a short text is one piece."""
    return [piece.decode() for piece, _ in pieces(io.BytesIO(text.encode()))]


def pieces(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Lines put together to pieces that end at a blank line, of at least PIECE bytes; and the bytes of each with that
    line. A newline belongs to one blank line only: of three in a row, the third begins what follows."""
    piece, size, ended = list[bytes](), 0, False
    for line in lines:
        piece.append(line)
        size += len(line)
        if line == b"\n" and ended:
            ended = False
            if size >= PIECE:
                yield b"".join(piece)[:-2], size
                piece, size = [], 0
        else:
            ended = line.endswith(b"\n")
    yield b"".join(piece), size


def decode(data: bytes, path: Path, offset: int = 0, place: str = "", replaced: Counter[str] | None = None) -> str:
    """UTF-8 bytes as text. Bad ones raise NotUtf8, which says where the first stands in the file (`data` begins at
    `offset`); with `replaced` they become U+FFFD, and it counts them by file."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if replaced is None:
            where = f"{path}: byte {offset + error.start}{place}"
            raise NotUtf8(f"{where} is not UTF-8; convert it, say with iconv -f LATIN1 -t UTF-8") from None
    replaced[str(path)] += len(data) - len(data.decode(errors="ignore").encode())
    return data.decode(errors="replace")


def json_lines(
    path: Path, file: BinaryIO | None = None, replaced: Counter[str] | None = None
) -> Iterator[tuple[int, object]]:
    """(line number, record) of a .jsonl or .jsonl.gz file, perhaps open already; blank lines are skipped."""
    with file or path.open("rb") as opened:
        try:
            offset = 0
            lines = gzip.GzipFile(fileobj=opened) if path.suffix == ".gz" else opened
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield number, json.loads(decode(line, path, offset, f", in line {number},", replaced))
                    except json.JSONDecodeError as error:
                        raise JourneyError(
                            f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})"
                        ) from None
                offset += len(line)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise JourneyError(f"{path}: damaged gzip file ({error})") from None


def text_column(record: object, path: Path, line: int, replaced: Counter[str] | None = None) -> str:
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise JourneyError(f'{path}, line {line}: no "text" string; each line should be {{"text": "..."}}')
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half a character, \ud83d; UTF-8 has no bytes for it
        data = text.encode(errors="surrogatepass")
        return decode(data, path, place=f" of the text in line {line} (half a character)", replaced=replaced)
    return text


def parquet_texts(path: Path, file: BinaryIO, replaced: Counter[str] | None) -> Iterator[str]:
    number = 0
    for batch in parquet_batches(path, ["text"], file):
        column = batch.column(0)
        try:
            texts = column.to_pylist()
        except UnicodeDecodeError:  # parquet does not check what it holds
            texts = column.cast("large_binary").to_pylist()
        for text in texts:
            number += 1
            if isinstance(text, bytes):
                text = decode(text, path, place=f" of the text in row {number}", replaced=replaced)
            if not isinstance(text, str | None):
                raise JourneyError(f'{path}, row {number}: "text" is {type(text).__name__}, not a string')
            yield text or ""


def parquet_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file, all columns or those named."""
    for batch in parquet_batches(path, columns):
        yield from batch.to_pylist()


def parquet_batches(
    path: Path, columns: list[str] | None = None, file: BinaryIO | None = None
) -> "Iterator[pyarrow.RecordBatch]":
    """The rows of a parquet file, perhaps open already, 256 at a time."""
    import pyarrow.lib
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file or path) as table:
            missing = [column for column in columns or [] if column not in table.schema_arrow.names]
            if missing:
                raise JourneyError(f'{path}: no "{missing[0]}" column; it has {", ".join(table.schema_arrow.names)}')
            yield from table.iter_batches(batch_size=256, columns=columns)
    except pyarrow.lib.ArrowInvalid as error:
        raise JourneyError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from None
