"""What is known of one training from its log, as far as that is written."""

import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from journey.train.tail import Tail

RECENT = 20  # steps that "now" is the mean of
_AHEAD = 200  # steps by which the time left is told: some evaluations are among them
Series = list[tuple[float, float]]  # tokens, and the number there


class _Step(NamedTuple):
    tokens: float  # after it
    wall: float  # seconds of training then
    read: float  # tokens of this step,
    took: float  # and its seconds; 0 and 0 where its speed is not known


class Training:
    """The header, and of the steps what a person looks at; `read` takes in what is new.

    Whatever is not as a log of ours has it counts as absent: the file may be anybody's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tail = Tail(path)
        self._begin()

    def _begin(self) -> None:
        self.header: dict[str, Any] = {}
        self.last: dict[str, Any] = {}  # the newest line
        self.losses: Series = []
        self.dev: dict[str, Series] = {}
        self.norms: dict[str, Any] = {}  # the newest line that has them
        self._steps: deque[_Step] = deque(maxlen=_AHEAD)
        self._read = self._took = 0.0  # of all steps whose speed is known

    def move(self, path: Path) -> None:
        """The log stands elsewhere now: the folder that it was in has become a node."""
        self.path, self._tail = path, Tail(path)

    def read(self) -> bool:
        """Whether there was anything new. Errors: JourneyError for no ordinary file, OSError as `open`."""
        objects = self._tail.new()
        if self._tail.restarted:
            self._begin()
        for each in objects:
            if not self.known and "step" not in each:
                self.header = each if "log" in each else {}
            elif _number(each.get("step")) is not None and _number(each.get("tokens")) is not None:
                self._take(each)
        return bool(objects)

    def _take(self, line: dict[str, Any]) -> None:
        tokens, before = float(line["tokens"]), self.tokens
        self.last = line
        if (loss := _number(line.get("loss"))) is not None:
            self.losses.append((tokens, loss))
        for key, value in line.items():
            if key.startswith("dev_") and (found := _number(value)) is not None:
                self.dev.setdefault(_word(key), []).append((tokens, found))
        if isinstance(line.get("update_norms"), dict) or isinstance(line.get("grad_norms"), dict):
            self.norms = line
        speed, read = _number(line.get("tokens_per_second")) or 0.0, tokens - before
        read, took = (read, read / speed) if speed > 0 and read > 0 else (0.0, 0.0)
        self._read, self._took = self._read + read, self._took + took
        self._steps.append(_Step(tokens, _number(line.get("seconds")) or 0.0, read, took))

    @property
    def known(self) -> bool:
        """Whether anything in the log is a line of ours."""
        return bool(self.header or self.last)

    # Of the header

    @property
    def name(self) -> str:
        """As the recipe, or whoever called the stage, named it."""
        return _word(self.header.get("name")) or self.path.parent.name

    @property
    def stage(self) -> str:
        """Which kind of training it is."""
        return _word(self.header.get("stage")) or "training"

    def said(self, key: str) -> str:
        """A word of the header; nothing where there is none."""
        return _word(self.header.get(key))

    def planned(self, key: str) -> float | None:
        """A number of the header."""
        return _number(self.header.get(key))

    # Of the steps

    @property
    def step(self) -> int:
        """The newest one."""
        return int(_number(self.last.get("step")) or 0)

    @property
    def tokens(self) -> float:
        """Trained on so far."""
        return _number(self.last.get("tokens")) or 0.0

    @property
    def complete(self) -> bool:
        """Whether its last step is done."""
        steps = self.planned("steps")
        return steps is not None and 0 < steps <= self.step

    @property
    def share(self) -> float:
        """Of the planned tokens, 0 to 1."""
        total = self.planned("tokens")
        return min(1.0, self.tokens / total) if total and total > 0 else 0.0

    @property
    def loss(self) -> float | None:
        """The mean of the newest steps."""
        last = [loss for _, loss in self.losses[-RECENT:]]
        return sum(last) / len(last) if last else None

    @property
    def speed(self) -> tuple[float | None, float | None]:
        """Tokens a second of the newest steps, and of all: without evaluating and saving."""
        last = list(self._steps)[-RECENT:]
        read, took = sum(step.read for step in last), sum(step.took for step in last)
        return read / took if took else None, self._read / self._took if self._took else None

    def mfu(self, speed: float | None) -> float | None:
        """The share of the device's peak that so many tokens a second are."""
        each, most = self.planned("flops_per_token"), self.planned("peak_flops")
        return speed * each / most if speed and each and most and most > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds that it will still take, by the newest steps with all that stood between them."""
        total = self.planned("tokens")
        if not total or not self._steps:
            return None
        first, last = self._steps[0], self._steps[-1]
        if last.wall <= first.wall or last.tokens <= first.tokens:
            return None
        return max(0.0, (total - last.tokens) * (last.wall - first.wall) / (last.tokens - first.tokens))

    @property
    def silent(self) -> float:
        """Seconds since anything was written."""
        return max(0.0, time.time() - self._tail.changed)

    def number(self, key: str) -> float | None:
        """Of the newest line."""
        return _number(self.last.get(key))

    def by_layer(self, key: str) -> dict[str, float]:
        """`grad_norms` or `update_norms`, where they were last looked at."""
        found = self.norms.get(key)
        return {} if not isinstance(found, Mapping) else _numbers(found)

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each optimizer."""
        found = self.last.get("lr")
        if isinstance(found, Mapping):
            return _numbers(found)
        return {} if (rate := _number(found)) is None else {"": rate}


def _numbers(found: Mapping[Any, Any]) -> dict[str, float]:
    return {_word(key): number for key, value in found.items() if (number := _number(value)) is not None}


def _number(value: Any) -> float | None:
    """A number that can be counted with; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _word(value: Any) -> str:
    """Text of a few words that no terminal takes for a command."""
    text = value[:200] if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
