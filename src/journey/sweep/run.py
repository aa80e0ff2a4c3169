"""Making the nodes of a sweep, several at a time: each in a process of its own, as soon as what it needs stands."""

import json
import pickle
import queue
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from journey import child, machine
from journey.checkpoint import open_node
from journey.stages.cost import MEASURING
from journey.stages.run import Stopped
from journey.sweep.board import Board
from journey.sweep.numbers import Asked, stands
from journey.sweep.plan import Job
from journey.sweep.worker import STOPPED, Task

_LOOK_EVERY = 0.5  # seconds: at Ctrl-C, and to redraw

Inbox = queue.Queue[tuple[int, dict[str, Any] | None]]  # slot, and what its process says; None: it has ended


@dataclass
class _Working:
    """A process at work on a job."""

    job: Job
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    said: str = ""  # why it failed


def pending(jobs: Sequence[Job], asked: dict[str, Asked]) -> list[Job]:
    """The jobs still to be done; `asked` says of which nodes, by id, what is to be measured."""
    return [job for job in jobs if not _done(job, asked.get(job.item.id))]


def _done(job: Job, asked: Asked | None) -> bool:
    return job.item.done and (asked is None or stands(open_node(job.item.path), asked))


def make(jobs: Sequence[Job], n_all: int, asked: dict[str, Asked], n: int, board: Board) -> dict[str, str]:
    """Do the jobs, which are those `pending` of `n_all`, `n` at a time; returns id -> reason for those that failed or
    wait for one that did.

    Raises `stages.run.Stopped` after Ctrl-C, when every process has saved its work.
    """
    waiting = list(jobs)
    left = {job.item.id for job in waiting}  # what does not stand yet
    failed: dict[str, str] = {}
    working: dict[int, _Working] = {}  # by slot, 0 to n - 1
    inbox: Inbox = queue.Queue()
    told = False  # the processes, to save and stop
    todo = {job.item.id: (job.item.step.name, seconds(job, asked)) for job in waiting}
    with board.watching(n_all, todo):
        try:
            while working or (waiting and not board.stopping):
                for job in [job for job in waiting if job.needs & failed.keys()]:
                    waiting.remove(job)
                    failed[job.item.id] = failed[next(iter(job.needs & failed.keys()))]
                    board.drop(job.item.id)
                for slot in [slot for slot in range(n) if slot not in working and not board.stopping]:
                    if ready := next((job for job in waiting if not job.needs & left), None):
                        waiting.remove(ready)
                        working[slot] = _start(ready, asked.get(ready.item.id), slot, n, inbox)
                        board.start(slot, ready.item.id, ready.label)
                if board.stopping and not told:
                    told = True
                    for each in working.values():
                        each.process.terminate()
                board.look()
                try:
                    slot, message = inbox.get(timeout=_LOOK_EVERY)
                except queue.Empty:
                    continue
                if message is not None:
                    _hear(slot, message, working[slot], board)
                    continue
                ended = working.pop(slot)
                if reason := _reason(ended):
                    failed[ended.job.item.id] = reason
                    board.failed(slot, reason)
                else:
                    left.discard(ended.job.item.id)
                    board.end(slot)
        finally:
            for each in working.values():
                each.process.kill()
    if board.stopping:
        raise Stopped
    return failed


def _hear(slot: int, message: dict[str, Any], source: _Working, board: Board) -> None:
    if "error" in message:
        source.said = message["error"]
    elif "say" in message:
        board.say(f"{source.job.label}: {message['say']}")
    else:
        board.progress(slot, message)


def seconds(job: Job, asked: dict[str, Asked]) -> float:
    """What a job should cost; measuring for a sweep is a fifth of what a journey measures."""
    return (0 if job.item.done else job.item.cost.seconds) + (MEASURING / 5 if job.item.id in asked else 0)


def _start(job: Job, asked: Asked | None, slot: int, n: int, inbox: Inbox) -> _Working:
    step = job.item.step
    task = Task(step.stage, step.config, step.seed, step.name, job.item.path, job.parent, job.given, asked)
    # Each process gets its share of the cores, or one GPU: threads of several on one core wait for each other.
    gpus = machine.gpus()
    surroundings = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
    errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by _reason)
    process = child.start("journey.sweep.worker", max(1, machine.cores() // n), errors, **surroundings)
    assert process.stdin
    try:
        pickle.dump(task, process.stdin)
        process.stdin.flush()  # and left open: its end tells the process that the sweep has ended
    except BrokenPipeError:
        pass  # it ended at once; its exit code and what it wrote say why
    threading.Thread(target=_listen, args=(slot, process, inbox), daemon=True).start()
    return _Working(job, process, errors)


def _listen(slot: int, process: "subprocess.Popen[bytes]", inbox: Inbox) -> None:
    assert process.stdout
    for line in process.stdout:
        inbox.put((slot, json.loads(line)))
    process.wait()
    inbox.put((slot, None))


def _reason(done: _Working) -> str:
    """Why a process failed, in one line; nothing when it did not."""
    with done.errors as errors:
        if done.process.returncode == 0:
            return ""
        if done.said:
            return done.said
        if done.process.returncode == STOPPED:
            return "stopped, and its work is saved"
        return child.why(done.process, errors, "give fewer --jobs")
