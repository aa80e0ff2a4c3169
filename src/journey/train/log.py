"""The log of a training: a line of JSON for each step, with what the clock says, while it runs and after it.

`history.json` holds what another run of the same inputs would find again; what stands here belongs to this one: speed,
memory, norms by layer. The first line is a `Header`; each line after it has the step's number, tokens so far, loss,
what else its training notes, and

    lr                 of each optimizer
    seconds            of training so far, those of interrupted runs included
    tokens_per_second  of the step alone, without evaluating and saving
    mfu                the share of the device's peak that this is; null where the peak is unknown
    memory             bytes held at most, of the GPU or of the process
    grad_norms, update_norms   by layer, rarely (`layers.Update`)

Whoever reads while it is written takes whole lines alone (`tail.Tail`). The writer holds a lock on the file for as long
as it lives, by which a reader knows that the training is at work.
"""

import dataclasses
import fcntl
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey.lineage import peak_memory
from journey.train.history import tokens_read
from journey.train.peak import peak
from journey.train.tail import Tail
from journey.train.trackers import Tracker, make_trackers

if TYPE_CHECKING:
    from torch import nn

    from journey.train.layers import Update

LOG = "log.jsonl"
FORMAT = 1
FLOPS = "6 per matrix parameter and token, forward and backward, and attention in full (PaLM, appendix B)"
_LOOKS = 100  # at the norms by layer, in one training; they cost a few hundredths of a step
_LEAST = 10  # steps between two


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What is constant in a training."""

    log: int = FORMAT
    name: str
    stage: str
    out: str  # the folder that its node will have, beside the working folder
    parameters: int
    flops_per_token: float | None  # forward and backward
    flops_formula: str = FLOPS
    device: str
    peak_flops: float | None  # FLOP/s
    peak_source: str
    precision: str
    tokens: int  # planned
    steps: int
    settings: Mapping[str, Any]


class Log:
    """Writes it: `resume` before the first step, then for each `begin`, `before` and `after` its update, `write`."""

    def __init__(
        self,
        run: Any,
        config: Any,
        model: "nn.Module",
        *,
        steps: int,
        tokens: int,
        flops_per_token: float | None,
        formula: str = FLOPS,
        precision: str = "fp32",
    ) -> None:
        """Of the training of `model` in the run of a stage, whose settings are `config`; in `run.scratch`."""
        parameters = list(model.parameters())
        self._device = parameters[0].device
        best = peak(self._device, precision)
        self._header = Header(
            name=run.name,
            stage=type(config).__name__.lower(),
            out=run.out.name,
            parameters=sum(p.numel() for p in parameters),
            flops_per_token=flops_per_token,
            flops_formula=formula,
            device=str(self._device),
            peak_flops=best.flops,
            peak_source=best.source,
            precision=precision,
            tokens=tokens,
            steps=steps,
            settings=dataclasses.asdict(config),
        )
        self._run, self._path = run, run.scratch / LOG
        self._every = max(_LEAST, steps // _LOOKS)
        self._file: Any = None
        self._trackers: list[Tracker] = []
        self._before = 0.0  # seconds of earlier runs
        self._start = time.monotonic()
        self._tokens = 0  # before this step
        self._step = 0
        self._began = self._took = 0.0
        self._update: Update | None = None

    def resume(self, history: Sequence[dict[str, Any]]) -> None:
        """Go on after the steps of `history`, which may be none: a step that will be done again is dropped.

        A step that the log lacks (it is not forced to the disk at each step) is taken from the history.
        """
        objects = Tail(self._path).new() if self._path.exists() else []
        logged = {line["step"]: line for line in objects if isinstance(line.get("step"), int)}
        lines = [logged.get(line["step"], line) for line in history]
        self._before = max((line["seconds"] for line in lines if "seconds" in line), default=0.0)
        self._start = time.monotonic()
        self._tokens = tokens_read(history)
        self.close()
        # A new file, put in the old one's place when it is whole and locked: who reads the old one notices.
        beside = self._path.with_name(f".{LOG}.{uuid.uuid4().hex[:8]}.tmp")
        self._file = open(beside, "ab")  # noqa: SIM115  (open for as long as the training runs)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._append(dataclasses.asdict(self._header), *lines)
        os.replace(beside, self._path)
        label = f"{self._run.name}-{self._run.scratch.parent.name.removeprefix('.work-')[:10]}"
        self._trackers = make_trackers(label, dataclasses.asdict(self._header), len(lines), self._run.say)

    def begin(self, step: int) -> None:
        """A step starts, the first is 1."""
        self._step, self._began, self._update = step, time.perf_counter(), None

    def before(self, model: "nn.Module") -> None:
        """The gradients stand, and the weights are about to move."""
        if self._step in (1, self._header.steps) or self._step % self._every == 0:
            from journey.train.layers import Update

            self._update = Update(model)

    def after(self) -> None:
        """The weights have moved: what the step took ends here."""
        self._took = time.perf_counter() - self._began

    def write(self, line: Mapping[str, Any], lr: Mapping[str, float]) -> None:
        """The line of a step, with its `step`, `tokens` so far, `loss`, `grad_norm`, and what else there is to note."""
        speed = (line["tokens"] - self._tokens) / max(self._took, 1e-9)
        self._tokens = line["tokens"]
        most, each = self._header.peak_flops, self._header.flops_per_token
        whole = {
            **line,
            "lr": lr,
            "seconds": round(self._before + time.monotonic() - self._start, 3),
            "tokens_per_second": round(speed, 2),
            "mfu": round(speed * each / most, 5) if most and each else None,
            "memory": self._memory(),
        }
        if self._update:
            whole |= self._update.norms(line["grad_norm"])
            self._update = None
        whole = _finite(whole)
        self._append(whole)
        for tracker in self._trackers:
            tracker.see(whole)

    def finish(self, folder: Path) -> None:
        """Leave the log in the folder of the node, too."""
        self.close()
        shutil.copyfile(self._path, folder / LOG)

    def close(self) -> None:
        """Let go of the file: nothing is at work on it any more."""
        for tracker in self._trackers:
            tracker.end()
        self._trackers = []
        if self._file:
            self._file.close()
            self._file = None

    def _append(self, *objects: Mapping[str, Any]) -> None:
        """Whole lines, in one piece as far as the system can: no fsync, which would cost milliseconds a step."""
        self._file.write("".join(json.dumps(each, allow_nan=False) + "\n" for each in objects).encode())
        self._file.flush()

    def _memory(self) -> int:
        if self._device.type == "cuda":
            import torch

            return torch.cuda.max_memory_allocated(self._device)
        return peak_memory()


def rates(optimizers: Sequence[Any]) -> dict[str, float]:
    """The learning rate of each optimizer, by its class: of its first group."""
    return {type(each).__name__.lower(): each.param_groups[0]["lr"] for each in optimizers}


def _finite(value: Any) -> Any:
    """JSON has no infinity: null."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
