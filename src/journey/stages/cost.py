"""What a stage should cost, for the plan: a rough number before the run beats none."""

import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

MEASURING = 25.0  # seconds to measure one pocket model on every text (docs/measurements.md)
_EFFICIENCY = 0.3  # of the machine's matrix rate that training a pocket model reaches on CPU


@dataclass(frozen=True)
class Cost:
    """An estimate: seconds of work and bytes of disk."""

    seconds: float
    bytes: float
    is_model: bool = False


def estimate(stage: str, configs: list[Any]) -> Cost:
    """The cost of a stage; `configs` are its own config, then its ancestors', nearest first."""
    own = configs[0]
    if stage == "text":
        return _reading(own.source, own.max_bytes)
    fixed = {"prepare": Cost(5, 30e6), "pairs": Cost(60, 5e6), "index": Cost(30, 60e6)}
    if stage in fixed:
        return fixed[stage]
    if stage == "tokenizer":
        return Cost(5 + own.vocab_size / 400, 1e6)
    shape = next((c for c in configs if hasattr(c, "n_layer")), None)
    if shape is None:  # a checkpoint from elsewhere: its size is not known here
        return Cost(120, 500e6, is_model=stage != "quantize")
    vocab = next((c.vocab_size for c in configs if hasattr(c, "vocab_size")), 4096)
    parameters = 12 * shape.n_layer * shape.n_embd**2 + vocab * shape.n_embd
    if stage == "quantize":
        return Cost(10, 4 * parameters)
    tokens = getattr(own, "tokens", 400_000)
    if flops := getattr(own, "flops", None):
        tokens = flops / (6 * parameters)
    # Beside the arithmetic, every token passes through memory many times; small models feel it (measured).
    seconds = 10 + 6 * parameters * tokens / (_EFFICIENCY * _matrix_rate())
    return Cost(seconds, 16 * parameters + 10e6, is_model=True)


def _reading(source: str, max_bytes: int | None) -> Cost:
    """Of a text: measured for what is on the machine, by the size of the user's own files (docs/measurements.md)."""
    from journey.data.sources import SOURCES, files

    if source in SOURCES:
        return Cost(25, 30e6)
    size = min(sum(path.stat().st_size for _, path in files(source)), max_bytes or math.inf)
    return Cost(3 + size / 12e6, 5e6 + size)


@cache
def _matrix_rate() -> float:
    """FLOP/s of an fp32 matrix product here and now, in about 20 ms."""
    import numpy as np

    a = np.ones((768, 768), dtype=np.float32)
    a @ a
    start = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 768**3 / (time.perf_counter() - start)
