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
    """Keeps the newest state of one training in a folder; the clock runs from here."""

    def __init__(self, folder: Path) -> None:
        self.unfinished = folder / "unfinished"  # what is half written stands in it, and nobody reads it
        self._folder, self._saved, self._pause = folder, time.monotonic(), _SAVE_EVERY

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved > self._pause

    def last(self) -> Path | None:
        """The newest state, None where there is none; it is whole, because it was put in place by one rename."""
        return max(self._folder.glob("step-*"), default=None)

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[Path]:
        """An empty folder, for the state after so many steps; when all is written, the states before it are deleted.

        It is `unfinished/checkpoint-<step>`: where a Trainer of transformers writes whose output is `unfinished`.
        """
        start = time.monotonic()
        shutil.rmtree(self.unfinished, ignore_errors=True)
        beside = self.unfinished / f"checkpoint-{step}"
        beside.mkdir(parents=True)
        yield beside
        before = list(self._folder.glob("step-*"))
        publish(beside, self._folder / f"step-{step:09}")
        shutil.rmtree(self.unfinished)
        for folder in before:
            shutil.rmtree(folder)
        self._saved = time.monotonic()
        self._pause = max(_SAVE_EVERY, _SAVE_SHARE * (self._saved - start))
