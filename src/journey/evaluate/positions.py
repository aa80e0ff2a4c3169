"""What each token of a text costs a model by how much of the text the model had before it: does it use that?

Two answers. By the tokens of context that each one had when it was scored; but there is little context only where a
document begins, and beginnings are hard in themselves. So also of the same tokens twice: windows overlap, and what an
earlier one scored, a later one predicts again with less before it.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from journey.data.sources import Document
from journey.errors import JourneyError
from journey.evaluate.perplexity import encode, half, token_nats, windows
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer

_IDS_AT_ONCE = 2**21  # of the windows that are held in memory: a stride of 1 has n_ctx times as many ids as the text


def checked(stride: int, n_ctx: int) -> int:
    """The stride that a setting means, 0 being half of the context. Errors: JourneyError where it leaves tokens out."""
    if stride > n_ctx:
        raise JourneyError(f"stride {stride} leaves out tokens: the model's context is {n_ctx}, give that at most")
    return stride or half(n_ctx)


def bins(n_ctx: int) -> list[range]:
    """How many tokens of context a bin holds: 1, 2–3, 4–7, … and the last up to n_ctx."""
    starts = [2**i for i in range(max(1, (n_ctx - 1).bit_length()))]
    ends = [*starts[1:], n_ctx + 1]
    return [range(a, b) for a, b in zip(starts, ends, strict=True)]


def score(
    model: GPT, tokenizer: Tokenizer, documents: Sequence[Document], stride: int, max_bytes: int | None = None
) -> list[dict[str, Any]]:
    """Each document's {"id", "nats", "bytes", "tokens"} as `perplexity.score` has it, at any stride, and by bin of
    context, named by its first number: "nats.4" of its "tokens.4" as they were scored. Of the "again.4" tokens that a
    later window predicts with so little, "less.4" is what they cost there and "more.4" what they cost when scored;
    "again" and "saved" (less − more) are the sums over all bins.

    The mark of a document counts as a token of context. A token beyond the first window has at least n_ctx − stride.
    """
    n_ctx = model.config.n_ctx
    encoded = encode(tokenizer, documents, max_bytes)
    found = [_Sums(len(ids), n_ctx) for ids, _ in encoded]
    pieces = (
        (i, k * stride, row, known)
        for i, (ids, _) in enumerate(encoded)
        for k, (row, known) in enumerate(windows(ids, n_ctx, stride))
    )
    while some := list(islice(pieces, max(1, _IDS_AT_ONCE // n_ctx))):
        losses = token_nats(model, [row for _, _, row, _ in some], [1] * len(some))
        for (i, start, _, known), nats in zip(some, losses, strict=True):
            found[i].add(nats, start, known)
    return [
        {"id": document.id, "nats": float(sums.nats.sum()), "bytes": n_bytes, "tokens": len(ids) - 1} | sums.columns()
        for document, (ids, n_bytes), sums in zip(documents, encoded, found, strict=True)
    ]


class _Sums:
    """A document at work: what its tokens cost, and the sums of each bin."""

    def __init__(self, n_ids: int, n_ctx: int) -> None:
        self._bins = bins(n_ctx)
        self._bin = np.repeat(np.arange(len(self._bins)), [len(b) for b in self._bins])  # of context 1, 2, …, (n_ctx,)
        self.nats = np.zeros(n_ids)  # of each id when it was scored; the mark costs nothing
        self._sums = {name: np.zeros(len(self._bins)) for name in ("nats", "tokens", "less", "more", "again")}

    def add(self, nats: np.ndarray, start: int, known: int) -> None:
        """The window of the ids from `start` on: `nats` of all after its first; `known` − 1 of them are scored."""
        n = known - 1
        again, new = self._bin[:n], self._bin[n : len(nats)]
        self.nats[start + known : start + 1 + len(nats)] = nats[n:]
        self._sum("nats", new, nats[n:])
        self._sum("tokens", new)
        self._sum("less", again, nats[:n])
        self._sum("more", again, self.nats[start + 1 : start + known])
        self._sum("again", again)

    def _sum(self, name: str, where: np.ndarray, values: np.ndarray | None = None) -> None:
        self._sums[name] += np.bincount(where, values, len(self._bins))

    def columns(self) -> dict[str, float]:
        """Each sum of each bin by its name, and those over all bins."""
        again, saved = self._sums["again"].sum(), (self._sums["less"] - self._sums["more"]).sum()
        by_bin = {
            f"{name}.{contexts[0]}": int(value) if name in ("tokens", "again") else float(value)
            for name, sums in self._sums.items()
            for contexts, value in zip(self._bins, sums, strict=True)
        }
        return {"again": int(again), "saved": float(saved)} | by_bin
