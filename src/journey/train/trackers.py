"""TensorBoard and trackio beside our own log: each is shown the objects that are written there, and nothing else.

Which, JOURNEY_TRACK says, or `--track`: it is no setting of a stage, and no part of an id.
"""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from journey.errors import JourneyError, nearest

TrackerName = Literal["tensorboard", "trackio"]
VARIABLE = "JOURNEY_TRACK"
TENSORBOARD = Path("runs")  # where TensorBoard itself would write


class Tracker(Protocol):
    """Somebody who is shown a training."""

    def see(self, line: Mapping[str, Any]) -> None:
        """The line of a step."""
        ...

    def end(self) -> None:
        """No line follows."""
        ...


@contextlib.contextmanager
def tracking(name: str | None) -> Iterator[None]:
    """Trainings inside it, and in processes begun there, are shown to this one too; None: to whom JOURNEY_TRACK names.

    Errors: JourneyError for an unknown one, and for one that is not installed.
    """
    before = os.environ.get(VARIABLE)
    if name:
        os.environ[VARIABLE] = name
    try:
        _chosen()
        yield
    finally:
        if name:
            os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def make_trackers(label: str, header: Mapping[str, Any], done: int, say: Callable[[str], None]) -> list[Tracker]:
    """Those that are chosen, for the training `label` of which so many steps are done: one, or none."""
    name = _chosen()
    if not name:
        return []
    try:
        tracker = _MAKERS[name](label, header, done)
    except Exception as error:  # a folder that cannot be written, a service that is not there
        say(f"{name} cannot be begun ({type(error).__name__}: {error}): the training goes on without it")
        return []
    return [_Careful(tracker, name, say)]


def _chosen() -> str:
    name = os.environ.get(VARIABLE, "").strip().lower()
    if name and name not in _MAKERS:
        raise JourneyError(f"there is no tracker {name}{nearest(name, _MAKERS)}: choose {' or '.join(_MAKERS)}")
    if name and importlib.util.find_spec(name) is None:
        raise JourneyError(f'{name} is not installed: pip install "journey-gpt[{name}]"')
    return name


class _Careful:
    """A tracker that fails does not end the training: it is left, and that is said."""

    def __init__(self, tracker: Tracker, name: str, say: Callable[[str], None]) -> None:
        self._tracker: Tracker | None = tracker
        self._name, self._say = name, say

    def see(self, line: Mapping[str, Any]) -> None:
        self._try(lambda tracker: tracker.see(line))

    def end(self) -> None:
        self._try(lambda tracker: tracker.end())

    def _try(self, do: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            do(self._tracker)
        except Exception as error:
            self._tracker = None
            self._say(
                f"{self._name} failed and is told nothing more ({type(error).__name__}: {error}); training goes on"
            )


class _TensorBoard:
    """Event files in ./runs, for `tensorboard --logdir runs`."""

    def __init__(self, label: str, header: Mapping[str, Any], done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(TENSORBOARD / label), purge_step=done + 1)
        self._writer.add_text("header", "\n".join(f"- {key}: {value}" for key, value in header.items()))

    def see(self, line: Mapping[str, Any]) -> None:
        for name, value in scalars(line).items():
            self._writer.add_scalar(name, value, line["step"])

    def end(self) -> None:
        self._writer.close()


class _Trackio:
    """A run of the project `journey`, for `trackio show --project journey`; it stays on this machine."""

    def __init__(self, label: str, header: Mapping[str, Any], done: int) -> None:
        import trackio

        self._trackio: Any = trackio
        trackio.init(project="journey", name=label, config=dict(header), resume="allow", embed=False)

    def see(self, line: Mapping[str, Any]) -> None:
        self._trackio.log(scalars(line), step=line["step"])

    def end(self) -> None:
        self._trackio.finish()


_MAKERS: dict[str, Callable[[str, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
}


def scalars(line: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """The numbers of a line, those inside an object under `update_norms/block 3`; its step is the axis."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{above}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key != "step":
            found[above + key] = value
    return found
