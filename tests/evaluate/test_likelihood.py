"""Many texts in one row: each continuation as likely as if it stood alone, and no beginning computed twice."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journey.evaluate import likelihood
from journey.evaluate.likelihood import Continuation, likelihoods, rows
from journey.evaluate.perplexity import token_nats
from journey.model.config import GPTConfig
from journey.model.families import FAMILIES
from journey.model.gpt import GPT

N_CTX = 24
TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12)


def make(family):
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, 40, N_CTX, 2, 32, n_head=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


def questions(seed=0):
    """Items with several options behind one context, shots before many of them, and texts beyond the context."""
    rng = np.random.default_rng(seed)

    def some(low, high):
        return rng.integers(40, size=rng.integers(low, high)).tolist()

    shots, asked = some(9, 10), []
    for i in range(30):
        context = (shots if i % 3 else []) + some(1, 20)
        asked += [Continuation(context, some(1, 40 if i % 7 == 0 else 6)) for _ in range(rng.integers(1, 5))]
    return [*asked, asked[0], Continuation(asked[0].context, [*asked[0].ids, 3])]


def alone(model, asked):
    """ln p of each continuation in a row of its own; whether each token is the likeliest."""
    whole = [[*each.context, *each.ids][-(N_CTX + 1) :] for each in asked]
    known = [max(1, len(ids) - len(each.ids)) for ids, each in zip(whole, asked, strict=True)]
    nats = [-float(each.sum()) for each in token_nats(model, whole, known)]
    with torch.inference_mode():
        best = [model(torch.tensor([ids[:-1]]))[0].argmax(-1).tolist() for ids in whole]
    return nats, [best[i][known[i] - 1 :] == ids[known[i] :] for i, ids in enumerate(whole)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [1, 40, 512])
def test_a_continuation_is_as_likely_among_others_as_alone(family, n, monkeypatch):
    monkeypatch.setattr(likelihood, "ROW", n)
    model, asked = make(family), questions()
    found = likelihoods(model, asked)
    nats, greedy = alone(model, asked)
    np.testing.assert_allclose([each.logprob for each in found], nats, atol=2e-4)
    assert [each.greedy for each in found] == greedy


def test_rows_side_by_side_and_filled_up_give_the_same(monkeypatch):
    model, asked = make("qwen3"), questions()
    one = likelihoods(model, asked)
    monkeypatch.setattr(likelihood, "_batches", lambda found, n: iter([list(found)]))
    monkeypatch.setattr(likelihood, "ROW", 40)
    np.testing.assert_allclose(
        [each.logprob for each in likelihoods(model, asked)], [each.logprob for each in one], atol=2e-4
    )


def test_a_greedy_continuation_is_told():
    model = make("qwen3")
    with torch.inference_mode():
        best = int(model(torch.tensor([[1, 2, 3]]))[0, -1].argmax())
    yes, no = likelihoods(model, [Continuation([1, 2, 3], [best]), Continuation([1, 2, 3], [(best + 1) % 40])])
    assert yes.greedy and not no.greedy


def test_what_is_cut_from_the_left_is_counted():
    found = likelihoods(make("gpt2"), [Continuation([1] * 30, [2, 3]), Continuation([1] * 23, [2, 3])])
    assert [each.cut for each in found] == [30 + 2 - 1 - N_CTX, 0]


def test_each_is_told_as_soon_as_its_row_is_done():
    asked, told = questions(), {}
    found = likelihoods(make("qwen3"), asked, lambda places, new: told.update(zip(places, new, strict=True)))
    assert [told[i] for i in range(len(asked))] == found


@given(TEXTS, st.integers(1, 30))
def test_each_token_of_a_row_sees_its_own_text_and_nothing_else(texts, n):
    laid = list(rows(texts, n))
    assert sorted(number for row in laid for number in row.texts) == list(range(len(texts)))
    for row in laid:
        mask = row.mask()
        for number, places in zip(row.texts, row.branches, strict=True):
            assert [row.ids[place] for place in places] == texts[number]
            assert [row.positions[place] for place in places] == list(range(len(places)))
            for end, place in enumerate(places):
                assert np.flatnonzero(mask[place]).tolist() == sorted(places[: end + 1])


@given(TEXTS)
def test_a_row_holds_each_beginning_once(texts):
    (row,) = rows(texts, 1000)
    beginnings = {tuple(text[:end]) for text in texts for end in range(1, len(text) + 1)}
    assert len(row.ids) == len(beginnings)


def test_a_long_beginning_that_all_share_stands_before_many_texts_at_once():
    texts = [[*range(100), i] for i in range(100, 200)]
    assert [len(row.texts) for row in rows(texts, 60)] == [100]  # twice the text's length holds them all
    assert sum(len(row.ids) for row in rows(texts, 60)) == 200
