"""The training loop: rows in, a better model out, and a state on disk from which a killed run goes on exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.files import read_json, write_json
from journey.machine import is_out_of_memory
from journey.model.compiled import compiled
from journey.model.gpt import GPT
from journey.model.precision import precision
from journey.train.guard import APART, MOST, Guard
from journey.train.guard import FILE as LEFT_OUT
from journey.train.history import HISTORY, recent, tokens_read
from journey.train.log import Log, rates
from journey.train.optimizers import make_optimizers
from journey.train.saver import Saver
from journey.train.schedule import ScheduleName, share_of_peak
from journey.train.state import put, resume, save


class Rows(Protocol):
    """Where the loop reads: row i, T+1 tokens, the same whenever it is asked for."""

    def row(self, i: int) -> np.ndarray:
        """The T+1 tokens of row i."""
        ...


@dataclass(frozen=True)
class Loop:
    """What the loop needs to know; learning rates are peaks."""

    steps: int
    batch_size: int  # rows a step
    accumulate: int  # equal parts that a step's rows are worked through in
    optimizer: str  # muon | adamw
    lr: float  # AdamW's
    muon_lr: float
    weight_decay: float
    warmup: float  # as `schedule.warmup_steps` reads it
    decay: float  # of wsd, a share of the steps
    clip: float  # 0: off, as TRL has it
    eval_every: int  # steps
    mark: int  # the document mark: attention stays between two of them
    schedule: ScheduleName = "wsd"
    floor: float = 0.0  # a share of the peak
    spike: float = 0.0  # as `Guard` reads it
    precision: str = "fp32"  # as `model.precision` has it
    compile: bool = False
    best: str = ""  # the number of `evaluate` whose lowest value chooses the weights; none: the last are taken


def train(
    model: GPT,
    rows: Rows,
    loop: Loop,
    *,
    state: Path,
    evaluate: Callable[[GPT], dict[str, Any]],
    measure: Callable[[GPT, int], dict[str, Any]] = lambda model, step: {},
    progress: Callable[..., None],
    stopping: Callable[[], bool],
    log: Log,
    say: Callable[[str], None] = lambda line: None,
    start: Path | None = None,
    end: Path | None = None,
) -> list[dict[str, Any]] | None:
    """Train in place; returns the history, a line a step (loss in nats per token), or None when asked to stop.

    `state` is a folder that a later call resumes from, to the same losses; `evaluate` is called every
    `eval_every` steps and at the end, `measure` after each (with how many are done, to give numbers when it is time):
    both go into the history. A step whose loss is no number, or a spike
    (`loop.spike`), is taken back: training goes on from a saved state before it, without the batches that led there,
    which the history names. `say` gets what a person should know of such things. `start` is a state to begin with, of
    a training that is to go on; `end` a folder for the state after the last step. `log` is told of every step.
    """
    device = next(model.parameters()).device
    dtype = torch.bfloat16 if loop.precision == "bf16" else torch.float32
    optimizers = make_optimizers(model, loop.optimizer, loop.lr, loop.muon_lr, loop.weight_decay, dtype)
    saver, guard, parts = Saver(state, APART), Guard(state, loop.spike, start), loop.accumulate
    forward = compiled(model, say) if loop.compile else model
    history, best = resume(model, optimizers, saver.last() or start)
    inherited = len(read_json(start / HISTORY)) if start else 0
    log.resume(history)
    T = len(rows.row(0)) - 1
    model.train()
    while len(history) < loop.steps:
        step = len(history)
        log.begin(step + 1)
        share = share_of_peak(step, loop.steps, loop.schedule, loop.warmup, loop.decay, loop.floor)
        optimizers.set_lr(share)
        first = guard.batch(step) * loop.batch_size
        batch = np.stack([rows.row(first + b) for b in range(loop.batch_size)])
        tokens = torch.from_numpy(batch.astype(np.int64)).to(device)  # (batch_size, T + 1)
        with precision(model, loop.precision):
            loss, parts = _fitting(model, forward, tokens, parts, loop.mark, say)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), loop.clip or math.inf))
        if why := guard.trouble(loss, norm, history):
            if guard.times < MOST and (before := saver.back_to(step - APART) or start):
                model.zero_grad()
                history, best = resume(model, optimizers, before)
                guard.leave_out([guard.batch(n) for n in (step - 1, step) if n >= len(history)])
                log.resume(history)
                say(f"step {step + 1}: {why}: back to step {len(history)}, without the batches that led there")
                continue
            if not math.isfinite(loss + norm):
                raise JourneyError(f"{why} at step {step + 1}: choose a smaller lr or muon_lr")
            say(f"step {step + 1}: {why}: trained on, for no state is there to go back to, or it came {MOST} times")
        log.before(model)
        optimizers.step()
        log.after()
        line: dict[str, Any] = {"step": step + 1, "tokens": tokens_read(history) + loop.batch_size * T, "loss": loss}
        line |= {"lr": loop.lr * share, "grad_norm": norm}
        if left_out := guard.before(step):
            line["left_out"] = left_out
        if (step + 1) % loop.eval_every == 0 or step + 1 == loop.steps:
            line |= evaluate(model)
            own = [past[loop.best] for past in history[inherited:] if loop.best in past]
            if loop.best and line[loop.best] < min(own, default=math.inf):
                best = {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters()}
        line |= measure(model, step + 1)
        model.train()
        history.append(line)
        log.write(line, rates(optimizers.all))
        stop = stopping()
        if stop or saver.due:
            with saver.saving(len(history)) as folder:
                save(model, optimizers, history, folder, best)
        if stop:
            return None
        left = (loop.steps - len(history)) * loop.batch_size * T
        progress(line["tokens"], line["tokens"] + left, loss=recent(history))
    if end:
        end.mkdir(parents=True)
        save(model, optimizers, history, end)
        write_json(end / LEFT_OUT, guard.left_out)
    if loop.best:
        put(model, best)
    return history


def accumulate_gradients(forward: Callable[..., Tensor], tokens: Tensor, parts: int, mark: int) -> float:
    """Gradients of the mean loss over all rows, worked through in equal parts; the loss in nats per token.

    `forward` is the model or what stands for it: (ids, targets, documents=…) -> the loss.

    Every part holds the same number of targets, so the mean of the parts' means is the big batch's mean.
    """
    losses = []
    for part in tokens.chunk(parts):
        ids, targets = part[:, :-1], part[:, 1:]  # (b, T)
        loss = forward(ids, targets, documents=(ids == mark).cumsum(1)) / parts
        loss.backward()
        losses.append(loss.detach())
    return sum(loss.item() for loss in losses)  # asked for at the end: a GPU would wait at each


def _fitting(
    model: GPT, forward: Callable[..., Tensor], tokens: Tensor, parts: int, mark: int, say: Callable[[str], None]
) -> tuple[float, int]:
    """`accumulate_gradients` in as many parts as it takes to fit in memory; the loss, and how many those were."""
    while True:
        try:
            return accumulate_gradients(forward, tokens, parts, mark), parts
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        model.zero_grad()
        if tokens.is_cuda:
            torch.cuda.empty_cache()
        n = len(tokens)
        if parts == n:
            raise JourneyError(
                "out of memory with one row at a time: take a smaller n_ctx or a smaller model, or free some memory"
            )
        parts = next(more for more in range(2 * parts, n + 1) if n % more == 0) if 2 * parts <= n else n
        say(f"out of memory with more rows at a time: going on with {n // parts}, to the same result")
