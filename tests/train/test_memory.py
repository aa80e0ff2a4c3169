"""The plan of an adapter's memory against what a real step allocates, counted by torch's profiler, and on the shape of
Llama 3.1 8B, of which no weight is made."""

import dataclasses

import pytest
import torch
from peft import get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.sizes import llama_31_8b
from journey.train import memory
from journey.train.lora import Adapter, load_nf4, peft_config
from journey.train.trl import answer_nats

B, T, MARKS = 2, 128, (1, 2, 3)
SHAPES = {
    "llama": GPTConfig("llama", 512, 256, 3, 4, 2, 32, 128, 320, tied=False),
    "wide": GPTConfig("llama", 768, 256, 2, 6, 2, 32, 192, 704, tied=False),
    "tied": GPTConfig("llama", 512, 256, 3, 4, 2, 32, 128, 320),
    "qwen3": GPTConfig("qwen3", 512, 256, 3, 4, 2, 32, 128, 320),
    "qwen2": GPTConfig("qwen2", 512, 256, 3, 4, 2, 32, 128, 320),
    "gpt2": GPTConfig.make("gpt2", 512, 256, 3, 128),
}
ADAPTERS = {
    "qlora": Adapter(quantize="nf4", rank=8),
    "attention": Adapter(quantize="nf4", rank=4, targets="attention"),
    "mlp": Adapter(rank=4, targets="mlp"),
}


def model_of(shape, adapter, folder):
    torch.manual_seed(0)
    huggingface.save(GPT(shape), folder, bos=1, eos=2, pad=3)
    base = load_nf4(folder) if adapter.quantize else huggingface.in_transformers(folder)
    made = get_peft_model(base, peft_config(adapter, folder, MARKS)).train()
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return made


def bytes_of(tensors):
    stores = [tensor.untyped_storage() for tensor in tensors]
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())


def standing(model):
    """Bytes of weights, four bits' constants among them."""
    states = [p.quant_state for p in model.parameters() if getattr(p, "quant_state", None) is not None]
    constants = [t for s in states for t in (s.absmax, s.state2.absmax)]
    return bytes_of([*model.parameters(), *model.buffers(), *constants])


def most_allocated(step):
    """Bytes that a step holds at its fullest moment, beyond what there was."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize(("shape", "adapter"), [(s, "qlora") for s in SHAPES] + [("llama", a) for a in ADAPTERS][1:])
def test_it_is_what_a_step_takes(shape, adapter, tmp_path):
    shape, adapter = SHAPES[shape], ADAPTERS[adapter]
    model = model_of(shape, adapter, tmp_path)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    ids, answer = torch.randint(shape.vocab_size, (B, T)), torch.ones(B, T - 1, dtype=torch.bool)

    def step():
        answer_nats(model, ids, answer, "mean").backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # the moments stand from here on
    plan = {line.what: line.bytes for line in memory.adapting(shape, adapter, B, T, len(MARKS))}
    blocks = next(size for what, size in plan.items() if what.startswith("blocks in "))
    assert blocks + plan["embedding, head, norms"] + plan["adapter"] == pytest.approx(standing(model), rel=0.04)
    assert plan["adapter"] == plan["its gradients"] == 4 * sum(p.numel() for p in trained)
    moments = [t for state in optimizer.state.values() for name, t in state.items() if name.startswith("exp_avg")]
    assert plan["AdamW's two moments"] == bytes_of(moments)
    assert plan["activations"] + plan["logits"] == pytest.approx(most_allocated(step), rel=0.03)
    assert ("attention's scores" in plan) == (shape.n_kv_head < shape.n_head)
    if "attention's scores" in plan:
        with sdpa_kernel(SDPBackend.MATH):  # as a GPU computes it then; a CPU has a fused kernel
            most = most_allocated(step)
        assert plan["activations"] + plan["logits"] + plan["attention's scores"] == pytest.approx(most, rel=0.06)


def test_the_embeddings_gradient_counts_where_it_is_the_most(tmp_path):
    shape = dataclasses.replace(SHAPES["llama"], vocab_size=8192)
    model = model_of(shape, ADAPTERS["qlora"], tmp_path)
    ids, answer = torch.randint(shape.vocab_size, (1, 8)), torch.ones(1, 7, dtype=torch.bool)

    def step():
        answer_nats(model, ids, answer, "mean").backward()

    step()
    plan = {line.what: line.bytes for line in memory.adapting(shape, ADAPTERS["qlora"], 1, 8, len(MARKS))}
    assert plan["the embedding's gradient"] > 0
    found = sum([*plan.values()][5:])
    assert found == pytest.approx(most_allocated(step), rel=0.03)


def test_llama_31_8b_in_numbers_that_others_have_counted():
    shape = llama_31_8b()
    assert shape.n_params == 8_030_261_248  # as the Hub's page has it: 8.03B
    lines = memory.adapting(shape, Adapter(quantize="nf4", rank=64), 1, 512, 0)
    plan = {line.what: line.bytes for line in lines}
    assert plan["blocks in NF4"] == pytest.approx(6_979_321_856 * 0.516, rel=1e-3)
    assert plan["adapter"] == 4 * 167_772_160  # what PEFT prints of r = 64 on all linear layers of an 8B
    said = memory.said(shape, lines, 512)
    assert "8B parameters, 512 tokens at a time: fits a GPU of 24 GB" in said[0]
    whole = sum(plan.values())
    assert said[-1].split()[-2:] == [f"{whole / 1e9:.2f}", "GB"]
    lines = memory.adapting(shape, Adapter(quantize="nf4"), 16, 512, 0)
    assert "fits no GPU of 80 GB: more parts (accumulate)" in memory.said(shape, lines, 8192)[0]


# What opening a model takes: of an 8B a copy too many is 32 GB. The profiler counts the file's own pages, once.


def test_an_adapters_merged_model_is_held_once(tmp_path):
    shape = dataclasses.replace(SHAPES["llama"], n_layer=12)
    model_of(shape, Adapter(rank=4), tmp_path / "base").save_pretrained(tmp_path / "adapter")
    whole = (tmp_path / "base" / "model.safetensors").stat().st_size
    assert most_allocated(lambda: huggingface.load(tmp_path / "adapter")) < (1 + 1.15) * whole


def test_four_bits_are_made_a_matrix_at_a_time(tmp_path):
    shape = dataclasses.replace(SHAPES["llama"], n_layer=12)
    huggingface.save(GPT(shape), tmp_path, bos=1, eos=2, pad=3)
    whole = (tmp_path / "model.safetensors").stat().st_size
    kept = []
    assert most_allocated(lambda: kept.append(load_nf4(tmp_path))) < (1 + 0.3) * whole
