"""Drawing a token: Hugging Face's warpers decide what may be drawn, the probabilities decide how often."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from journey.errors import JourneyError
from journey.infer import build
from journey.infer.sampling import Sampling, penalize, restrict, sample

settings_ = settings(deadline=None, max_examples=100)
logits_ = st.lists(
    # Whole numbers tie, and eight equal ones reach a top_p of eighths exactly.
    st.lists(st.floats(-30, 30, width=32) | st.integers(-2, 2), min_size=8, max_size=8) | st.just([1.0] * 8),
    min_size=1,
    max_size=3,
).map(lambda rows: torch.tensor(rows, dtype=torch.float32))
sampling_ = st.builds(
    Sampling,
    temperature=st.floats(0.1, 4),
    top_k=st.integers(0, 10),
    top_p=st.floats(0.01, 1) | st.integers(1, 8).map(lambda n: n / 8),
    min_p=st.just(0.0) | st.floats(0, 1),
    seed=st.integers(0, 9),
)


def generators(n: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng((seed, row)) for row in range(n)]


@settings_
@example(logits=torch.tensor([[1.0, 3.0, 3.0, -2.0] * 2]), sampling=Sampling(min_p=1.0))
@given(logits=logits_, sampling=sampling_)
def test_restriction_equals_hugging_faces_warpers(logits, sampling):
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    assert torch.equal(restrict(logits, sampling), warpers(None, logits.clone()))


@settings_
@given(logits=logits_, sampling=sampling_)
def test_what_is_drawn_is_allowed(logits, sampling):
    allowed = restrict(logits, sampling)
    for _ in range(5):
        ids = sample(logits, sampling, generators(len(logits)))
        assert all(row[token] > -torch.inf for row, token in zip(allowed, ids, strict=True))


class Always:
    """A generator whose every draw is the same, for the two ends of [0, 1)."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.fixture(params=["kernel", "torch"])
def drawn_by(request, monkeypatch):
    """A draw from the whole distribution is the kernel's where there is one."""
    if request.param == "torch":
        monkeypatch.setattr(build, "usable", lambda logits: False)
    elif not build.available():
        pytest.skip("there is no C compiler")


@pytest.mark.parametrize("draw", [0.0, np.nextafter(1.0, 0.0)])
def test_the_extreme_draws_are_allowed_tokens(draw, drawn_by):
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
    assert sample(logits, Sampling(), [Always(draw)])[0] in (1, 3)  # type: ignore[list-item]


def test_frequencies_are_the_probabilities(drawn_by):
    """Chi-square of 20,000 draws over 6 tokens: 20.5 is its 99.9th percentile at 5 degrees of freedom."""
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5, -3.0]])
    sampling, n = Sampling(temperature=1.7), 20_000
    ids = torch.tensor(sample(logits.expand(n, -1), sampling, generators(n, seed=3)))
    expected = (logits[0] / 1.7).softmax(0) * n
    assert ((ids.bincount(minlength=6) - expected) ** 2 / expected).sum() < 20.5


@pytest.mark.skipif(not build.available(), reason="there is no C compiler")
@settings_
@given(
    logits=st.lists(st.floats(-60, 60, width=32) | st.just(-float("inf")), min_size=1, max_size=70),
    temperature=st.floats(0.05, 8),
    uniform=st.floats(0, 1, exclude_min=True),
)
def test_the_kernel_draws_what_torch_draws(logits, temperature, uniform):
    """But where the number falls within rounding of the border between two tokens."""
    row = torch.tensor([logits])
    if not row.isfinite().any():
        return
    cumulative = (row / temperature).double().softmax(-1).cumsum(-1)[0]
    (drawn,) = build.draw(row, temperature, [uniform])
    before = cumulative[drawn - 1].item() if drawn else 0.0
    assert before - 1e-5 < uniform * cumulative[-1].item() < cumulative[drawn].item() + 1e-5
    assert row[0, drawn] > -torch.inf


def test_temperature_zero_is_the_likeliest():
    logits = torch.randn(4, 97)
    assert sample(logits, Sampling(temperature=0), []) == logits.argmax(-1).tolist()


@settings_
@given(
    logits=logits_,
    penalty=st.floats(0.1, 3),
    prompt=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    written=st.lists(st.integers(0, 7), max_size=6),
)
def test_the_repetition_penalty_is_hugging_faces(logits, penalty, prompt, written):
    ours, text = logits[0].clone(), [*prompt, *written]
    penalize(ours, Sampling(repetition_penalty=penalty), prompt, written)
    assert torch.equal(ours, RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([text]), logits[:1].clone())[0])


def test_presence_and_frequency_count_what_was_written():
    logits = torch.zeros(5)
    penalize(logits, Sampling(presence_penalty=0.5, frequency_penalty=0.25), [0, 0], [1, 3, 1])
    assert logits.tolist() == [0, -1.0, 0, -0.75, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(), Sampling(top_p=0.5)])
def test_logits_that_are_no_numbers_are_said(value, sampling):
    logits = torch.zeros(2, 9)
    logits[1, 4] = value
    (good, bad), other = sample(logits, sampling, generators(2)), sample(logits[:1], sampling, generators(1))
    assert bad == -1 and [good] == other  # the row beside it draws what it would alone


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.1),
        ("seed", -1),
        ("min_p", 2),
        ("min_p", -1),
        ("repetition_penalty", 0),
        ("presence_penalty", float("inf")),
        ("temperature", float("inf")),
    ],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(JourneyError, match=f"{name.replace('seed', 'sampling seed')} is {value}: it must be"):
        Sampling(**{name: value})
