"""The states that a killed training goes on from: when the next is due, how it is put in place, which is the last."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from journey.files import publish

_SAVE_EVERY = 15.0  # seconds: what a kill can cost
_SAVE_SHARE = 20  # of a large model more: saving takes a twentieth of the time at most


class Saver:
    """Keeps the newest states of one training in a folder; the clock runs from here."""

    def __init__(self, folder: Path, apart: int | None = None) -> None:
        """Beside the newest state one is kept that is at least `apart` steps older (or the oldest there is), and one
        between the two, which will be that; None: the newest alone. One more is on the disk while it is written."""
        self.unfinished = folder / "unfinished"  # what is half written stands in it, and nobody reads it
        self._folder, self._apart, self._saved, self._pause = folder, apart, time.monotonic(), _SAVE_EVERY

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved > self._pause

    def last(self) -> Path | None:
        """The newest state, None where there is none; it is whole, because it was put in place by one rename."""
        return max(self._folder.glob("step-*"), default=None)

    def back_to(self, step: int) -> Path | None:
        """The newest state of at most so many steps, else the oldest that there is; those after it are deleted."""
        states = sorted(self._folder.glob("step-*"))
        if not states:
            return None
        chosen = max((state for state in states if _step(state) <= step), default=states[0])
        for state in reversed(states[states.index(chosen) + 1 :]):
            _delete(state)
        return chosen

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[Path]:
        """An empty folder, for the state after so many steps; when all is written, older states than those to keep are
        deleted.

        It is `unfinished/checkpoint-<step>`: where a Trainer of transformers writes whose output is `unfinished`.
        """
        start = time.monotonic()
        shutil.rmtree(self.unfinished, ignore_errors=True)
        beside = self.unfinished / f"checkpoint-{step}"
        beside.mkdir(parents=True)
        yield beside
        before = [state for state in sorted(self._folder.glob("step-*")) if _step(state) != step]
        publish(beside, self._folder / f"step-{step:09}")
        shutil.rmtree(self.unfinished)
        kept = self._kept(before, step)
        for state in before:
            if state not in kept:
                _delete(state)
        self._saved = time.monotonic()
        self._pause = max(_SAVE_EVERY, _SAVE_SHARE * (self._saved - start))

    def _kept(self, before: list[Path], step: int) -> list[Path]:
        """Of the states before the one of `step`, in their order, those to keep."""
        if self._apart is None or not before:
            return []
        old = [state for state in before if step - _step(state) >= self._apart] or before[:1]
        return before[before.index(old[-1]) :][:2]


def _delete(state: Path) -> None:
    """By one rename it is no state any more: half deleted, it would pass for the newest."""
    gone = state.with_name(f".gone-{state.name}")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(state, gone)
    shutil.rmtree(gone)


def _step(state: Path) -> int:
    return int(state.name.removeprefix("step-"))
