"""The training loop: rows in, a better model out, and a state on disk from which a killed run goes on exactly."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from journey.errors import JourneyError
from journey.files import read_json
from journey.model.gpt import GPT
from journey.train.log import Log, rates
from journey.train.optimizers import Optimizers, make_optimizers
from journey.train.saver import Saver
from journey.train.schedule import trapezoid


class Rows(Protocol):
    """Where the loop reads: row i, T+1 tokens, the same whenever it is asked for."""

    def row(self, i: int) -> np.ndarray:
        """The T+1 tokens of row i."""
        ...


@dataclass(frozen=True)
class Loop:
    """What the loop needs to know; learning rates are peaks, warmup and decay shares of the steps."""

    steps: int
    batch_size: int  # rows a step
    accumulate: int  # equal parts that a step's rows are worked through in
    optimizer: str  # muon | adamw
    lr: float  # AdamW's
    muon_lr: float
    weight_decay: float
    warmup: float
    decay: float
    clip: float  # 0: off, as TRL has it
    eval_every: int  # steps
    mark: int  # the document mark: attention stays between two of them


def train(
    model: GPT,
    rows: Rows,
    loop: Loop,
    *,
    state: Path,
    evaluate: Callable[[GPT], dict[str, float]],
    progress: Callable[..., None],
    stopping: Callable[[], bool],
    log: Log | None = None,
) -> list[dict[str, Any]] | None:
    """Train in place; returns the history, a line a step (loss in nats per token), or None when asked to stop.

    `state` is a folder that a later call resumes from, to the same losses; `evaluate` is called every
    `eval_every` steps and at the end, and its numbers go into the history. `log` is told of every step.
    """
    device = next(model.parameters()).device
    optimizers = make_optimizers(model, loop.optimizer, loop.lr, loop.muon_lr, loop.weight_decay)
    saver = Saver(state)
    history = _resume(model, optimizers, saver.last())
    if log:
        log.resume(history)
    T = len(rows.row(0)) - 1
    model.train()
    for step in range(len(history), loop.steps):
        if log:
            log.begin(step + 1)
        share = trapezoid(step, loop.steps, loop.warmup, loop.decay)
        optimizers.set_lr(share)
        batch = np.stack([rows.row(step * loop.batch_size + b) for b in range(loop.batch_size)])
        tokens = torch.from_numpy(batch.astype(np.int64)).to(device)  # (batch_size, T + 1)
        loss = accumulate_gradients(model, tokens, loop.accumulate, loop.mark)
        if not math.isfinite(loss):
            raise JourneyError(f"the loss is not a number at step {step + 1}: choose a smaller lr or muon_lr")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), loop.clip or math.inf)
        if log:
            log.before(model)
        optimizers.step()
        if log:
            log.after()
        line = {"step": step + 1, "tokens": (step + 1) * loop.batch_size * T, "loss": loss, "lr": loop.lr * share}
        line["grad_norm"] = float(norm)
        if (step + 1) % loop.eval_every == 0 or step + 1 == loop.steps:
            line |= evaluate(model)
            model.train()
        history.append(line)
        if log:
            log.write(line, rates(optimizers.all))
        stop = stopping()
        if stop or saver.due:
            with saver.saving(len(history)) as folder:
                _save(model, optimizers, history, folder)
        if stop:
            return None
        progress(line["tokens"], loop.steps * loop.batch_size * T, loss=_recent(history))
    return history


def accumulate_gradients(model: GPT, tokens: Tensor, parts: int, mark: int) -> float:
    """Gradients of the mean loss over all rows, worked through in equal parts; the loss in nats per token.

    Every part holds the same number of targets, so the mean of the parts' means is the big batch's mean.
    """
    total = 0.0
    for part in tokens.chunk(parts):
        ids, targets = part[:, :-1], part[:, 1:]  # (b, T)
        loss = model(ids, targets, documents=(ids == mark).cumsum(1)) / parts
        loss.backward()
        total += loss.item()
    return total


def _recent(history: list[dict[str, Any]]) -> float:
    """The loss as the eye wants it: the mean of the last twenty steps."""
    last = [line["loss"] for line in history[-20:]]
    return sum(last) / len(last)


def _save(model: GPT, optimizers: Optimizers, history: list[dict[str, Any]], folder: Path) -> None:
    """Everything that `_resume` puts back."""
    weights = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    save_file(weights | {f"optimizer.{k}": v for k, v in optimizers.tensors().items()}, folder / "state.safetensors")
    (folder / "history.json").write_text(json.dumps(history))


def _resume(model: GPT, optimizers: Optimizers, folder: Path | None) -> list[dict[str, Any]]:
    """Put the newest saved state back; the history so far, empty when there is none."""
    if folder is None:
        return []
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
    prefix = "optimizer."
    optimizers.load_tensors({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return read_json(folder / "history.json")
