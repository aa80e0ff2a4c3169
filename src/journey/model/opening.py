"""Opening a file that a stranger gave: it may be a pipe, a device, or without end. Needs no torch."""

from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.files import read_object

_LONGEST_CONFIG = 4 << 20  # bytes; one has some thousands


def read_config(folder: Path) -> dict[str, Any]:
    """What a folder's config.json says."""
    if not (folder / "config.json").exists():
        raise JourneyError(f"{folder} is no checkpoint: it has no config.json")
    return read_object(folder / "config.json", _LONGEST_CONFIG)


def is_seq2seq(saved: dict[str, Any]) -> bool:
    """Whether a config.json is of an encoder–decoder as the stage seq2seq saves it."""
    return saved.get("model_type") == "marian"
