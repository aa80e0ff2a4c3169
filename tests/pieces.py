"""A model that reads rows piece by piece, with a cache."""

import torch
from torch import Tensor

from journey.infer.blocks import count
from journey.infer.torch_runner import PagedCache
from journey.model.gpt import GPT


def in_pieces(model: GPT, ids: Tensor, pieces: list[int]) -> Tensor:
    """Logits (B, T, V) of ids (B, T), read in pieces of so many tokens."""
    B, T = ids.shape
    cache = PagedCache(model.config, B * count(T), ids.device, torch.float32)
    tables = torch.arange(B * count(T), device=ids.device).view(B, -1)
    starts, logits = torch.zeros(B, dtype=torch.int64, device=ids.device), []
    for piece in ids.split(pieces, dim=1):
        cache.look(tables, starts, torch.full_like(starts, piece.size(1)))
        logits.append(model(piece, cache=cache))
        starts = starts + piece.size(1)
    return torch.cat(logits, dim=1)
