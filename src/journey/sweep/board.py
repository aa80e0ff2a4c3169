"""What a person watches while a sweep runs: how many nodes stand, what each process is at, and the time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from journey.console import Console, Meter, clock

_PLAIN_EVERY = 30.0  # seconds between two plain lines of what is at work


@dataclass
class _Row:
    """What a process is at."""

    id: str
    label: str
    start: float
    text: str = "begins"
    meter: Meter = field(default_factory=Meter)


class Board:
    """Plain lines: one for each finished node, and now and then one for each at work. All of it on stderr."""

    def __init__(self, n: int) -> None:
        self._console = Console()
        self._n = n  # processes
        self._all = 0  # nodes
        self._todo: dict[str, tuple[str, float]] = {}  # id -> the stage, and how long it should take
        self._took: dict[str, list[float]] = {}  # stage -> seconds of its finished nodes
        self._printed = time.monotonic()
        self._rows: dict[int, _Row] = {}  # by process

    @property
    def stopping(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._console.stopping

    @contextmanager
    def watching(self, nodes: int, todo: dict[str, tuple[str, float]]) -> Iterator[None]:
        """Of all `nodes` those of `todo` are still to be made or measured: id -> stage and estimated seconds."""
        self._all, self._todo = nodes, todo
        with self._console.listening():
            yield

    def say(self, line: str) -> None:
        """One line for the user."""
        self._console.say(line)

    def start(self, slot: int, id: str, label: str) -> None:
        """A process begins with a node."""
        self._rows[slot] = _Row(id, label, time.monotonic())

    def progress(self, slot: int, message: dict[str, Any]) -> None:
        """How far a process is."""
        row = self._rows[slot]
        row.meter.update(message["done"], message["total"])
        row.text = row.meter.text(message["unit"], message["numbers"])

    def end(self, slot: int) -> None:
        """A node stands, and is measured if it is to be."""
        row = self._rows.pop(slot)
        stage, _ = self._todo.pop(row.id)
        seconds = time.monotonic() - row.start
        self._took.setdefault(stage, []).append(seconds)
        self.say(f"[{self._all - len(self._todo)}/{self._all}] {row.label}: {clock(seconds)}{self._time_left()}")

    def failed(self, slot: int, reason: str) -> None:
        """A node could not be made; the others go on."""
        row = self._rows.pop(slot)
        self.drop(row.id)
        self.say(f"[failed] {row.label}: {reason}")

    def drop(self, id: str) -> None:
        """A node will not be made: what it needs has failed."""
        del self._todo[id]

    def look(self) -> None:
        """Show how things stand, when it is time to."""
        if time.monotonic() - self._printed >= _PLAIN_EVERY:
            self._printed = time.monotonic()
            for row in self._rows.values():
                self.say(f"  {row.label}: {row.text}")

    def _time_left(self) -> str:
        """By how long the nodes of each stage took so far, and by the estimate where none has finished."""
        if not self._todo:
            return ""
        each = [mean(self._took[stage]) if stage in self._took else guess for stage, guess in self._todo.values()]
        return f", about {clock(sum(each) / min(self._n, len(each)))} left"


class LiveBoard(Board):
    """A terminal: finished nodes stay as lines, below them a row for each process."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        from rich.console import Console as Terminal
        from rich.live import Live

        self._live = Live(console=Terminal(stderr=True, highlight=False), refresh_per_second=4, transient=True)

    @contextmanager
    def watching(self, nodes: int, todo: dict[str, tuple[str, float]]) -> Iterator[None]:
        with super().watching(nodes, todo), self._live:  # which lets lines through above its own
            yield

    def look(self) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar, made = Table.grid(padding=(0, 1)), self._all - len(self._todo)
        text = f"{made} of {self._all} nodes{self._time_left()}"
        bar.add_row("  sweep", ProgressBar(total=max(self._all, 1), completed=made, width=24), text)
        rows = [Text(f"  {r.label}  {r.text}", no_wrap=True, overflow="ellipsis") for r in self._rows.values()]
        self._live.update(Group(bar, *rows))


def make_board(n: int) -> Board:
    """For `n` processes: a live view when stderr is a terminal, plain lines when it is not."""
    return LiveBoard(n) if sys.stderr.isatty() else Board(n)
