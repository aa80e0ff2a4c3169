"""pass@k against the definition: every subset of k answers looked at, and the binomials in exact fractions."""

import itertools
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.evaluate.passing import pass_at_k


@pytest.mark.parametrize(("n", "k"), [(n, k) for n in range(1, 8) for k in range(1, n + 1)])
def test_it_is_the_share_of_all_subsets_with_a_right_answer(n, k):
    for correct in range(n + 1):
        answers = [True] * correct + [False] * (n - correct)
        drawn = list(itertools.combinations(answers, k))
        assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, drawn)) / len(drawn), abs=1e-12)


@given(st.data())
def test_it_is_the_papers_formula_in_exact_fractions(data):
    n = data.draw(st.integers(1, 2000))
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - Fraction(comb(n - correct, k), comb(n, k))
    assert pass_at_k(n, correct, k) == pytest.approx(float(exact), abs=1e-12)


@given(st.integers(1, 500), st.data())
def test_pass_at_1_is_the_share_that_is_right(n, data):
    correct = data.draw(st.integers(0, n))
    assert pass_at_k(n, correct, 1) == pytest.approx(correct / n, abs=1e-15)


def test_the_ends_are_exact():
    assert pass_at_k(200, 0, 100) == 0
    assert pass_at_k(200, 200, 1) == 1
    assert pass_at_k(200, 101, 100) == 1  # 99 wrong ones: of 100 drawn, one is right


def test_more_draws_than_samples_is_told():
    with pytest.raises(JourneyError, match="pass@10 needs at least 10 samples a problem and there are 5: draw more"):
        pass_at_k(5, 1, 10)


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, 0)])
def test_counts_that_cannot_be_are_refused(n, correct, k):
    with pytest.raises(ValueError):
        pass_at_k(n, correct, k)
