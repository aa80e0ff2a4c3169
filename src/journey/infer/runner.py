"""Who computes a step: the C kernel where it can, torch elsewhere."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from journey.infer import build
from journey.infer.native import Native, computes
from journey.infer.scheduler import Chunk
from journey.infer.torch_runner import TorchRunner
from journey.model.gpt import GPT


@dataclass(frozen=True)
class Step:
    """The tokens of all chunks, one after the other, and whose logits are asked for; all int32."""

    ids: np.ndarray  # (N,)
    positions: np.ndarray  # (N,)
    rows: np.ndarray  # (N,): the chunk of each
    tables: np.ndarray  # (chunks, width): the blocks of each chunk's sequence
    read: np.ndarray  # (n_read,)

    @staticmethod
    def of(chunks: list[Chunk]) -> "Step":
        """Lay the chunks out."""
        ids: list[int] = []
        positions: list[int] = []
        rows: list[int] = []
        read: list[int] = []
        width = max(len(chunk.sequence.blocks) for chunk in chunks)
        tables = []
        for row, chunk in enumerate(chunks):
            sequence, end = chunk.sequence, chunk.start + chunk.n
            read.extend(range(len(ids) + chunk.n - chunk.asked, len(ids) + chunk.n))
            ids.extend(sequence.ids[chunk.start : end])
            ids.extend(sequence.draft[: end - len(sequence.ids)] if end > len(sequence.ids) else ())
            positions.extend(range(chunk.start, end))
            rows.extend([row] * chunk.n)
            tables.append(sequence.blocks + [0] * (width - len(sequence.blocks)))
        return Step(*(np.array(each, dtype=np.int32) for each in (ids, positions, rows, tables, read)))


class Runner(Protocol):
    """A model with room for keys and values."""

    name: str

    def __call__(self, step: Step) -> Tensor:
        """Logits (n_read, V), fp32; keys and values of all the step's tokens are in the cache then."""

    def clear(self, blocks: list[int]) -> None:
        """Put zeros in these blocks: nothing times a number that is none is none, even where it is not looked at."""


def make(model: GPT, n_blocks: int) -> Runner:
    """The fastest that can compute this model where it is."""
    if computes(model) and build.available():
        return Native(model, n_blocks)
    return TorchRunner(model, n_blocks)
