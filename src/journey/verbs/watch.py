"""`journey watch`: a training as it goes, from another window. It reads the log that the training leaves, no more."""

import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from journey.console import clock
from journey.errors import JourneyError
from journey.metrics import metric
from journey.verbs.common import Result, Workspace, for_program, home
from journey.watching import found as places
from journey.watching import words
from journey.watching.training import Training

_DRAW_EVERY, _PLAIN_EVERY = 0.5, 10.0  # seconds
_SILENT = 5.0  # seconds without a step are worth a word


def watch(
    node: Annotated[
        Positional[str | None], tyro.conf.arg(metavar="NODE", help="whose training (default: all that run)")
    ] = None,
    /,
    workspace: Workspace = None,
    once: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="say how it stands, and end")] = False,
) -> Result:
    """Show a training while it runs: loss, rates, speed, MFU, memory, norms by layer. q or Ctrl-C leaves it running.

    Where none runs, the last one is shown. It looks in ./journeys, ./sweeps and this folder.

    journey watch                       whatever trains here, a whole sweep too
    journey watch base                  one training, or that of a finished node
    journey watch out/mine --once       a few lines of plain text
    """
    homes = places.inside(workspace) if workspace else places.everywhere()
    if node is None:
        watched = Watched(homes)
    else:
        watched = Watched([])
        watched.add(places.find(node, lambda: home(workspace, must=False), homes))
    watched.update()
    running = any(state in (words.RUNNING, words.SAVING) for _, state in watched.shown)
    if not running and not watched.busy and node is None:
        last = places.latest(homes)
        if last is None:
            where = workspace or "./journeys, ./sweeps and this folder"
            raise JourneyError(f"no training in {where}: begin one, or name its node, workspace or folder")
        print("nothing trains here now: this was the last", file=sys.stderr)
        watched.add(last)
        watched.update()
    if empty := next(
        (training for training, state in watched.shown if state != words.RUNNING and not training.known), None
    ):
        raise JourneyError(f"{empty.path} holds no line of a training: it is empty or damaged")
    if not once and not for_program() and (running or watched.busy):
        with contextlib.suppress(KeyboardInterrupt):
            (_live if sys.stdout.isatty() else _plain)(watched)
    for training, state in watched.shown:
        print("\n".join(words.report(training, state)))
    return _result(watched.shown)


class Watched:
    """The trainings that are looked at: those that run in these folders of nodes, and once they have ended how they
    did."""

    def __init__(self, homes: list[Path]) -> None:
        self._homes = homes
        self._trainings: dict[Path, Training] = {}
        self.shown: list[tuple[Training, str]] = []

    def add(self, training: Training) -> None:
        """One more."""
        self._trainings.setdefault(training.path, training)

    def update(self) -> None:
        """Read what is new. A log that has gone with its working folder is read on in the node that it became."""
        for training in places.at_work(self._homes):
            self.add(training)
        self.shown = [(training, _state(training)) for training in self._trainings.values()]
        running = [each for each in self.shown if each[1] in (words.RUNNING, words.SAVING)]
        if running:  # of those that ended the newest alone is shown, where nothing runs
            self.shown = running
        elif self._homes:
            self.shown = self.shown[-1:]

    @property
    def busy(self) -> bool:
        """Whether a run or a sweep is at work here, training at this moment or not."""
        return any(places.is_busy(home) for home in self._homes)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return not self.busy and all(state in (words.FINISHED, words.STOPPED) for _, state in self.shown)


def _state(training: Training) -> str:
    running = places.is_running(training.path)
    with contextlib.suppress(OSError, JourneyError):
        training.read()
    if running:
        return words.RUNNING
    if node := places.node_of(training):
        if training.path.parent != node and (whole := places.in_folder(node)):
            training.move(whole.path)
            with contextlib.suppress(OSError, JourneyError):
                training.read()
        return words.FINISHED
    return words.SAVING if training.complete and training.path.exists() else words.STOPPED


def _plain(watched: Watched) -> None:
    """A line every ten seconds, until it ends."""
    said = 0.0
    while True:
        watched.update()
        if watched.ended:
            return
        if time.monotonic() - said >= _PLAIN_EVERY:
            said = time.monotonic()
            for training, state in watched.shown:
                print(f"{training.name}: {'' if state == words.RUNNING else f'{state}  '}{words.brief(training)}")
            sys.stdout.flush()
        time.sleep(_DRAW_EVERY)


def _live(watched: Watched) -> None:
    """A picture on a screen of its own, until it ends or the reader has seen enough."""
    from rich.console import Console as Terminal
    from rich.live import Live

    from journey.watching.picture import picture

    terminal = Terminal(highlight=False)
    with _keys() as key, Live(console=terminal, screen=True, auto_refresh=False) as live:
        while True:
            watched.update()
            if watched.ended:
                return
            note = "q leaves; the training goes on"
            if not any(state == words.RUNNING for _, state in watched.shown):
                note = f"at work, and nothing trains at this moment · {note}"
            elif (silent := min(training.silent for training, _ in watched.shown)) > _SILENT:
                note = f"no step for {clock(silent)}: it evaluates, or waits · {note}"
            width, height = shutil.get_terminal_size()
            live.update(picture(watched.shown, note, width, height), refresh=True)
            if key(_DRAW_EVERY) in ("q", "Q"):
                return


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key, and says which it was."""
    if not sys.stdin.isatty():
        yield _wait
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)

    def key(seconds: float) -> str:
        ready = select.select([sys.stdin], [], [], seconds)[0]
        return (
            (os.read(sys.stdin.fileno(), 1).decode(errors="replace") or "q") if ready else ""
        )  # its end: nobody looks

    try:
        tty.setcbreak(sys.stdin)
        yield key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _wait(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _result(shown: list[tuple[Training, str]]) -> Result:
    """Everything in JSON; the numbers of the first as metrics."""
    trainings = [_as_json(training, state) for training, state in shown]
    first = shown[0][0] if shown else None
    metrics: dict[str, Any] = {}
    if first:
        now, _ = first.speed
        found = {
            "loss": (first.loss, "", "mean of the last steps"),
            "tokens_per_second": (now, "tokens/s", "over the last steps, without evaluating and saving"),
            "mfu": (first.mfu(now), "", first.said("peak_source")),
            "memory": (first.number("memory"), "bytes", "at most"),
        } | {key: (series[-1][1], "", "dev split") for key, series in first.dev.items()}
        metrics = {
            name: metric(value, unit, convention)
            for name, (value, unit, convention) in found.items()
            if value is not None
        }
    return Result(path=first.path if first else None, metrics=metrics, more={"trainings": trainings})


def _as_json(training: Training, state: str) -> dict[str, Any]:
    now, mean = training.speed
    return {
        "name": training.name,
        "stage": training.stage,
        "state": {words.RUNNING: "running", words.SAVING: "saving", words.FINISHED: "finished"}.get(state, "stopped"),
        "path": str(training.path),
        "step": training.step,
        "steps": training.planned("steps"),
        "tokens": training.tokens,
        "planned_tokens": training.planned("tokens"),
        "loss": training.loss,
        "dev": {key: series[-1][1] for key, series in training.dev.items()},
        "lr": training.rates,
        "tokens_per_second": now,
        "mean_tokens_per_second": mean,
        "mfu": training.mfu(now),
        "flops_per_token": training.planned("flops_per_token"),
        "peak_flops": training.planned("peak_flops"),
        "peak_source": training.said("peak_source"),
        "memory": training.number("memory"),
        "seconds": training.number("seconds"),
        "seconds_left": training.left,
        "grad_norms": training.by_layer("grad_norms"),
        "update_norms": training.by_layer("update_norms"),
    }
