"""The GGUF file: read back by the gguf package, and computed by llama.cpp itself."""

import argparse
import base64
import heapq
import json
import re

import numpy as np
import pytest
import torch
from gguf import (
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFReader,
    TokenType,
    get_tensor_name_map,
    quants,
)
from safetensors.torch import load_file
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from journey import chat
from journey.errors import JourneyError
from journey.infer import gguf
from journey.infer.gguf_types import TYPES
from journey.infer.llamacpp import LlamaCpp
from journey.model import huggingface
from journey.model.config import GPTConfig, RopeScaling
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.codec import PATTERNS
from journey.tokenizer.formats import BOS, EOS, PAD, SPECIALS, Tokenizer
from journey.tokenizer.split import name_of, steps_of

TEXTS = [module.__doc__ for module in (argparse, heapq, json, re)] + ["Straße 中文 🙂 naïve"]
V = 400
SIMPLE = ("f32", "f16", "q8_0", "q5_0", "q4_0")  # one type for all matrices; the others are in test_kquants.py

SHAPES = {  # family, other heads, odd widths, heads of other width than n_embd / n_head, tied and not
    "qwen3": {"family": "qwen3", "n_head": 4, "n_kv_head": 2, "head_dim": 16, "n_embd": 64, "n_inner": 96},
    "qwen3-odd": {"family": "qwen3", "n_head": 3, "n_kv_head": 1, "head_dim": 10, "n_embd": 50, "n_inner": 37},
    "qwen3-untied": {"family": "qwen3", "n_head": 2, "n_kv_head": 2, "head_dim": 64, "n_embd": 32, "tied": False},
    "qwen2": {"family": "qwen2", "n_head": 4, "n_kv_head": 2, "head_dim": 16, "n_embd": 64, "n_inner": 96},
    "qwen2-odd": {"family": "qwen2", "n_head": 3, "n_kv_head": 1, "head_dim": 10, "n_embd": 30, "tied": False},
    "llama": {"family": "llama", "n_head": 4, "n_kv_head": 2, "head_dim": 16, "n_embd": 64, "n_inner": 96},
    "llama-odd": {"family": "llama", "n_head": 6, "n_kv_head": 3, "head_dim": 6, "n_embd": 36, "tied": False},
    "llama-base": {"family": "llama", "n_head": 2, "n_kv_head": 1, "head_dim": 32, "n_embd": 64, "rope_theta": 5e5},
    "llama-scaled": {"family": "llama", "n_head": 4, "n_kv_head": 2, "head_dim": 32, "n_embd": 64}
    | {"rope_scaling": RopeScaling("llama3", 8.0, original_n_ctx=32)},
    "llama-linear": {"family": "llama", "n_head": 2, "n_kv_head": 1, "head_dim": 32, "n_embd": 64}
    | {"rope_scaling": RopeScaling("linear", 4.0)},
    "qwen3-linear": {"family": "qwen3", "n_head": 2, "n_kv_head": 1, "head_dim": 32, "n_embd": 64}
    | {"rope_scaling": RopeScaling("linear", 4.0)},
    "gpt2": {"family": "gpt2", "n_head": 2, "n_kv_head": 2, "head_dim": 32, "n_embd": 64, "n_inner": 256},
    "gpt2-odd": {"family": "gpt2", "n_head": 3, "n_kv_head": 3, "head_dim": 7, "n_embd": 21, "n_inner": 50},
    "gpt2-untied": {"family": "gpt2", "n_head": 2, "n_kv_head": 2, "head_dim": 16, "n_embd": 32, "tied": False},
}


def make(name, **changes):
    """A model whose random weights are large enough for its logits to be far from uniform."""
    torch.manual_seed(0)
    shape = {"vocab_size": V, "n_ctx": 48, "n_layer": 2, "n_inner": 64, "norm_eps": 1e-5} | SHAPES[name] | changes
    model = GPT(GPTConfig(**shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # biases and norms too: left at 0 and 1, a forgotten or a swapped one would not be seen
            parameter.mul_(4 if parameter.dim() > 1 else 1).add_(0.2 * torch.randn_like(parameter), alpha=0.2)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), V, len(SPECIALS)))


@pytest.fixture(scope="module")
def rows():
    return torch.randint(V, (3, 48), generator=torch.Generator().manual_seed(1))


def written(model, tokenizer, path, type="f32", **about):
    gguf.write(model, tokenizer, path, type, **about)
    return GGUFReader(path)


def difference(model, llama, ids):
    """The largest, over our largest logit."""
    with torch.inference_mode():
        ours = model(ids[None])[0].numpy()
    assert ours.std() > 0.1, "logits that are all alike would prove nothing"
    return np.abs(ours - llama.logits(ids.tolist())).max() / np.abs(ours).max()


def beyond_its_gelu(model):
    """On a CPU llama.cpp looks GELU up in a table of f16 and takes beyond 10 the number itself: moved there, gpt2's
    hidden numbers are free of the table, and every tensor still counts."""
    if model.config.family == "gpt2":
        with torch.no_grad():
            for block in model.blocks:
                block.mlp.up.bias += 20
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_llama_cpp_computes_our_logits(name, tokenizer, rows, tmp_path):
    model, path = beyond_its_gelu(make(name)), tmp_path / "model.gguf"
    gguf.write(model, tokenizer, path, "f32")
    with LlamaCpp(path, exact=True) as llama:
        assert max(difference(model, llama, ids) for ids in rows) <= 1e-5


def test_only_its_gelu_parts_llama_cpps_gpt2_from_ours(tokenizer, rows, tmp_path):
    model, path = make("gpt2"), tmp_path / "model.gguf"
    gguf.write(model, tokenizer, path, "f32")
    with LlamaCpp(path, exact=True) as llama:
        assert difference(model, llama, rows[0]) < 1e-3


@pytest.mark.parametrize("name", ["qwen3", "qwen2", "llama", "gpt2"])
def test_a_wrong_tensor_would_be_seen(name, tokenizer, rows, tmp_path, monkeypatch):
    """Each tensor matters to the logits: with one of them changed the comparison above fails."""
    model, path = make(name), tmp_path / "model.gguf"
    originals = list(gguf.tensors(model))
    for changed in (name for name, _ in originals if "blk.1" not in name):
        swapped = [(name, tensor.flip(-1) if name == changed else tensor) for name, tensor in originals]
        monkeypatch.setattr(gguf, "tensors", lambda _, swapped=swapped: iter(swapped))
        gguf.write(model, tokenizer, path, "f32")
        with LlamaCpp(path, exact=True) as llama:
            assert difference(model, llama, rows[0]) > 1e-3, changed


@pytest.mark.parametrize("name", SHAPES)
def test_the_file_holds_the_shape(name, tokenizer, tmp_path):
    config = make(name).config
    reader = written(make(name), tokenizer, tmp_path / "a.gguf", name="tiny", base_model="parent")
    value = {key: field.contents() for key, field in reader.fields.items()}
    family = config.family
    assert value["general.architecture"] == family
    assert value["general.name"] == "tiny"
    assert value["general.base_model.0.name"] == "parent"
    assert 10_000 < config.n_params < 1_000_000
    assert value["general.size_label"] == f"{config.n_params / 1000:.0f}K", "a tied embedding counts once"
    assert value["general.tags"] == ["text-generation"] and "general.license" not in value
    assert value["general.file_type"] == 0
    assert value[f"{family}.context_length"] == config.n_ctx
    assert value[f"{family}.embedding_length"] == config.n_embd
    assert value[f"{family}.block_count"] == config.n_layer
    assert value[f"{family}.feed_forward_length"] == config.n_inner
    assert value[f"{family}.attention.head_count"] == config.n_head
    if family == "gpt2":
        assert value["gpt2.attention.layer_norm_epsilon"] == pytest.approx(config.norm_eps)
    else:
        assert value[f"{family}.attention.head_count_kv"] == config.n_kv_head
        assert value[f"{family}.attention.key_length"] == config.head_dim
        assert value[f"{family}.rope.freq_base"] == config.rope_theta
        assert value[f"{family}.attention.layer_norm_rms_epsilon"] == pytest.approx(config.norm_eps)
    assert ("output.weight" in {tensor.name for tensor in reader.tensors}) == (not config.tied)


@pytest.mark.parametrize("pattern, pre", [("gpt2", "gpt-2"), ("llama3", "llama-bpe"), ("qwen2", "qwen2")])
def test_the_file_holds_the_tokenizer(pattern, pre, tmp_path):
    tokenizer = Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS, pattern), V, len(SPECIALS)), pattern)
    reader = written(make("qwen3"), tokenizer, tmp_path / "a.gguf", template=chat.TEMPLATE)
    value = {key: field.contents() for key, field in reader.fields.items() if key.startswith("tokenizer.")}
    assert value["tokenizer.ggml.model"] == "gpt2"
    assert value["tokenizer.ggml.pre"] == pre
    tokens, types = value["tokenizer.ggml.tokens"], value["tokenizer.ggml.token_type"]
    assert dict(zip(tokens, range(V), strict=True)) == tokenizer.backend.get_vocab()
    assert {token for token, type in zip(tokens, types, strict=True) if type == TokenType.CONTROL} == set(SPECIALS)
    assert set(types) == {TokenType.NORMAL, TokenType.CONTROL}
    saved = json.loads(tokenizer.backend.to_str())["model"]["merges"]
    assert [merge.split(" ") for merge in value["tokenizer.ggml.merges"]] == [list(merge) for merge in saved]
    ids = {key: value[f"tokenizer.ggml.{key}_token_id"] for key in ("bos", "eos", "eot", "padding")}
    special = tokenizer.special
    assert ids == {"bos": special[BOS], "eos": special[EOS], "eot": special[EOS], "padding": special[PAD]}
    assert value["tokenizer.ggml.add_bos_token"] is False
    assert value["tokenizer.ggml.add_eos_token"] is False
    assert value["tokenizer.chat_template"] == chat.TEMPLATE


@pytest.mark.parametrize("name", ["qwen3", "qwen3-untied", "gpt2"])
@pytest.mark.parametrize("type", SIMPLE)
def test_every_weight_is_within_its_blocks_error(name, type, tokenizer, tmp_path):
    model = make(name)
    bits = gguf.write(model, tokenizer, tmp_path / "a.gguf", type)
    reader = GGUFReader(tmp_path / "a.gguf")
    assert bits == pytest.approx(8 * sum(t.n_bytes for t in reader.tensors) / model.config.n_params)
    ours = {name: tensor.numpy() for name, tensor in gguf.tensors(model)}
    assert [tensor.name for tensor in reader.tensors] == list(ours)
    makes_logits = "token_embd.weight" if model.config.tied else "output.weight"
    for tensor in reader.tensors:
        stored, wanted = tensor.tensor_type, ours[tensor.name]
        if wanted.ndim == 1 or tensor.name == "position_embd.weight":
            assert stored == GGMLQuantizationType.F32
        elif tensor.name == makes_logits and type in ("q4_0", "q5_0"):
            assert stored == GGMLQuantizationType.Q8_0
        else:
            assert stored.name.lower() == type
        found = quants.dequantize(tensor.data, stored).reshape(wanted.shape)
        steps = {"F32": np.inf, "F16": 2**11, "Q8_0": 127 * 2, "Q5_0": 16, "Q4_0": 8}[stored.name]
        largest = np.abs(wanted.reshape(-1, 32 if wanted.size % 32 == 0 else 1)).max(1, keepdims=True)
        # Half a step, a whole one at the far end of Q4_0's and Q5_0's lopsided range, and the f16 of the scale.
        error = np.abs(found - wanted).reshape(largest.shape[0], -1)
        assert (error <= largest * (1 / steps + 2**-11) * (stored.name != "F32")).all(), (tensor.name, stored)


def test_fewer_bits_make_a_smaller_file_and_larger_errors(tokenizer, rows, tmp_path):
    model = make("qwen3")
    with torch.inference_mode():
        ours = model(rows[:1])[0].numpy()
    sizes, errors = [], []
    for type in SIMPLE:
        path = tmp_path / f"{type}.gguf"
        gguf.write(model, tokenizer, path, type)
        sizes.append(path.stat().st_size)
        with LlamaCpp(path, exact=True) as llama:
            errors.append(float(np.abs(ours - llama.logits(rows[0].tolist())).mean()))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
    assert errors == sorted(errors)
    assert errors[-1] < 0.5 * ours.std(), "coarse, and still the same model"


@pytest.mark.parametrize(
    "name, type, tensor",
    [
        ("qwen3-odd", "q8_0", "token_embd.weight is 400 x 50"),
        ("gpt2-odd", "q4_0", "token_embd.weight is 400 x 21"),
        ("llama-odd", "q5_0", "token_embd.weight is 400 x 36"),
    ],
)
def test_a_shape_that_a_type_does_not_allow_is_named(name, type, tensor, tokenizer, tmp_path):
    model = make(name)
    with pytest.raises(JourneyError, match=rf"^{type} packs rows in blocks of 32, but {tensor}: .* f32 and f16$"):
        gguf.write(model, tokenizer, tmp_path / "a.gguf", type)
    assert not (tmp_path / "a.gguf").exists()
    gguf.check(model, ["f32", "f16"])


def test_the_shape_inside_the_mlp_counts_too(tokenizer):
    with pytest.raises(JourneyError, match=r"blk\.0\.ffn_down\.weight is 64 x 100"):
        gguf.check(make("qwen3", n_inner=100), ["f16", "q4_0"])


def test_an_unknown_type_is_told_with_the_nearest(tokenizer, tmp_path):
    with pytest.raises(JourneyError, match='unknown GGUF type "q8", did you mean "q8_0"'):
        gguf.write(make("qwen3"), tokenizer, tmp_path / "a.gguf", "q8")
    with pytest.raises(JourneyError, match=r'"q4_k_m"\? \(there are: f32, f16, q8_0, q6_k, q5_k_m, q5_0, q4_k_m, q4_0'):
        gguf.check(make("qwen3"), ["Q4_K_M"])


@pytest.mark.parametrize("vocab_size", [V - 1, V + 1024])
def test_a_model_of_another_vocabulary_is_refused(vocab_size, tokenizer, tmp_path):
    with pytest.raises(JourneyError, match=f"{vocab_size:,} token embeddings.*not of one checkpoint"):
        gguf.write(make("qwen3", vocab_size=vocab_size), tokenizer, tmp_path / "a.gguf", "f32")


def test_a_padded_embedding_keeps_its_rows(tokenizer, rows, tmp_path):
    """As nanoGPT pads 50257 to 50304; no text becomes such a token."""
    model, path = beyond_its_gelu(make("gpt2", vocab_size=448)), tmp_path / "a.gguf"
    reader = written(model, tokenizer, path)
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    assert types[V:] == [TokenType.UNUSED] * 48
    with LlamaCpp(path, exact=True) as llama:
        assert difference(model, llama, rows[0]) <= 1e-5
        for special in (False, True):
            assert max(llama.tokenize("[PAD401] <|end|> [PAD447]", special)) < V


def test_an_added_token_that_is_not_special_is_found_in_text(tokenizer, tmp_path):
    """As Hugging Face does: only special tokens' spellings are text."""
    own = Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), V - 1, len(SPECIALS)))
    own.backend.add_tokens(["<tool_call>"])
    own = Tokenizer(own.backend, "gpt2")
    reader = written(make("qwen3"), own, tmp_path / "a.gguf")
    assert reader.fields["tokenizer.ggml.token_type"].contents()[V - 1] == TokenType.USER_DEFINED
    with LlamaCpp(tmp_path / "a.gguf") as llama:
        text = "a <tool_call>b</tool_call> <|end|>"
        assert llama.tokenize(text) == own.encode(text)
        assert V - 1 in own.encode(text)


def test_a_tokenizer_without_chat_tokens_ends_its_documents(tmp_path):
    own = Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), V, 1), specials=[BOS])
    written(make("gpt2"), own, tmp_path / "a.gguf")
    with LlamaCpp(tmp_path / "a.gguf") as llama:
        assert [i for i in range(V) if llama.ends(i)] == [own.bos]
        assert "tokenizer.chat_template" not in llama.metadata


def converted(model, folder, type):
    """Name -> bytes of every tensor by the rules of llama.cpp's convert_hf_to_gguf.py, from the saved weights: names of
    the package gguf, Conv1D turned, the rows of q and k in the order of its rotary positions, and one dimension, or
    positions, in f32."""
    config = model.config
    huggingface.save(model, folder)
    arch = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == config.family)
    names = get_tensor_name_map(arch, config.n_layer)
    found = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        data = tensor.numpy()
        if config.family == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            data = data.T
        if config.family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.n_head if "q_proj" in name else config.n_kv_head
            data = (
                data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
            )
        plain = data.ndim == 1 or name.endswith("wpe.weight")
        stored = GGMLQuantizationType.F32 if plain else TYPES[type][0]
        packed = quants.quantize(np.ascontiguousarray(data), stored)
        found[names.get_name(name, try_suffixes=(".weight", ".bias"))] = packed.tobytes()
    return found


@pytest.mark.parametrize("name", ["qwen3", "qwen3-untied", "qwen2", "llama", "gpt2", "gpt2-untied"])
@pytest.mark.parametrize("type", ["f32", "f16", "q8_0"])
def test_every_tensor_is_bit_for_bit_the_converters(name, type, tokenizer, tmp_path):
    model = make(name)
    reader = written(model, tokenizer, tmp_path / "a.gguf", type)
    assert {tensor.name: tensor.data.tobytes() for tensor in reader.tensors} == converted(model, tmp_path / "hf", type)


def cut_by(tokenizer, *steps, normalizer=None):
    """The tokenizer, cutting text in other steps, as its tokenizer.json is read."""
    state = json.loads(tokenizer.backend.to_str())
    steps = [json.loads(step.__getstate__()) for step in steps]
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps} if steps else state["pre_tokenizer"]
    state["normalizer"] = json.loads(normalizer.__getstate__()) if normalizer else None
    return Tokenizer(Backend.from_str(json.dumps(state)), name_of(steps_of(state)))


PLAIN = pre_tokenizers.ByteLevel(add_prefix_space=False)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2, QWEN2 = (pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated") for name in ("gpt2", "qwen2"))
OTHERWISE = ["x =    5", "\n\n1. First\n\n2. Second", "    a =   17\n", "In 1999 there were 12345", "½²٣", "Hello"]


@pytest.mark.parametrize(
    ("steps", "pre"),
    [
        ([pre_tokenizers.Digits(individual_digits=True), PLAIN], "smollm"),
        ([pre_tokenizers.Digits(individual_digits=True), GPT2, BYTES], "smollm"),
        ([pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), PLAIN], "smollm"),
        ([GPT2, BYTES], "gpt-2"),
        ([pre_tokenizers.Sequence([GPT2]), BYTES], "gpt-2"),
    ],
)
def test_other_cuts_have_the_name_by_which_llama_cpp_makes_the_same_ids(steps, pre, tokenizer, tmp_path):
    own = cut_by(tokenizer, *steps)
    reader = written(make("gpt2"), own, tmp_path / "a.gguf")
    assert reader.fields["tokenizer.ggml.pre"].contents() == pre
    with LlamaCpp(tmp_path / "a.gguf") as llama:
        for text in [*OTHERWISE, *TEXTS]:
            assert llama.tokenize(text) == own.encode(text), text


def test_qwens_own_normalizer_parts_llama_cpp_from_us_where_accents_are_apart_alone(tokenizer, tmp_path):
    own = cut_by(tokenizer, QWEN2, BYTES, normalizer=normalizers.NFC())
    assert gguf.normalizes(own) and not gguf.normalizes(cut_by(tokenizer, QWEN2, BYTES))
    gguf.write(make("qwen2"), own, tmp_path / "a.gguf", "f32")
    with LlamaCpp(tmp_path / "a.gguf") as llama:
        for text in [*OTHERWISE, *TEXTS, "caf\u00e9 \ufb01\u00b2"]:
            assert llama.tokenize(text) == own.encode(text), text
        assert llama.tokenize("cafe\u0301") != own.encode("cafe\u0301") == own.encode("caf\u00e9")


@pytest.mark.parametrize(
    ("steps", "normalizer", "said"),
    [
        ([], normalizers.NFC(), "NFC"),
        ([], normalizers.Lowercase(), "Lowercase"),
        ([], normalizers.Replace("a", "b"), "Replace"),
        ([], normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "NFD and StripAccents"),
        ([pre_tokenizers.ByteLevel(add_prefix_space=True)], None, r"ByteLevel \(gpt2 and add_prefix_space\)"),
        ([pre_tokenizers.Digits(individual_digits=False), PLAIN], None, "Digits"),
        ([PLAIN, pre_tokenizers.Digits(individual_digits=True)], None, "the order"),
        ([pre_tokenizers.Punctuation(), PLAIN], None, "Punctuation"),
        ([pre_tokenizers.Split(Regex(PATTERNS["qwen2"]), "removed", invert=True), BYTES], None, "qwen2"),
        ([pre_tokenizers.Digits(individual_digits=True), GPT2, BYTES], normalizers.NFC(), "NFC"),
    ],
)
def test_a_cut_that_llama_cpp_has_no_name_for_is_refused(steps, normalizer, said, tokenizer, tmp_path):
    with pytest.raises(JourneyError, match=f"llama.cpp has no name for {said}") as told:
        gguf.write(make("gpt2"), cut_by(tokenizer, *steps, normalizer=normalizer), tmp_path / "a.gguf", "f32")
    assert "\n" not in str(told.value) and not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize(
    "own",
    [
        lambda t: cut_by(t, normalizer=normalizers.NFC()),
        lambda t: cut_by(t, normalizer=normalizers.Lowercase()),
        lambda t: cut_by(t, normalizer=normalizers.Strip()),
        lambda t: cut_by(t, pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda t: cut_by(t, pre_tokenizers.Digits(individual_digits=True), PLAIN),
    ],
)
def test_a_wrong_name_would_be_seen(own, tokenizer, tmp_path, monkeypatch):
    """The texts of the proof part each of these from GPT-2's plain cut, which was once written for them."""
    monkeypatch.setattr(gguf, "_pre_tokenizer", lambda tokenizer: "gpt-2")
    with pytest.raises(JourneyError, match=r"llama\.cpp reads other ids than this tokenizer"):
        gguf.write(make("gpt2"), own(tokenizer), tmp_path / "a.gguf", "f32")
    assert not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2", "smollm"])
def test_the_names_are_parted_from_each_other(name, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "_pre_tokenizer", lambda tokenizer: name)
    if name == "gpt-2":
        gguf.write(make("gpt2"), tokenizer, tmp_path / "a.gguf", "f32")
        return
    with pytest.raises(JourneyError, match="reads other ids"):
        gguf.write(make("gpt2"), tokenizer, tmp_path / "a.gguf", "f32")


@pytest.mark.parametrize(("pattern", "fits"), [("gpt2", False), ("llama3", True)])
def test_a_token_that_no_merge_reaches_is_proved_too(pattern, fits, tmp_path):
    """tiktoken looks a piece up before it merges, and so does llama.cpp under Llama 3's name, but not under GPT-2's."""
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b"xyz": 257}
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    (tmp_path / "a.tiktoken").write_bytes(b"".join(lines))
    own = Tokenizer.load(tmp_path / "a.tiktoken", pattern)
    model = make("gpt2", vocab_size=own.n_ids)
    if not fits:
        with pytest.raises(JourneyError, match=r"reads other ids than this tokenizer \(near 'xyz'"):
            gguf.write(model, own, tmp_path / "a.gguf", "f32")
        return
    gguf.write(model, own, tmp_path / "a.gguf", "f32")
    with LlamaCpp(tmp_path / "a.gguf") as llama:
        assert llama.tokenize("xyz ab") == own.encode("xyz ab")


@pytest.mark.parametrize("flags", [{"single_word": True}, {"lstrip": True}, {"rstrip": True}])
def test_an_added_token_that_takes_more_than_its_spelling_is_refused(flags, tmp_path):
    own = Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), V - 1, len(SPECIALS)))
    own.backend.add_tokens([AddedToken("<tool>", **flags)])
    with pytest.raises(JourneyError, match="reads other ids than this tokenizer"):
        gguf.write(make("gpt2"), Tokenizer(own.backend, "gpt2"), tmp_path / "a.gguf", "f32")


def test_ids_with_a_gap_and_a_mark_that_is_not_last(tmp_path):
    plain = Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), V, len(SPECIALS)))
    state = json.loads(plain.backend.to_str())["model"]
    ids = {token: i + 1 + 9 * (i > 300) for token, i in state["vocab"].items() if i < plain.bos} | {BOS: 0}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "merges.txt").write_text("".join(f"{left} {right}\n" for left, right in state["merges"]))
    own = Tokenizer.load(tmp_path).with_chat_tokens()
    reader = written(make("gpt2", vocab_size=own.n_ids), own, tmp_path / "a.gguf")
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    assert [i for i, type in enumerate(types) if type == TokenType.UNUSED] == [*range(302, 311)]
    assert types[0] == TokenType.CONTROL and reader.fields["tokenizer.ggml.bos_token_id"].contents() == 0
    with LlamaCpp(tmp_path / "a.gguf") as llama:
        assert all(llama.tokenize(text) == own.encode(text) for text in TEXTS)
        assert [i for i in range(own.n_ids) if llama.ends(i)] == sorted(own.stop)


def test_a_token_that_has_only_a_name_is_not_in_the_file(tmp_path):
    plain = Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), V, len(SPECIALS)))
    plain.save(tmp_path)
    (tmp_path / "special_tokens_map.json").write_text('{"mask_token": "[MASK]"}')
    own = Tokenizer.load(tmp_path)
    assert own.vocab_size == V + 1
    reader = written(make("gpt2"), own, tmp_path / "a.gguf")
    assert len(reader.fields["tokenizer.ggml.tokens"].contents()) == V


def test_tokenizers_that_llama_cpp_cannot_use_are_refused(tmp_path):
    with pytest.raises(JourneyError, match="no merges"):
        none = Tokenizer.from_merges([])
        gguf.write(make("qwen3", vocab_size=none.vocab_size), none, tmp_path / "a.gguf", "f32")
    with pytest.raises(JourneyError, match=r"no <\|endoftext\|>"):
        unmarked = Tokenizer.from_merges([("a", "b")], specials=["<s>"])
        gguf.write(make("qwen3", vocab_size=unmarked.vocab_size), unmarked, tmp_path / "a.gguf", "f32")


@pytest.mark.parametrize("type, value", [("f32", float("nan")), ("q8_0", float("inf")), ("f16", 70_000.0)])
def test_weights_that_are_no_numbers_are_refused(type, value, tokenizer, tmp_path):
    model = make("qwen3")
    with torch.no_grad():
        model.blocks[1].mlp.up.weight[3, 5] = value
    with pytest.raises(JourneyError, match=rf"blk\.1\.ffn_up\.weight holds weights .* too large for {type}"):
        gguf.write(model, tokenizer, tmp_path / "a.gguf", type)


def test_a_row_of_zeros_stays_zero(tokenizer, tmp_path):
    """Its scale is 0, and 1/0 must not get into the file."""
    model = make("qwen3")
    with torch.no_grad():
        model.blocks[0].attention.q.weight[:4] = 0
    for type in ("q8_0", "q4_0"):
        reader = written(model, tokenizer, tmp_path / f"{type}.gguf", type)
        found = next(t for t in reader.tensors if t.name == "blk.0.attn_q.weight")
        assert (quants.dequantize(found.data, found.tensor_type)[:4] == 0).all()


def test_the_same_model_makes_the_same_bytes(tokenizer, tmp_path):
    for name in ("a", "b"):
        gguf.write(make("llama"), tokenizer, tmp_path / f"{name}.gguf", "q4_0", name="one")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
