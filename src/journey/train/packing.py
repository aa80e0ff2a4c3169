"""Packing: a step's conversations end to end in a few long rows, in the place of a padded row each.

Each sees itself alone: positions begin anew with it, by which transformers keeps the documents of a row apart.
"""

from collections.abc import Sequence
from typing import Any


class Packed:
    """Makes a batch of rows, as the Trainer wants it done: {"input_ids", "labels"} of each -> padded tensors (B, T)."""

    def __init__(self, limit: int, pad: int) -> None:
        self.limit, self.pad = limit, pad

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
        """With "position_ids". A conversation begins with a mark, which nothing predicts."""
        import torch

        bins = packed([len(row["input_ids"]) for row in rows], self.limit)
        T = max(sum(len(rows[i]["input_ids"]) for i in some) for some in bins)
        fills = {"input_ids": self.pad, "labels": -100, "position_ids": 0}
        batch = {name: torch.full((len(bins), T), fill) for name, fill in fills.items()}
        for b, some in enumerate(bins):
            at = 0
            for i in some:
                n = len(rows[i]["input_ids"])
                batch["input_ids"][b, at : at + n] = torch.tensor(rows[i]["input_ids"])
                batch["labels"][b, at : at + n] = torch.tensor(rows[i]["labels"])
                batch["position_ids"][b, at : at + n] = torch.arange(n)
                at += n
            batch["position_ids"][b, at:] = torch.arange(T - at)  # the padding: a document that nothing learns from
        return batch


def packed(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Places of the lengths in bins of at most `limit` in all, few: the longest first, each where it first fits
    (Johnson 1973: at most 11/9 of the fewest). A length above the limit has a bin of its own."""
    bins: list[list[int]] = []
    free: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((b for b, left in enumerate(free) if left >= lengths[i]), len(bins))
        if place == len(bins):
            bins.append([])
            free.append(limit)
        bins[place].append(i)
        free[place] -= lengths[i]
    return bins
