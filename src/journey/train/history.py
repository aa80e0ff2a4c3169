"""What a training notes of its steps, a line each: its node keeps them as history.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from journey.files import read_json

HISTORY = "history.json"


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The lines that a node holds; none where nothing was trained."""
    path = folder / HISTORY
    found: list[dict[str, Any]] = read_json(path) if path.exists() else []
    return found


def tokens_read(history: Sequence[dict[str, Any]]) -> int:
    """How many tokens a training with this history has seen."""
    return history[-1]["tokens"] if history else 0


def recent(history: Sequence[dict[str, Any]], name: str = "loss") -> float:
    """A number of each step as the eye wants it: the mean of the last twenty."""
    last = [line[name] for line in history[-20:]]
    return sum(last) / len(last)
