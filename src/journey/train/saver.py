"""The states that a killed training goes on from: when the next is due, how it is put in place, which is the last."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from journey.files import publish

_SAVE_EVERY = 15.0  # seconds: what a kill can cost
_SAVE_SHARE = 20  # of a large model more: saving takes a twentieth of the time at most


class Saver:
    """Keeps the newest states of one training in a folder; the clock runs from here."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        """`keep`: how many of them; one more stands on the disk while it is written."""
        self.unfinished = folder / "unfinished"  # what is half written stands in it, and nobody reads it
        self._folder, self._keep, self._saved, self._pause = folder, keep, time.monotonic(), _SAVE_EVERY

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
        for state in states[states.index(chosen) + 1 :]:
            shutil.rmtree(state)
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
        before = sorted(self._folder.glob("step-*"))
        publish(beside, self._folder / f"step-{step:09}")
        shutil.rmtree(self.unfinished)
        for folder in before[: max(0, len(before) + 1 - self._keep)]:
            shutil.rmtree(folder)
        self._saved = time.monotonic()
        self._pause = max(_SAVE_EVERY, _SAVE_SHARE * (self._saved - start))


def _step(state: Path) -> int:
    return int(state.name.removeprefix("step-"))
