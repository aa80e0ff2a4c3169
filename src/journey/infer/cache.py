"""What a model keeps of the tokens that it has read, so that a new token costs one position, not all."""

import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.model import families
from journey.model.config import GPTConfig


class KVCache:
    """Keys and values, or what else the family keeps of them, of B rows, each with its own length, up to n_max tokens.

    Rows are never padded on the left: each writes at its own length, and a query at position p sees the keys j <= p.
    What lies beyond a row's length (a prefill's padding on the right) is overwritten before a query can see it.
    """

    def __init__(self, config: GPTConfig, B: int, n_max: int, device: torch.device | str = "cpu") -> None:
        if n_max > config.n_ctx:
            raise JourneyError(f"{n_max} tokens do not fit in the model's context of {config.n_ctx}: shorten the text")
        shapes = families.get(config.family).cached(config)
        self.n_max = n_max
        self.kept = [torch.zeros(config.n_layer, B, n_max, *shape, device=device) for shape in shapes]
        self.lengths = torch.zeros(B, dtype=torch.int64, device=device)

    def extend(self, T: int) -> tuple[Tensor, Tensor]:
        """Make room for T more tokens in every row: their positions (B, T), and which keys each sees (B, 1, T, S)."""
        self.positions = self.lengths[:, None] + torch.arange(T, device=self.lengths.device)  # (B, T)
        self.lengths = self.lengths + T
        self.end = int(self.lengths.max())  # S
        if self.end > self.n_max:
            raise JourneyError(f"{self.end} tokens do not fit in a cache of {self.n_max}: shorten the text")
        keys = torch.arange(self.end, device=self.lengths.device)
        return self.positions, (keys <= self.positions[:, :, None]).unsqueeze(1)

    def update(self, layer: int, *new: Tensor) -> tuple[Tensor, ...]:
        """Write what a layer keeps of the new tokens, each (B, T, ...); all so far, each (B, S, ...)."""
        row = torch.arange(self.lengths.size(0), device=self.lengths.device)[:, None]  # (B, 1)
        for kept, one in zip(self.kept, new, strict=True):
            kept[layer, row, self.positions] = one
        return tuple(kept[layer, :, : self.end] for kept in self.kept)

    def truncate(self, lengths: Tensor) -> None:
        """Forget what lies beyond each row's length (B,), as after a prefill of padded prompts."""
        self.lengths = torch.minimum(self.lengths, lengths)

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only."""
        self.kept, self.lengths = [kept[:, rows] for kept in self.kept], self.lengths[rows]
