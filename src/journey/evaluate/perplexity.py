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
_TOKENS_AT_ONCE = 1024  # of 1.4 M parameters on one AVX2 core: 512 to 1,024 are fastest, 4,096 take half as long again


def score(
    model: GPT, tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int = MAX_BYTES
) -> list[dict[str, Any]]:
    """Each document's {"id", "nats", "bytes", "tokens"}: -ln p of its text, by the rules of `convention`."""
    encoded = encode(tokenizer, documents, max_bytes)
    pieces = [(i, *window) for i, (ids, _) in enumerate(encoded) for window in windows(ids, model.config.n_ctx)]
    nats = np.zeros(len(encoded))
    losses = token_nats(model, [row for _, row, _ in pieces], [known for _, _, known in pieces])
    for (i, _, _), loss in zip(pieces, losses, strict=True):
        nats[i] += loss.sum()
    return _items(documents, encoded, nats)


def score_ngram(
    model: KneserNey, tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int = MAX_BYTES
) -> list[dict[str, Any]]:
    """The same of an n-gram model: the same tokens, the same bytes; only the windows have no meaning here."""
    encoded = encode(tokenizer, documents, max_bytes)
    return _items(documents, encoded, [model.nats(ids).sum() for ids, _ in encoded])


def convention(n_ctx: int, max_bytes: int | None = MAX_BYTES, stride: int | None = None) -> str:
    """How bits per byte are counted, in words that belong beside the number."""
    return f"{counting(n_ctx, max_bytes, stride)}; divided by the UTF-8 bytes of the text"


def counting(n_ctx: int, max_bytes: int | None, stride: int | None = None) -> str:
    """Which tokens are scored, and what is known to the model at each."""
    what = "the whole of each document" if max_bytes is None else f"the first {max_bytes} bytes of each document"
    return (
        f"{what}; the document mark is given, every token of the text predicted; "
        f"windows of {n_ctx} tokens every {stride or half(n_ctx)}, each token scored once, in the first window that "
        "reaches it, later windows without a mark"
    )


def encode(tokenizer: Tokenizer, documents: Sequence[Document], max_bytes: int | None) -> list[tuple[list[int], int]]:
    """Each document's ids behind the document mark, and its bytes; cut at `max_bytes`, between two characters."""
    raw = [document.text.encode() for document in documents]
    texts = [data[:max_bytes].decode(errors="ignore") for data in raw]
    ids = tokenizer.encode_batch(texts)
    return [([tokenizer.bos, *row], len(text.encode())) for row, text in zip(ids, texts, strict=True)]


def half(n_ctx: int) -> int:
    """The stride where none is said: every token but those at a document's beginning has half a context at least."""
    return max(1, n_ctx // 2)


def windows(ids: Sequence[int], n_ctx: int, stride: int | None = None) -> Iterator[tuple[Sequence[int], int]]:
    """Rows of at most n_ctx + 1 ids (the last is only predicted), one every `stride` (at most n_ctx) ids, each with how
    many of its first ids are known: the document mark, and in later windows all that an earlier one has predicted."""
    end, start = 1, 0  # ids[:end] are known
    while end < len(ids):
        row = ids[start : start + n_ctx + 1]
        yield row, end - start
        end = start + len(row)
        start += stride or half(n_ctx)


@torch.inference_mode()
def token_nats(model: GPT, rows: Sequence[Sequence[int]], known: Sequence[int]) -> list[np.ndarray]:
    """-ln p of each row's ids after its first `known` (at least 1), given all before; a row has n_ctx + 1 at most."""
    result: list[np.ndarray] = [np.zeros(0)] * len(rows)
    for places, ids, wanted in batches(model, rows, known):
        x, targets = model.hidden(ids[:, :-1])[wanted], ids[:, 1:][wanted]  # (N, C), (N,)
        losses = [
            F.cross_entropy(model.head(part), target, reduction="none")
            for part, target in zip(x.split(chunk(model)), targets.split(chunk(model)), strict=True)
        ]
        each = torch.cat(losses).double().cpu().numpy()  # (N,)
        for i, row in zip(places, np.split(each, wanted.sum(1).cumsum(0).tolist()[:-1]), strict=True):
            result[i] = row
    return result


def batches(
    model: GPT, rows: Sequence[Sequence[int]], known: Sequence[int]
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Rows of like length together: their places in `rows`, their ids (B, T + 1), and which of the T positions predict
    an id that is wanted (B, T): neither among its row's first `known` nor of the filling at its right, where a causal
    model cannot see. Rows that want nothing are left out."""
    device = next(model.parameters()).device
    order = sorted((i for i in range(len(rows)) if len(rows[i]) > known[i]), key=lambda i: -len(rows[i]))
    while order:
        T = len(rows[order[0]]) - 1
        B = max(1, _TOKENS_AT_ONCE // T)
        places, order = order[:B], order[B:]
        ids = torch.zeros(len(places), T + 1, dtype=torch.int64)
        for b, i in enumerate(places):
            ids[b, : len(rows[i])] = torch.tensor(rows[i])
        first = torch.tensor([[known[i] - 1] for i in places])
        end = torch.tensor([[len(rows[i]) - 1] for i in places])
        wanted = (first <= torch.arange(T)) & (torch.arange(T) < end)
        yield places, ids.to(device), wanted.to(device)


@torch.inference_mode()
def packed_loss(model: GPT, rows: Sequence[Sequence[int]], mark: int) -> float:
    """Mean nats per token of packed rows (T + 1 ids each), as training computes it: documents, each begun by the mark,
    do not see each other. Where others report a validation loss, this is the number to hold beside it."""
    device, total = next(model.parameters()).device, 0.0
    B = max(1, _TOKENS_AT_ONCE // (len(rows[0]) - 1))
    for start in range(0, len(rows), B):
        ids = torch.tensor(rows[start : start + B], device=device)  # (B, T + 1)
        inputs = ids[:, :-1]
        total += model(inputs, ids[:, 1:], documents=(inputs == mark).cumsum(1)).item() * len(ids)
    return total / len(rows)


def chunk(model: GPT) -> int:
    """For how many positions to make logits at a time: 4 MB of them stay in a CPU's cache."""
    return max(64, 2**20 // model.config.vocab_size)


def _items(
    documents: Sequence[Document], encoded: list[tuple[list[int], int]], nats: Sequence[float] | np.ndarray
) -> list[dict[str, Any]]:
    return [
        {"id": document.id, "nats": float(total), "bytes": n_bytes, "tokens": len(ids) - 1}
        for document, (ids, n_bytes), total in zip(documents, encoded, nats, strict=True)
    ]
