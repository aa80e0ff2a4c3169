"""Some of many items, at random and the same each time."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def draw(items: Sequence[T], n: int, seed: int) -> list[T]:
    """At most n of the items, at random by the seed, in their own order."""
    if len(items) <= n:
        return list(items)
    return [items[i] for i in np.sort(np.random.default_rng(seed).permutation(len(items))[:n])]
