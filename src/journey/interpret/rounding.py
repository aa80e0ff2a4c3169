"""What rounding the weights did to a model: which predictions flipped, and how the error grows from block to block."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from journey.data.questions import Choice
from journey.data.sources import Document
from journey.evaluate import choices as scorer
from journey.evaluate.perplexity import MAX_BYTES, batches, chunk, encode, windows
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer


@torch.inference_mode()
def predictions(
    parent: GPT, child: GPT, tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int = MAX_BYTES
) -> list[dict[str, Any]]:
    """Each document's {"id", "tokens", "flipped", "block.0", "block.1", …}: at how many of its tokens the likeliest is
    another, and the relative error ‖child - parent‖ / ‖parent‖ of the residual stream after each block.

    At the positions and in the windows that `perplexity.score` counts. The document mark's own stream, one and the same
    everywhere and often the longest, is left out of the error.
    """
    encoded = [ids for ids, _ in encode(tokenizer, documents, max_bytes)]
    pieces = [(i, *window) for i, ids in enumerate(encoded) for window in windows(ids, parent.config.n_ctx)]
    n_layer = parent.config.n_layer
    flipped, off, size = np.zeros(len(encoded)), np.zeros((len(encoded), n_layer)), np.zeros((len(encoded), n_layer))
    for places, ids, wanted in batches(parent, [row for _, row, _ in pieces], [known for _, _, known in pieces]):
        (x, before), (y, after) = (_streams(model, ids[:, :-1]) for model in (parent, child))
        parts = zip(x[wanted].split(chunk(parent)), y[wanted].split(chunk(parent)), strict=True)
        other = torch.cat([parent.head(a).argmax(-1) != child.head(b).argmax(-1) for a, b in parts])  # (N,)
        document = np.array([pieces[i][0] for i in places])
        np.add.at(flipped, document.repeat(wanted.sum(1).cpu().numpy()), other.cpu().numpy())
        wanted[:, 0] &= torch.tensor([pieces[i][2] > 1 for i in places], device=wanted.device)
        for layer, (a, b) in enumerate(zip(before, after, strict=True)):
            for sums, what in ((off, b - a), (size, a)):
                squares = (what.square().sum(-1) * wanted).sum(1)  # (B,)
                np.add.at(sums[:, layer], document, squares.double().cpu().numpy())
    errors = np.sqrt(off / np.maximum(size, np.finfo(float).tiny))
    return [
        {"id": document.id, "tokens": len(ids) - 1, "flipped": int(n)}
        | {f"block.{layer}": float(error) for layer, error in enumerate(row)}
        for document, ids, n, row in zip(documents, encoded, flipped, errors, strict=True)
    ]


def picks(parent: GPT, child: GPT, tokenizer: Tokenizer, choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """Each multiple-choice item's {"id", "flipped"}: whether the two pick other options, by log-probability per
    character."""
    before, after = (scorer.score(model, tokenizer, choices) for model in (parent, child))
    return [
        {"id": a["id"], "flipped": a["picked_norm"] != b["picked_norm"]} for a, b in zip(before, after, strict=True)
    ]


def _streams(model: GPT, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What the head reads (B, T, C), and the residual stream after each block."""
    found: list[Tensor] = []
    with ExitStack() as stack:
        for block in model.blocks:
            stack.callback(block.register_forward_hook(lambda module, given, out: found.append(out)).remove)
        return model.hidden(ids), found
