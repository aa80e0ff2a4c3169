"""Answers kept as they arrive, a JSON object a line, so that what broke off goes on where it was."""

import json
import os
from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.files import check_file


class Kept:
    """What was answered, by the key of what was asked. Without a file it is forgotten with the object."""

    def __init__(self, path: Path | None) -> None:
        """Reads what is there. A line that is no JSON was being written when the power went, or by another process: it
        is left out, and what it answered is asked again.

        Errors: JourneyError naming the line, for what is JSON and not of ours.
        """
        self._path = path
        self._rows: dict[str, dict[str, Any]] = {}
        self._torn = b""  # what ends half a line, before the next is written
        if path is None or not path.exists():
            return
        check_file(path)
        data = path.read_bytes()
        self._torn = b"\n" if data and not data.endswith(b"\n") else b""
        for number, line in enumerate(data.splitlines(), 1):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if not isinstance(row, dict) or not isinstance(row.get("key"), str):
                raise JourneyError(f"{path}:{number}: no kept answer: delete the file, and all is asked again")
            self._rows[row.pop("key")] = row

    def forget(self) -> None:
        """All is complete, and stands elsewhere: the file goes."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> dict[str, Any]:
        """What was answered under this key."""
        return self._rows[key]

    def add(self, rows: dict[str, dict[str, Any]]) -> None:
        """Keep these rows, by their keys; they are on disk when this returns."""
        if self._path is not None:
            with open(self._path, "ab") as file:
                file.write(
                    self._torn + "".join(json.dumps({"key": key} | row) + "\n" for key, row in rows.items()).encode()
                )
                file.flush()
                os.fsync(file.fileno())
            self._torn = b""
        self._rows |= rows
