"""How the next token is drawn from the logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from journey.errors import JourneyError


@dataclass(frozen=True)
class Sampling:
    """Temperature, then the top_k likeliest, then the smallest set of probability top_p: Hugging Face's order."""

    temperature: float = 1.0  # 0 is greedy: always the likeliest
    top_k: int = 0  # 0 is all
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise JourneyError(f"temperature is {self.temperature}: it must be 0 (greedy) or more")
        if self.top_k < 0:
            raise JourneyError(f"top_k is {self.top_k}: it must be 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise JourneyError(f"top_p is {self.top_p}: it must be above 0 and at most 1 (all)")
        if self.seed < 0:
            raise JourneyError(f"sampling seed is {self.seed}: it must be 0 or more")


def row_generators(sampling: Sampling, rows: int | Sequence[int]) -> list[np.random.Generator]:
    """A source of randomness for each row, from the seed and the row's number: its text is the same in any batch."""
    return [np.random.default_rng((sampling.seed, row)) for row in (range(rows) if isinstance(rows, int) else rows)]


def restrict(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits (B, V) over the temperature, -inf where top_k or top_p exclude; ties with the k-th are all kept."""
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.size(-1):
        kth = logits.topk(sampling.top_k).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if sampling.top_p < 1:
        ascending, order = logits.sort()
        excluded = ascending.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        excluded[:, -1] = False  # the likeliest always stays
        logits = logits.masked_fill(excluded.scatter(-1, order, excluded), -torch.inf)
    return logits


def sample(logits: Tensor, sampling: Sampling, generators: list[np.random.Generator]) -> Tensor:
    """One token id a row, (B,), from logits (B, V); each row draws one number from its own generator."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    cumulative = restrict(logits, sampling).double().softmax(-1).cumsum(-1)  # (B, V)
    # In (0, 1], so that the first token to reach it has a probability above 0: an excluded one is never drawn.
    uniform = torch.tensor([[1 - generator.random()] for generator in generators]).to(cumulative)  # (B, 1)
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:]).squeeze(1)
