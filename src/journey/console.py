"""What a person watches while stages run: a live view in a terminal, plain lines elsewhere. All of it on stderr."""

import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from journey.errors import JourneyError

_PLAIN_EVERY = 10.0  # seconds between two plain lines of one stage
_RATE_OVER = 20.0  # seconds over which a rate is taken: steady, and quick to notice a change


class Console:
    """Plain lines: for pipes, logs and CI. Also remembers that Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.stopping = False
        self._meter = Meter()
        self._printed = 0.0

    def begin(self, name: str, doing: str) -> None:
        """A stage (or a measurement of one) starts."""
        self._meter = Meter()
        self._printed = time.monotonic()
        self._line(f"{name}: {doing}")

    def progress(self, name: str, done: int, total: int, unit: str, numbers: dict[str, float]) -> None:
        """`done` of `total` units are through; `numbers` are shown as they are (loss, lr)."""
        self._meter.update(done, total)
        if time.monotonic() - self._printed >= _PLAIN_EVERY:
            self._printed = time.monotonic()
            self._line(f"{name}: {self._meter.text(unit, numbers)}")

    def end(self, name: str, result: str) -> None:
        """A stage is finished."""
        self._line(f"{name}: {result}")

    def say(self, line: str) -> None:
        """One line for the user."""
        self._line(line)

    def _line(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    @contextmanager
    def listening(self, time_limit: float | None = None) -> Iterator[None]:
        """Ctrl-C and SIGTERM ask for a clean stop; a second one stops at once. So does a time limit, in seconds."""

        def ask(number: int, frame: Any) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True
            self.say("stopping at the next safe point (press Ctrl-C again to stop at once)")

        def time_is_up() -> None:
            self.stopping = True
            self.say(f"the time limit of {clock(time_limit or 0)} is reached: stopping at the next safe point")

        timer = threading.Timer(time_limit or 0, time_is_up) if time_limit is not None else None
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            if timer:
                timer.daemon = True
                timer.start()
            yield
        finally:
            if timer:
                timer.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)


class LiveConsole(Console):
    """A terminal: finished stages stay as lines, the one at work has a bar that moves."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console as Terminal
        from rich.live import Live

        self._terminal = Terminal(stderr=True, highlight=False)
        self._live: Live | None = None

    def begin(self, name: str, doing: str) -> None:
        from rich.live import Live
        from rich.text import Text

        self._meter = Meter()
        self._close()
        self._live = Live(Text(f"  {name:<12} {doing}"), console=self._terminal, refresh_per_second=8, transient=True)
        self._live.start()

    def progress(self, name: str, done: int, total: int, unit: str, numbers: dict[str, float]) -> None:
        self._meter.update(done, total)
        if self._live is None:
            self.begin(name, "")
        assert self._live is not None
        self._live.update(self._row(name, done, total, self._meter.text(unit, numbers)))

    def end(self, name: str, result: str) -> None:
        from rich.markup import escape

        self._close()
        self._terminal.print(f"[green]✓[/] [bold]{name:<12}[/] {escape(result)}")

    def say(self, line: str) -> None:
        self._terminal.print(line, markup=False)

    def _row(self, name: str, done: int, total: int, text: str) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        row = Table.grid(padding=(0, 1))
        row.add_row(f"  {name:<12}", ProgressBar(total=max(total, 1), completed=done, width=24), text)
        return row

    def _line(self, line: str) -> None:
        self._terminal.print(line, markup=False)

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextmanager
    def listening(self, time_limit: float | None = None) -> Iterator[None]:
        try:
            with super().listening(time_limit):
                yield
        finally:
            self._close()


class Meter:
    """Rate and time left, from the last `_RATE_OVER` seconds: what was done before a resume does not count."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []
        self._total = 0

    def update(self, done: int, total: int) -> None:
        """Note that `done` of `total` units are through by now."""
        now = time.monotonic()
        if total != self._total:  # something else is counted now: first documents, then tokens
            self._points = []
        self._points.append((now, done))
        self._total = total
        while len(self._points) > 2 and self._points[0][0] < now - _RATE_OVER:
            self._points.pop(0)

    def text(self, unit: str, numbers: dict[str, float]) -> str:
        """`41 %  412,000 of 1,000,000 tokens  loss 3.214  4,980 tokens/s  2:01 left`."""
        (start, first), (now, done) = self._points[0], self._points[-1]
        parts = [f"{100 * done / max(self._total, 1):3.0f} %  {done:,} of {self._total:,} {unit}"]
        parts += [f"{key.replace('_', ' ')} {value:.4g}" for key, value in numbers.items()]
        if now > start and done > first:
            rate = (done - first) / (now - start)
            parts += [f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2f} {unit}/s"]
            parts += [f"{clock((self._total - done) / rate)} left"]
        return "  ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as a person reads them: `0:42`, `12:05`, `3:04:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> float:
    """A time as a person writes it, in seconds: `90`, `45s`, `30m`, `1.5h`, `1:30:00`. Errors: JourneyError."""
    if re.fullmatch(r"\d+(:[0-5]\d){1,2}", text):
        return float(sum(int(part) * 60**i for i, part in enumerate(reversed(text.split(":")))))
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd]?)", text)
    if not found or not (seconds := float(found[1]) * _UNITS[found[2]]) or seconds > threading.TIMEOUT_MAX:
        raise JourneyError(f"{text!r:.40} is no time: give 45s, 30m, 2h or 1:30:00")
    return seconds


def make_console() -> Console:
    """A live view when stderr is a terminal, plain lines when it is not."""
    return LiveConsole() if sys.stderr.isatty() else Console()
