"""How likely a model finds continuations: what multiple choice, LAMBADA and word games are scored by.

The four options of an item follow one context, and the shots before it stand before all items of a task. So the texts
of a task are a tree, in which each beginning that texts share is one branch. It is laid out in rows as long as the
processor likes, each token seeing its own branch alone (tree attention, as SpecInfer has it, arXiv 2305.09781): each
beginning is computed once in a row, no row is filled up, and logits are made only of what is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from journey.evaluate.perplexity import chunk
from journey.model.gpt import GPT

ROW = 512  # tokens in a row, unless one text is longer: of 124M parameters on two cores 256 to 1,024 are as fast
ROWS_AT_ONCE = 16  # on a GPU; on a CPU one row fills the cores


@dataclass(frozen=True)
class Continuation:
    """A context and what may follow it, as token ids; neither is empty."""

    context: Sequence[int]
    ids: Sequence[int]

    def within(self, n_ctx: int) -> tuple[list[int], int, int]:
        """The tokens of both that fit in a context (n_ctx, and one that is only predicted), how many of the last are
        asked for, and how many were cut from the left. Of a continuation longer than the context its end is left."""
        whole = [*self.context, *self.ids]
        row = whole[-(n_ctx + 1) :]
        return row, min(len(self.ids), len(row) - 1), len(whole) - len(row)


@dataclass(frozen=True)
class Likelihood:
    """Of a continuation: ln p of its tokens, whether each is the likeliest of all, and how many tokens were cut from
    the left because they did not fit."""

    logprob: float
    greedy: bool
    cut: int


@dataclass
class Row:
    """Texts that begin alike, laid out one after the other, each without what a text before it has said already."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    branches: list[list[int]] = field(default_factory=list)  # of each text, the places of its tokens
    texts: list[int] = field(default_factory=list)  # their numbers

    def add(self, number: int, text: Sequence[int], shared: int) -> None:
        """A text whose first `shared` tokens are those of the last one."""
        places = self.branches[-1][:shared] if shared else []
        new = range(len(self.ids), len(self.ids) + len(text) - shared)
        self.ids += text[shared:]
        self.positions += range(shared, len(text))
        self.branches.append([*places, *new])
        self.texts.append(number)

    def mask(self) -> np.ndarray:
        """Which tokens each token sees, (T, T)."""
        T = len(self.ids)
        seen = np.zeros((T, T), dtype=bool)
        end = 0
        for places in self.branches:
            new = np.arange(end, places[-1] + 1)
            before = np.array(places[: len(places) - len(new)], dtype=np.int64)
            seen[np.ix_(new, before)] = True
            seen[np.ix_(new, new)] = np.tri(len(new), dtype=bool)
            end = max(end, places[-1] + 1)
        return seen


def rows(texts: Sequence[Sequence[int]], n: int) -> Iterator[Row]:
    """All texts in rows of about n tokens: sorted, so that what begins alike stands together. Equal texts, and those
    that another one begins with, take no place of their own."""
    before: Sequence[int] = ()
    row = Row()
    order = sorted(range(len(texts)), key=lambda i: tuple(texts[i]))
    for number in order:
        text = texts[number]
        shared = _alike(before, text) if row.texts else 0
        longest = max(n, 2 * len(text) if shared > n // 2 else 0)  # a long beginning wants many texts behind it
        if row.texts and len(row.ids) + len(text) - shared > longest:
            yield row
            row, shared = Row(), 0
        row.add(number, text, shared)
        before = text
    if row.texts:
        yield row


def _alike(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common before they differ."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


def likelihoods(
    model: GPT, asked: Sequence[Continuation], done: Callable[[list[int], list[Likelihood]], None] | None = None
) -> list[Likelihood]:
    """How likely each continuation is. A text longer than the context loses its beginning.

    `done` hears after each row which of them are known now, by their numbers, and what they are.
    """
    fitting = [each.within(model.config.n_ctx) for each in asked]
    inputs = [row[:-1] for row, _, _ in fitting]  # the last token is only predicted
    found: dict[int, Likelihood] = {}
    at_once = 1 if model.embed.weight.device.type == "cpu" else ROWS_AT_ONCE
    for batch in _batches(rows(inputs, ROW), at_once):
        numbers, wanted = [], []
        for b, row in enumerate(batch):
            for number, places in zip(row.texts, row.branches, strict=True):
                ids, n, _ = fitting[number]
                numbers.append(number)
                wanted.append((b, places[-n:], ids[-n:]))
        told = zip(numbers, _score(model, batch, wanted), strict=True)
        new = {number: Likelihood(logprob, greedy, fitting[number][2]) for number, (logprob, greedy) in told}
        found |= new
        if done:
            done(list(new), list(new.values()))
    return [found[i] for i in range(len(asked))]


def _batches(found: Iterator[Row], n: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in found:
        batch.append(row)
        if len(batch) == n:
            yield batch
            batch = []
    if batch:
        yield batch


@torch.inference_mode()
def _score(
    model: GPT, batch: Sequence[Row], wanted: Sequence[tuple[int, list[int], list[int]]]
) -> list[tuple[float, bool]]:
    """Of each (row, places, ids that follow them): ln p of the ids, and whether they are all the likeliest."""
    device = model.embed.weight.device
    T = max(len(row.ids) for row in batch)
    ids, positions = torch.zeros(2, len(batch), T, dtype=torch.int64)
    mask = torch.zeros(len(batch), 1, T, T, dtype=torch.bool)
    mask[..., 0] = True  # what fills a row up sees something, or its values would be no numbers
    for b, row in enumerate(batch):
        n = len(row.ids)
        ids[b, :n], positions[b, :n] = torch.tensor(row.ids), torch.tensor(row.positions)
        mask[b, 0, :n, :n] = torch.from_numpy(row.mask())
    hidden = model.hidden(ids.to(device), tree=(positions.to(device), mask.to(device)))  # (B, T, C)
    at = torch.tensor([b * T + place for b, places, _ in wanted for place in places], device=device)  # (N,)
    targets = torch.tensor([token for _, _, tokens in wanted for token in tokens], device=device)  # (N,)
    x = hidden.flatten(0, 1)[at]  # (N, C)
    logprobs, hits = list[Tensor](), list[Tensor]()
    for part, target in zip(x.split(chunk(model)), targets.split(chunk(model)), strict=True):
        logits = model.head(part)
        logprobs.append(-F.cross_entropy(logits, target, reduction="none"))
        hits.append(logits.argmax(-1) == target)
    each, hit = torch.cat(logprobs).double().cpu().numpy(), torch.cat(hits).cpu().numpy()
    ends = np.cumsum([len(places) for _, places, _ in wanted])
    return [
        (float(each[end - len(places) : end].sum()), bool(hit[end - len(places) : end].all()))
        for end, (_, places, _) in zip(ends, wanted, strict=True)
    ]
