"""Rotary positions beyond the context of the first training, as Llama 3.1 has them: read in every spelling, computed as
transformers does, written so that transformers 4 and 5, vLLM and llama.cpp's converter read them."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from journey.errors import JourneyError
from journey.infer import engine, gguf
from journey.model import huggingface
from journey.model.config import GPTConfig, RopeScaling
from journey.model.gpt import GPT
from journey.model.layers import rope_frequencies

N, FIRST = 128, 32  # positions now, and in the first training
SHAPE = {"max_position_embeddings": N, "head_dim": 32}
FACTORS = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 = {"rope_type": "llama3", **FACTORS, "original_max_position_embeddings": FIRST}
LINEAR = {"rope_type": "linear", "factor": 4.0}
OURS = RopeScaling("llama3", 8.0, original_n_ctx=FIRST)
# What stands in config.json, beside rope_theta, and what it means.
SPELLINGS = {
    "transformers 5": ({"rope_parameters": {"rope_theta": 1e4, **LLAMA3}}, OURS),
    "transformers 4": ({"rope_scaling": LLAMA3, "rope_theta": 1e4}, OURS),
    "with both names": ({"rope_scaling": {"type": "llama3", **LLAMA3}, "rope_theta": 1e4}, OURS),
    "type alone": ({"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 1e4}, RopeScaling("linear", 4.0)),
    "linear": ({"rope_parameters": {"rope_theta": 1e4, **LINEAR}}, RopeScaling("linear", 4.0)),
    "both, the older counts": (
        {"rope_scaling": LLAMA3, "rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5, **LINEAR}},
        OURS,
    ),
    "the first context beside it": (
        {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 7}, "original_max_position_embeddings": FIRST},
        OURS,
    ),
    "no first context": (
        {"rope_scaling": {"rope_type": "llama3", **FACTORS}, "rope_theta": 1e4},
        RopeScaling("llama3", 8.0, original_n_ctx=N),
    ),
    "none": ({"rope_scaling": None, "rope_theta": 1e4}, None),
}


def spelled(reference, folder, said):
    """The folder of a model, with rotary positions said so."""
    reference.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps(config | said))
    return folder


def far(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_logits_loss_and_gradients_are_transformers_at_all_positions(theirs, tmp_path, family, spelling):
    said, meant = SPELLINGS[spelling]
    folder = spelled(theirs(family, **SHAPE), tmp_path / "theirs", said)
    model = huggingface.load(folder)
    assert model.config.rope_scaling == meant and model.config.rope_theta == 1e4
    reference = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.randint(97, (2, N), generator=torch.Generator().manual_seed(1))
    expected = reference(ids, labels=ids)
    loss = model(ids[:, :-1], ids[:, 1:])
    assert far(model(ids), expected.logits) < 1e-4
    assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    loss.backward()
    expected.loss.backward()
    for name, mine in (("q_proj", "q"), ("k_proj", "k")):
        gradient = reference.get_submodule(f"model.layers.0.self_attn.{name}").weight.grad
        assert far(model.get_submodule(f"blocks.0.attention.{mine}").weight.grad, gradient) < 1e-4

    huggingface.save(model, tmp_path / "ours")
    assert huggingface.load(tmp_path / "ours").config == model.config
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert far(again(ids).logits, expected.logits) < 1e-4


@torch.inference_mode()
def test_the_scaling_is_seen_in_the_logits(theirs, tmp_path):
    """Unscaled, or scaled in another way, the same weights compute something else: the comparison above could fail."""
    reference = theirs("llama", **SHAPE)
    ids = torch.randint(97, (1, N), generator=torch.Generator().manual_seed(1))
    logits = [
        huggingface.load(spelled(reference, tmp_path / f"{n}", SPELLINGS[name][0]))(ids)
        for n, name in enumerate(("none", "transformers 5", "linear", "no first context"))
    ]
    assert all(far(a, b) > 1e-2 for n, a in enumerate(logits) for b in logits[:n])


@torch.inference_mode()
def test_greedy_text_with_a_cache_is_transformers_beyond_the_first_context(theirs, tmp_path):
    folder = spelled(theirs("llama", **SHAPE), tmp_path, SPELLINGS["transformers 5"][0])
    reference, model = AutoModelForCausalLM.from_pretrained(folder), huggingface.load(folder)
    ids = torch.randint(97, (1, FIRST - 4), generator=torch.Generator().manual_seed(1))
    room = {"do_sample": False, "max_new_tokens": N - ids.size(1), "min_new_tokens": N - ids.size(1)}
    expected = reference.generate(ids, **room, pad_token_id=0)
    (found,) = engine.generate(model, ids.tolist(), max_new_tokens=N, stop=set())
    assert ids[0].tolist() + found.ids == expected[0].tolist()


@pytest.mark.parametrize(
    ("head_dim", "theta", "scaling"),
    [
        (128, 5e5, RopeScaling("llama3", 8.0)),  # Llama 3.1
        (64, 5e5, RopeScaling("llama3", 32.0)),  # Llama 3.2 1B
        (32, 1e4, OURS),
        (10, 1e6, RopeScaling("linear", 2.5)),
    ],
)
def test_frequencies_are_transformers_bit_for_bit(head_dim, theta, scaling):
    """At position 131,071 a rounding of a frequency is a thousandth of a turn and more."""
    rope = {"rope_theta": theta, "rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        rope["original_max_position_embeddings"] = scaling.original_n_ctx
    config = LlamaConfig(head_dim=head_dim, max_position_embeddings=131_072, rope_parameters=rope)
    expected, _ = ROPE_INIT_FUNCTIONS[scaling.kind](config, "cpu")
    assert torch.equal(rope_frequencies(head_dim, theta, scaling), expected)


def test_a_gguf_file_has_the_factors_that_llama_cpps_converter_writes():
    config = GPTConfig("llama", 97, N, 1, 4, 2, 32, 32, 64, rope_scaling=OURS)
    found = dict(gguf.tensors(GPT(config)))["rope_freqs.weight"].tolist()
    expected = []
    for i in range(0, 32, 2):  # by the paper's words: waves in positions, and how often they fit into the first context
        turns = FIRST / (2 * math.pi * 1e4 ** (i / 32))
        smooth = (turns - 1) / (4 - 1)
        expected.append(1 if turns > 4 else 8 if turns < 1 else 1 / ((1 - smooth) / 8 + smooth))
    assert {1, 8} < set(expected), "frequencies of all three kinds"
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "are scaled .*'yarn'.* linear and llama3",
        ),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "are scaled .*'dynamic'"),
        ({"rope_scaling": {"type": "su", "long_factor": [1.0]}}, "are scaled .*'su'"),
        ({"rope_parameters": {"rope_type": "longrope", "long_factor": [1.0]}}, "are scaled .*'longrope'"),
        ({"rope_parameters": {"full_attention": LLAMA3}}, "differ by layer"),
        ({"rope_scaling": {"rope_type": "linear"}}, "the key 'factor' is missing"),
        ({"rope_scaling": {"factor": 2.0, "rope_type": ["linear"]}}, "are scaled"),
        ({"rope_scaling": LINEAR | {"factor": "8"}}, "factor is '8', where a number belongs"),
        ({"rope_scaling": LINEAR | {"factor": 0.5}}, "factor of rotary positions is 0.5: .* at least 1"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "low_freq_factor is 4.0, high_freq_factor 4.0"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": None}}, "low_freq_factor is None, where a number belongs"),
        ({"rope_scaling": {k: v for k, v in LLAMA3.items() if k != "high_freq_factor"}}, "'high_freq_factor' is miss"),
        ({"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 0}}, "embeddings is 0: it must be from 1"),
        ({"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8e3}}, "where a whole number belongs"),
    ],
)
def test_another_scaling_is_refused_by_name(theirs, tmp_path, said, message):
    with pytest.raises(JourneyError, match=message) as error:
        huggingface.load(spelled(theirs("llama"), tmp_path, said))
    assert "config.json" in str(error.value) and "\n" not in str(error.value)


def test_what_llama_cpp_does_not_scale_becomes_no_file():
    model = GPT(GPTConfig("qwen3", 97, N, 1, 4, 2, 32, 32, 64, rope_scaling=OURS))
    with pytest.raises(JourneyError, match="does not scale the rotary positions of a qwen3 as llama3"):
        gguf.check(model, ["f32"])
