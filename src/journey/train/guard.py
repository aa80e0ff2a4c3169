"""Steps that would spoil a training, and the batches that are left out because of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from journey.files import read_json, write_json

FILE = "left-out.json"
WINDOW = 64  # steps that say what is usual
LEAST = 1.0  # nats: what noise alone never adds to a batch's loss, however even the losses before it were
APART = 10  # steps between a spike and the state to go back to: what led to it lies just before it
MOST = 5  # times; a training that goes wrong more often is wrong itself


class Guard:
    """Which batch a step trains on, when some are left out, and whether its loss is one to train on.

    The batches left out are kept in a file of the training's folder, so that a resumed run leaves them out too.
    """

    def __init__(self, folder: Path, deviations: float, start: Path | None = None) -> None:
        """`deviations`: how far above the usual a loss is a spike; 0: only what is no number is wrong. `start`: the
        state of a training that goes on, which may have left out some before."""
        self._file, self._deviations = folder / FILE, deviations
        self._inherited = _read(start / FILE) if start else []
        self._own = _read(self._file)  # a list each time

    @property
    def times(self) -> int:
        """How often it was needed in this training."""
        return len(self._own)

    @property
    def left_out(self) -> list[list[int]]:
        """All batches left out, a list each time."""
        return self._inherited + self._own

    def batch(self, step: int) -> int:
        """The number of the batch of a step: the step's own, moved on by each batch before it that is left out."""
        number = step
        for left_out in sorted(n for numbers in self.left_out for n in numbers):
            number += left_out <= number
        return number

    def before(self, step: int) -> list[int]:
        """The batches left out between the step before and this one, for the history."""
        return list(range(self.batch(step - 1) + 1 if step else 0, self.batch(step)))

    def trouble(self, loss: float, norm: float, history: Sequence[dict[str, Any]]) -> str:
        """What is wrong with a step's loss and the norm of its gradient, in words; nothing for usual ones."""
        if not math.isfinite(loss):
            return "the loss is not a number"
        if not math.isfinite(norm):
            return "the gradient is not a number"
        if not self._deviations or len(history) < WINDOW:
            return ""
        usual = np.array([line["loss"] for line in history[-WINDOW:]])
        if loss > usual.mean() + max(LEAST, self._deviations * usual.std()):
            return f"the loss is {loss:.2f} where {usual.mean():.2f} was usual"
        return ""

    def leave_out(self, batches: list[int]) -> None:
        """From now on, and after a kill."""
        self._own.append(batches)
        write_json(self._file, self._own)


def _read(path: Path) -> list[list[int]]:
    found: list[list[int]] = read_json(path) if path.exists() else []
    return found
