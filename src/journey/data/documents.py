"""Documents in parquet files, with the columns id and text.

Files are opened here: pyarrow takes no path that is not UTF-8.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from journey.data.sources import Document

GROUP = 4096  # documents that are read at once
GROUP_BYTES = 8 << 20  # of text: a streamed file ends a group here, however few documents it has
SCHEMA = pyarrow.schema({"id": pyarrow.string(), "text": pyarrow.string()})


def write_parquet(path: Path, documents: list[Document]) -> None:
    """Write documents that are in memory."""
    with path.open("wb") as file:
        pyarrow.parquet.write_table(_table(documents), file, compression="zstd", row_group_size=GROUP)


def read_parquet(path: Path) -> list[Document]:
    """All documents of a file."""
    with path.open("rb") as file:
        table = pyarrow.parquet.read_table(file)
    columns = zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
    return [Document(id, text) for id, text in columns]


def groups(path: Path, start: int = 0) -> Iterator[pyarrow.Table]:
    """The row groups of a file, one after the other, from group `start` on."""
    with path.open("rb") as file, pyarrow.parquet.ParquetFile(file) as table:
        for group in range(start, table.num_row_groups):
            yield table.read_row_group(group)


class Writer:
    """Writes documents as they come, and holds GROUP of them or GROUP_BYTES, whichever is less."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._writer = pyarrow.parquet.ParquetWriter(self._file, SCHEMA, compression="zstd")
        self._waiting: list[Document] = []
        self._size = 0

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: Any) -> None:
        self._flush()
        self._writer.close()
        self._file.close()

    def add(self, document: Document) -> None:
        """Write one document."""
        self._waiting.append(document)
        self._size += len(document.text)
        if self._size >= GROUP_BYTES or len(self._waiting) >= GROUP:
            self._flush()

    def copy(self, group: pyarrow.Table) -> None:
        """Write a row group of another file."""
        self._writer.write_table(group)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(_table(self._waiting))
        self._waiting, self._size = [], 0


def _table(documents: list[Document]) -> pyarrow.Table:
    return pyarrow.table({"id": [d.id for d in documents], "text": [d.text for d in documents]})
