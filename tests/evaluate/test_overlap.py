"""BLEU and chrF of sums of counts against sacrebleu's own scores of a corpus."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from journey.evaluate import overlap, statistics
from journey.scores import Against, Items, Score, Taken, changes, comparisons, estimates

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", ",", ".", "Haus", "über", "4", "12"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), min_size=1, max_size=6)


def corpus(said, wanted):
    return BLEU().corpus_score(said, [wanted]).score, CHRF().corpus_score(said, [wanted]).score


def ours(said, wanted):
    counted = overlap.counts(said, wanted)
    return tuple(float(overlap.FORMULAS[name](counted[name].sum(0)[:, None])[0]) for name in ("bleu", "chrf"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_corpus_scores_as_sacrebleu_scores_it(data):
    wanted = data.draw(TEXTS)
    said = [data.draw(st.sampled_from([text, *wanted, "", text[: len(text) // 2]])) for text in wanted]
    assert ours(said, wanted) == pytest.approx(corpus(said, wanted), abs=1e-9)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (["412"], ["412"]),  # one word has no sequence of four: BLEU is 0, as sacrebleu has it
        ([""], ["a b c d e"]),
        (["a b c d e"], ["v w x y z"]),
        (["the the the the the"], ["the cat sat on the mat"]),
        (["a b c d", "e"], ["a b c d", "e"]),
    ],
)
def test_edges_are_sacrebleus(said, wanted):
    assert ours(said, wanted) == pytest.approx(corpus(said, wanted), abs=1e-9)


def some(seed, n=40):
    rng = random.Random(seed)
    wanted = [" ".join(random.Random(i).choices(WORDS, k=8)) for i in range(n)]
    said = [" ".join(w if rng.random() < 0.8 else rng.choice(WORDS) for w in text.split()) for text in wanted]
    return said, wanted


def test_each_resample_is_the_score_of_its_items():
    said, wanted = some(0)
    counted = overlap.counts(said, wanted)["bleu"]
    rng = np.random.default_rng(0)
    drawn = [rng.integers(40, size=40) for _ in range(5)]
    sums = np.stack([counted[rows].sum(0) for rows in drawn], 1)  # (10, R)
    expected = [BLEU().corpus_score([said[i] for i in rows], [[wanted[i] for i in rows]]).score for rows in drawn]
    assert overlap.bleu(sums) == pytest.approx(expected)


def taken(seed):
    said, wanted = some(seed)
    counted = overlap.counts(said, wanted)
    columns = {f"{name}.{i}": t[:, i].tolist() for name, t in counted.items() for i in range(t.shape[1])}
    columns |= {f"other.{i}": column for i, column in enumerate(columns[f"bleu.{i}"] for i in range(10))}
    against = (Against("itself", "itself", "?", num="other"),)
    score = Score("bleu", "BLEU", "bleu", formula="bleu", better="higher", parent=True, against=against)
    items = Items([str(i) for i in range(40)], columns)
    return Taken({"items": items}, [score, Score("chrf", "chrF", "chrf", formula="chrf", parent=True)])


def test_a_score_of_sums_has_an_interval_a_change_and_comparisons():
    """As every score has: the change is of the same resampled items, so it is surer than two intervals."""
    a, b = Taken.read(taken(1).json() | {"seconds": 0}), taken(2)
    said, wanted = some(1)
    for key, expected in zip(("bleu", "chrf"), corpus(said, wanted), strict=True):
        e = estimates(a)[key]
        assert e.value == pytest.approx(expected) and e.low < e.value < e.high and e.n == 40
    # sacrebleu's own bootstrap over the same corpus, with another random generator
    theirs = BLEU().corpus_score(said, [wanted], n_bootstrap=2000)
    half = (estimates(a)["bleu"].high - estimates(a)["bleu"].low) / 2
    assert half == pytest.approx(theirs._ci, rel=0.15)
    change = next(effect for effect in changes(a, b, "a", "b") if effect.key == "bleu")
    assert change.size.value == pytest.approx(corpus(*some(2))[0] - corpus(*some(1))[0])
    itself = next(effect for effect in comparisons(a, "a") if effect.key == "bleu vs itself")
    assert (itself.size.low, itself.size.value, itself.size.high) == (0, 0, 0)


def test_counts_are_named_as_sacrebleu_names_them():
    found = overlap.signatures()
    assert "tok:13a" in found["bleu"] and "nc:6" in found["chrf"] and "version:" in found["bleu"]
    assert statistics.of_sums([[1, 2], [3, 4]], lambda s: s[0] + s[1]).value == 10
