"""Checkpoints as others write them, against the model that they were written from."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from journey.errors import JourneyError
from journey.files import write_json
from journey.model import foreign, huggingface
from journey.model.families import FAMILIES

V, T, C, LAYERS, HEADS = 97, 32, 32, 2, 4
CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
IDS = torch.arange(24).unsqueeze(0) * 5 % V


def gpt2(bias=True, padded=0, tied=True):
    """A GPT-2 of transformers, nothing in it zero or one by default; `padded` rows more than it uses."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=V + padded, n_positions=T, n_embd=C, n_layer=LAYERS, n_head=HEADS, tie_word_embeddings=tied
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3) if bias or not name.endswith("bias") else parameter.zero_()
    return model


def linear(model, bias=True):
    """Its state dict as nanoGPT has it: nn.Linear's orientation."""
    return {
        name: tensor.t().contiguous() if name.endswith(CONV1D) else tensor.clone()
        for name, tensor in model.state_dict().items()
        if bias or not name.endswith(".bias")
    }


def args(model, **more):
    return {
        "n_layer": LAYERS, "n_head": HEADS, "n_embd": C, "block_size": T, "vocab_size": model.config.vocab_size,
        "bias": True, "dropout": 0.1,
    } | more  # fmt: skip


def same(source, reference, folder, tolerance=1e-4):
    """What is written of it is what it was, whoever computes it."""
    weights = {name: tensor.float().contiguous().clone() for name, tensor in source.tensors.items()}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    write_json(folder / "config.json", huggingface.config_json(source.config, 0, 0, 0))
    with torch.inference_mode():
        expected = reference(IDS).logits
        assert (huggingface.load(folder)(IDS) - expected).abs().max() < tolerance
        if source.logits:
            assert (source.logits(IDS) - expected).abs().max() < tolerance


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("bias", [True, False])
def test_nanogpts_checkpoint(tmp_path, prefix, bias):
    reference = gpt2(bias, padded=7)
    state = {prefix + name: tensor for name, tensor in linear(reference, bias).items()}
    saved = {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 6e-4, "betas": (0.9, 0.95)}]},
        "model_args": args(reference, bias=bias),
        "iter_num": 600000,
        "best_val_loss": torch.tensor(2.905),
        "config": {"dataset": "openwebtext", "learning_rate": 6e-4, "compile": True, "odd": float("nan")},
    }
    torch.save(saved, tmp_path / "ckpt.pt")
    source = foreign.read(tmp_path / "ckpt.pt")
    assert source.format == "nanoGPT" and source.config.vocab_size == V + 7 and source.config.tied
    assert source.facts["iter_num"] == 600000 and source.facts["best_val_loss"] == pytest.approx(2.905)
    assert source.facts["config"] == {"dataset": "openwebtext", "learning_rate": 6e-4, "compile": True}
    assert any("no biases" in note for note in source.notes) is not bias
    same(source, reference, tmp_path / "ours")
    # nanoGPT's newer GELU is not GPT-2's: that difference is what exact_gelu shows.
    exact = GPT2LMHeadModel(GPT2Config(**reference.config.to_dict() | {"activation_function": "gelu"})).eval()
    exact.load_state_dict(reference.state_dict())
    with torch.inference_mode():
        assert (source.exact_gelu(IDS) - exact(IDS).logits).abs().max() < 1e-4
        assert (source.exact_gelu(IDS) - source.logits(IDS)).abs().max() > 1e-4


BUILD_NANOGPT = """
import sys, torch
from dataclasses import dataclass

@dataclass
class GPTConfig:
    block_size: int = 1024
    vocab_size: int = 50257
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768

state = torch.load(sys.argv[1])
config = GPTConfig(block_size=32, vocab_size=97, n_layer=2, n_head=4, n_embd=32)
torch.save({"model": state, "config": config, "step": 19072, "val_loss": 3.0719}, sys.argv[2])
"""


def test_build_nanogpts_checkpoint_pickles_a_class_of_its_script(tmp_path):
    reference = gpt2()
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, T, T).tril() for i in range(LAYERS)}
    torch.save(linear(reference) | masks, tmp_path / "state.pt")
    path = tmp_path / "model_19072.pt"
    subprocess.run([sys.executable, "-c", BUILD_NANOGPT, tmp_path / "state.pt", path], check=True)
    source = foreign.read(path)
    assert source.format == "build-nanogpt" and source.exact_gelu is None
    assert source.facts == {"step": 19072, "val_loss": 3.0719}
    same(source, reference, tmp_path / "ours")


def llmc(model, version, vocab=V):
    """llm.c's file, written with numpy from the order in its C struct."""
    state = linear(model)
    header = np.zeros(256, dtype=np.int32)
    header[:8] = [20240326, version, T, vocab, LAYERS, HEADS, C, model.config.vocab_size]
    inside = ("ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight")
    inside += ("attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias")
    inside += ("mlp.c_proj.weight", "mlp.c_proj.bias")
    order = ["transformer.wte.weight", "transformer.wpe.weight"]
    order += [f"transformer.h.{i}.{name}" for name in inside for i in range(LAYERS)]
    order += ["transformer.ln_f.weight", "transformer.ln_f.bias"]
    flat = torch.cat([state[name].flatten() for name in order])
    data = flat.numpy() if version == 3 else flat.bfloat16().view(torch.int16).numpy()
    return header.tobytes() + data.tobytes()


@pytest.mark.parametrize("version", [3, 5])
def test_llm_cs_model_file(tmp_path, version):
    reference = gpt2(padded=7)
    (tmp_path / "model_00019560.bin").write_bytes(llmc(reference, version))
    source = foreign.read(tmp_path / "model_00019560.bin")
    assert source.format == "llm.c" and source.facts == {"step": 19560} and source.config.vocab_size == V + 7
    assert any("bfloat16" in note for note in source.notes) is (version == 5)
    reference = reference if version == 3 else reference.bfloat16().float()
    same(source, reference, tmp_path / "ours")


def test_llm_cs_file_that_cannot_be(tmp_path):
    whole = llmc(gpt2(), 3)
    path = tmp_path / "model.bin"
    for data, said in [
        (whole[:-4], "its header says"),
        (whole + b"\0", "its header says"),
        (whole[:500], "ends inside its header"),
        (struct.pack("<2i", 20240326, 1) + whole[8:], "version 1"),
        (struct.pack("<i", 20240803) + whole[4:], "Llama 3"),
        (whole[:8] + struct.pack("<i", -5) + whole[12:], "makes no sense"),
        (whole[:16] + struct.pack("<i", 2_000_000_000) + whole[20:], "makes no sense"),
        (whole[:20] + struct.pack("<i", 5) + whole[24:], "cannot be shared by 5 heads"),
    ]:
        path.write_bytes(data)
        with pytest.raises(JourneyError, match=said):
            foreign.read(path)


LLAMAS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"head_dim": 8, "rms_norm_eps": 1e-5}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 12, "tie_word_embeddings": True}),
}


def llama(family):
    model, config, more = LLAMAS[family]
    torch.manual_seed(0)
    made = model(config(
        vocab_size=V, max_position_embeddings=T, hidden_size=C, intermediate_size=80, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 5e5},
        bos_token_id=1, **more,
    )).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("weights", ["safetensors", "shards", "pytorch_model.bin", "pytorch shards"])
def test_a_hugging_face_folder(tmp_path, kind, weights):
    reference = gpt2() if kind == "gpt2" else llama(kind)
    folder = tmp_path / "theirs"
    reference.save_pretrained(folder, max_shard_size="20KB" if weights == "shards" else "5GB")
    if weights.startswith("pytorch"):
        (folder / "model.safetensors").unlink()
        state = list(reference.state_dict().items())
        if weights == "pytorch_model.bin":
            torch.save(dict(state), folder / weights)
        else:
            parts = {f"pytorch_model-{i}-of-2.bin": dict(state[i::2]) for i in range(2)}
            for name, part in parts.items():
                torch.save(part, folder / name)
            where = {name: file for file, part in parts.items() for name in part}
            write_json(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": where})
    source = foreign.read(folder)
    assert source.format == "Hugging Face folder" and source.config.family == kind
    same(source, reference, tmp_path / "ours")


def test_a_folder_of_openais_names_without_a_head(tmp_path):
    reference = gpt2()
    reference.save_pretrained(tmp_path / "theirs")
    bare = {n.removeprefix("transformer."): t for n, t in reference.state_dict().items() if n != "lm_head.weight"}
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, T, T)}, tmp_path / "theirs" / "model.safetensors")
    same(foreign.read(tmp_path / "theirs"), reference, tmp_path / "ours")


def test_a_folder_in_bfloat16_is_said_and_checked_in_float32(tmp_path):
    reference = llama("qwen3").bfloat16()
    reference.save_pretrained(tmp_path / "theirs")
    source = foreign.read(tmp_path / "theirs")
    assert source.notes == ["weights in bfloat16: converted to float32"]
    same(source, reference.float(), tmp_path / "ours")


@pytest.mark.parametrize("name", ["Mistral", "Qwen2Moe", "Gemma3", "Llama4"])
def test_another_architecture_is_refused_with_what_is_possible(tmp_path, name):
    write_json(tmp_path / "config.json", {"model_type": name.lower(), "architectures": [f"{name}ForCausalLM"]})
    with pytest.raises(JourneyError, match=f"unknown architecture {name}") as error:
        foreign.read(tmp_path)
    assert "GPT2LMHeadModel, LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM" in str(error.value)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors", "legacy"])
@pytest.mark.parametrize("turned", [True, False], ids=["Linear", "Conv1D"])
def test_a_bare_state_dict_of_either_orientation(tmp_path, suffix, turned):
    reference = gpt2()
    state = linear(reference) if turned else dict(reference.state_dict())
    path = tmp_path / f"weights{'.pt' if suffix == 'legacy' else suffix}"
    if suffix == ".safetensors":
        save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=suffix != "legacy")
    source = foreign.read(path, "gpt2", n_head=HEADS)
    assert source.config.n_inner == 4 * C
    same(source, reference, tmp_path / "ours")
    for family, n_head, said in [
        ("", None, "give --family gpt2 by its names"),
        ("gpt2", None, "give --n-head"),
        ("gpt2", 5, "cannot be shared by 5 heads"),
        ("llama", HEADS, "0 tensors named embed_tokens.weight"),
        ("gpt-2", HEADS, 'did you mean "gpt2"'),
    ]:
        with pytest.raises(JourneyError, match=said):
            foreign.read(path, family, n_head)


def test_an_untied_head_stays_one(tmp_path):
    reference = gpt2(tied=False)
    torch.save({"state_dict": linear(reference)}, tmp_path / "w.pt")
    source = foreign.read(tmp_path / "w.pt", "gpt2", HEADS)
    assert not source.config.tied and "lm_head.weight" in source.tensors
    same(source, reference, tmp_path / "ours")


@pytest.mark.parametrize("family", LLAMAS)
def test_a_bare_state_dict_of_a_llama_asks_for_what_no_shape_tells(tmp_path, family):
    reference = llama(family)
    torch.save(reference.state_dict(), tmp_path / "w.pt")
    heads = {} if family == "qwen3" else {"n_head": HEADS}
    source = foreign.read(tmp_path / "w.pt", family, n_ctx=T, rope_theta=5e5, **heads)
    assert source.logits is None and source.unchecked
    same(source, reference, tmp_path / "ours")
    with pytest.raises(JourneyError, match="--n-ctx"):
        foreign.read(tmp_path / "w.pt", family, rope_theta=5e5, **heads)
    with pytest.raises(JourneyError, match="--rope-theta"):
        foreign.read(tmp_path / "w.pt", family, n_ctx=T, **heads)
    if heads:
        with pytest.raises(JourneyError, match="--n-head"):
            foreign.read(tmp_path / "w.pt", family, n_ctx=T, rope_theta=5e5)
    with pytest.raises(JourneyError, match=f"give --family {family} by its names"):
        foreign.read(tmp_path / "w.pt")


def test_a_bare_qwen2_is_no_other_llama(tmp_path):
    state = dict(llama("qwen2").state_dict())
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(JourneyError, match="biases on q, k and v are Qwen2's"):
        foreign.read(tmp_path / "w.pt", "llama", HEADS, n_ctx=T, rope_theta=5e5)
    torch.save(state | {"model.layers.0.self_attn.o_proj.bias": torch.zeros(C)}, tmp_path / "w.pt")
    with pytest.raises(JourneyError, match=r"o_proj\.bias is no part of a qwen2 as we compute it:"):
        foreign.read(tmp_path / "w.pt", "qwen2", HEADS, n_ctx=T, rope_theta=5e5)
    del state["model.layers.1.self_attn.v_proj.bias"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(JourneyError, match=r"layers\.1\.self_attn\.v_proj\.bias is missing"):
        foreign.read(tmp_path / "w.pt", "qwen2", HEADS, n_ctx=T, rope_theta=5e5)


def test_fewer_positions(tmp_path):
    reference = gpt2()
    torch.save({"model": linear(reference), "model_args": args(reference)}, tmp_path / "ckpt.pt")
    source = foreign.read(tmp_path / "ckpt.pt", n_ctx=24)
    assert source.config.n_ctx == 24
    same(source, reference, tmp_path / "ours")
    for n in (0, T + 1):
        with pytest.raises(JourneyError, match=f"from 1 to the {T} positions"):
            foreign.read(tmp_path / "ckpt.pt", n_ctx=n)


def remove(state, saved):
    del state["transformer.h.1.mlp.c_fc.weight"]


def one_bias(state, saved):
    del state["transformer.h.1.mlp.c_fc.bias"]


def rename(state, saved):
    state["transformer.h.1.mlp.gain"] = state.pop("transformer.ln_f.bias")


def integers(state, saved):
    state["transformer.h.0.ln_1.weight"] = torch.ones(C, dtype=torch.int8)


def short(state, saved):
    state["transformer.h.0.ln_1.weight"] = torch.ones(C - 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove, "transformer.h.1.mlp.c_fc.weight is missing"),
        (one_bias, "transformer.h.1.mlp.c_fc.bias is missing"),
        (rename, "transformer.h.1.mlp.gain is no part of a gpt2"),
        (integers, "holds int8: quantized weights are not read"),
        (short, r"ln_1.weight is \(31,\), where \(32,\) is needed"),
        (lambda state, saved: saved["model_args"].update(n_layer=3), "its tensors have n_layer 2"),
        (lambda state, saved: saved["model_args"].update(n_embd=10**30), "its tensors have n_embd 32"),
        (lambda state, saved: saved["model_args"].update(n_head="many"), "n_head is not a number"),
        (lambda state, saved: saved["model_args"].update(use_rmsnorm=True), "trained with 'use_rmsnorm'"),
        (lambda state, saved: state.clear(), "holds no tensors"),
    ],
)
def test_a_checkpoint_that_is_no_whole_gpt2_is_refused_by_name(tmp_path, change, said):
    reference = gpt2()
    saved = {"model": linear(reference), "model_args": args(reference)}
    change(saved["model"], saved)
    torch.save(saved, tmp_path / "ckpt.pt")
    with pytest.raises(JourneyError, match=said) as error:
        foreign.read(tmp_path / "ckpt.pt")
    assert "ckpt.pt" in str(error.value) and "\n" not in str(error.value)


def test_what_contradicts_the_checkpoint_is_told(tmp_path):
    reference = gpt2()
    torch.save({"model": linear(reference), "model_args": args(reference)}, tmp_path / "ckpt.pt")
    with pytest.raises(JourneyError, match="with family gpt2, not llama: leave --family out"):
        foreign.read(tmp_path / "ckpt.pt", "llama")
    with pytest.raises(JourneyError, match="with n-head 4, not 8"):
        foreign.read(tmp_path / "ckpt.pt", n_head=8)


def test_what_is_no_checkpoint_is_told(tmp_path):
    with pytest.raises(JourneyError, match="does not exist"):
        foreign.read(tmp_path / "nothing.pt")
    (tmp_path / "ckpt.pt").write_bytes(b"")
    with pytest.raises(JourneyError, match=r"no Hugging Face folder; name a file in it \(ckpt.pt\)"):
        foreign.read(tmp_path)
    with pytest.raises(JourneyError, match="is empty"):
        foreign.read(tmp_path / "ckpt.pt")
    (tmp_path / "x.safetensors").write_bytes(b"12345678901")
    with pytest.raises(JourneyError, match="damaged or cut off"):
        foreign.read(tmp_path / "x.safetensors", "gpt2")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(JourneyError, match=r"holds a torch.nn.modules.linear.Linear, not a state dict"):
        foreign.read(tmp_path / "whole.pt", "gpt2")
    (tmp_path / "config.json").write_text(json.dumps([1]))
    with pytest.raises(JourneyError, match="is no object"):
        foreign.read(tmp_path)


def test_random_gpt2_is_the_seeds():
    a, b = (foreign.random("random-gpt2", seed, 64) for seed in (3, 4))
    assert a.config.n_params == 123_702_528  # 124,439,808 with all of its 1,024 positions
    name = "transformer.h.11.attn.c_attn.weight"
    assert not torch.equal(a.tensors[name], b.tensors[name])
