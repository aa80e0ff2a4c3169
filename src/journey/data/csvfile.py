"""Rows of comma- or tab-separated values, as Python's csv module reads them; the first row has the columns' names."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from journey.data import textfile
from journey.errors import JourneyError


class Uneven(NamedTuple):
    """A row that has more or fewer fields than the first, so that nobody can say which is which."""

    fields: int
    columns: int


def csv_rows(path: Path, tabs: bool) -> Iterator[tuple[int, dict[str, str] | Uneven]]:
    """(line that it begins in, row) of a file, perhaps packed; a text in quotes may have line ends, empty rows are
    skipped.

    Errors: JourneyError for a name that stands twice in the first row, and, with its line, for quotes that are not
    closed or are followed by more of a field.
    """
    csv.field_size_limit(textfile.LONGEST)  # the module's own limit is 131,072 characters
    lines = (f"{line}\n" for _, line in textfile.lines(path, blank=True))
    reader = csv.reader(lines, "excel-tab" if tabs else "excel", strict=True)
    names: list[str] = []
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise JourneyError(f"{path}, the row that begins in line {line}: damaged ({error})") from None
        here, line = line, reader.line_num + 1
        if not fields:
            continue
        if not names:
            names = [name.strip() for name in fields]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise JourneyError(f'{path}: two columns of its first row are called "{twice[:40]}": rename one')
        elif len(fields) != len(names):
            yield here, Uneven(len(fields), len(names))
        else:
            yield here, dict(zip(names, fields, strict=True))
