"""Model code run where it can do no harm, and judged from where it cannot reach (HumanEval, Chen et al. 2021).

Two processes, forked from one clean interpreter before either has read anything. The *player* gets the prompt and the
completion and answers calls; the *judge* gets the prompt and the tests and runs no line of the model's. Between them
go plain data alone, rebuilt on arrival: to pass, a completion has to give the answers that the tests ask for. It finds
no token, verdict or test to forge: those were never in its process, and neither an exit code nor an object that equals
everything counts.

Both work in an empty folder, with an empty environment, no terminal and hard limits. On Linux (x86-64, arm64) a filter
then refuses every system call but reading, memory, clocks and the end, so there is no network, process, thread, signal
or written file, root or not; Landlock hides all folders but Python's own (a home, a copy of the tests); and namespaces
are unshared where the kernel lets the user. All three need no rights and no other program. Elsewhere an audit hook
refuses what Python announces, a weaker wall: a completion written against it can take it down. `isolation` says which
walls this machine has. What none of them stops: a completion that knows the tests by heart, and a hole in the kernel.

Programs have the standard library alone. Arguments go by value, so a completion that changes its argument in place
changes a copy; an answer that is no plain data (`Decimal`, an own class) fails. HumanEval's tests look at neither.
"""

import functools
import json
import os
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, BinaryIO

from journey.errors import JourneyError
from journey.evaluate.room import EARLY


@dataclass(frozen=True)
class Limits:
    """What one completion may use. Files, processes and threads are not here: it gets none."""

    seconds: float = 10.0  # by the clock, start included; the slowest of HumanEval's own solutions takes 0.3 s
    memory: int = 2**30  # bytes of address space: Python takes 40 MB, and every worker may fill this
    output: int = 2**20  # bytes printed, and bytes of one answer: ten times what any test of HumanEval asks for


LIMITS = Limits()
_ROOM = Path(__file__).with_name("room.py")
_KEPT = 2000  # characters of what was printed


@dataclass(frozen=True)
class Problem:
    """One row of HumanEval: `test` defines `check(candidate)`, `prompt` ends inside the function `entry_point`."""

    prompt: str
    test: str
    entry_point: str


@dataclass(frozen=True)
class Outcome:
    """Whether the tests passed; why ("passed", "assertion", "NameError: …", "ran out of time"); what was printed."""

    passed: bool
    why: str
    output: str


def run(problem: Problem, completion: str, limits: Limits = LIMITS) -> Outcome:
    """Judge one completion. A test that this sandbox cannot run is an error, never a completion that failed."""
    report, output, cut = _watch(problem, completion, limits)
    if "unfit" in report:
        raise JourneyError(f"the tests of {problem.entry_point} cannot run in the sandbox: {report['unfit']}")
    why = cut or report.get("why", EARLY)
    return Outcome(why == "passed", why, output)


def run_all(
    answers: Sequence[tuple[Problem, str]],
    limits: Limits = LIMITS,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """`run` for each (problem, completion), in their order; `progress` hears how many are done.

    With more workers than cores a slow completion runs out of time that is not its own.
    """
    isolation()  # a machine on which nothing runs says so here, or every completion would count as wrong
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = [pool.submit(run, problem, completion, limits) for problem, completion in answers]
        for done, _ in enumerate(as_completed(waiting), 1):
            if progress:
                progress(done)
        return [one.result() for one in waiting]
    finally:
        pool.shutdown(cancel_futures=True)


@functools.cache
def isolation() -> str:
    """The walls that stand on this machine, in words, tried out with a completion that is right."""
    problem = Problem('def same(x):\n    ""\n', "def check(candidate):\n    assert candidate(1) == 1\n", "same")
    report, output, cut = _watch(problem, "    return x\n", LIMITS)
    if report.get("why") != "passed":
        reason = (output.strip().splitlines() or [cut or str(report)])[-1]
        raise JourneyError(f"the sandbox does not run on this machine, so no code can be judged: {reason}")
    return "; ".join(["a clean room with hard limits", *report["walls"]])


# The filter's numbers are known for these two; tests take it away to see what holds without.
_KERNEL = sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64")


def _watch(problem: Problem, completion: str, limits: Limits) -> tuple[dict[str, Any], str, str]:
    """The judge's report (empty where there is none), what was printed, and why it was cut short, if it was."""
    # The whole environment. The seed makes sets come in one order: the same completion, the same verdict.
    room_env = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
    command = [sys.executable, "-S", "-P", "-s", str(_ROOM), *(["kernel"] if _KERNEL else [])]
    with tempfile.TemporaryDirectory(prefix="room-") as room, Popen(
        command, -1, None, PIPE, PIPE, PIPE, cwd=room, env=room_env, start_new_session=True
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        try:
            with suppress(BrokenPipeError), process.stdin as stdin:
                job = {**asdict(problem), "completion": completion, **asdict(limits), "parent": os.getpid()}
                stdin.write(json.dumps(job).encode())
            report, output, cut = _listen(process.stdout, process.stderr, limits)  # type: ignore[arg-type]
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return (json.loads(report) if report and not cut else {}), output.decode(errors="replace")[:_KEPT], cut


def _listen(reports: BinaryIO, prints: BinaryIO, limits: Limits) -> tuple[bytearray, bytearray, str]:
    """Both pipes until the judge closes its own, the time is over or too much was printed."""
    deadline = time.monotonic() + limits.seconds
    report, output = bytearray(), bytearray()
    with selectors.DefaultSelector() as waiting:
        waiting.register(reports, selectors.EVENT_READ, report)
        waiting.register(prints, selectors.EVENT_READ, output)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                data = os.read(key.fd, 2**16)
                key.data.extend(data)
                if len(output) > limits.output:
                    return report, output, "printed too much"
                if not data and key.fileobj is prints:
                    waiting.unregister(prints)
                elif not data:
                    os.set_blocking(prints.fileno(), False)
                    with suppress(BlockingIOError):
                        output += os.read(prints.fileno(), 2**16)  # all that a pipe holds
                    return report, output, ""
    return report, output, "ran out of time"
