import math
import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.evaluate.ngram import KneserNey

V, MARK = 8, 7
documents = st.lists(st.lists(st.integers(0, V - 2), min_size=1, max_size=12), min_size=2, max_size=8)


def stream(texts):
    return [token for text in texts for token in [MARK, *text]]


class PlainKneserNey:
    """The formulas of Chen and Goodman with dictionaries, one document at a time."""

    def __init__(self, texts, order):
        self.order = order
        occurrences = [Counter() for _ in range(order + 1)]
        for text in texts:
            words = (MARK, *text)
            for k in range(1, order + 1):
                for end in range(max(k, 2), len(words) + 1):  # the last word is never the mark
                    occurrences[k][words[end - k : end]] += 1
        self.counts = [Counter() for _ in range(order + 1)]
        self.counts[order] = occurrences[order]
        for k in range(1, order):
            for ngram, count in occurrences[k].items():
                continuations = len({longer[0] for longer in occurrences[k + 1] if longer[1:] == ngram})
                self.counts[k][ngram] = count if ngram[0] == MARK else continuations
        self.after = [defaultdict(dict) for _ in range(order + 1)]
        for k in range(1, order + 1):
            for ngram, count in self.counts[k].items():
                self.after[k][ngram[:-1]][ngram[-1]] = count

    def discount(self, k):
        once = sum(count == 1 for count in self.counts[k].values())
        twice = sum(count == 2 for count in self.counts[k].values())
        return once / (once + 2 * twice) if once else 0.5

    def p(self, word, context):
        k = len(context) + 1
        lower = self.p(word, context[1:]) if context else 1 / V
        words = self.after[k].get(context)
        if not words:
            return lower
        d, total = self.discount(k), sum(words.values())
        return max(words.get(word, 0) - d, 0) / total + d * len(words) / total * lower

    def nats(self, text):
        words = (MARK, *text)
        return [-math.log(self.p(words[i], words[max(0, i - self.order + 1) : i])) for i in range(1, len(words))]


@settings(max_examples=60, deadline=None)
@given(documents, documents, st.integers(1, 4))
def test_equals_the_plain_formulas(train, test, order):
    train = [*train, [0, 1, 2, 3]]  # long enough for every order
    plain, ours = PlainKneserNey(train, order), KneserNey(stream(train), order, V, MARK)
    expected = [nats for text in test for nats in [0.0, *plain.nats(text)]]
    np.testing.assert_allclose(ours.nats(stream(test)), expected, rtol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one(order):
    rng = np.random.default_rng(0)
    model = KneserNey(stream(rng.integers(0, V - 1, (20, 15)).tolist()), order, V, MARK)
    for context in ([], [3], [3, 3], [0, 5], [6, 2, 1]):
        p = [math.exp(-model.nats([MARK, *context, word])[-1]) for word in range(V - 1)]
        assert all(value > 0 for value in p)
        assert sum(p) + mark_share(model, [MARK, *context]) == pytest.approx(1, abs=1e-12)


def mark_share(model, context):
    """p of the mark: it was never counted, so every order gives it only its lower order's share."""
    share = 1 / model.vocab_size
    for k, level in enumerate(model.levels, start=1):
        key = 0
        for token in context[len(context) - (k - 1) :]:
            key = key * model.vocab_size + token
        place = np.flatnonzero(level.contexts == key)
        if len(context) >= k - 1 and len(place):
            share *= level.discount * level.followers[place[0]] / level.totals[place[0]]
    return share


def test_contexts_do_not_cross_documents():
    model = KneserNey(stream([[0, 1, 2], [3, 4, 5], [0, 1, 2]]), 3, V, MARK)
    alone = model.nats([MARK, 3, 4])
    after_another = model.nats([MARK, 0, 1, 2, MARK, 3, 4])
    np.testing.assert_array_equal(after_another[-3:], alone)


def test_a_stream_cut_in_the_middle_of_a_document():
    texts = [[0, 1, 2, 0, 1, 0], [3, 4, 5, 0, 1], [0, 1, 2]]
    plain, cut = PlainKneserNey(texts, 3), [0, 1, 2, 5, 2]  # its last id followed by its first is a known context
    expected = [0.0, *(-math.log(plain.p(cut[i], tuple(cut[max(0, i - 2) : i]))) for i in range(1, len(cut)))]
    np.testing.assert_allclose(KneserNey(stream(texts), 3, V, MARK).nats(cut), expected, rtol=1e-10)


def test_an_id_never_seen_has_a_finite_cost():
    model = KneserNey(stream([[0, 0, 0, 0, 0], [0, 0, 0]]), 3, V, MARK)
    assert np.isfinite(model.nats([MARK, 5, 6, 0])).all()


def test_refuses_what_it_cannot_count():
    with pytest.raises(JourneyError, match="order 3"):
        KneserNey(stream([[1], [2]]), 3, V, MARK)
    with pytest.raises(ValueError, match="64 bits"):
        KneserNey([MARK, 1, 2], 3, 3_000_000, MARK)


def test_a_million_tokens_take_seconds():
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.zipf(1.3, 1_100_000), 4095)
    ids[::200] = 0
    begin = time.process_time()
    trigram = KneserNey(ids, 3, 4096, 0)
    trigram.nats(ids[:100_000])
    assert time.process_time() - begin < 10
