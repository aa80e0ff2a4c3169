"""Guesses change how fast a text is written, and not a token of it."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from journey.infer import build
from journey.infer.engine import Engine
from journey.infer.sampling import Sampling
from journey.infer.sequence import Request
from journey.infer.speculate import GRAM, GUESSES, repeat
from journey.model.config import GPTConfig
from journey.model.gpt import GPT


def slowly(ids, most):
    for start in range(len(ids) - GRAM - 1, -1, -1):
        if ids[start : start + GRAM] == ids[-GRAM:]:
            return ids[start + GRAM : start + GRAM + min(most, GUESSES)]
    return []


@example(ids=[256, 256, 256, 0, 9, 1, 1, 1], most=5)  # whose bytes are those of 1, 1, 1, one further on
@given(ids=st.lists(st.integers(0, 2) | st.integers(250, 260) | st.integers(2**24, 2**24 + 2)), most=st.integers(0, 12))
def test_it_is_what_followed_last_time(ids, most):
    assert repeat(ids, most) == (slowly(ids, most) if most and len(ids) > GRAM else [])


@pytest.mark.skipif(not build.available(), reason="there is no C compiler")
@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(temperature=0.05, seed=4)], ids=["0", "0.05"])
def test_the_text_is_the_same_and_takes_fewer_steps(sampling):
    torch.manual_seed(3)
    model = GPT(GPTConfig.make("gpt2", 30, 256, 1, 16, 2))  # small enough to fall into a round
    texts, steps = [], []
    for guess in (None, repeat):
        n = []
        engine = Engine(model, guess=guess, watch=lambda chunks, written, seconds, n=n: n.append(len(chunks)))
        requests = [Request(prompt=[i], max_new_tokens=150, sampling=sampling, number=i) for i in range(5)]
        texts.append([(c.ids, c.finish) for c in engine.generate(requests)])
        steps.append(len(n))
    assert texts[0] == texts[1]
    assert steps[1] < steps[0] * (0.6 if sampling.temperature == 0 else 1)
