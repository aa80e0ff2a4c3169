"""Where text comes from: a built-in source by its name, or a file or folder of the user's own."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from journey.chat import BOS
from journey.data import hub, installed
from journey.data.cutting import BLANK_LINE, PIECE, Cut, blank_lines, documents, n_bytes, split_text
from journey.data.records import excerpt, json_lines, json_values, parquet_rows, parquet_texts
from journey.data.source import Document, Notes, Progress, Source, silent
from journey.data.textfile import LONGEST, PACKED, NotUtf8, chunks, decode, is_packed, reading
from journey.errors import JourneyError, nearest
from journey.files import digest, sha256_file

__all__ = [
    "PIECE",
    "SOURCES",
    "Cut",
    "Document",
    "NotUtf8",
    "Notes",
    "Progress",
    "decode",
    "files",
    "fingerprint",
    "json_lines",
    "parquet_rows",
    "read",
    "silent",
    "split_text",
    "survey",
]

# name in a recipe and on the command line -> what its file says
SOURCES: dict[str, Source] = {
    "installed-docs": installed.DOCUMENTATION,
    "stdlib-code": installed.CODE,
}
PROSE = (".txt", ".md")
ENDINGS = (*PROSE, ".jsonl", ".ndjson", ".json", ".parquet")  # all but the last may be packed, as .txt.gz is
AS_EVER = Cut()
TRIED = 10_000  # rows; when none of them has a text, the file is of another kind
COLUMNS = ("text", "content", "raw_content")  # what holds the text of a row: the first that its table has
FIRST = 10  # rows by which that is seen

MB = 1_000_000


def fingerprint(source: str) -> str:
    """A hash over each file that `read` would read: its relative path and its content. Of a data set of the Hub, over
    the commit and the names of its files."""
    if hub.spelled(source):
        from journey.data import hubset

        return hubset.find(source).fingerprint
    hashes = []
    for name, path in files(source):
        with reading(path):
            hashes.append([name, sha256_file(path)])
    return digest(hashes)


def name_of(source: str) -> str:
    """What a text is called that is made of a source."""
    if hub.spelled(source) and source not in hub.SETS:
        repository = re.split("[:@]", source.removeprefix(hub.PREFIX))[0]
        return Path(*Path(repository).parts[1:2]).name or "text"
    return Path(source).stem or "text"


def files(source: str) -> list[tuple[str, Path]]:
    """(relative path, path) of each file of a source, sorted; JourneyError when there is none."""
    if hub.spelled(source):
        raise JourneyError(f"{source}: make a text of it first: journey text --source {source} --out DIR")
    if source in SOURCES:
        return sorted(SOURCES[source].files())
    path = Path(os.path.expanduser(source))
    if os.path.exists(path / "lineage.json"):  # read anew, its test split would be trained on
        raise JourneyError(f"{source} is a node, not a text to read: in a recipe name the stage, or its own source")
    if not os.path.lexists(path):
        known = nearest(source, [*SOURCES, *hub.SETS])
        raise JourneyError(f"no such text: {source}{known or '; give a file, a folder, or ' + ' or '.join(SOURCES)}")
    found, others = survey(path)
    if not found:
        there = f" ({told(others)})" if others else ""
        raise JourneyError(f"{path}: no text in this folder{there}; it should hold {', '.join(ENDINGS)} files")
    return found


def survey(path: Path) -> tuple[list[tuple[str, Path]], Counter[str]]:
    """The files of text in a folder, sorted, and how many others there are of each kind; or one file alone.

    Hidden files and what is in hidden folders are no news; a link to a folder is not followed: it may lead in circles.
    """
    if not path.is_dir():
        _check_regular(path)
        if not kind(path.name):
            raise JourneyError(f"{path}: cannot read this kind of file; use one of {', '.join(ENDINGS)}")
        return [(label(path.name), path)], Counter()
    found, others = list[tuple[str, Path]](), Counter[str]()

    def locked(error: OSError) -> None:
        others["folder that cannot be opened"] += 1

    for root, folders, names in os.walk(path, onerror=locked):
        place = Path(root)
        for name in [*names, *(name for name in folders if (place / name).is_symlink())]:
            file = place / name
            relative = file.relative_to(path)
            if not (other := _unread(file)):
                found.append((label(relative.as_posix()), file))
            elif not any(part.startswith(".") for part in relative.parts):
                others[other] += 1
    return sorted(found), others


def not_read(source: str) -> dict[str, dict[str, int]]:
    """What corpus.json says of the files in a folder that `read` leaves out, if there are some."""
    path = Path(os.path.expanduser(source))
    others = survey(path)[1] if source not in SOURCES and path.is_dir() else {}
    return {"not_read": dict(others)} if others else {}


def told(others: Mapping[str, int]) -> str:
    """What of a folder is not read, in a few words."""
    ranked = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{kind} {n:,}" for kind, n in ranked[:8]]
    if rest := sum(n for _, n in ranked[8:]):
        shown.append(f"others {rest:,}")
    total = sum(others.values())
    return f"{total:,} file{'s' * (total > 1)} of other kinds not read: {', '.join(shown)}"


def kind(name: str) -> str:
    """What a file holds by its ending: ".txt" of notes.TXT and of notes.txt.gz; empty for what is not read."""
    packing, bare = _packing(name)
    return next((e for e in ENDINGS if bare.endswith(e) and not (packing and e == ".parquet")), "")


def _packing(name: str) -> tuple[str, str]:
    """The ending of a packed file, and its name without it, both in small letters."""
    name = name.lower()
    packing = next((ending for ending in PACKED if name.endswith(ending)), "")
    return packing, name.removesuffix(packing)


def _unread(path: Path) -> str:
    """What a file in a folder is that is not read; empty for one that is. JourneyError where reading would wait."""
    packing, bare = _packing(path.name)
    if path.name.startswith("._"):
        return "what a Mac keeps beside a file"
    if os.path.isdir(path):
        return "link to a folder"
    if not kind(path.name):
        return repr(Path(bare).suffix + packing)[1:-1] or "without an ending"
    if not os.path.exists(path):
        return "link to nothing"
    _check_regular(path)
    # Kinds that were not read when the first text nodes were made are left out where they are not what they seem.
    if packing and not (bare + packing).endswith(".jsonl.gz") and not is_packed(path):
        return f"{kind(path.name)}{packing} that is no {PACKED[packing]}"
    if kind(path.name) == ".json" and not _has_texts(path):
        return ".json without texts"
    return ""


def _check_regular(path: Path) -> None:
    with reading(path):
        mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise JourneyError(f"{path}: a pipe or a device, not a file: write what it gives to a file")


def _has_texts(path: Path) -> bool:
    """Whether one of the first records of a .json file has a text: folders hold many that are settings."""
    try:
        return any(isinstance(text_of(record)[0], str) for _, record in islice(json_values(path), 10))
    except JourneyError:
        return False


def label(name: str) -> str:
    """The name of a file as text: of one that is not UTF-8, bytes are spelled out."""
    return name.encode(errors="backslashreplace").decode()


def read(
    source: str, progress: Progress = silent, notes: Notes | None = None, cut: Cut = AS_EVER, strict: bool = False
) -> Iterator[Document]:
    """The documents of a source, in a fixed order, one after the other: no file is held in memory.

    `cut` says where documents of .txt and .md files end. A row without a text is left out and noted, or refused if
    `strict`; a file none of whose rows has one, a damaged one, and bytes that are not UTF-8 (NotUtf8) raise
    JourneyError with file and line. Where the notes count them, such bytes become U+FFFD.
    """
    found = files(source)
    if source in SOURCES:
        yield from SOURCES[source].documents(found, progress)
        return
    sizes = [size_of(path) for _, path in found]
    before, total, shown = 0, sum(sizes), 0
    for (name, path), size in zip(found, sizes, strict=True):
        with reading(path):
            opened = path.open("rb")
        with opened as file:
            for document in own_documents(name, path, file, notes or Notes(), cut, strict):
                yield document
                done = before + (size if file.closed else file.tell())  # pyarrow closes what it has read
                if done >= shown + MB:
                    shown = done
                    progress(shown // MB, total // MB, unit="MB")
        before += size
        progress(before // MB, total // MB, unit="MB")


def size_of(path: Path) -> int:
    """The bytes of a file."""
    with reading(path):
        return path.stat().st_size


def own_documents(
    name: str, path: Path, file: BinaryIO, notes: Notes, cut: Cut, strict: bool, fixed: bool = False
) -> Iterator[Document]:
    """The documents of an open file that are not blank. Where its columns are `fixed`, a row without a text may be
    empty, but not have another column or another type instead."""
    ending = kind(path.name)
    texts: Iterable[str]
    if ending in PROSE:
        texts = prose(chunks(path, file, notes.replaced, prose=True), notes, cut)
    elif ending == ".parquet":
        texts = row_texts(parquet_texts(path, file, notes.replaced, COLUMNS), path, "row", notes, strict, fixed)
    elif ending == ".json":
        texts = row_texts(json_values(path, file, notes.replaced), path, "record", notes, strict, fixed)
    else:
        texts = row_texts(json_lines(path, file, notes.replaced), path, "line", notes, strict, fixed)
    for number, text in enumerate(texts, 1):
        if text.strip():
            yield Document(f"{name}:{number}", text, text)


def prose(parts: Iterable[str], notes: Notes, cut: Cut) -> Iterator[str]:
    """The documents of the text of a file."""
    by_blank_lines = cut.separator == BLANK_LINE
    for text in documents(blank_lines(parts) if by_blank_lines else parts, cut, notes):
        notes.prose += n_bytes(text)
        if by_blank_lines and "<|" in text:
            notes.marks += text.count(BOS)
        yield text


def row_texts(
    rows: Iterable[tuple[int, object]], path: Path, what: str, notes: Notes, strict: bool, fixed: bool = False
) -> Iterator[str]:
    """The texts of rows; of one that is left out, an empty one. `what` is a "line", a "record" or a "row"."""
    rows, start = iter(rows), list[tuple[int, object]]()
    if fixed or what == "row":  # else the column is "text": files of JSON may hold rows of several kinds
        start = list(islice(rows, FIRST))
    column = column_of(record for _, record in start)
    useful, first = False, ""
    for tried, (number, record) in enumerate(chain(start, rows)):
        text, reason = text_of(record, column)
        if reason:
            null = reason == f'"{column}" is null'
            where = f"{path}, {what} {number}"
            columns = f"; it has {columns_of(record)}" if isinstance(record, dict) else ""
            error = f'{where}: {reason}{columns}; each {what} should be {{"{column}": "..."}}'
            if strict or (fixed and not null):
                raise JourneyError(error)
            if what != "row" or not null:  # of a large set in parquet files, one may hold empty rows alone
                first = first or error
            if tried >= TRIED and first and not useful:
                raise JourneyError(first)
            notes.leave_out(label(where), reason)
        useful = useful or not reason
        if text and len(text) > LONGEST:
            raise JourneyError(f"{path}, {what} {number}: a text of over {LONGEST >> 20} MB: cut it into several")
        yield _whole_characters(text, path, f" of the text in {what} {number}", notes.replaced) if text else ""
    if first and not useful:
        raise JourneyError(first)


def column_of(records: Iterable[object]) -> str:
    """The column of text of a file whose first records these are: the first of COLUMNS that one of them has."""
    there = {name for record in records if isinstance(record, dict) for name in COLUMNS if name in record}
    return next((name for name in COLUMNS if name in there), COLUMNS[0])


def columns_of(record: dict[str, object]) -> str:
    """The columns of a record, fit for a line."""
    names = map(excerpt, islice(record, 8))
    return ", ".join([*names, *(["…"] if len(record) > 8 else [])]) or "nothing"


def text_of(record: object, column: str = COLUMNS[0]) -> tuple[str | None, str]:
    """The text of a record, or why it has none."""
    if not isinstance(record, dict):
        return None, f'no "{column}" in a {type(record).__name__}'
    text = record.get(column)
    if isinstance(text, str):
        return text, ""
    if text is None:
        return None, f'"{column}" is null' if column in record else f'no "{column}"'
    return None, f'"{column}" is {type(text).__name__}, not a string'


def _whole_characters(text: str, path: Path, place: str, replaced: Counter[str] | None) -> str:
    """The text itself. JSON can spell half a character, \\ud83d; UTF-8 has no bytes for it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return decode(text.encode(errors="surrogatepass"), path, f"{place} (half a character)", replaced)
    return text
