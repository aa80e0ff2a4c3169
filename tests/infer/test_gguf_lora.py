"""An adapter as llama.cpp's own LoRA file: with its base's file, the logits of our merged model."""

import argparse
import heapq
import json

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from journey.errors import JourneyError
from journey.infer import gguf, gguf_lora
from journey.infer.llamacpp import LlamaCpp
from journey.model import adapter, families, huggingface, lora
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

V = 400
IDS = torch.randint(V, (2, 40), generator=torch.Generator().manual_seed(1))
SHAPES = {
    "gpt2": {"n_head": 2, "n_kv_head": 2, "head_dim": 32, "n_inner": 256},
    "llama": {"n_head": 4, "n_kv_head": 2, "head_dim": 16, "n_inner": 96},
    "qwen3": {"n_head": 4, "n_kv_head": 2, "head_dim": 16, "n_inner": 96},
}
VARIANTS = {
    "lora": {"use_rslora": False},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"{0}": 2}, "alpha_pattern": {r".*\.1\.{0}": 5, "{1}": 32}},
    "one layer": {"layers_to_transform": [1]},
}


@pytest.fixture(scope="module")
def tokenizer():
    texts = [argparse.__doc__, heapq.__doc__]
    return Tokenizer.from_merges(bpe.train(bpe.count_words(texts), V, len(SPECIALS)))


def written(family, tokenizer, folder, tied=True):
    """A small model whose logits are far from uniform, in a folder, its f32 file in it."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(family, V, 48, 2, n_embd=64, norm_eps=1e-5, tied=tied, **SHAPES[family])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1).add_(0.2 * torch.randn_like(parameter), alpha=0.2)
        if family == "gpt2":  # beyond llama.cpp's table of GELU in f16: see test_gguf.py
            for block in model.blocks:
                block.mlp.up.bias += 20
    huggingface.save(model, folder)
    gguf.write(model, tokenizer, folder / "f32.gguf", "f32")
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tokenizer):
    """Family -> folder of such a model."""
    return {family: written(family, tokenizer, tmp_path_factory.mktemp(family)) for family in SHAPES}


def adapted(base, folder, **more):
    torch.manual_seed(1)
    parts = lora.targets(huggingface.load_config(base), "all-linear")
    said = json.loads(json.dumps(more).replace("{0}", parts[0]).replace("{1}", parts[1]))
    config = LoraConfig(r=4, lora_alpha=16, target_modules=parts, task_type="CAUSAL_LM", **said)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(folder)
    return folder


def write(base, folder, path):
    config, weights = huggingface.read(base)
    gguf_lora.write(lora.read(folder), config, weights, path, name="made", base="base")
    return path


def difference(folder, llama):
    """The largest between our logits and llama.cpp's, over our largest."""
    with torch.inference_mode():
        ours = huggingface.load(folder).eval()(IDS).numpy()
    theirs = np.stack([llama.logits(ids.tolist()) for ids in IDS])
    return np.abs(ours - theirs).max() / np.abs(ours).max()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", SHAPES)
def test_llama_cpp_computes_the_logits_of_our_merged_model(family, variant, bases, tmp_path):
    base = bases[family]
    folder = adapted(base, tmp_path / "adapter", **VARIANTS[variant])
    path = write(base, folder, tmp_path / "lora.gguf")
    with LlamaCpp(base / "f32.gguf", exact=True, lora=path) as llama:
        assert difference(folder, llama) <= 1e-5
    with LlamaCpp(base / "f32.gguf", exact=True) as llama:
        assert difference(folder, llama) > 1e-2, "without the file it is the base"


def test_the_file_says_what_it_is(bases, tmp_path):
    folder = adapted(bases["llama"], tmp_path / "adapter")
    reader = GGUFReader(write(bases["llama"], folder, tmp_path / "lora.gguf"))
    value = {key: field.contents() for key, field in reader.fields.items()}
    assert (value["general.type"], value["adapter.type"], value["general.architecture"]) == ("adapter", "lora", "llama")
    assert value["adapter.lora.alpha"] == 16 and value["general.base_model.0.name"] == "base"
    saved = lora.read(folder).pairs["model.layers.1.mlp.up_proj"]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert np.array_equal(tensors["blk.1.ffn_up.weight.lora_a"].data, saved.A.numpy())
    assert np.array_equal(tensors["blk.1.ffn_up.weight.lora_b"].data, saved.B.numpy()), "plain LoRA is as PEFT has it"
    assert len(tensors) == 2 * 2 * 7


@pytest.mark.parametrize("family", SHAPES)
def test_rows_that_were_trained_whole_are_in_it_where_the_head_is_not_tied(family, tokenizer, tmp_path):
    base = written(family, tokenizer, tmp_path / "base", tied=False)
    embedding = families.get(family).embedding.rpartition(".")[2]
    ids = [*range(5, 12), int(IDS[0, 3]), int(IDS[1, 7])]
    rows = {"trainable_token_indices": {embedding: ids, "lm_head": ids[2:]}}
    folder = adapted(base, tmp_path / "adapter", use_rslora=True, **rows)
    path = write(base, folder, tmp_path / "lora.gguf")
    with LlamaCpp(base / "f32.gguf", exact=True, lora=path) as llama:
        assert difference(folder, llama) <= 1e-5
    read = lora.read(folder)
    assert {len(ids) for ids, _ in read.rows.values()} == {9, 7}
    read.rows.clear()
    shape = huggingface.load_config(base)
    gguf_lora.write(read, shape, {}, tmp_path / "less.gguf", name="made", base="base")
    with LlamaCpp(base / "f32.gguf", exact=True, lora=tmp_path / "less.gguf") as llama:
        assert difference(folder, llama) > 1e-3, "without the rows it is another model"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"use_dora": True}, "DoRA's magnitudes"),
        ({"trainable_token_indices": [3, 4]}, "trained rows of model.embed_tokens, to which the"),
        ({"modules_to_save": ["norm"]}, r"the whole of model\.\S*norm.weight"),
    ],
)
def test_what_llama_cpp_cannot_say_is_refused(more, said, bases, tmp_path):
    folder = adapted(bases["qwen3"], tmp_path / "adapter", **more)
    with pytest.raises(JourneyError, match=f"llama.cpp's LoRA files cannot hold {said}"):
        write(bases["qwen3"], folder, tmp_path / "lora.gguf")
    assert not (tmp_path / "lora.gguf").exists()


def test_an_adapter_of_another_model_is_told(bases, tmp_path):
    path = write(bases["llama"], adapted(bases["llama"], tmp_path / "adapter"), tmp_path / "lora.gguf")
    with pytest.raises(JourneyError, match=r"cannot put .*lora\.gguf on this model .*is it of another base"):
        LlamaCpp(bases["qwen3"] / "f32.gguf", lora=path)
    with pytest.raises(JourneyError, match="is no GGUF file"):
        LlamaCpp(bases["llama"] / "f32.gguf", lora=bases["llama"] / "model.safetensors")
    assert adapter.is_adapter(tmp_path / "adapter")
