"""What a stage should cost, for the plan: a rough number before the run beats none."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from journey import machine

MEASURING = 25.0  # seconds to measure one pocket model on every text (docs/measurements.md)
_EFFICIENCY = 0.3  # of the device's matrix rate that training a pocket model reaches on CPU


@dataclass(frozen=True)
class Cost:
    """An estimate: seconds of work and bytes of disk."""

    seconds: float
    bytes: float


_WRITTEN = 50e6  # parameters a second that are read, checked and written
ELSEWHERE = Cost(120, 500e6)  # of what is made of a checkpoint from elsewhere, whose size is not known here


def parameters(configs: Sequence[Any]) -> int | None:
    """About how many the model has that the nearest of these configs shapes; None for one from elsewhere."""
    shape = next((c for c in configs if hasattr(c, "n_layer")), None)
    if shape is None:
        return None
    vocab = next((c.vocab_size for c in configs if hasattr(c, "vocab_size")), 4096)
    return 12 * shape.n_layer * shape.n_embd**2 + vocab * shape.n_embd


def writing(configs: Sequence[Any]) -> Cost:
    """Of writing the model of these configs once in fp32; of one from elsewhere too, where that says how large it is
    (`n_params`)."""
    n = parameters(configs) or next((c.n_params for c in configs if hasattr(c, "n_params")), None)
    return Cost(10 + n / _WRITTEN, 4 * n) if n else ELSEWHERE


def training(configs: Sequence[Any], tokens: int = 400_000, flops: float | None = None) -> Cost:
    """Of training on so many tokens, or for so much arithmetic; `configs` are the stage's own, then its ancestors',
    nearest first."""
    n = parameters(configs)
    if n is None:
        return ELSEWHERE
    # Beside the arithmetic, every token passes through memory many times; small models feel it (measured).
    return Cost(10 + (flops or 6 * n * tokens) / (_EFFICIENCY * matrix_rate()), (4 + 4 * 12) * n + 10e6)


@cache
def matrix_rate() -> float:
    """FLOP/s of an fp32 matrix product here and now, on the device that will train, in about 20 ms.

    torch, whose import takes seconds, is asked only where there is a GPU.
    """
    import numpy as np

    n, a, wait = 768, np.ones((768, 768), dtype=np.float32), lambda: None
    if machine.gpus():
        import torch

        if torch.cuda.is_available():
            n, a, wait = 4096, torch.ones(4096, 4096, device="cuda"), torch.cuda.synchronize  # type: ignore[assignment]
    a @ a
    wait()
    start = time.perf_counter()
    for _ in range(4):
        a @ a
    wait()
    return 4 * 2 * n**3 / (time.perf_counter() - start)
