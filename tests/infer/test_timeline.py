"""The timeline of an answer: the engine's own text, and FLOPs and bytes that a counter of real tensors confirms."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from journey.errors import JourneyError
from journey.infer.engine import cache_bytes_per_token, generate
from journey.infer.timeline import flops, moved, timeline
from journey.infer.torch_runner import PagedCache
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

V, N_CTX = 97, 48
SHAPES = [("gpt2", None, True), ("llama", 2, False), ("qwen3", 1, True)]


class Letters:
    """As much of a tokenizer as a timeline asks for."""

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(33 + i) for i in ids)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda p: p[0])
def model(request):
    family, n_kv_head, tied = request.param
    torch.manual_seed(1)
    model = GPT(GPTConfig.make(family, V, N_CTX, 2, 32, 4, n_kv_head, tied))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + name.endswith("norm.weight"))
    return model.eval()


def made(model, prompt, n=10, stop=frozenset()):
    return timeline(model, Letters(), prompt, max_new_tokens=n, stop=set(stop), repeats=2)


def test_it_is_the_engines_greedy_answer_pass_by_pass(model):
    prompt = [5, 1, 80, 33, 2, 9, 9]
    (free,) = generate(model, [prompt], max_new_tokens=10, stop=set())
    stop = {free.ids[6]}
    (expected,) = generate(model, [prompt], max_new_tokens=10, stop=stop)
    found = made(model, prompt, stop=stop)
    passes = [found["prefill"], *found["steps"]]
    assert "".join(p["text"] for p in passes) == Letters().decode(expected.ids)
    assert found["answer"] == Letters().decode([i for i in expected.ids if i not in stop])
    assert [p["tokens"] for p in passes] == [7] + [1] * (len(expected.ids) - 1)
    assert all(p["ms"] > 0 for p in passes)
    grown = [p["cache_bytes"] for p in passes]
    assert grown == [(7 + i) * cache_bytes_per_token(model) for i in range(len(passes))]
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(("before", "T"), [(0, 1), (0, 11), (13, 1)])
@torch.inference_mode()
def test_flops_are_those_that_a_counter_sees(model, before, T):
    cache = PagedCache(model.config, 2, torch.device("cpu"), torch.float32)
    table = torch.arange(2)[None]
    if before:
        cache.look(table, torch.tensor([0]), torch.tensor([before]))
        model.hidden(torch.arange(before)[None], cache=cache)
    cache.look(table, torch.tensor([before]), torch.tensor([T]))
    with FlopCounterMode(display=False) as counter:
        x = model.hidden(torch.arange(T)[None], cache=cache, trace={})  # attention written out, so that it is counted
        model.head(x[:, -1])
    seen = counter.get_flop_counts()["Global"]
    attention = sum(n for op, n in seen.items() if "bmm" in str(op))
    S = before + T
    causal = sum(range(before + 1, S + 1)) / (T * cache.slots.size(1))  # what a query may not see was counted too
    assert flops(model.config, T, S) == sum(seen.values()) - attention + causal * attention


def test_bytes_are_those_of_the_tensors(model):
    T, S = 3, 9
    cache = PagedCache(model.config, 1, torch.device("cpu"), torch.float32)
    per_token = sum(kept.nbytes for kept in cache.kept) // cache.kept[0].size(1)
    assert cache_bytes_per_token(model) == per_token
    weights = sum(p.nbytes for p in model.parameters())
    if model.positions is not None:
        weights -= model.positions.weight[T:].nbytes
    if not model.config.tied:
        weights -= model.embed.weight[T:].nbytes
    assert moved(model, T, S) == weights + (T + S) * per_token


def test_an_answer_may_be_one_token_and_must_be_one(model):
    prompt = [3, 4, 5]
    (free,) = generate(model, [prompt], max_new_tokens=1, stop=set())
    found = made(model, prompt, stop=free.ids)
    assert found["steps"] == [] and found["answer"] == "" and found["prefill"]["text"]
    full = made(model, list(range(N_CTX - 1)))  # one place is left in the context
    assert full["steps"] == []
    for prompt, n, said in [([], 5, "prompt is empty"), ([1] * N_CTX, 5, "shorten"), ([1], 0, "max_new_tokens")]:
        with pytest.raises(JourneyError, match=said):
            made(model, prompt, n)
