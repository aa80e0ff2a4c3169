"""Reading the log of a training while it is written: whole lines alone, each once, whatever else stands in the file."""

import json
import os
from pathlib import Path
from typing import Any

from journey.files import check_file

MOST = 64 << 20  # bytes of a file of which all is read (a line has some 300): of a larger one the header and the end


class Tail:
    """What a log of JSON objects holds, and then what is added to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarted = False  # whether the last `new` began at the top: what was taken before is void
        self.changed = 0.0  # when the file was last written, in seconds since the epoch
        self._at = 0  # where the next line begins
        self._file: tuple[int, int] | None = None  # device and inode

    def new(self) -> list[dict[str, Any]]:
        """The objects of the lines that were finished since the last call; the header comes first where it begins anew.

        A line that is no JSON object, or not finished, is none. Errors: JourneyError for what is no ordinary file,
        OSError as `open`.
        """
        check_file(self.path)
        with open(self.path, "rb") as file:
            stat = os.fstat(file.fileno())
            size, this = stat.st_size, (stat.st_dev, stat.st_ino)
            self.changed = stat.st_mtime
            self.restarted = this != self._file or size < self._at
            if self.restarted:
                self._file, self._at = this, 0
            found: list[bytes] = []
            if size - self._at > MOST:
                if self.restarted:
                    found.append(file.readline(MOST))
                file.seek(size - MOST)
                file.readline(MOST)  # the middle of a line
                self._at = file.tell()
            file.seek(self._at)
            data = file.read(MOST)
        end = data.rfind(b"\n") + 1
        self._at += end or (len(data) if len(data) == MOST else 0)
        return [value for line in (*found, *data[:end].splitlines()) if (value := _object(line)) is not None]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
