"""Activation-aware scales: the model computes what it did, and no layer's output on the text comes out worse."""

import copy

import pytest
import torch

from journey.model import awq, quantized
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

ROWS = [[(7 * i + 3 * j) % 90 for i in range(20 + j)] for j in range(12)]
IDS = torch.tensor([row[:20] for row in ROWS])
FAMILIES = ("gpt2", "llama", "qwen2", "qwen3")


def make(family, n_kv_head=None):
    """A model whose embedding has some channels that are far larger than the others, as those of large models have."""
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, 90, 64, 2, 64, 4, n_kv_head)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1 if parameter.dim() > 1 or "bias" in name else 0.3)
        for block in model.blocks:
            for norm in (block.attention_norm, block.mlp_norm):
                norm.weight[::16] *= 20
    return model


def outputs(model, rows):
    """What each linear layer reads and gives, by name, over all rows."""
    found, hooks = {}, []
    for name, layer in quantized.linears(model, False):
        hooks.append(
            layer.register_forward_hook(lambda m, x, y, name=name: found.setdefault(name, []).append((x[0], y)))
        )
    with torch.no_grad():
        for row in rows:
            model.hidden(torch.tensor([row]))
    for hook in hooks:
        hook.remove()
    return {
        name: [torch.cat([each[i].flatten(0, -2) for each in seen]) for i in (0, 1)] for name, seen in found.items()
    }


@pytest.mark.parametrize(("family", "n_kv_head"), [*((f, None) for f in FAMILIES), *((f, 2) for f in FAMILIES[1:])])
def test_the_model_computes_what_it_did(family, n_kv_head):
    model = make(family, n_kv_head)
    before = copy.deepcopy(model)
    choices = awq.apply(model, ROWS, 4, 32)
    assert any(choice.alpha > 0 for choice in choices)
    assert not torch.equal(model.blocks[0].attention.q.weight, before.blocks[0].attention.q.weight)
    with torch.inference_mode():
        torch.testing.assert_close(model(IDS), before(IDS), rtol=1e-5, atol=1e-5 * before(IDS).abs().max().item())
    assert torch.equal(model.embed.weight, before.embed.weight)


@pytest.mark.parametrize(
    ("family", "n_kv_head", "scaled"),
    [
        ("gpt2", None, {"q,k,v", "o", "up"}),
        ("llama", None, {"q,k,v", "o", "gate,up", "down"}),
        ("llama", 2, {"q,k,v", "gate,up", "down"}),
        ("qwen2", 1, {"q,k,v", "gate,up", "down"}),
    ],
)
def test_what_can_be_scaled_is(family, n_kv_head, scaled):
    found = [",".join(n.rpartition(".")[2] for n in fold.names) for fold in awq.folds(make(family, n_kv_head))]
    assert {*found} == scaled and len(found) == 2 * len(scaled)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_output_comes_out_worse_on_the_text(family):
    """By the layers' true outputs over the very rows, not by the matrices of products that the search goes by."""
    plain = make(family)
    model = copy.deepcopy(plain)
    choices, seen = awq.apply(model, ROWS, 4, 32), outputs(plain, ROWS)

    def error(choice, made, inputs):
        """Of the layers of a fold together; in the scaled model their inputs are what they read there."""
        off = size = 0.0
        for name in choice.names:
            x, _ = inputs[name]
            layer = made.get_submodule(name)
            values, scale = quantized.rounded(layer.weight, 4, 32, name)
            rounded = quantized.QuantizedLinear(4, values, scale).weight
            off += float((x @ (rounded - layer.weight).detach().T).square().sum())
            size += float((seen[name][0] @ plain.get_submodule(name).weight.detach().T).square().sum())
        return (off / size) ** 0.5

    after, gains = outputs(model, ROWS), []
    for choice in choices:
        assert choice.error <= choice.error_unscaled
        assert error(choice, plain, seen) == pytest.approx(choice.error_unscaled, rel=1e-3)
        if not choice.names[0].endswith((".v", ".up")):  # whose own rows the next fold has divided
            gains.append(choice.error / choice.error_unscaled)
        if choice.names[0].endswith((".o", ".down")):  # whose outputs nothing divides: the same in both models
            assert error(choice, model, after) == pytest.approx(choice.error, rel=1e-3)
    assert min(gains) < 0.9, "where some inputs are far larger than others, it helps"


def test_inputs_that_are_never_there_and_a_text_of_one_token():
    model = make("llama")
    with torch.no_grad():
        model.blocks[0].attention_norm.weight[3] = 0  # never read
        model.blocks[1].mlp_norm.weight.zero_()
    before = copy.deepcopy(model)
    choices = awq.apply(model, [[5]], 4, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(IDS), before(IDS), rtol=1e-5, atol=1e-5 * before(IDS).abs().max().item())
    dead = next(choice for choice in choices if choice.names[0] == "blocks.1.mlp.gate")
    assert (dead.alpha, dead.error) == (0, 0)


def test_scales_lie_around_one():
    usual = torch.tensor([0.0, 1e-9, 0.5, 8.0])
    assert torch.equal(awq.scales(usual, 0.0), torch.ones(4))
    found = awq.scales(usual, 0.5)
    assert found.isfinite().all() and (found > 0).all() and (found.diff() >= 0).all()
    assert float(found.max() * found.min()) == pytest.approx(1)
