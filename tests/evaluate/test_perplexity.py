import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journey.data.sources import Document
from journey.evaluate import perplexity
from journey.evaluate.ngram import KneserNey


@torch.inference_mode()
def by_hand(reference, ids, n_ctx):
    """-ln p of every id after the first by transformers, one forward pass for each, no padding, no batch."""
    total = 0.0
    for t in range(1, len(ids)):
        start = 0
        while t - start > n_ctx:  # the first window that reaches t
            start += n_ctx // 2
        logits = reference(torch.tensor([ids[start:t]])).logits[0, -1]
        total -= torch.log_softmax(logits, -1)[ids[t]].item()
    return total


def test_nats_are_those_of_transformers_by_hand(model, reference, tokenizer, documents):
    items = perplexity.score(model, tokenizer, documents, max_bytes=300)
    longest = 0
    for document, item in zip(documents, items, strict=True):
        text = document.text.encode()[:300].decode(errors="ignore")
        ids = [tokenizer.bos, *tokenizer.encode(text)]
        longest = max(longest, len(ids))
        assert item["id"] == document.id
        assert item["bytes"] == len(text.encode())
        assert item["tokens"] == len(ids) - 1
        assert item["nats"] == pytest.approx(by_hand(reference, ids, 32), abs=2e-4)
    assert longest > 3 * 32  # or the windows were not tried


def test_a_document_scores_the_same_alone(model, tokenizer, documents):
    together = perplexity.score(model, tokenizer, documents)
    alone = [perplexity.score(model, tokenizer, [document])[0] for document in documents]
    for a, b in zip(together, alone, strict=True):
        assert a["nats"] == pytest.approx(b["nats"], abs=1e-3)


def test_the_cut_falls_between_characters(model, tokenizer):
    (item,) = perplexity.score(model, tokenizer, [Document("a", "中" * 100)], max_bytes=100)
    assert item["bytes"] == 99


def test_an_empty_document_costs_nothing(model, tokenizer):
    assert perplexity.score(model, tokenizer, [Document("a", "")]) == [{"id": "a", "nats": 0, "bytes": 0, "tokens": 0}]


@given(st.integers(1, 80), st.integers(1, 24))
def test_every_token_is_scored_once_with_half_a_window_of_context(length, n_ctx):
    ids = list(range(length))
    scored = []
    for row, known in perplexity.windows(ids, n_ctx):
        assert len(row) <= n_ctx + 1
        assert row[0] == 0 or known >= n_ctx // 2 + 1
        scored += row[known:]
    assert scored == ids[1:]


def test_the_ngram_scores_the_same_tokens_and_bytes(model, tokenizer, documents):
    stream = [i for d in documents for i in [tokenizer.bos, *tokenizer.encode(d.text)]]
    bigram = KneserNey(stream, 2, tokenizer.vocab_size, tokenizer.bos)
    items = perplexity.score_ngram(bigram, tokenizer, documents, max_bytes=300)
    neural = perplexity.score(model, tokenizer, documents, max_bytes=300)
    for a, b, document in zip(items, neural, documents, strict=True):
        assert (a["id"], a["bytes"], a["tokens"]) == (b["id"], b["bytes"], b["tokens"])
        text = document.text.encode()[:300].decode(errors="ignore")
        assert a["nats"] == pytest.approx(bigram.nats([tokenizer.bos, *tokenizer.encode(text)]).sum())


def test_token_nats_keeps_the_order_of_its_rows(model, monkeypatch):
    monkeypatch.setattr(perplexity, "_TOKENS_AT_ONCE", 4)  # or all would be one batch
    monkeypatch.setattr(perplexity, "chunk", lambda model: 2)
    rows = [[1, 2], [3, 4, 5, 6], [7], [1, 2, 3], [1, 2, 3], []]
    losses = perplexity.token_nats(model, rows, [1, 1, 1, 1, 2, 1])
    assert [len(loss) for loss in losses] == [1, 3, 0, 2, 1, 0]
    np.testing.assert_allclose(losses[0][0], losses[3][0], rtol=1e-4)
    np.testing.assert_allclose(losses[4], losses[3][1:], rtol=1e-4)
