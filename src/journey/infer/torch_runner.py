"""A step by torch: on a GPU, and on a CPU for which there is no kernel. Blocks of keys and values are gathered into one
tensor a layer, rows padded on the right, where no query looks."""

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from journey.infer.blocks import BLOCK
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

if TYPE_CHECKING:
    from journey.infer.runner import Step


class PagedCache:
    """Keys and values, or what else the family keeps of a token, of `n_blocks` blocks; layers.Cache for a pass over
    some tokens of some sequences."""

    def __init__(self, config: GPTConfig, n_blocks: int, device: torch.device, dtype: torch.dtype) -> None:
        shapes = families.get(config.family).cached(config)
        self.n_ctx, self.trash = config.n_ctx, n_blocks * BLOCK  # the slot that padding is written to
        self.kept = [
            torch.zeros(config.n_layer, self.trash + 1, *shape, device=device, dtype=dtype) for shape in shapes
        ]

    def look(self, tables: Tensor, starts: Tensor, lengths: Tensor) -> None:
        """The next pass reads so many tokens (B,) from so many on, of sequences with these blocks (B, width)."""
        self.slots = (tables[:, :, None] * BLOCK + torch.arange(BLOCK, device=tables.device)).flatten(1)  # (B, S)
        self.starts, self.lengths = starts, lengths

    def extend(self, T: int) -> tuple[Tensor, Tensor]:
        """The positions of T tokens a row (B, T), and which keys each sees (B, 1, T, S)."""
        steps = torch.arange(T, device=self.starts.device)
        positions = (self.starts[:, None] + steps).clamp(max=self.n_ctx - 1)  # (B, T)
        own = self.slots.gather(1, positions.clamp(max=self.slots.size(1) - 1))
        self.to = torch.where(steps < self.lengths[:, None], own, self.trash)
        keys = torch.arange(self.slots.size(1), device=self.starts.device)
        return positions, (keys <= positions[:, :, None]).unsqueeze(1)

    def update(self, layer: int, *new: Tensor) -> tuple[Tensor, ...]:
        """Write what a layer keeps of the new tokens, each (B, T, ...); all so far, each (B, S, ...)."""
        for kept, one in zip(self.kept, new, strict=True):
            kept[layer, self.to] = one.to(kept.dtype)
        return tuple(kept[layer, self.slots] for kept in self.kept)


class TorchRunner:
    """A model run by torch, fp32 on a CPU and bf16 on a GPU: who writes together, then who reads together."""

    name = "torch"

    def __init__(self, model: GPT, n_blocks: int) -> None:
        model.prepare_rope(min(model.config.n_ctx, n_blocks * BLOCK))  # before it is copied, or a graph recorded
        self.device = model.embed.weight.device
        self.gpu = self.device.type == "cuda"
        self.model = _in_bf16(model) if self.gpu else model
        dtype = torch.bfloat16 if self.gpu else torch.float32
        self.cache = PagedCache(model.config, n_blocks, self.device, dtype)
        self.graphs: dict[tuple[int, int], _Graph] = {}

    @torch.inference_mode()
    def __call__(self, step: "Step") -> Tensor:
        """Logits (n_read, V) of a step."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.gpu):
            return self._logits(step)

    @torch.inference_mode()
    def clear(self, blocks: list[int]) -> None:
        """Put zeros in these blocks."""
        for kept in self.cache.kept:
            for block in blocks:
                kept[:, block * BLOCK : (block + 1) * BLOCK] = 0

    def _logits(self, step: "Step") -> Tensor:
        lengths = np.bincount(step.rows)  # (chunks,)
        first = np.concatenate([[0], np.cumsum(lengths)])  # where each chunk begins
        hidden = torch.empty(
            len(step.ids), self.model.config.n_embd, device=self.device, dtype=self.cache.kept[0].dtype
        )
        reading = lengths > 1
        for group in (np.flatnonzero(~reading), np.flatnonzero(reading)):
            if len(group):
                at = np.concatenate([np.arange(first[row], first[row + 1]) for row in group])
                hidden[torch.from_numpy(at).to(self.device)] = self._pass(step, group, first, lengths).to(hidden.dtype)
        return self.model.head(hidden[torch.from_numpy(step.read.astype(np.int64)).to(self.device)]).float()

    def _pass(self, step: "Step", group: np.ndarray, first: np.ndarray, lengths: np.ndarray) -> Tensor:
        """What the head reads (n, C) of all tokens of these chunks, in their order."""
        n, T = lengths[group], int(lengths[group].max())
        ids = np.zeros((len(group), T), dtype=np.int64)
        for i, row in enumerate(group):
            ids[i, : n[i]] = step.ids[first[row] : first[row + 1]]
        starts = step.positions[first[group]].astype(np.int64)
        width = -(-int((starts + n).max()) // BLOCK)
        tables = step.tables[group, :width].astype(np.int64)
        if self.gpu and T == 1:
            return self._replay(ids, tables, starts)
        moved = [torch.from_numpy(each).to(self.device) for each in (tables, starts, n.astype(np.int64))]
        self.cache.look(*moved)
        x = self.model.hidden(torch.from_numpy(ids).to(self.device), cache=self.cache)  # (B, T, C)
        inside = torch.arange(T, device=self.device) < moved[2][:, None]
        return x[inside]

    def _replay(self, ids: np.ndarray, tables: np.ndarray, starts: np.ndarray) -> Tensor:
        """A token of each row by a recorded graph: launching its hundred kernels one by one takes longer than they do.
        There is one for each power of two of rows and of blocks."""
        B, width = tables.shape
        size = (_power(B), min(_power(width), -(-self.model.config.n_ctx // BLOCK)))
        if size not in self.graphs:
            self.graphs[size] = _Graph(self.model, self.cache, *size)
        return self.graphs[size](ids, tables, starts)


class _Graph:
    """A decode step of B rows, of which each sees at most `width` blocks, recorded once."""

    def __init__(self, model: GPT, cache: PagedCache, B: int, width: int) -> None:
        device = model.embed.weight.device
        self.ids, self.starts, self.lengths = (torch.zeros(B, dtype=torch.int64, device=device) for _ in range(3))
        self.tables = torch.zeros(B, width, dtype=torch.int64, device=device)

        def step() -> Tensor:
            cache.look(self.tables, self.starts, self.lengths)
            return model.hidden(self.ids[:, None], cache=cache)[:, 0]

        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries take what memory they need before anything is recorded
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.x = step()

    def __call__(self, ids: np.ndarray, tables: np.ndarray, starts: np.ndarray) -> Tensor:
        """What the head reads, (rows, C). Rows that nobody has are padding: they write to the place for that."""
        n, width = tables.shape
        self.lengths.zero_()
        self.lengths[:n] = 1
        self.ids[:n] = torch.from_numpy(ids[:, 0])
        self.starts.zero_()
        self.starts[:n] = torch.from_numpy(starts)
        self.tables[:n, :width] = torch.from_numpy(tables)
        self.graph.replay()
        return self.x[:n]


def _in_bf16(model: GPT) -> GPT:
    """A copy for computing; rotary angles stay fp32, in which far positions can be told apart."""
    rope, model.rope = model.rope, None
    made = copy.deepcopy(model).bfloat16()
    model.rope = made.rope = rope
    return made


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
