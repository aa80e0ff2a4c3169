"""What training changed between a checkpoint and the one made from it: in its weights, its predictions, its insides."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from journey.data.sources import Document
from journey.evaluate.perplexity import MAX_BYTES, batches, chunk, encode, windows
from journey.model import quantized
from journey.model.gpt import GPT
from journey.model.layers import Trace
from journey.tokenizer.formats import Tokenizer


def obstacle(parent: GPT, child: GPT, parent_tokenizer: Tokenizer, child_tokenizer: Tokenizer) -> str:
    """Why the two cannot be compared number by number, in words; empty when they can."""
    if parent_tokenizer.hash != child_tokenizer.hash:
        return "they have different tokenizers"
    before, after = asdict(parent.config), asdict(child.config)
    other = [f"{key} {before[key]} and {after[key]}" for key in before if key != "tied" and before[key] != after[key]]
    return f"they have different shapes: {', '.join(other)}" if other else ""


def weights(parent: GPT, child: GPT) -> list[dict[str, Any]]:
    """How far each matrix moved, ‖child - parent‖ / ‖parent‖ (Frobenius): {"layer" (None outside the blocks), "matrix",
    "change"}. A tied head is the embedding and stands once; quantized weights are what they are computed with."""
    moved, result = quantized.weights(child), []
    for name, before in quantized.weights(parent).items():
        if before.dim() > 1 and name in moved:
            change = (moved[name] - before).norm() / before.norm()
            matrix = name.removesuffix(".weight")
            inside = re.fullmatch(r"blocks\.(\d+)\.(.+)", matrix)
            layer, matrix = (int(inside[1]), inside[2]) if inside else (None, matrix)
            result.append({"layer": layer, "matrix": matrix, "change": float(change)})
    return result


@torch.inference_mode()
def kl(
    parent: GPT, child: GPT, tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int = MAX_BYTES
) -> list[dict[str, Any]]:
    """Each document's mean KL(parent ‖ child) in nats per token, {"id", "nats", "tokens"}: over the whole next-token
    distribution, at the positions and in the windows that `perplexity.score` counts."""
    encoded = [ids for ids, _ in encode(tokenizer, documents, max_bytes)]
    pieces = [(i, *window) for i, ids in enumerate(encoded) for window in windows(ids, parent.config.n_ctx)]
    totals = np.zeros(len(encoded))
    for places, ids, wanted in batches(parent, [row for _, row, _ in pieces], [known for _, _, known in pieces]):
        x, y = (model.hidden(ids[:, :-1])[wanted].split(chunk(parent)) for model in (parent, child))  # (N, C) in parts
        parts = [_kl(parent.head(a), child.head(b)) for a, b in zip(x, y, strict=True)]
        documents_of = torch.tensor([pieces[i][0] for i in places]).repeat_interleave(wanted.sum(1).cpu())  # (N,)
        np.add.at(totals, documents_of.numpy(), torch.cat(parts).double().cpu().numpy())
    return [
        {"id": document.id, "nats": float(total) / max(1, len(ids) - 1), "tokens": len(ids) - 1}
        for document, ids, total in zip(documents, encoded, totals, strict=True)
    ]


@torch.inference_mode()
def cka(
    parent: GPT, child: GPT, tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int = MAX_BYTES
) -> list[float]:
    """Linear CKA (Kornblith et al. 2019) of the two residual streams after the embedding and after each block: 1 when
    one is the other rotated and scaled, n_layer + 1 numbers.

    Over the tokens of each document's first window without the document mark, whose vector is one and the same
    everywhere and often the longest. The plain estimate: it leans towards 1 unless tokens far outnumber n_embd.
    """
    n_ctx = parent.config.n_ctx
    # batches() wants predictions: a row's last id is only predicted, so one more makes all of the window's be read.
    rows = [[*ids[:n_ctx], tokenizer.bos] for ids, _ in encode(tokenizer, documents, max_bytes)]
    moments = [Moments() for _ in range(parent.config.n_layer + 1)]
    for _, ids, text in batches(parent, rows, [2] * len(rows)):
        before: Trace = {}
        after: Trace = {}
        parent.hidden(ids[:, :-1], trace=before)
        child.hidden(ids[:, :-1], trace=after)
        for layer, moment in enumerate(moments):
            moment.add(before["resid", layer][text], after["resid", layer][text])
    return [moment.cka() for moment in moments]


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) in nats of logits p and q (N, V), (N,)."""
    return F.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True).sum(-1)


class Moments:
    """The sums that linear CKA needs of paired vectors x and y, so that no more than a batch of them is ever held."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: list[Tensor] = []

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count in x (N, C) and y (N, C'), row by row of the same tokens."""
        x, y = x.double(), y.double()
        new = [x.sum(0), y.sum(0), x.T @ y, x.T @ x, y.T @ y]
        self.n += len(x)
        self.sums = [old + more for old, more in zip(self.sums, new, strict=True)] if self.sums else new

    def cka(self) -> float:
        """‖cov(x, y)‖² / (‖cov(x)‖ ‖cov(y)‖)."""
        x, y, xy, xx, yy = self.sums
        cross, own_x, own_y = (
            (product - torch.outer(a, b) / self.n).norm() for product, a, b in ((xy, x, y), (xx, x, x), (yy, y, y))
        )
        return float(cross**2 / (own_x * own_y))
