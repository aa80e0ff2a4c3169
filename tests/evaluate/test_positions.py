"""A token costs what its window says, whatever the stride, and counts among those with as much context."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journey.data.sources import Document
from journey.errors import JourneyError
from journey.evaluate import perplexity, positions

from .conftest import make_model

N_CTX, CUT = 32, 300


@torch.inference_mode()
def by_hand(reference, ids, stride):
    """(context, −ln p) of every id after the first by transformers: in the first window that reaches it, one at a
    time; and the same in every later window that holds it and one id more before it."""
    scored, again = [], []
    for t in range(1, len(ids)):
        starts = [start for start in range(0, t, stride) if start < t <= start + N_CTX]
        reached = [start for start in starts if start + N_CTX < len(ids) - 1 + stride]  # windows end with the text
        for start in reached:
            logits = reference(torch.tensor([ids[start:t]])).logits[0, -1]
            nats = -torch.log_softmax(logits, -1)[ids[t]].item()
            (again if start > reached[0] else scored).append((t - start, nats, t))
    return scored, again


@pytest.mark.parametrize("stride", [7, 16, N_CTX])
def test_every_token_costs_what_transformers_says_of_its_window_and_counts_with_as_much_context(
    model, reference, tokenizer, documents, stride
):
    some = [documents[0], documents[-2]]
    for document, row in zip(some, positions.score(model, tokenizer, some, stride, CUT), strict=True):
        ids = [tokenizer.bos, *tokenizer.encode(document.text.encode()[:CUT].decode(errors="ignore"))]
        scored, again = by_hand(reference, ids, stride)
        assert len(ids) > 2 * N_CTX  # or the windows were not tried
        first = {t: nats for _, nats, t in scored}
        for contexts in positions.bins(N_CTX):
            name = contexts[0]
            here = [nats for context, nats, _ in scored if context in contexts]
            later = [(nats, first[t]) for context, nats, t in again if context in contexts]
            assert row[f"tokens.{name}"] == len(here) and row[f"again.{name}"] == len(later)
            assert row[f"nats.{name}"] == pytest.approx(sum(here), abs=2e-4)
            assert row[f"less.{name}"] == pytest.approx(sum(nats for nats, _ in later), abs=2e-4)
            assert row[f"more.{name}"] == pytest.approx(sum(nats for _, nats in later), abs=2e-4)
        saved = sum(row[f"less.{b[0]}"] - row[f"more.{b[0]}"] for b in positions.bins(N_CTX))
        assert row["saved"] == pytest.approx(saved) and row["again"] == len(again)


def test_with_a_stride_of_one_every_token_has_all_the_context_there_can_be(model, reference, tokenizer):
    text = "the argument of the parser is a list of strings that the parser reads one after the other and keeps " * 2
    ids = [tokenizer.bos, *tokenizer.encode(text)]
    exact = 0.0
    with torch.inference_mode():
        for t in range(1, len(ids)):
            logits = reference(torch.tensor([ids[max(0, t - N_CTX) : t]])).logits[0, -1]
            exact -= torch.log_softmax(logits, -1)[ids[t]].item()
    (row,) = positions.score(model, tokenizer, [Document("a", text)], 1)
    assert len(ids) > 2 * N_CTX and row["nats"] == pytest.approx(exact, abs=2e-4)
    assert row[f"tokens.{N_CTX // 2}"] == len(ids) - 1 - (N_CTX // 2 - 1)  # only the beginning has less


def test_one_window_costs_what_the_loss_of_transformers_says(model, reference, tokenizer):
    text = "Parse the arguments of a command line."
    ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(text)]])
    assert ids.size(1) <= N_CTX + 1
    with torch.inference_mode():
        loss = reference(ids, labels=ids).loss.item()  # a mean
    (row,) = positions.score(model, tokenizer, [Document("a", text)], N_CTX)
    assert row["nats"] / row["tokens"] == pytest.approx(loss, abs=1e-5)


def test_half_a_context_is_the_stride_of_bits_per_byte(model, tokenizer, documents):
    ours = positions.score(model, tokenizer, documents, positions.checked(0, N_CTX), perplexity.MAX_BYTES)
    for row, theirs in zip(ours, perplexity.score(model, tokenizer, documents), strict=True):
        assert (row["id"], row["bytes"], row["tokens"]) == (theirs["id"], theirs["bytes"], theirs["tokens"])
        assert row["nats"] == pytest.approx(theirs["nats"], abs=1e-3)


def test_what_is_held_at_once_changes_nothing(model, tokenizer, documents, monkeypatch):
    whole = positions.score(model, tokenizer, documents, 8, CUT)
    monkeypatch.setattr(positions, "_IDS_AT_ONCE", 3 * N_CTX)  # a document's windows fall into several portions
    for row, other in zip(positions.score(model, tokenizer, documents, 8, CUT), whole, strict=True):
        assert row == pytest.approx(other, abs=1e-3)


def test_a_model_without_an_idea_wavers_between_all_tokens_and_context_saves_it_nothing(tokenizer, documents):
    model = make_model("gpt2", tokenizer, N_CTX)
    with torch.no_grad():
        model.head.weight.zero_()
    rows = positions.score(model, tokenizer, documents, 16, CUT)
    nats, tokens = (sum(row[name] for row in rows) for name in ("nats", "tokens"))
    assert math.exp(nats / tokens) == pytest.approx(model.config.vocab_size, rel=1e-5)
    assert sum(row["again"] for row in rows) > 100 and sum(row["saved"] for row in rows) == pytest.approx(0, abs=1e-3)


@given(st.integers(1, 90), st.integers(1, 40), st.data())
def test_every_token_is_scored_once_at_any_stride_with_its_share_of_context(length, n_ctx, data):
    stride = data.draw(st.integers(1, n_ctx))
    ids, scored = list(range(length)), []
    for k, (row, known) in enumerate(perplexity.windows(ids, n_ctx, stride)):
        assert 1 <= known < len(row) <= n_ctx + 1 and row[0] == k * stride
        assert k == 0 or known > n_ctx - stride
        scored += row[known:]
    assert scored == ids[1:]


@given(st.integers(1, 5000))
def test_the_bins_hold_every_context_once(n_ctx):
    bins = positions.bins(n_ctx)
    assert [context for contexts in bins for context in contexts] == list(range(1, n_ctx + 1))
    assert [contexts[0] for contexts in bins] == [2**i for i in range(len(bins))]


def test_a_stride_that_leaves_tokens_out_is_refused():
    with pytest.raises(JourneyError, match=r"stride 33 .* context is 32"):
        positions.checked(33, N_CTX)
    assert (positions.checked(0, N_CTX), positions.checked(0, 1), positions.checked(32, N_CTX)) == (16, 1, 32)


def test_an_empty_document_costs_nothing(model, tokenizer):
    (row,) = positions.score(model, tokenizer, [Document("a", "")], 4)
    assert row.pop("id") == "a" and set(row.values()) == {0}
