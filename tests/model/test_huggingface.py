"""The folder on disk: opened by transformers, read back from transformers, and refused by name when it is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config

from journey.errors import JourneyError
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.families import FAMILIES
from journey.model.gpt import GPT

THEIRS = {
    "gpt2": GPT2Config(vocab_size=97, n_positions=32, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
    "llama": LlamaConfig(
        vocab_size=97, max_position_embeddings=32, hidden_size=32, intermediate_size=80, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    ),
    "qwen2": Qwen2Config(
        vocab_size=97, max_position_embeddings=32, hidden_size=32, intermediate_size=80, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    ),
    "qwen3": Qwen3Config(
        vocab_size=97, max_position_embeddings=32, hidden_size=32, intermediate_size=80, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=12, tie_word_embeddings=True, rms_norm_eps=1e-5,
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A small saved qwen3."""
    huggingface.save(GPT(GPTConfig.make("qwen3", 97, 32, 2, 32, 4, 2)), tmp_path, bos=1, eos=2, pad=3)
    return tmp_path


@pytest.mark.parametrize("family", FAMILIES)
def test_their_model_is_ours_and_back_again_bit_for_bit(family, tmp_path):
    reference = AutoModelForCausalLM.from_config(THEIRS[family]).eval()  # their default for gpt2 has dropout
    reference.save_pretrained(tmp_path / "theirs")
    model = huggingface.load(tmp_path / "theirs")
    ids = torch.randint(97, (2, 32))
    assert (model(ids) - reference(ids).logits).abs().max() < 1e-4

    huggingface.save(model, tmp_path / "ours")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    for name, tensor in reference.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_shards_are_put_together(tmp_path):
    reference = AutoModelForCausalLM.from_config(THEIRS["llama"])
    reference.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    ids = torch.randint(97, (1, 8))
    assert (huggingface.load(tmp_path)(ids) - reference(ids).logits).abs().max() < 1e-4
    last = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    last.unlink()
    with pytest.raises(JourneyError, match=f"{last.name} is missing"):
        huggingface.load(tmp_path)


def test_openai_gpt2_layout_without_prefix_and_with_causal_masks_opens(tmp_path):
    """The file that OpenAI's GPT-2 has on the Hub: no `transformer.` in front, and a mask in every block."""
    reference = AutoModelForCausalLM.from_config(THEIRS["gpt2"]).eval()
    reference.transformer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert "wte.weight" in weights
    weights["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    save_file(weights, tmp_path / "model.safetensors")
    _change(tmp_path, architectures=["GPT2LMHeadModel"])
    ids = torch.randint(97, (1, 8))
    assert (huggingface.load(tmp_path)(ids) - reference(ids).logits).abs().max() < 1e-4


def test_half_precision_is_read_as_fp32(tmp_path):
    reference = AutoModelForCausalLM.from_config(THEIRS["qwen3"], dtype=torch.bfloat16)
    reference.save_pretrained(tmp_path)
    model = huggingface.load(tmp_path)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert torch.equal(model.embed.weight, reference.model.embed_tokens.weight.float())


def test_loading_keeps_the_tie_and_the_random_state(folder):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    model = huggingface.load(folder)
    assert torch.equal(torch.rand(1), expected)
    assert model.head.weight is model.embed.weight
    assert sum(p.numel() for p in model.parameters()) == model.config.n_params


def test_config_json_states_what_other_tools_read(folder, tmp_path):
    saved = json.loads((folder / "config.json").read_text())
    assert saved["architectures"] == ["Qwen3ForCausalLM"]
    assert (saved["bos_token_id"], saved["eos_token_id"], saved["pad_token_id"]) == (1, 2, 3)
    assert saved["rope_theta"] == saved["rope_parameters"]["rope_theta"] == 10000.0
    gpt2 = GPT(GPTConfig.make("gpt2", 97, 32, 1, 32))
    huggingface.save(gpt2, tmp_path / "gpt2")
    saved = json.loads((tmp_path / "gpt2" / "config.json").read_text())
    assert saved["n_ctx"] == saved["n_positions"] == 32
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2").train()
    ids = torch.randint(97, (1, 32))
    assert (reference(ids).logits - gpt2(ids)).abs().max() < 1e-4  # no dropout in a later stage that we did not have
    assert AutoModel.from_pretrained(folder).config.head_dim == 8


def _change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def _weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("size", [0, 7, 1000, -1])
def test_cut_off_weights_are_refused(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(JourneyError, match=r"model\.safetensors is damaged or cut off"):
        huggingface.load(folder)


def test_weights_that_do_not_fit_are_refused_by_name(folder):
    name = "model.layers.1.mlp.up_proj.weight"
    _weights(folder, lambda weights: weights.update({name: torch.zeros(3, 32)}))
    with pytest.raises(JourneyError, match=rf"{name} is \(3, 32\), where \(128, 32\) is needed"):
        huggingface.load(folder)
    _weights(folder, lambda weights: weights.pop(name))
    with pytest.raises(JourneyError, match=f"{name} is missing"):
        huggingface.load(folder)
    _weights(folder, lambda weights: weights.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}))
    with pytest.raises(JourneyError, match=r"q_proj\.bias is no part of a qwen3 as we compute it"):
        huggingface.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(JourneyError, match=r"model\.safetensors is missing"):
        huggingface.load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architectures": ["BertModel"], "model_type": "bert"}, "unknown architecture BertModel"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "unknown architecture Qwen3ForSequenceClassification"),
        ({"model_type": None, "architectures": None}, "unknown architecture None"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', we compute 'silu' alone"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary positions are scaled"),
        ({"hidden_size": 64}, r"embed_tokens.weight is \(97, 32\), where \(97, 64\) is needed"),
        ({"num_attention_heads": 3}, "n_head 3 is no multiple of n_kv_head 2"),
    ],
)
def test_a_model_that_we_compute_differently_is_refused(folder, values, message):
    _change(folder, **values)
    with pytest.raises(JourneyError, match=message):
        huggingface.load(folder)


QWEN25 = {  # of Qwen2.5-0.5B's config.json, what has no place in ours
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "max_window_layers": 24,
    "sliding_window": 32768,
    "use_cache": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "torch_dtype": "bfloat16",
    "rope_theta": 1e6,
}


@torch.inference_mode()
def test_the_keys_of_qwens_own_config_json_change_nothing(tmp_path):
    reference = AutoModelForCausalLM.from_config(THEIRS["qwen2"]).eval()
    for name, parameter in reference.named_parameters():
        if name.endswith("bias"):
            parameter.normal_()
    reference.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"], config["layer_types"]
    (tmp_path / "config.json").write_text(json.dumps(config | QWEN25))
    ids = torch.randint(97, (1, 32))
    for more in ({}, {"layer_types": ["full_attention"] * 2}, {"rope_scaling": None, "attention_bias": True}):
        _change(tmp_path, **more)
        expected = AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits
        assert (huggingface.load(tmp_path)(ids) - expected).abs().max() < 1e-4
    huggingface.save(huggingface.load(tmp_path), tmp_path / "ours")
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert "attention_bias" not in written and written["use_sliding_window"] is False

    for wrong, said in [
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "other than full_attention"),
        ({"head_dim": 16}, "qwen2 needs n_head x head_dim = n_embd, not 4 x 16"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rotary positions are scaled"),
    ]:
        kept = (tmp_path / "config.json").read_text()
        _change(tmp_path, **wrong)
        with pytest.raises(JourneyError, match=said):
            huggingface.load(tmp_path)
        (tmp_path / "config.json").write_text(kept)


def test_no_checkpoint_and_missing_keys_are_named(folder, tmp_path):
    with pytest.raises(JourneyError, match=r"is no checkpoint: it has no config\.json"):
        huggingface.load(tmp_path / "nowhere")
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(JourneyError, match="the key 'hidden_size' is missing"):
        huggingface.load(folder)
