"""The records of a file: lines of JSON, JSON values one after the other, or the rows of a parquet file."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from journey.data import textfile
from journey.data.textfile import LONGEST, NotUtf8
from journey.errors import JourneyError
from journey.files import parse_json

if TYPE_CHECKING:
    import pyarrow

BATCH, BATCH_BYTES = 256, 64 << 20  # rows of a parquet file that are read at once: fewer, where they are long
T = TypeVar("T")
_SPACE = re.compile(r"[ \t\n\r]*")


def excerpt(name: str) -> str:
    """The beginning of a name or word of a file, fit for one line of a message."""
    return repr(name[:40])[1:-1]


def first_columns(row: Iterable[str]) -> str:
    """The names of the first columns of a row, fit for one line of a message."""
    return ", ".join(map(excerpt, islice(row, 12))) or "nothing"


def read_back(path: Path, make: Callable[..., T]) -> list[T]:
    """The pairs that `files.write_lines` wrote, made again of their columns by `make`, a TypeError of which says that
    they are another's. Errors: JourneyError naming the line."""
    found = []
    for line, record in json_lines(path):
        try:
            found.append(make(**record))  # type: ignore[arg-type]
        except TypeError:
            raise JourneyError(f"{path}, line {line}: not a pair as Journey writes it: the node is damaged") from None
    return found


def json_lines(
    path: Path, file: BinaryIO | None = None, replaced: Counter[str] | None = None
) -> Iterator[tuple[int, object]]:
    """(line number, record) of a file of JSON lines, perhaps packed, perhaps open already; blank lines are skipped."""
    for number, line in textfile.lines(path, file, replaced):
        yield number, parse_json(line, f"{path}, line {number}")


def json_values(
    path: Path, file: BinaryIO | None = None, replaced: Counter[str] | None = None
) -> Iterator[tuple[int, object]]:
    """(number, record) of a .json file: of the list that it holds, or of values one after the other, as in JSON lines.

    They are read as they come: the file may be larger than memory.
    """
    text, number = _JsonText(textfile.chunks(path, file, replaced)), 0
    listed = text.sign() == "["
    if listed:
        text.at += 1
    while text.sign() not in (("]", "") if listed else ("",)):
        number += 1
        where = f"{path}, record {number}"
        yield number, text.value(where)
        if listed and text.sign() == ",":
            text.at += 1
        elif listed and text.sign() not in ("]", ""):
            raise JourneyError(f"{where}: not JSON (neither a comma nor the end of the list follows it)")
    if listed and not text.sign():
        raise JourneyError(f"{path}: not JSON (it ends within the list, after record {number}): copy it again")
    text.at += 1
    if listed and text.sign():
        raise JourneyError(f"{path}: not JSON (there is more behind the end of the list, after record {number})")


class _JsonText:
    """JSON that comes in parts, read from the left: `text[at:]` is known and not read yet."""

    def __init__(self, parts: Iterator[str]) -> None:
        self.parts, self.text, self.at = parts, "", 0
        self.scan = json.JSONDecoder().raw_decode

    def sign(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            if found := _SPACE.match(self.text, self.at):
                self.at = found.end()
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def value(self, where: str) -> object:
        """The value that begins here; `where` opens the error message."""
        while True:
            try:
                value, end = self.scan(self.text, self.at)
                length = end - self.at
                if len(self.text) - end > 3 or not self.more():  # what begins with 1 may go on as 1.5 or 1e+5
                    self.at += length
                    return value
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated") or error.pos > len(self.text) - 16
                if cut_off and len(self.text) - self.at > LONGEST:
                    raise JourneyError(f"{where}: over {LONGEST >> 20} MB, more than a record may have") from None
                if not cut_off or not self.more():
                    return parse_json(self.text[self.at :], where)  # which says what is wrong
            except (RecursionError, ValueError):
                return parse_json(self.text[self.at :], where)

    def more(self) -> bool:
        """Take in as much again as is known and not read, so that a long value is tried a few times only; False at the
        end."""
        self.text, self.at = self.text[self.at :], 0
        before = len(self.text)
        for part in self.parts:
            self.text += part
            if len(self.text) > before and len(self.text) >= min(2 * before, LONGEST + 1):
                break
        return len(self.text) > before


def parquet_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file, all columns or those named."""
    number = 0
    for batch in parquet_batches(path, columns):
        try:
            rows = batch.to_pylist()
        except (ValueError, OverflowError):  # UnicodeDecodeError among them; the row is looked for only now
            rows = [_row(batch.slice(i, 1), f"{path}, row {number + i + 1}") for i in range(len(batch))]
        yield from rows
        number += len(rows)


def _row(batch: "pyarrow.RecordBatch", where: str) -> dict[str, Any]:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        raise NotUtf8(
            f"{where}: byte {error.start} of a text is not UTF-8; write the file anew from good text"
        ) from None
    except (ValueError, OverflowError) as error:
        raise JourneyError(f"{where}: has a value that Python cannot hold ({str(error).splitlines()[0]})") from None


def parquet_texts(
    path: Path, file: BinaryIO, replaced: Counter[str] | None, columns: Sequence[str]
) -> Iterator[tuple[int, object]]:
    """(row number, row) of the first of these columns that the file has, alone; bytes in it are read as UTF-8. A row
    that holds something else has the names of the other columns too, to be told."""
    number, others = 0, dict[str, None]()

    def choose(names: list[str]) -> list[str]:
        others.update(dict.fromkeys(names))
        return [next((column for column in columns if column in names), columns[0])]

    for batch in parquet_batches(path, choose, file):
        column, name = batch.column(0), batch.schema.names[0]
        try:
            texts = column.to_pylist()
        except UnicodeDecodeError:  # parquet does not check what it holds
            texts = column.cast("large_binary").to_pylist()
        except (ValueError, OverflowError):
            raise JourneyError(f'{path}: "{name}" is a column of {column.type}, not of strings') from None
        for text in texts:
            number += 1
            if isinstance(text, bytes):
                text = textfile.decode(text, path, f" of the text in row {number}", replaced)
            yield number, {name: text} if text is None or isinstance(text, str) else others | {name: text}


def parquet_batches(
    path: Path, columns: list[str] | Callable[[list[str]], list[str]] | None = None, file: BinaryIO | None = None
) -> "Iterator[pyarrow.RecordBatch]":
    """The rows of a parquet file, perhaps open already, a batch at a time; `columns` are names, or choose of those that
    there are."""
    import pyarrow.parquet

    with textfile.reading(path):
        opened = file or path.open("rb")  # pyarrow takes no path that is not UTF-8
    with opened:
        with _parquet_errors(path, "not a parquet file"):
            table = pyarrow.parquet.ParquetFile(opened)
        with _parquet_errors(path, "damaged parquet file, copy it again"), table:
            names = table.schema_arrow.names
            wanted = columns(names) if callable(columns) else columns
            if missing := [column for column in wanted or [] if column not in names]:
                raise JourneyError(f'{path}: no "{missing[0]}" column; it has {", ".join(names)}')
            groups = [table.metadata.row_group(i) for i in range(table.num_row_groups)]
            row = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
            rows = max(1, min(BATCH, BATCH_BYTES // max(row, 1)))
            yield from table.iter_batches(batch_size=rows, columns=wanted)


@contextmanager
def _parquet_errors(path: Path, what: str) -> Iterator[None]:
    """What pyarrow says of a file becomes one line."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # a column's name may be no UTF-8
        said = str(error).splitlines()[0]
        if "crypt" in said:
            raise JourneyError(f"{path}: an encrypted parquet file: decrypt it first") from None
        raise JourneyError(f"{path}: {what} ({said})") from None
