"""What a forward pass in bf16 keeps of fp32: the weights, and the loss and gradients within bf16's own error."""

import warnings

import pytest
import torch

from journey.errors import JourneyError
from journey.model import precision as module
from journey.model.config import GPTConfig
from journey.model.families import FAMILIES
from journey.model.gpt import GPT
from journey.model.precision import fastest, precision


def build(family: str) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig.make(family, 128, 64, 3, 64))


def gradients(model: GPT, name: str, recompute: bool = False) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of some rows, and every parameter's gradient."""
    ids = torch.randint(97, (4, 65), generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    model.recompute = recompute
    with precision(model, name):
        loss = model(ids[:, :-1], ids[:, 1:], documents=(ids[:, :-1] % 9 == 0).cumsum(1))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_fp32_within_its_error(family):
    model = build(family)
    exact, expected = gradients(model, "fp32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a norm that falls off its kernel says so
        loss, ours = gradients(model, "bf16")
    assert 0 < abs(loss - exact) < 0.01 * exact
    for name, gradient in ours.items():
        assert gradient.dtype == torch.float32
        if "attention.k.bias" not in name:  # 0 but for rounding: softmax does not see it
            assert (gradient - expected[name]).norm() < 0.05 * expected[name].norm(), name
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_fp32_is_what_it_is_without():
    model = build("qwen3")
    loss, ours = gradients(model, "fp32")
    ids = torch.randint(97, (4, 65), generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    plain = model(ids[:, :-1], ids[:, 1:], documents=(ids[:, :-1] % 9 == 0).cumsum(1))
    plain.backward()
    assert plain.item() == loss
    assert all(torch.equal(p.grad, ours[name]) for name, p in model.named_parameters())


def test_blocks_computed_again_are_computed_in_the_same_precision():
    model = build("qwen3")
    one, other = gradients(model, "bf16"), gradients(model, "bf16", recompute=True)
    assert one[0] == other[0]
    assert all(torch.equal(gradient, other[1][name]) for name, gradient in one[1].items())


def test_training_in_bf16_learns_what_fp32_learns():
    """Weights kept in bf16 would stand still: these steps are a thousandth of them."""
    losses = []
    for name in ("fp32", "bf16"):
        model = build("gpt2")
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
        ids = torch.arange(65)[None] * 7 % 97
        for _ in range(30):
            with precision(model, name):
                loss = model(ids[:, :-1], ids[:, 1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] < 4
    assert abs(losses[1] - losses[0]) < 0.02


def test_fp16_is_refused_with_the_reason_and_another_name_with_the_choice():
    with pytest.raises(JourneyError, match="gradients below 6e-8 become 0"), precision(build("gpt2"), "fp16"):
        pass
    with pytest.raises(JourneyError, match='unknown precision "int8": choose fp32 or bf16'):
        precision(build("gpt2"), "int8").__enter__()


@pytest.mark.parametrize(("slower", "name"), [(1.4, "fp32"), (1.6, "bf16"), (0.1, "fp32")])
def test_the_faster_type_is_found_by_measuring(monkeypatch, slower, name):
    monkeypatch.setattr(module, "seconds_of_product", lambda of, side: slower if of == "fp32" else 1.0)
    assert fastest("cpu") == (name, f"this CPU multiplies bf16 {slower} times as fast as fp32")
    assert fastest("mps")[0] == "fp32"


def test_measuring_takes_a_moment():
    import time

    start = time.process_time()
    assert fastest("cpu")[0] in module.PRECISIONS
    assert time.process_time() - start < 5  # of the slowest CPUs
