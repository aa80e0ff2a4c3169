"""A module of ours at work in a process of its own, and a pipe either way."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, TextIO


def command(module: str, *arguments: str) -> list[str]:
    """`python -m module`, by this Python; not from the folder that it happens to be in."""
    return [sys.executable, "-P", "-m", module, *arguments]


def surroundings(**more: str) -> dict[str, str]:
    """This process's environment, from which the same modules are found, and more."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | more


def start(module: str, threads: int, errors: IO[bytes], **more: str) -> "subprocess.Popen[bytes]":
    """Run `python -m module` with so many threads, unless OMP_NUM_THREADS is set already; what it writes to stderr goes
    into `errors`. Its stdin is to be left open: the end of it tells the process that its parent has ended, however.

    Ctrl-C does not reach it: that is for the parent, which ends its children in its own way.
    """
    here, pipe = surroundings(**more), subprocess.PIPE
    here.setdefault("OMP_NUM_THREADS", str(threads))
    return subprocess.Popen(command(module), stdin=pipe, stdout=pipe, stderr=errors, env=here, process_group=0)


def why(process: "subprocess.Popen[bytes]", errors: IO[bytes], less: str) -> str:
    """Why a process has ended that says nothing of it: in one line, from the last that it wrote. `less` says what to do
    where it needed too much memory."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    if process.returncode == -signal.SIGKILL:
        return f"its process was killed, perhaps for want of memory: {less}"
    return lines[-1] if lines else f"its process ended with exit code {process.returncode}"


@contextlib.contextmanager
def wire() -> Iterator[TextIO]:
    """In the process: what leads to its parent. Stdout, which libraries print on, is stderr for everybody else."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        yield out
