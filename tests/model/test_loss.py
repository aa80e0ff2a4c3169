"""The loss that never holds all logits, against torch's of all logits."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.model import loss
from journey.model.config import GPTConfig
from journey.model.gpt import GPT


def both(x, weight, targets, scale=1.0):
    """(loss, gradient of x, gradient of the weight): ours, and in fp32 of all logits."""
    results = []
    for function in (loss.linear_cross_entropy, lambda x, w, t: F.cross_entropy(x @ w.mT, t)):
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        low = function is loss.linear_cross_entropy
        with torch.autocast("cpu", torch.bfloat16, enabled=low and torch.is_autocast_enabled("cpu")):
            value = function(x, weight, targets)
        (value * scale).backward()
        results.append((value.detach(), x.grad, weight.grad))
    return results


def far(ours, theirs):
    """How far apart, as a share of the size."""
    return ((ours - theirs).norm() / theirs.norm().clamp(min=1e-30)).item()


@pytest.fixture
def without_torchs(monkeypatch):
    """As in torch 2.11."""
    monkeypatch.delattr(F, "linear_cross_entropy", raising=False)


@settings(max_examples=60, deadline=None, database=None)
@given(
    N=st.integers(1, 200),
    C=st.integers(1, 40),
    V=st.integers(1, 300),
    at_a_time=st.sampled_from([1, 5_000, 2**20]),
    ignored=st.sampled_from([0.0, 0.4, 0.97]),
    scale=st.sampled_from([1.0, -0.25]),
    low=st.booleans(),
    seed=st.integers(0, 9),
)
def test_loss_and_gradients_are_those_of_all_logits(N, C, V, at_a_time, ignored, scale, low, seed):
    generator = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(N, C, generator=generator), torch.randn(V, C, generator=generator) / C**0.5
    targets = torch.randint(V, (N,), generator=generator)
    targets[torch.rand(N, generator=generator) < ignored] = -100
    targets[-1] = V - 1  # one is counted
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16, enabled=low):
        patch.delattr(F, "linear_cross_entropy", raising=False)
        patch.setitem(loss._AT_A_TIME, "cpu", at_a_time)
        ours, theirs = both(x, weight, targets, scale)
    assert [value.dtype for value in ours] == [torch.float32] * 3
    assert abs(ours[0] - theirs[0]) < (0.03 if low else 1e-5)
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        # In bf16 what is added up in fp32 errs by its own rounding alone, 2^-9, and not by the number of chunks.
        assert far(one, other) < (0.02 if low and V > 1 else 1e-5) or other.norm() < 1e-6


@pytest.mark.parametrize("low", [False, True])
def test_none_counted_is_not_a_number_as_torchs(without_torchs, low):
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        ours, theirs = both(torch.randn(5, 4), torch.randn(7, 4), torch.full((5,), -100))
    assert ours[0].isnan() and theirs[0].isnan()


def test_a_bf16_weight_keeps_its_type_and_adds_up_in_fp32(without_torchs, monkeypatch):
    """In a hundred chunks of one direction a sum in bf16 would stop growing."""
    monkeypatch.setitem(loss._AT_A_TIME, "cpu", 1)
    x, weight = torch.ones(64 * 600, 2, dtype=torch.bfloat16), torch.zeros(2, 2, dtype=torch.bfloat16)
    ours, theirs = both(x, weight, torch.zeros(len(x), dtype=torch.int64))
    assert ours[2].dtype == torch.bfloat16
    assert far(ours[2].float(), torch.tensor([[-0.5, -0.5], [0.5, 0.5]])) < 0.01
    del theirs


def test_no_gradient_is_made_where_none_is_wanted(without_torchs):
    x, weight, targets = torch.randn(9, 4), torch.randn(7, 4, requires_grad=True), torch.arange(9) % 7
    with torch.no_grad():
        assert loss.linear_cross_entropy(x, weight, targets).grad_fn is None
    frozen = loss.linear_cross_entropy(x, weight.detach(), targets)
    assert torch.allclose(frozen, F.cross_entropy(x @ weight.mT, targets))


def test_never_more_than_a_chunk_of_logits(without_torchs, monkeypatch):
    """The largest tensor that any operation makes."""
    monkeypatch.setitem(loss._AT_A_TIME, "cpu", 64 * 1000)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                largest = max(largest, made.numel())
            return made

    x, weight = torch.randn(1024, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    with Watch():
        loss.linear_cross_entropy(x, weight, torch.zeros(1024, dtype=torch.int64)).backward()
    assert largest == 64 * 1000


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_a_model_trains_alike_with_torchs_function_and_without(monkeypatch, family, tied):
    """A vocabulary padded to more rows than there are ids, some documents, some targets not counted."""
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, 128, 32, 2, 32, tied=tied))
    model.n_tokens = 97
    ids = torch.randint(97, (3, 33))
    targets = ids[:, 1:].masked_fill(torch.rand(3, 32) < 0.3, -100)
    results = []
    for _ in range(2):
        model.zero_grad()
        value = model(ids[:, :-1], targets, documents=(ids[:, :-1] % 9 == 0).cumsum(1))
        value.backward()
        results.append([value.detach(), *(p.grad.clone() for p in model.parameters())])
        monkeypatch.delattr(F, "linear_cross_entropy", raising=False)
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() < 1e-5 * max(1e-3, other.norm())  # of a bias of keys it is 0 but for rounding
