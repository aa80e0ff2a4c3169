"""Which trainings there are: by the logs in the places where stages work, and whether anybody works on them now."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from journey import runner
from journey.checkpoint import LINEAGE
from journey.errors import JourneyError
from journey.files import read_json
from journey.train.log import LOG
from journey.watching.training import Training

WORKING = f".work-*/state/{LOG}"
HOMES = ("journeys/*/nodes", "sweeps/*/nodes")  # where `run` and `sweep` work, unless told otherwise


def everywhere() -> list[Path]:
    """The folders of nodes that a person means who names none; a stage alone may work in this folder."""
    return [*sorted(path for home in HOMES for path in Path().glob(home)), Path()]


def inside(folder: Path) -> list[Path]:
    """The folders of nodes in a workspace, or in a folder where stages work."""
    return [path for path in (folder / "nodes", folder) if path.is_dir()]


def at_work(homes: Iterable[Path]) -> list[Training]:
    """The trainings that are running in these folders, the oldest first."""
    return [Training(path) for path in _by_age(homes, WORKING) if is_running(path)]


def latest(homes: Iterable[Path]) -> Training | None:
    """The training that was last at work here: interrupted, or finished."""
    homes = list(homes)
    paths = [path for pattern in (WORKING, f"[!.]*/{LOG}") for path in _by_age(homes, pattern) if path.is_file()]
    return Training(max(paths, key=_age)) if paths else None


def find(name: str, workspace: Callable[[], Path], homes: list[Path]) -> Training:
    """What NODE means: a node being made, a finished one of the workspace, or a folder.

    Errors: JourneyError where nothing trains or trained there."""
    folder = Path(name)
    if folder.is_dir():
        if found := in_folder(folder):
            return found
        if found := next(iter(at_work(inside(folder))), None) or latest(inside(folder)):
            return found
        raise JourneyError(f"{folder} holds no {LOG}: no training of this Journey is, or was, at work there")
    if found := named(name, [*homes, *([folder.parent] if folder.parent.is_dir() else [])]):
        return found
    node = runner.look_up(name, workspace())
    found = in_folder(node.path)
    if not found:
        raise JourneyError(f"{node.path} holds no {LOG}: {node.name} is no training, or one of an older Journey")
    return found


def named(name: str, homes: Iterable[Path]) -> Training | None:
    """The training of a node that is being made, by its name, the folder that it will have, or the start of its id."""
    wanted = Path(name)
    for path in [*_by_age(homes, WORKING)][::-1]:
        training = Training(path)
        with contextlib.suppress(OSError, JourneyError):
            training.read()
        id = path.parts[-3].removeprefix(".work-")
        is_out = training.said("out") == wanted.name and path.parents[2].resolve() == wanted.parent.resolve()
        if training.name == name or is_out or (len(name) >= 4 and id.startswith(name[:12])):
            return training
    return None


def in_folder(folder: Path) -> Training | None:
    """That of a finished node, or of a working folder."""
    paths = [path for path in (folder / LOG, folder / "state" / LOG) if path.is_file()]
    return Training(paths[0]) if paths else None


def node_of(training: Training) -> Path | None:
    """The finished node of a training, once it stands: its own folder, or that which its working folder became."""
    if training.path.parent.name != "state":
        folder = training.path.parent
    elif out := training.said("out"):
        folder = training.path.parents[2] / Path(out).name
    else:
        return None
    return folder if (folder / LINEAGE).exists() else None


def is_running(path: Path) -> bool:
    """Whether somebody writes this log: the writer holds it locked for as long as it lives.

    It is locked before it has this name, so that looking never stands in the writer's way.
    """
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def is_busy(home: Path) -> bool:
    """Whether `run` or `sweep` holds the workspace of these nodes, training or not.

    Its lock is only tried where the process that left its number there lives: trying it takes it for an instant, in
    which a run that begins would find it taken.
    """
    lock = home.parent / ".lock"
    try:
        if home.name != "nodes" or not lock.is_file():
            return False
        holder = read_json(lock)
        os.kill(int(holder["pid"]), 0)
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except (OSError, JourneyError, TypeError, KeyError, ValueError, OverflowError):
        return False
    return False


def _by_age(homes: Iterable[Path], pattern: str) -> Iterator[Path]:
    return iter(sorted((path for home in homes for path in home.glob(pattern)), key=_age))


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it has just become a node
        return 0.0
