"""The learning rate: up, and then by its schedule."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_scheduler

from journey.train.schedule import noam, share_of_peak, warmup_steps

STEPS = st.integers(1, 3000)
SHARES = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda s: (s[0] / 2, s[1] / 2))
FALLING = ("wsd", "cosine", "linear")
ALL = (*FALLING, "inverse-sqrt", "constant")


def shares(steps, schedule="wsd", warmup=0.0, decay=0.5, floor=0.0):
    return [share_of_peak(step, steps, schedule, warmup, decay, floor) for step in range(steps)]


def test_each_by_hand():
    assert shares(10, "wsd", 0.2, 0.4) == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert shares(5, "linear", 2) == [0.5, 1, 0.75, 0.5, 0.25]
    half = 0.5 + math.cos(math.pi / 4) / 2
    assert shares(5, "cosine", 2) == pytest.approx([0.5, 1, half, 0.5, 1 - half])
    assert shares(8, "inverse-sqrt", 2) == pytest.approx([0.5, 1, *(math.sqrt(2 / n) for n in range(3, 9))])
    assert shares(4, "constant", 2) == [0.5, 1, 1, 1]


def test_the_floor_is_where_a_schedule_that_ends_would_end():
    for schedule in FALLING:
        down = shares(400, schedule, 0.1, 0.5, floor=0.1)
        assert down[-1] == pytest.approx(0.1, abs=0.01) and max(down) == 1
        assert down[60] == pytest.approx(0.1 + 0.9 * shares(400, schedule, 0.1)[60])  # wsd is level there: 1 of both


@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        ("linear", "linear"),
        ("cosine", "cosine"),
        ("constant", "constant_with_warmup"),
        ("inverse-sqrt", "inverse_sqrt"),
    ],
)
@pytest.mark.parametrize("warmup", [1, 7, 40])
def test_transformers_schedules_are_ours_a_step_later(schedule, name, warmup):
    """Theirs gives the first step a rate of 0, at which nothing moves: ours are theirs of a run one step longer."""
    steps = 40
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps + 1)
    found = []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert shares(steps, schedule, warmup) == pytest.approx(found[1:], rel=1e-6)


@given(STEPS, st.sampled_from(ALL), st.one_of(st.floats(0, 0.5), st.integers(1, 4000)), st.floats(0, 0.5))
def test_it_rises_never_rises_again_and_each_step_learns(steps, schedule, warmup, decay):
    lrs = shares(steps, schedule, warmup, decay)
    assert all(0 < lr <= 1 for lr in lrs)
    if steps > 10 and (schedule != "wsd" or warmup_steps(warmup, steps) <= steps / 2):
        assert max(lrs) == pytest.approx(1)
    top = lrs.index(max(lrs))
    assert lrs[: top + 1] == sorted(lrs[: top + 1])
    assert lrs[top:] == sorted(lrs[top:], reverse=True)


@given(st.integers(10, 3000), SHARES)
def test_warm_up_and_decay_take_their_share_of_the_steps(steps, parts):
    lrs = shares(steps, "wsd", *parts)
    below = sum(lr < 1 for lr in lrs)
    assert below == pytest.approx((sum(parts)) * steps, abs=3)
    assert lrs[-1] == pytest.approx(1 / max(1, round(steps * parts[1])))


@given(STEPS, st.floats(0, 5000))
def test_a_warm_up_is_a_share_below_one_and_a_number_of_steps_above(steps, warmup):
    up = warmup_steps(warmup, steps)
    assert 1 <= up <= steps
    if 1 <= warmup <= steps:
        assert up == round(warmup)


def test_what_comes_before_the_decay_does_not_depend_on_the_end():
    """With 20 steps each: a run can be lengthened from a saved state of its level part."""
    assert shares(100, "wsd", 20, 0.2)[:80] == shares(200, "wsd", 20, 0.1)[:80]


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
