"""The rows of files that people keep conversations and preferences in, and one rule for rows that cannot be used."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from journey.data.csvfile import Uneven, csv_rows
from journey.data.hub import local
from journey.data.records import excerpt, json_lines, parquet_rows
from journey.data.source import SHOWN
from journey.data.textfile import PACKED, chunks
from journey.errors import JourneyError
from journey.files import parse_json
from journey.metrics import Metric, metric

Item = TypeVar("Item")
Say = Callable[[str], None]

Records = Iterator[tuple[str, object]]  # where each stands, in words, and what it is

LINES, WHOLE, COMMAS, TABS = (
    tuple(ending + packed for packed in ("", *PACKED) for ending in some)
    for some in ((".jsonl", ".ndjson"), (".json",), (".csv",), (".tsv",))
)
ENDINGS = (*LINES, *WHOLE, ".parquet", *COMMAS, *TABS)  # compared without case
READ = ".jsonl, .json, .csv or .tsv (each also .gz or .zst) or .parquet"


class Unusable(Exception):
    """Why a row cannot be used. `kind` is the same for all rows of one kind; the message begins with file and line."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Misfit(NamedTuple):
    """In the place of a record: a row that is none. `said` follows its file and line."""

    kind: str
    said: str


def unheard(line: str) -> None:
    """Says nothing."""


def read(
    path: str | Path,
    make: Callable[[object, str], Item],
    strict: bool,
    say: Say,
    described: Callable[[list[Item]], str] | None = None,
    rows: Records | None = None,
) -> tuple[list[Item], Counter[str]]:
    """`make(record, where)` of each row of a file, and how many were left out for which reason.

    Where `make` raises Unusable, or a record is one, the row is left out, counted and said, the first ones with file
    and line. `described` says in a line what was found. `rows` are those of the file that are to be read, else all.
    JourneyError where no row is left; when `strict`, at the first row that cannot be used.
    """
    found: list[Item] = []
    left_out: Counter[str] = Counter()
    shown: list[str] = []
    for where, record in rows or records(Path(path)):
        try:
            if isinstance(record, Misfit):
                raise Unusable(record.kind, f"{path}, {where}{record.said}")
            found.append(make(record, f"{path}, {where}"))
        except Unusable as error:
            if strict:
                raise JourneyError(f"{error} (without strict, such a row is left out)") from None
            left_out[error.kind] += 1
            if len(shown) < SHOWN:
                shown.append(str(error))
    if found and described:
        say(f"{path}: {described(found)}")
    if left_out:
        _tell(path, len(found), left_out, shown, say)
    return found, left_out


def reasons(left_out: Counter[str]) -> str:
    """How many rows for which reason, in words."""
    return ", ".join(f"{kind}: {n:,}" for kind, n in left_out.most_common())


def metrics(left_out: Mapping[str, int]) -> dict[str, Metric]:
    """What the lineage says of rows left out, if there are any."""
    n = sum(left_out.values())
    return {"rows_left_out": metric(n, "rows", "of the file of data: they cannot be used")} if n else {}


def _tell(path: str | Path, found: int, left_out: Counter[str], shown: list[str], say: Say) -> None:
    total = found + left_out.total()
    if not found:
        raise JourneyError(f"{shown[0]}; none of the {total:,} rows can be used ({reasons(left_out)})")
    much = "MORE THAN HALF IS LEFT OUT: " if 2 * left_out.total() > total else ""
    say(f"{much}{path}: {left_out.total():,} of {total:,} rows left out ({reasons(left_out)})")
    for line in shown:
        say(f"  left out: {line}")


def records(path: Path) -> Records:
    """(where it stands, record) of each record in a file, or in a file of the Hub (`data.hub`); a Misfit is none."""
    path = local(str(path))
    name = path.name.lower()
    if not path.is_file():
        raise JourneyError(f"no such file: {path}; conversations come from {READ} files")
    if not name.endswith(ENDINGS):
        raise JourneyError(f"{path}: cannot read conversations from this kind of file; use {READ}")
    if name.endswith(".parquet"):
        yield from ((f"row {number}", row) for number, row in enumerate(parquet_rows(path), 1))
    elif name.endswith((*COMMAS, *TABS)):
        yield from _separated(path, name.endswith(TABS))
    elif not name.endswith(LINES) or _begins_a_list(path):
        yield from _whole(path)
    else:
        yield from _lines(path)


def _separated(path: Path, tabs: bool) -> Records:
    for line, row in csv_rows(path, tabs):
        if isinstance(row, Uneven):
            yield f"line {line}", Misfit("other fields", f": has {row.fields} fields for {row.columns} columns")
        else:
            yield f"line {line}", row


def _lines(path: Path) -> Records:
    return ((f"line {line}", record) for line, record in json_lines(path))


def _begins_a_list(path: Path) -> bool:
    """Whether a file of lines is perhaps one JSON list instead, as some tools name it."""
    return next(chunks(path), "").lstrip().startswith("[")


def _whole(path: Path) -> Records:
    """The records of one JSON value, whatever the file's name; where each line is a value of its own, of the lines."""
    text = "".join(chunks(path))
    try:
        value = parse_json(text, str(path), "file")
    except JourneyError:
        if not _stands_alone(text):
            raise
        yield from _lines(path)
    else:
        yield from ((f"record {number}", record) for number, record in enumerate(_listed(value, path), 1))


def _stands_alone(text: str) -> bool:
    """Whether the first line is a JSON value and others follow."""
    first, _, rest = text.lstrip("\ufeff\r\n\t ").partition("\n")
    try:
        return bool(rest.strip()) and isinstance(parse_json(first, ""), dict | list)
    except JourneyError:
        return False


def _listed(value: object, path: Path) -> list[object]:
    """The records of a JSON value: a list of them, or an object around one, as in {"version": 1, "data": [...]}."""
    if isinstance(value, list):
        return value
    columns = value if isinstance(value, dict) else {}
    inside = {name: some for name, some in columns.items() if _holds_objects(some)}
    if len(inside) > 1:
        names = ", ".join(map(excerpt, inside))
        raise JourneyError(f"{path}: holds several lists of records ({names}): give one file for each")
    if not inside:
        raise JourneyError(f"{path}: holds one {type(value).__name__}; conversations are a JSON list of records")
    return next(iter(inside.values()))


def _holds_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
