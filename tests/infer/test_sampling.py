"""Drawing a token: Hugging Face's warpers decide what may be drawn, the probabilities decide how often."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from journey.errors import JourneyError
from journey.infer.sampling import Sampling, restrict, row_generators, sample

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
    seed=st.integers(0, 9),
)


@settings_
@given(logits=logits_, sampling=sampling_)
def test_restriction_equals_hugging_faces_warpers(logits, sampling):
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    assert torch.equal(restrict(logits, sampling), warpers(None, logits.clone()))


@settings_
@given(logits=logits_, sampling=sampling_)
def test_what_is_drawn_is_allowed(logits, sampling):
    allowed = restrict(logits, sampling)
    for _ in range(5):
        ids = sample(logits, sampling, row_generators(sampling, len(logits)))
        assert (allowed.gather(1, ids[:, None]) > -torch.inf).all()


class Always:
    """A generator whose every draw is the same, for the two ends of [0, 1)."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize("draw", [0.0, np.nextafter(1.0, 0.0)])
def test_the_extreme_draws_are_allowed_tokens(draw):
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
    assert sample(logits, Sampling(), [Always(draw)]).item() in (1, 3)  # type: ignore[list-item]


def test_frequencies_are_the_probabilities():
    """Chi-square of 20,000 draws over 6 tokens: 20.5 is its 99.9th percentile at 5 degrees of freedom."""
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5, -3.0]])
    sampling, n = Sampling(temperature=1.7, seed=3), 20_000
    ids = sample(logits.expand(n, -1), sampling, row_generators(sampling, n))
    expected = (logits[0] / 1.7).softmax(0) * n
    assert ((ids.bincount(minlength=6) - expected) ** 2 / expected).sum() < 20.5


def test_temperature_zero_is_the_likeliest():
    logits = torch.randn(4, 97)
    assert torch.equal(sample(logits, Sampling(temperature=0), []), logits.argmax(-1))


def test_rows_and_seeds_have_their_own_randomness():
    first = [[g.random() for _ in range(3)] for g in row_generators(Sampling(seed=1), 4)]
    assert first[:2] == [[g.random() for _ in range(3)] for g in row_generators(Sampling(seed=1), 2)]
    other = [[g.random() for _ in range(3)] for g in row_generators(Sampling(seed=2), 4)]
    assert len({row[0] for row in first + other}) == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1), ("temperature", float("nan")), ("top_k", -1), ("top_p", 0), ("top_p", 1.1), ("seed", -1)],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(JourneyError, match=f"{name.replace('seed', 'sampling seed')} is {value}: it must be"):
        Sampling(**{name: value})
