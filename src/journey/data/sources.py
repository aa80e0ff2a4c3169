"""Where text comes from: the documentation and the code on this machine, or a file or folder of the user's own."""

import gzip
import json
import os
import sysconfig
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from journey import machine
from journey.data.code import without_docstrings, without_licence
from journey.data.documentation import collect, is_private
from journey.data.exports import public_names
from journey.errors import JourneyError, nearest
from journey.files import digest, sha256_file

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

Progress = Callable[..., None]


@dataclass(frozen=True)
class Document:
    """One text. `body` is what makes two documents the same; the rest is known of documentation only."""

    id: str
    text: str
    body: str = ""
    name: str = ""
    kind: str = ""
    parameters: tuple[str, ...] = ()


def silent(done: int, total: int, **numbers: object) -> None:
    """A progress callback for those who want none."""


def fingerprint(source: str) -> str:
    """A hash over each file that `read` would read: its relative path and its content."""
    return digest([[name, sha256_file(path)] for name, path in files(source)])


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


def read(source: str, progress: Progress = silent) -> Iterator[Document]:
    """The documents of a source, in a fixed order; JourneyError names the file and line of a bad record."""
    if source == "installed-docs":
        yield from documentation(progress)
    elif source == "stdlib-code":
        yield from code(progress)
    else:
        found = files(source)
        for number, (name, path) in enumerate(found, 1):
            yield from own_documents(name, path)
            progress(number, len(found), unit="files")


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


def own_documents(name: str, path: Path) -> Iterator[Document]:
    if path.suffix in (".txt", ".md"):
        texts = iter(split_text(decode(path.read_bytes(), path)))
    elif path.suffix == ".parquet":
        texts = (row["text"] or "" for row in parquet_rows(path, ["text"]))
    else:
        texts = (text_column(record, path, line) for line, record in json_lines(path))
    for number, text in enumerate(texts, 1):
        if text.strip():
            yield Document(f"{name}:{number}", text, text)


def split_text(text: str) -> list[str]:
    """Cuts a text at blank lines into pieces of at least PIECE bytes; a short text is one piece."""
    pieces: list[list[str]] = [[]]
    size = 0
    for paragraph in text.split("\n\n"):
        if size >= PIECE:
            pieces.append([])
            size = 0
        pieces[-1].append(paragraph)
        size += len(paragraph.encode()) + 2
    return ["\n\n".join(piece) for piece in pieces]


def decode(data: bytes, where: object) -> str:
    """UTF-8 bytes as text; JourneyError says `where` the first bad byte stands."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JourneyError(f"{where}: byte {error.start} is not UTF-8; convert it, say with iconv -t utf-8") from None


def json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """(line number, record) of a .jsonl or .jsonl.gz file; blank lines are skipped."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    try:
                        yield number, json.loads(decode(line, f"{path}, line {number}"))
                    except json.JSONDecodeError as error:
                        raise JourneyError(
                            f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})"
                        ) from None
        except (gzip.BadGzipFile, EOFError) as error:
            raise JourneyError(f"{path}: damaged gzip file ({error})") from None


def text_column(record: object, path: Path, line: int) -> str:
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise JourneyError(f'{path}, line {line}: no "text" string; each line should be {{"text": "..."}}')
    return text


def parquet_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file, all columns or those named."""
    import pyarrow.lib
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            missing = [column for column in columns or [] if column not in table.schema_arrow.names]
            if missing:
                raise JourneyError(f'{path}: no "{missing[0]}" column; it has {", ".join(table.schema_arrow.names)}')
            for batch in table.iter_batches(batch_size=256, columns=columns):
                yield from batch.to_pylist()
    except pyarrow.lib.ArrowInvalid as error:
        raise JourneyError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from None
