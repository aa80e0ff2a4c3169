"""A process that makes one node of a sweep and measures it. It ends when the sweep that began it does, even by kill -9:
else it would go on beside the one that is begun anew, in the same folder."""

import json
import os
import pickle
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from journey import child, measuring
from journey.checkpoint import open_node
from journey.console import Console
from journey.errors import JourneyError
from journey.stages import load
from journey.stages.run import Run, Stopped
from journey.sweep.numbers import Asked, measure

BAD_INPUT, STOPPED = 2, 3  # exit codes


@dataclass(frozen=True)
class Task:
    """What a worker is told: the node to make and, where that is to be measured, on what."""

    stage: str
    config: Any
    seed: int
    name: str
    path: Path
    parent: Path | None
    given: dict[str, Path]
    asked: Asked | None


class Wire(Console):
    """Reports to the sweep, a JSON line each."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def tell(self, **message: Any) -> None:
        """One message to the sweep."""
        print(json.dumps(message), file=self._out, flush=True)

    def progress(self, name: str, done: int, total: int, unit: str, numbers: dict[str, float]) -> None:
        self.tell(done=done, total=total, unit=unit, numbers=numbers)

    def say(self, line: str) -> None:
        self.tell(say=line)


def work(task: Task, console: Console) -> None:
    """Make the task's node, unless it stands, and measure it, unless that is done."""
    given = {field: open_node(path) for field, path in task.given.items()}
    node = load(task.stage)(
        task.parent,
        task.config,
        Run(
            task.path,
            task.seed,
            task.name,
            console,
            given,
            take=measuring.through,
            timed=measuring.evaluated_with,
            fork=True,
        ),
    )
    if task.asked:
        measure(node, task.asked, console)


def _serve() -> int:
    task: Task = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_sweep, daemon=True).start()
    with child.wire() as out, (console := Wire(out)).listening():
        try:
            work(task, console)
        except JourneyError as error:
            console.tell(error=str(error))
            return BAD_INPUT
        except Stopped:
            return STOPPED
    return 0


def _end_with_sweep() -> None:
    os.read(0, 1)  # returns when the sweep has ended, however; not by sys.stdin, whose lock would be held at exit
    os._exit(1)


if __name__ == "__main__":
    sys.exit(_serve())
