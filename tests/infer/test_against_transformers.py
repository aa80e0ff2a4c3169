"""Greedy text of 200 prompts of many lengths, token for token what transformers writes: alone, together, with what the
cache has from before, with so few blocks that sequences are sent back, with guesses, by the kernel and by torch."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from journey.infer import build, runner
from journey.infer.engine import Engine
from journey.infer.native import Native
from journey.infer.sequence import Request
from journey.infer.speculate import repeat
from journey.infer.torch_runner import TorchRunner
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

V, N_CTX, NEW = 97, 128, 8
STOP = frozenset({11, 42})


@pytest.fixture(scope="module")
def prompts():
    """Lengths from 1 to nearly the context; every third begins as others do."""
    random = torch.Generator().manual_seed(7)
    shared = torch.randint(V, (70,), generator=random).tolist()
    found = []
    for i in range(200):
        n = 1 + i * (N_CTX - NEW) // 210 if i % 3 else 1 + i % 30
        own = torch.randint(V, (n,), generator=random).tolist()
        found.append(own if i % 3 else shared[: 3 + i % 68] + own)
    return found


@pytest.fixture(scope="module", params=["gpt2", "qwen3"])
def written(request, prompts, tmp_path_factory):
    """A model, and what transformers writes after each prompt."""
    torch.manual_seed(1)
    model = GPT(GPTConfig.make(request.param, V, N_CTX, 2, 32, 4, 2 if request.param == "qwen3" else None))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + name.endswith("norm.weight"))
    folder = tmp_path_factory.mktemp(request.param)
    huggingface.save(model, folder, bos=1, eos=None, pad=0)
    reference = AutoModelForCausalLM.from_pretrained(folder)
    more = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": sorted(STOP), "pad_token_id": 0}
    texts = []
    for ids in prompts:  # with a mask: without one, it takes an id 0 in the prompt for padding
        row = torch.tensor([ids])
        texts.append(reference.generate(row, attention_mask=torch.ones_like(row), **more)[0, len(ids) :].tolist())
    return model, texts


@pytest.mark.parametrize("by", [Native, TorchRunner], ids=lambda by: by.name)
@pytest.mark.parametrize(
    ("settings", "twice"),
    [
        pytest.param({"sequences": 1}, False, id="alone"),
        pytest.param({"sequences": 50, "tokens": 60}, False, id="together"),
        pytest.param({"sequences": 20, "tokens": 33, "n_blocks": 17}, False, id="sent back"),
        pytest.param({"sequences": 30, "n_blocks": 2000}, True, id="found in the cache"),
        pytest.param({"sequences": 7, "guess": repeat}, False, id="guessed"),
    ],
)
def test_it_is_transformers_text(written, prompts, settings, twice, by, monkeypatch):
    if by is Native and not build.available():
        pytest.skip("there is no C compiler")
    model, texts = written
    monkeypatch.setattr(runner, "make", by)
    sequences = []
    engine = Engine(model, **settings)
    for _ in range(1 + twice):
        sequences = [engine.add(Request(prompt=ids, max_new_tokens=NEW, stop=STOP)) for ids in prompts]
        while engine.busy:
            engine.step()
        assert [sequence.written for sequence in sequences] == texts
    if "n_blocks" in settings:
        assert any(sequence.preempted for sequence in sequences) != twice
    if twice:
        assert all(s.reused >= (len(s.request.prompt) - 1) // 16 * 16 for s in sequences)
    assert engine.blocks.free == engine.blocks.n
