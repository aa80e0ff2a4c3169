"""The keys and values of the tokens that a model has read, so that a new token costs one position, not all."""

import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.model.config import GPTConfig


class KVCache:
    """Keys and values of B rows, each with its own length, up to n_max tokens.

    Rows are never padded on the left: each writes at its own length, and a query at position p sees the keys j <= p.
    What lies beyond a row's length (a prefill's padding on the right) is overwritten before a query can see it.
    """

    def __init__(self, config: GPTConfig, B: int, n_max: int, device: torch.device | str = "cpu") -> None:
        if n_max > config.n_ctx:
            raise JourneyError(f"{n_max} tokens do not fit in the model's context of {config.n_ctx}: shorten the text")
        shape = (config.n_layer, B, n_max, config.n_kv_head, config.head_dim)
        self.keys, self.values = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self.lengths = torch.zeros(B, dtype=torch.int64, device=device)

    def extend(self, T: int) -> tuple[Tensor, Tensor]:
        """Make room for T more tokens in every row: their positions (B, T), and which keys each sees (B, 1, T, S)."""
        self.positions = self.lengths[:, None] + torch.arange(T, device=self.lengths.device)  # (B, T)
        self.lengths = self.lengths + T
        self.end = int(self.lengths.max())  # S
        if self.end > self.keys.size(2):
            raise JourneyError(f"{self.end} tokens do not fit in a cache of {self.keys.size(2)}: shorten the text")
        keys = torch.arange(self.end, device=self.lengths.device)
        return self.positions, (keys <= self.positions[:, :, None]).unsqueeze(1)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values (B, T, n_kv_head, head_dim); all so far (B, S, n_kv_head, head_dim)."""
        row = torch.arange(k.size(0), device=k.device)[:, None]
        self.keys[layer, row, self.positions] = k
        self.values[layer, row, self.positions] = v
        return self.keys[layer, :, : self.end], self.values[layer, :, : self.end]

    def truncate(self, lengths: Tensor) -> None:
        """Forget what lies beyond each row's length (B,), as after a prefill of padded prompts."""
        self.lengths = torch.minimum(self.lengths, lengths)

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only."""
        self.keys, self.values, self.lengths = self.keys[:, rows], self.values[:, rows], self.lengths[rows]
