"""How many nats a text costs a model: what bits per byte and perplexity are made of."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from journey.data.sources import Document
from journey.evaluate.ngram import KneserNey
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer

MAX_BYTES = 2048
_LOGITS_AT_ONCE = 2**24  # 64 MB in fp32; bigger batches are no faster on a CPU


def score(
    model: GPT, tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int = MAX_BYTES
) -> list[dict[str, Any]]:
    """Each document's {"id", "nats", "bytes", "tokens"}: -ln p of its text, by the rules of `convention`."""
    encoded = encode(tokenizer, documents, max_bytes)
    pieces = [
        (i, *window) for i, (ids, _) in enumerate(encoded) for window in windows(ids, model.config.n_ctx)
    ]
    nats = np.zeros(len(encoded))
    for (i, _, known), losses in zip(pieces, token_nats(model, [row for _, row, _ in pieces]), strict=True):
        nats[i] += losses[known:].sum()
    return _items(documents, encoded, nats)


def score_ngram(
    model: KneserNey, tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int = MAX_BYTES
) -> list[dict[str, Any]]:
    """The same of an n-gram model: the same tokens, the same bytes; only the windows have no meaning here."""
    encoded = encode(tokenizer, documents, max_bytes)
    return _items(documents, encoded, [model.nats(ids).sum() for ids, _ in encoded])


def convention(n_ctx: int, max_bytes: int = MAX_BYTES) -> str:
    """How `score` counts, in words that belong beside the number."""
    return (
        f"the first {max_bytes} bytes of each document; the document mark is given and every token of the text predicted; "
        f"windows of {n_ctx} tokens every {max(1, n_ctx // 2)}, each token scored once, in the first window that "
        "reaches it, later windows without a mark; divided by the UTF-8 bytes of the text"
    )


def encode(
    tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int
) -> list[tuple[list[int], int]]:
    """Each document's ids behind the document mark, and its bytes; the text is cut at `max_bytes`, between characters."""
    raw = [document.text.encode() for document in documents]
    texts = [data[:max_bytes].decode(errors="ignore") for data in raw]
    ids = tokenizer.encode_batch(texts)
    return [([tokenizer.bos, *row], len(text.encode())) for row, text in zip(ids, texts, strict=True)]


def windows(ids: Sequence[int], n_ctx: int) -> Iterator[tuple[Sequence[int], int]]:
    """Rows of at most n_ctx + 1 ids (the last is only predicted), and how many predictions of each were already scored."""
    scored = start = 0
    while scored < len(ids) - 1:
        row = ids[start : start + n_ctx + 1]
        yield row, scored - start
        scored = start + len(row) - 1
        start += max(1, n_ctx // 2)


@torch.inference_mode()
def token_nats(model: GPT, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """-ln p of every id of each row (at most n_ctx + 1 ids) given those before it in the row: len(row) - 1 numbers."""
    result: list[np.ndarray] = [np.zeros(0)] * len(rows)
    for batch, ids in batches(model, rows):
        logits = model(ids[:, :-1])  # (B, T, V)
        losses = (
            F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").double().cpu().numpy()
        )  # (B, T)
        for i, row in zip(batch, losses, strict=True):
            result[i] = row[: len(rows[i]) - 1]
    return result


def batches(model: GPT, rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor]]:
    """Rows of two ids or more as (their places, ids (B, T + 1)), rows of like length together, on the model's device.

    Rows are filled up at the right, where a causal model cannot see; the caller drops what is predicted there.
    """
    order = sorted((i for i in range(len(rows)) if len(rows[i]) > 1), key=lambda i: -len(rows[i]))
    device = next(model.parameters()).device
    while order:
        T = len(rows[order[0]]) - 1
        B = max(1, _LOGITS_AT_ONCE // (T * model.config.vocab_size))
        batch, order = order[:B], order[B:]
        ids = torch.zeros(len(batch), T + 1, dtype=torch.int64)
        for b, i in enumerate(batch):
            ids[b, : len(rows[i])] = torch.tensor(rows[i])
        yield batch, ids.to(device)


def _items(
    documents: Sequence[Document], encoded: list[tuple[list[int], int]], nats: Sequence[float] | np.ndarray
) -> list[dict[str, Any]]:
    return [
        {"id": document.id, "nats": float(total), "bytes": n_bytes, "tokens": len(ids) - 1}
        for document, (ids, n_bytes), total in zip(documents, encoded, nats, strict=True)
    ]
