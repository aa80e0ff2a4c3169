"""A compiled model, and what happens where it cannot be compiled."""

import pytest
import torch

from journey.model import compiled as module
from journey.model.compiled import compiled, missing, seconds
from journey.model.config import GPTConfig
from journey.model.gpt import GPT


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(GPTConfig.make("qwen3", 97, 32, 1, 32))


def rows():
    ids = torch.randint(97, (2, 33), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1], ids[:, 1:], (ids[:, :-1] % 9 == 0).cumsum(1)


def losses(model, function, times=1):
    ids, targets, documents = rows()
    results = []
    for _ in range(times):
        model.zero_grad()
        loss = function(ids, targets, documents=documents)
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    return results


@pytest.mark.slow  # a compiler of C++ takes half a minute
@pytest.mark.skipif(missing("cpu") is not None, reason="there is no compiler")
def test_compiled_is_what_is_not_compiled(model):
    said = []
    (expected,) = losses(model, model)
    for found in losses(model, compiled(model, said.append), 2):
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, theirs.abs().max())
    assert said == []


def broken(monkeypatch, *errors):
    """torch.compile makes what raises these in turn, and then computes."""
    left = list(errors)

    def fake(model, dynamic):
        def call(*args, blocks, **more):
            if left and (error := left.pop(0)) is not None:
                raise error
            return model(*args, **more)

        return call

    monkeypatch.setattr(module.torch, "compile", fake)
    return left


def test_where_compiling_fails_one_line_is_said_and_training_goes_on(model, monkeypatch):
    broken(
        monkeypatch, RuntimeError("C++ compile error\n\nCommand:\ng++ ...\n" + "x" * 9999), RuntimeError("never asked")
    )
    said = []
    (expected,) = losses(model, model)
    for found in losses(model, compiled(model, said.append), 2):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert said == ["not compiled, going on without: RuntimeError: C++ compile error"]


@pytest.mark.parametrize(
    "errors", [[torch.OutOfMemoryError("too large")], [None, RuntimeError("a fault of the step, not of the compiler")]]
)
def test_what_is_no_fault_of_the_compiler_is_raised(model, monkeypatch, errors):
    broken(monkeypatch, *errors)
    said = []
    with pytest.raises(type(errors[-1])):
        losses(model, compiled(model, said.append), 2)
    assert said == []


@pytest.mark.parametrize(
    ("device", "there", "found"),
    [
        ("cpu", {"g++"}, None),
        ("cpu", {"c++"}, None),
        ("cpu", {"gcc"}, "there is no C++ compiler: install g++"),
        ("cuda", set(), "there is no C compiler: install gcc"),
        ("cuda", {"gcc"}, "triton is not installed"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, device, there, found):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(module.shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert missing(device) == found


def test_the_seconds_grow_with_the_blocks(model):
    assert 5 < seconds(model) < seconds(GPT(GPTConfig.make("qwen3", 97, 32, 4, 32))) < 60
