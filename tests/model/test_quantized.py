"""Weights of 8 and 4 bits in memory: the layout that a kernel reads, and rounding, on weights that break such."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from journey.errors import JourneyError
from journey.model import quantized
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.quantized import QuantizedLinear, pack, rounded, unpack

WIDE = st.integers(1, 4), st.integers(1, 5)  # rows, blocks of 32 inputs


def made_of(weight, bits, group=32, bias=None):
    return QuantizedLinear(bits, *rounded(weight, bits, group, "w"), bias)


@given(*WIDE, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_nibbles_come_back(rows, blocks, random):
    values = torch.tensor([[random.randint(-8, 7) for _ in range(32 * blocks)] for _ in range(rows)], dtype=torch.int8)
    assert torch.equal(unpack(pack(values)), values)


def test_the_bytes_are_where_a_kernel_looks_for_them():
    """Written out: byte i of a block holds input i low and input i + 16 high, each plus 8."""
    values = torch.arange(128, dtype=torch.int32).mul(5).remainder(16).sub(8).view(2, 64).to(torch.int8)
    q = pack(values)
    assert q.shape == (2, 32) and q.dtype == torch.uint8 and q.is_contiguous()
    for row in range(2):
        for block in range(2):
            for i in range(16):
                byte, at = int(q[row, 16 * block + i]), 32 * block + i
                assert byte & 15 == values[row, at] + 8 and byte >> 4 == values[row, at + 16] + 8


@pytest.mark.parametrize(("bits", "group", "scales"), [(8, 32, 1), (4, 32, 3), (4, 96, 1)])
def test_a_layer_computes_what_its_numbers_say(bits, group, scales):
    torch.manual_seed(0)
    weight, bias, x = torch.randn(5, 96), nn.Parameter(torch.randn(5)), torch.randn(2, 3, 96)
    layer = made_of(weight, bits, group, bias)
    assert layer.scale.shape == (5, scales) and layer.scale.dtype == torch.float32 and layer.scale.is_contiguous()
    assert layer.q.dtype == (torch.int8 if bits == 8 else torch.uint8) and layer.q.is_contiguous()
    per_input = layer.scale.repeat_interleave(96 // scales, 1)
    assert torch.equal(layer.weight_dequantized(), layer.values() * per_input)
    assert torch.equal(layer(x), F.linear(x, layer.values() * per_input, bias))
    off = (layer.weight_dequantized() - weight).abs() / per_input
    assert off.max() <= (0.5001 if bits == 8 else 1.0001), "of a step; with 4 bits the largest positive may be cut"


@given(*WIDE, st.randoms(use_true_random=False), st.sampled_from([4, 8]))
@settings(max_examples=50, deadline=None)
def test_numbers_that_are_steps_already_come_back_exactly(rows, blocks, random, bits):
    least, most = (-8, 7) if bits == 4 else (-127, 127)
    values = torch.tensor([[random.randint(least, most) for _ in range(32 * blocks)] for _ in range(rows)])
    values[:, ::32] = random.choice([least, most])  # the largest of each group: what the step is found by
    weight = values * 2.0 ** random.randint(-20, 20)
    assert torch.equal(made_of(weight, bits).weight_dequantized(), weight)
    again = made_of(made_of(torch.randn(rows, 32 * blocks), bits).weight_dequantized(), bits)
    twice = made_of(again.weight_dequantized(), bits)
    torch.testing.assert_close(twice.weight, again.weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("large", [1e-45, 1e-38, 1.0, 1e30, 3e38])
def test_zeros_one_outlier_and_the_ends_of_fp32(bits, large):
    torch.manual_seed(0)
    weight = torch.randn(4, 64) * min(large, 1e3)
    weight[0], weight[1, 7] = 0, large
    made = made_of(weight, bits).weight_dequantized()
    assert made.isfinite().all() and (made[0] == 0).all()
    if large >= 1:  # it is found again, to half a step
        assert abs(made[1, 7] / large - 1) < 0.13
    steps = 7 if bits == 4 else 127
    for row in (2, 3):
        assert (made[row] - weight[row]).abs().max() <= weight[row].abs().max() / steps + 2e-36


def test_rounding_is_no_worse_than_the_plain_step():
    """The best of three steps against each of them, group by group."""
    torch.manual_seed(0)
    weight = torch.randn(64, 256)
    best = (made_of(weight, 4).weight - weight).square().unflatten(1, (-1, 32)).sum(-1)
    for top in (7.0, 7.5, 8.0):
        grouped = weight.unflatten(1, (-1, 32))
        step = grouped.abs().amax(-1, keepdim=True) / top
        plain = (grouped - (grouped / step).round().clamp(-8, 7) * step).square().sum(-1)
        assert (best <= plain * (1 + 1e-5)).all()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_named(wrong):
    model = GPT(GPTConfig.make("llama", 64, 16, 2, 64, 2))
    with torch.no_grad():
        model.blocks[1].mlp.up.weight[3, 5] = wrong
    with pytest.raises(JourneyError, match=r"^blocks\.1\.mlp\.up holds NaN or infinity: take a checkpoint from before"):
        quantized.quantize(model, 4, 32)


@pytest.mark.parametrize(
    ("inputs", "group", "hint"), [(96, 64, "possible are 32"), (192, 128, "possible are 32, 64"), (40, 32, "take 8 b")]
)
def test_inputs_that_are_no_multiple_of_the_group(inputs, group, hint):
    with pytest.raises(JourneyError, match=f"^w has {inputs} inputs, no multiple of a group of {group}: {hint}"):
        rounded(torch.ones(2, inputs), 4, group, "w")


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_quantized_is_the_model_of_those_weights(family, tied):
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, 80, 32, 2, 64, 4, 4 if family == "gpt2" else 2, tied=tied)).eval()
    plain, ids = copy.deepcopy(model), torch.arange(40).view(2, 20)
    errors = quantized.quantize(model, 4, 32)
    assert quantized.is_quantized(model) and not quantized.is_quantized(plain) and not model.config.tied
    assert model.head.bits == 8 and {model.get_submodule(name).bits for name in errors if name != "head"} == {4}
    assert len(errors) == 2 * (6 if family == "gpt2" else 7) + 1 and all(0 < e < 0.15 for e in errors.values())
    assert torch.equal(model.embed.weight, plain.embed.weight), "the embedding stays as it was"
    plain.head = nn.Linear(64, 80, bias=False)  # untied
    plain.load_state_dict(quantized.weights(model), strict=True)
    with torch.inference_mode():
        assert torch.equal(model(ids), plain(ids))
        assert torch.equal(model(ids, ids), plain(ids, ids)), "the loss, which reads the head's weight"


def test_a_head_can_be_left_alone():
    model = GPT(GPTConfig.make("llama", 80, 32, 1, 64, 2)).eval()
    assert "head" not in quantized.quantize(model, 8, head=False)
    assert model.head.weight is model.embed.weight and model.config.tied
