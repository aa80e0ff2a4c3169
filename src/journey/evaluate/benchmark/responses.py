"""What a model answered, kept as it comes: a benchmark that was killed asks only for the rest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from journey.files import digest


class Responses:
    """Answers by what was asked, in a file of JSON lines; without a path they live as long as this does."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.known: dict[str, dict[str, Any]] = {}
        if path and path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    found = json.loads(line)
                except ValueError:  # the line that a kill cut off
                    continue
                self.known |= {found.pop("key"): found}

    @staticmethod
    def key(*asked: Any) -> str:
        """Names a question."""
        return digest(asked)[:24]

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer, if it is known."""
        return self.known.get(key)

    def add(self, found: Mapping[str, dict[str, Any]]) -> None:
        """Keep answers by their keys."""
        self.known |= found
        if self.path:
            lines = "".join(json.dumps({"key": key, **answer}) + "\n" for key, answer in found.items())
            begun = self.path.exists() and self.path.stat().st_size > 0
            with self.path.open("r+b" if begun else "wb") as file:
                if begun and file.seek(-1, 2) >= 0 and file.read(1) != b"\n":
                    lines = "\n" + lines
                file.seek(0, 2)
                file.write(lines.encode())

    def forget(self) -> None:
        """What was asked for is complete, and stands elsewhere."""
        if self.path:
            self.path.unlink(missing_ok=True)
