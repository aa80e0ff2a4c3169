"""Opening a file that a stranger gave: it may be a pipe, a device, or without end. Needs no torch."""

from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.files import check_file, read_json

_LONGEST_CONFIG = 4 << 20  # bytes; one has some thousands


def read_object(path: Path, longest: int) -> dict[str, Any]:
    """The JSON object in a file of at most so many bytes. Raises JourneyError for any other."""
    check_file(path)
    if path.stat().st_size > longest:
        raise JourneyError(f"{path} has {path.stat().st_size:,} bytes, and more than {longest:,} are not read")
    saved = read_json(path)
    if not isinstance(saved, dict):
        raise JourneyError(f"{path} is no object: it is damaged")
    return saved


def read_config(folder: Path) -> dict[str, Any]:
    """What a folder's config.json says."""
    if not (folder / "config.json").exists():
        raise JourneyError(f"{folder} is no checkpoint: it has no config.json")
    return read_object(folder / "config.json", _LONGEST_CONFIG)
