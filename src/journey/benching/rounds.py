"""All subjects of a model take turns, round by round: what slows the machine for a while slows all alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from journey import machine
from journey.benching.process import EndedError, Process
from journey.benching.subject import SCORED, Subject
from journey.benching.work import Work
from journey.console import Console
from journey.errors import JourneyError

_READS = 5  # of memory, a round
NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Model:
    """What is measured, as files."""

    name: str
    n_params: int
    n_ctx: int
    n_tokens: int
    files: Mapping[str, Path]  # of each subject, by name
    rows: Sequence[tuple[list[int], int]] = ()  # of held-out documents, each with how many of its ids are known
    row_of: Sequence[int] = ()  # the document of each row
    n_bytes: Sequence[int] = ()  # of each document


@dataclass
class Record:
    """What one subject did, as it was timed."""

    subject: Subject
    about: dict[str, Any]  # what `worker.open` answered
    prefill: list[float] = field(default_factory=list)  # seconds until the first token, one a round
    decode: dict[int, list[list[float]]] = field(default_factory=dict)  # by batch, of each round seconds a step
    texts: list[list[int]] = field(default_factory=list)  # all ids written
    nats: list[float] = field(default_factory=list)  # of each document

    @property
    def running(self) -> int:
        """Bytes that its process has held at most while it computed, less what it held before the model."""
        return max(0, int(self.about["memory"]["running"]) - int(self.about["memory"]["imports"]))


@dataclass
class Found:
    """All that was measured of a model."""

    model: Model
    work: Work
    records: list[Record] = field(default_factory=list)
    reading: list[float] = field(default_factory=list)  # bytes a second, one a round
    left_out: dict[str, str] = field(default_factory=dict)  # subjects by name, and why
    shortened: list[str] = field(default_factory=list)  # what was asked for, and is less


def measure(
    model: Model, subjects: Sequence[Subject], work: Work, console: Console, left_out: Mapping[str, str] = NOBODY
) -> Found:
    """Every subject that has a file; what cannot be opened, or ends on the way, is left out with its reason, as those
    are that were `left_out` before.

    A stop between two rounds leaves what there is. Errors: JourneyError where that is nothing.
    """
    found = Found(model, work.within(model.n_ctx), left_out={**left_out})
    for name in ("prompt", "tokens"):
        if (asked := getattr(work, name)) > (got := getattr(found.work, name)):
            found.shortened.append(f"{name} {asked}: the context of {model.n_ctx} holds {got}, which are measured")
    with ExitStack() as stack:
        processes = _open(found, subjects, console, stack)
        read, steps = _reader(), 1 + len(work.batch)
        total, done = (work.rounds + 1) * steps * len(processes), 0
        for round in range(work.rounds + 1):  # the first warms up
            if console.stopping or not found.records:
                break
            speed = read()
            for batch in (0, *work.batch):
                for record in list(found.records):
                    with _or_left_out(found, record.subject):
                        _turn(processes[record.subject], record, found, batch, round)
                    done += 1
                    console.progress(model.name, done, total, "turns", {"round": round})
            if round:
                found.reading.append(speed)
        if found.reading and model.rows:
            for record in [record for record in found.records if record.subject.runtime in SCORED]:
                console.begin(model.name, f"held-out text, {record.subject.name}")
                with _or_left_out(found, record.subject):
                    record.nats = _nats(processes[record.subject], model)
    if not found.records or not found.reading:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        raise JourneyError(f"nothing of {model.name} could be measured: {why or 'it was stopped in the first round'}")
    return found


@contextmanager
def _or_left_out(found: Found, subject: Subject) -> Iterator[None]:
    """What ends is no longer among the records, and its reason is kept."""
    try:
        yield
    except EndedError as ended:
        found.left_out[subject.name] = str(ended)
        found.records = [record for record in found.records if record.subject != subject]


def _open(found: Found, subjects: Sequence[Subject], console: Console, stack: ExitStack) -> dict[Subject, Process]:
    """A process for each subject that opens; the stack closes them."""
    model, work = found.model, found.work
    threads = torch.get_num_threads()
    processes = {}
    for subject in subjects:
        if subject.name in model.files and not console.stopping:
            console.begin(model.name, f"opening {subject.name}")
            process = Process(subject, threads)
            stack.callback(process.close)
            with _or_left_out(found, subject):
                about = process.ask(
                    "open",
                    runtime=subject.runtime,
                    path=str(model.files[subject.name]),
                    precision=subject.precision,
                    n_tokens=model.n_tokens,
                    sequences=max(work.batch),
                    longest=model.n_ctx,
                )
                processes[subject] = process
                found.records.append(Record(subject, about))
    return processes


def _turn(process: Process, record: Record, found: Found, batch: int, round: int) -> None:
    """A prompt read (batch 0), or so many texts written: the same prompts for every subject, and none of them twice."""
    work, model = found.work, found.model
    B, T = max(1, batch), work.after(model.n_ctx) if batch else work.prompt
    prompts = np.random.default_rng((round, batch)).integers(model.n_tokens, size=(B, T)).tolist()
    n = 1 if not batch else 2 if not round else 1 + work.tokens
    answer = process.ask("generate", prompts=prompts, n=n)
    record.about["memory"]["running"] = answer["running"]
    if not round:
        return
    record.texts += answer["ids"]
    first, *steps = answer["seconds"]
    if batch:
        record.decode.setdefault(batch, []).append(steps)
    else:
        record.prefill.append(first)


def _nats(process: Process, model: Model) -> list[float]:
    """-ln p of each held-out document, summed over its rows."""
    nats = [0.0] * len(model.n_bytes)
    for document, each in zip(model.row_of, process.ask("score", rows=model.rows)["nats"], strict=True):
        nats[document] += each
    return nats


def _reader() -> Callable[[], float]:
    """Says how fast memory is read, in bytes a second: the median of a few times."""
    work, n_bytes = machine.reading("cpu")

    def once() -> float:
        start = time.perf_counter()
        work()
        return n_bytes / (time.perf_counter() - start)

    return lambda: statistics.median(once() for _ in range(_READS))
