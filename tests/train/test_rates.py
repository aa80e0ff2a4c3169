"""Rates by a model's size: those that are known where they are known, between them by a line, and said."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.train import rates


def test_what_is_known_is_what_comes_out():
    assert rates.sft(1_380_000, 8)[0] == 2e-3
    assert rates.sft(110_000_000, 32)[0] == 3e-5
    assert rates.sft(7_000_000_000, 64)[0] == 2e-5  # Llama 2's
    assert rates.dpo(774_000_000, 64)[0] == 1e-6
    assert rates.continuing(125_000_000, "adamw")[0] == 6e-5  # a tenth of GPT-3 Small's
    assert rates.continuing(1_380_000, "muon")[0] == 3e-3


def test_an_adapter_takes_larger_steps():
    assert rates.sft(354_823_168, 8, adapter=True)[0] == 2e-4  # Hu et al.'s for GPT-2 Medium
    assert rates.sft(7_000_000_000, 16, adapter=True)[0] == 2e-4  # QLoRA's for 7B
    assert rates.sft(1_380_000, 8, adapter=True)[0] == 5e-3
    for n in (1_380_000, 124_000_000, 8_000_000_000):
        whole, adapter = rates.dpo(n, 16)[0], rates.dpo(n, 16, adapter=True)[0]
        assert adapter / whole == pytest.approx(rates.faster(n), rel=0.05) and 2 < adapter / whole < 30
    assert "AdamW on an adapter" in rates.continuing(1_000_000, "adamw", adapter=True)[1]


def test_it_says_why():
    assert rates.sft(124_439_808, 32)[1] == (
        "lr 2.9e-05: 124M parameters, AdamW, 32 conversations a step (Devlin et al. 2019 and Touvron et al. 2023)"
    )
    assert rates.dpo(1_000, 16)[1] == "lr 0.0001: 1k parameters, AdamW, 16 pairs a step (measured)"
    assert rates.dpo(70_000_000_000, 32)[1].endswith("70B parameters, AdamW, 32 pairs a step (Tunstall et al. 2023)")
    assert rates.continuing(8_030_000_000, "muon")[1] == (
        "lr 4.5e-05: 8B parameters, AdamW beside Muon (Brown et al. 2020)"
    )


@given(
    st.integers(1, 10**12), st.integers(1, 10**12), st.sampled_from([rates.SFT, rates.LORA, rates.DPO, rates.CONTINUE])
)
def test_a_larger_model_never_takes_larger_steps(a, b, known):
    small, large = sorted((a, b))
    assert rates.rate(known, large)[0] <= rates.rate(known, small)[0] * (1 + 1e-9)
    assert known[-1].lr * 0.999 <= rates.rate(known, a)[0] <= known[0].lr * 1.001


@pytest.mark.parametrize(("n", "batch"), [(52_002, 128), (27_540, 64), (15_003, 32), (5_000, 8), (200, 8), (1, 8)])
def test_batches_of_the_papers(n, batch):
    assert rates.conversations_a_step(n)[0] == batch


@given(st.integers(1, 256), st.integers(1, 20_000))
def test_parts_are_equal_and_small_enough(batch, longest):
    k = rates.parts(batch, longest)
    assert batch % k == 0 and (batch // k * longest <= rates.AT_ONCE or k == batch)
    assert all(batch % less or batch // less * longest > rates.AT_ONCE for less in range(1, k))


@given(st.integers(1_000, 10**10), st.sampled_from([64, 256, 1024]))
def test_rows_a_step_are_a_power_of_two_near_the_law(tokens, T):
    rows, _ = rates.rows_a_step(tokens, T)
    assert rows & (rows - 1) == 0
    assert rows == 1 or abs(math.log2(rows * T / rates.tokens_a_step(tokens))) <= 0.501


@pytest.mark.parametrize(
    ("n", "said"), [(950, "950"), (27_000, "27k"), (1_377_664, "1.4M"), (124_439_808, "124M"), (8_030_261_248, "8B")]
)
def test_a_size_as_models_are_called(n, said):
    assert rates.size(n) == said
