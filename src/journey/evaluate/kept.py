"""Answers kept as they arrive, a JSON object a line, so that what broke off goes on where it was."""

import json
import os
from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.files import check_file, parse_json


class Kept:
    """What was answered, by the key of what was asked. Without a file it is forgotten with the object."""

    def __init__(self, path: Path | None) -> None:
        """Reads what is there. A last line without its end was being written when the power went: it is cut off.

        Errors: JourneyError naming the line, for any other that is not of ours.
        """
        self._path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path is None or not path.exists():
            return
        check_file(path)
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            row = parse_json(line, f"{path}:{number}")
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
                file.write("".join(json.dumps({"key": key} | row) + "\n" for key, row in rows.items()).encode())
                file.flush()
                os.fsync(file.fileno())
        self._rows |= rows
