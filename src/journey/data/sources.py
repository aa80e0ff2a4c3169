"""Where text comes from: the documentation and the code on this machine, or a file or folder of the user's own."""

import gzip
import hashlib
import io
import json
import os
import sysconfig
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from journey import machine
from journey.chat import SPECIALS
from journey.data.code import without_docstrings, without_licence
from journey.data.documentation import collect, is_private
from journey.data.exports import public_names
from journey.errors import JourneyError, nearest
from journey.files import digest, sha256_file

if TYPE_CHECKING:
    import pyarrow

SOURCES = ("installed-docs", "stdlib-code")
# Fixed, and only what the package itself depends on: installing anything else must not change a corpus.
PACKAGES = ("numpy", "torch", "transformers", "huggingface_hub", "datasets", "accelerate", "trl")
# Tests; other people's code inside torch; torch's compiler, all private and a quarter of the parsing time.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "__pycache__", "_internal", "_vendor", "_inductor", "_dynamo"}
# Debian ships most of these apart from the standard library (python3-venv brings ensurepip): without them the corpus
# is the same wherever the Python is. encodings and pydoc_data are tables.
SKIPPED_STDLIB = {
    *("site-packages", "dist-packages", "ensurepip", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3"),
    *("distutils", "encodings", "pydoc_data", "__phello__", "sitecustomize.py", "usercustomize.py"),
}
ENDINGS = (".txt", ".md", ".jsonl", ".jsonl.gz", ".parquet")
PIECE = 4_000  # bytes; a longer text file becomes several documents, or there would be nothing to hold out

MB = 1_000_000

Progress = Callable[..., None]


class NotUtf8(JourneyError):
    """Bytes that are not UTF-8, where `read` was not asked to replace them."""


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


def fingerprint(source: str) -> str:
    """A hash over each file that `read` would read: its relative path and its content."""
    return digest([[name, sha256_file(path)] for name, path in files(source)])


def replaced_facts(replaced: Counter[str] | None) -> dict[str, int]:
    """What corpus.json says of bytes that `read` replaced, if it was asked to."""
    return {} if replaced is None else {"replaced_bytes": replaced.total(), "replaced_files": len(replaced)}


def files(source: str) -> list[tuple[str, Path]]:
    """(relative path, path) of each file of a source, sorted; JourneyError when there is none."""
    if source == "stdlib-code":
        found = standard_library()
    elif source == "installed-docs":
        found = standard_library()
        for package in PACKAGES:
            spec = find_spec(package)
            if spec and spec.origin:
                folder = Path(spec.origin).parent
                found += [(f"{package}/{name}", path) for name, path in python_files(folder)]
    else:
        if (Path(source) / "lineage.json").exists():  # read anew, its test split would be trained on
            raise JourneyError(f"{source} is a node, not a text to read: in a recipe name the stage, or its own source")
        found = own_files(source)
    return sorted(found)


def python_files(folder: Path, skipped: Set[str] = frozenset()) -> Iterator[tuple[str, Path]]:
    for root, folders, names in os.walk(folder):
        here = Path(root)
        ignore = SKIPPED_FOLDERS | (skipped if here == folder else set())
        folders[:] = [name for name in folders if name not in ignore]
        for name in names:
            # transformers keeps a modular_*.py beside the modeling_*.py that is generated from it
            if name.endswith(".py") and name not in ignore and not name.startswith(("modular_", "_sysconfigdata")):
                yield (here / name).relative_to(folder).as_posix(), here / name


def standard_library() -> list[tuple[str, Path]]:
    return list(python_files(Path(sysconfig.get_path("stdlib")), SKIPPED_STDLIB))


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
    if source == "installed-docs":
        yield from documentation(progress)
    elif source == "stdlib-code":
        yield from code(progress)
    else:
        found = files(source)
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


def documentation(progress: Progress) -> Iterator[Document]:
    """One document a docstring: a line with its qualified name and signature, a blank line, the cleaned text."""
    modules, packages = [], set()
    for name, path in files("installed-docs"):
        parts = name.removesuffix(".py").split("/")
        if parts[-1] == "__init__":
            parts.pop()
            packages.add(".".join(parts))
        if parts[-1] != "__main__":
            modules.append((".".join(parts), str(path)))
    parsed = collect(modules, machine.cores(), lambda done, total: progress(done, total, unit="files"))
    names = public_names(parsed, packages)
    seen = set()
    for module in parsed:
        for entry in module.entries:
            first, _, rest = entry.name.partition(".")
            full = f"{entry.module}.{first}" if first else entry.module
            name = names.get(full, full) + ("." + rest if rest else "")
            if name not in seen and not is_private(name):
                seen.add(name)
                text = f"{name}{entry.signature}\n\n{entry.doc}\n"
                yield Document(name, text, entry.doc, name, entry.kind, tuple(entry.parameters))


def code(progress: Progress) -> Iterator[Document]:
    """One document a file of the standard library, without docstrings, under a comment with its path."""
    found = files("stdlib-code")
    for number, (name, path) in enumerate(found, 1):
        try:
            source = without_licence(without_docstrings(path.read_text("utf-8")))
        except (SyntaxError, UnicodeDecodeError):  # a few files of the library are broken on purpose, or Latin-1
            continue
        if len(source) > 200:
            yield Document(name, f"# Lib: {name}\n{source}", source)
        progress(number, len(found), unit="files")


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
