"""The learning rate: up, level, down to zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.train.schedule import noam, trapezoid

STEPS = st.integers(1, 3000)
SHARES = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda s: (s[0] / 2, s[1] / 2))


def test_a_trapezoid_by_hand():
    shares = [trapezoid(step, 10, 0.2, 0.4) for step in range(10)]
    assert shares == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


@given(STEPS, SHARES)
def test_it_rises_stays_and_falls_and_each_step_learns(steps, shares):
    lrs = [trapezoid(step, steps, *shares) for step in range(steps)]
    assert all(0 < lr <= 1 for lr in lrs)
    if steps > 10:
        assert max(lrs) == 1
    top = lrs.index(max(lrs))
    assert lrs[: top + 1] == sorted(lrs[: top + 1])
    assert lrs[top:] == sorted(lrs[top:], reverse=True)


@given(st.integers(10, 3000), SHARES)
def test_warm_up_and_decay_take_their_share_of_the_steps(steps, shares):
    lrs = [trapezoid(step, steps, *shares) for step in range(steps)]
    below = sum(lr < 1 for lr in lrs)
    assert below == pytest.approx((sum(shares)) * steps, abs=3)
    assert lrs[-1] == pytest.approx(1 / max(1, round(steps * shares[1])))


def test_what_comes_before_the_decay_does_not_depend_on_the_end():
    """With shares of 20 steps each: a run can be lengthened from a saved state of its level part."""
    short = [trapezoid(step, 100, 0.2, 0.2) for step in range(80)]
    long = [trapezoid(step, 200, 0.1, 0.1) for step in range(80)]
    assert short == long


@given(st.integers(1, 500), st.integers(1, 2048), st.integers(0, 5000))
def test_noam_rises_to_its_peak_and_falls_by_the_square_root(warmup, n_embd, step):
    """The paper's formula, and what it says of it: the peak at the end of the warm-up, a half of it at four times."""
    lr = noam(step, warmup, n_embd)
    assert lr == pytest.approx(n_embd**-0.5 * min((step + 1) ** -0.5, (step + 1) / warmup**1.5))
    peak = noam(warmup - 1, warmup, n_embd)
    assert lr <= peak * (1 + 1e-12) and peak == pytest.approx((n_embd * warmup) ** -0.5)
    assert noam(4 * warmup - 1, warmup, n_embd) == pytest.approx(peak / 2)


def test_noam_has_the_papers_numbers():
    """512 wide, 4,000 steps of warm-up: 7.0e-4, as The Annotated Transformer draws it."""
    assert noam(3999, 4000, 512) == pytest.approx(6.987e-4, rel=1e-3)
    assert noam(0, 4000, 512) == pytest.approx(1.747e-7, rel=1e-3)
