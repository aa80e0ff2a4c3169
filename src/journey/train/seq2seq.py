"""Training an encoder–decoder on pairs: by Adam and Noam's learning rate, with a state from which a killed run goes on
exactly."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from journey.errors import JourneyError
from journey.model.seq2seq import Seq2Seq, padded
from journey.train.history import recent, tokens_read
from journey.train.log import Log, rates
from journey.train.optimizers import Optimizers
from journey.train.saver import Saver
from journey.train.schedule import noam
from journey.train.state import resume, save

IGNORED = -100  # a target that is not counted
Encoded = tuple[list[int], list[int]]  # source and target, without marks


@dataclass(frozen=True)
class Lesson:
    """What the loop needs to know."""

    steps: int
    batch_size: int  # pairs a step
    factor: float  # of Noam's learning rate
    warmup: int  # steps
    smoothing: float
    clip: float  # 0: any
    eval_every: int  # steps
    start: int  # the id after which a target is written
    eos: int  # the id with which it ends
    seed: int


class Order:
    """Which pair is row i: all of them once an epoch, in an order that is a function of the seed and the epoch."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._seed = n, seed
        self._epoch = lru_cache(2)(lambda epoch: np.random.default_rng((seed, 6, epoch)).permutation(n))

    def rows(self, first: int, n: int) -> list[int]:
        """The pairs of n rows from `first` on."""
        return [int(self._epoch(row // self._n)[row % self._n]) for row in range(first, first + n)]


def tensors(pairs: Sequence[Encoded], pad: int, start: int, eos: int) -> tuple[torch.Tensor, ...]:
    """Sources (B, S), what is fed to the decoder (B, T), and what it is to say next (B, T)."""
    return (
        padded([source for source, _ in pairs], pad),
        padded([[start, *target] for _, target in pairs], pad),
        padded([[*target, eos] for _, target in pairs], IGNORED),
    )


def train(
    model: Seq2Seq,
    pairs: Sequence[Encoded],
    lesson: Lesson,
    *,
    state: Path,
    evaluate: Callable[[Seq2Seq], dict[str, float]],
    progress: Callable[..., None],
    stopping: Callable[[], bool],
    log: Log,
) -> list[dict[str, Any]] | None:
    """Train in place; returns the history, a line a step (smoothed loss in nats per target token; tokens of both sides
    so far), or None when asked to stop. `state`, `evaluate` and `log` are as in `loop.train`.
    """
    device = model.embed.weight.device
    # Beta2 and epsilon are the paper's, and nothing is decayed.
    adam = torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9, fused=True)
    optimizers = Optimizers([adam], [[1.0]])
    saver, order = Saver(state), Order(len(pairs), lesson.seed)
    history, _ = resume(model, optimizers, saver.last())
    log.resume(history)
    for step in range(len(history), lesson.steps):
        log.begin(step + 1)
        model.train()
        rate = lesson.factor * noam(step, lesson.warmup, model.config.n_embd)
        optimizers.set_lr(rate)
        batch = [pairs[row] for row in order.rows(step * lesson.batch_size, lesson.batch_size)]
        drawn = np.random.SeedSequence((lesson.seed, 7, step)).generate_state(1)
        torch.manual_seed(int(drawn[0]))  # what dropout drops is a function of seed and step
        source, written, targets = (t.to(device) for t in tensors(batch, model.config.pad, lesson.start, lesson.eos))
        loss = model(source, written, targets, lesson.smoothing)
        loss.backward()
        if not math.isfinite(loss.item()):
            raise JourneyError(f"the loss is not a number at step {step + 1}: choose a smaller factor or more warmup")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), lesson.clip or math.inf)
        log.before(model)
        optimizers.step()
        log.after()
        tokens = tokens_read(history) + sum(len(s) + len(t) + 1 for s, t in batch)
        line = {"step": step + 1, "tokens": tokens, "loss": loss.item(), "lr": rate, "grad_norm": float(norm)}
        if (step + 1) % lesson.eval_every == 0 or step + 1 == lesson.steps:
            line |= evaluate(model.eval())
        history.append(line)
        log.write(line, rates([adam]))
        stop = stopping()
        if stop or saver.due:
            with saver.saving(len(history)) as folder:
                save(model, optimizers, history, folder)
        if stop:
            return None
        progress(step + 1, lesson.steps, "steps", loss=recent(history))
    return history


@torch.inference_mode()
def loss_of(model: Seq2Seq, pairs: Sequence[Encoded], start: int, eos: int, batch_size: int = 64) -> float:
    """Nats per target token, its end included, without smoothing."""
    nats, n = 0.0, 0
    for first in range(0, len(pairs), batch_size):
        batch = tensors(pairs[first : first + batch_size], model.config.pad, start, eos)
        source, written, targets = (t.to(model.embed.weight.device) for t in batch)
        here = int((targets != IGNORED).sum())
        nats += model(source, written, targets).item() * here
        n += here
    return nats / n
