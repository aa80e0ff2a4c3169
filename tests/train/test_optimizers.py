"""Muon against the singular value decomposition and against torch's own, and a state that comes back."""

import pytest
import torch

from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.train.optimizers import Muon, make_optimizers, orthogonalize

SHAPES = [(24, 24), (16, 48), (48, 16), (96, 32)]


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_keeps_the_singular_vectors_and_brings_the_values_near_one(shape):
    G = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))  # (3, rows, columns)
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    found = U.mT @ orthogonalize(G) @ Vh.mT  # diagonal where the singular vectors are the same
    values = found.diagonal(dim1=-2, dim2=-1)
    assert (found - torch.diag_embed(values)).abs().max() < 1e-4
    # By the polynomial alone: a matrix's singular values go through it one by one.
    expected = S / S.norm(dim=-1, keepdim=True)
    large = expected > 0.02
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    torch.testing.assert_close(values, expected, atol=1e-4, rtol=1e-4)
    assert values[large].min() > 0.6 and values.max() < 1.25


def test_orthogonalize_does_not_care_for_the_size_of_a_gradient():
    G = torch.randn(16, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(orthogonalize(G), orthogonalize(1e-3 * G), atol=2e-3, rtol=0)
    assert orthogonalize(torch.zeros(4, 8)).abs().max() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_is_torchs_muon(shape):
    """Torch's works in bf16: its noise is the tolerance. A wrong momentum, scale or sign is far outside."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(shape, generator=generator)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    a = Muon([ours], lr=0.02)
    b = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, nesterov=True, weight_decay=0.0, adjust_lr_fn="original")
    for _ in range(5):
        gradient = torch.randn(shape, generator=generator)
        ours.grad, theirs.grad = gradient, gradient.clone()
        a.step()
        b.step()
    moved = (ours - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved


def test_one_stack_of_matrices_is_each_matrix_alone():
    generator = torch.Generator().manual_seed(3)
    start = [torch.randn(8, 12, generator=generator) for _ in range(3)]
    gradients = [torch.randn(8, 12, generator=generator) for _ in range(3)]
    together = [p.clone().requires_grad_() for p in start]
    for p, g in zip(together, gradients, strict=True):
        p.grad = g
    Muon(together, lr=0.1).step()
    for p, g, found in zip(start, gradients, together, strict=True):
        alone = p.clone().requires_grad_()
        alone.grad = g
        Muon([alone], lr=0.1).step()
        torch.testing.assert_close(alone, found)


@pytest.mark.parametrize("shape", [(8, 12), (36, 9)])
def test_a_parameter_that_is_a_stack_is_each_of_its_matrices_alone(shape):
    """As experts are, (E, rows, columns): the scale goes by rows and columns, and no expert by another's gradient."""
    generator = torch.Generator().manual_seed(4)
    start = torch.randn(3, *shape, generator=generator)
    stack, alone = start.clone().requires_grad_(), [p.clone().requires_grad_() for p in start]
    together, apart = Muon([stack], lr=0.1), Muon(alone, lr=0.1)
    for _ in range(3):
        stack.grad = torch.randn(3, *shape, generator=generator) * torch.tensor([1.0, 1e-3, 50.0])[:, None, None]
        for p, g in zip(alone, stack.grad, strict=True):
            p.grad = g.clone()
        together.step()
        apart.step()
    torch.testing.assert_close(stack, torch.stack(alone))
    assert (stack - start).flatten(1).norm(dim=1).min() > 0.1


def small(family="qwen3"):
    torch.manual_seed(0)
    return GPT(GPTConfig.make(family, 64, 16, 2, 32, n_head=2))


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_weight_has_one_optimizer_and_only_matrices_decay(family, name):
    model = small(family)
    made = make_optimizers(model, name, 1e-3, 0.02, 0.1)
    groups = [(type(o).__name__, group) for o in made.all for group in o.param_groups]
    given = [id(p) for _, group in groups for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in model.parameters())
    names = {id(p): key for key, p in model.named_parameters()}
    matrices = {key for key, p in model.named_parameters() if key.startswith("blocks.") and p.ndim == 2}
    for kind, group in groups:
        keys = {names[id(p)] for p in group["params"]}
        if kind == "Muon":
            assert keys == matrices
        elif group["weight_decay"]:
            assert name == "adamw" and keys == matrices
        else:
            assert not keys & matrices


def test_set_lr_is_a_share_of_each_peak():
    made = make_optimizers(small(), "muon", 1e-3, 0.02, 0.1)
    for share in (0.5, 0.25, 1.0):
        made.set_lr(share)
        assert {group["lr"] for o in made.all for group in o.param_groups} == {1e-3 * share, 0.02 * share}


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_the_state_comes_back_as_tensors(name):
    def one_step(model, made, seed):
        ids = torch.randint(64, (2, 9), generator=torch.Generator().manual_seed(seed))
        model(ids[:, :-1], ids[:, 1:]).backward()
        made.step()

    model = small()
    made = make_optimizers(model, name, 1e-2, 0.02, 0.1)
    one_step(model, made, 1)
    weights, state = {k: v.clone() for k, v in model.state_dict().items()}, made.tensors()
    state = {key: value.clone() for key, value in state.items()}
    one_step(model, made, 2)

    again = small()
    again.load_state_dict(weights)
    resumed = make_optimizers(again, name, 1e-2, 0.02, 0.1)
    resumed.load_tensors(state)
    one_step(again, resumed, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
