"""K-quants and the importance matrix: the bytes of llama.cpp's own quantizer, and what each of them is good for."""

import argparse
import hashlib
import heapq
import json
import re
import zlib

import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFReader, get_tensor_name_map, quants

from journey.errors import JourneyError
from journey.infer import ggml, gguf, gguf_types
from journey.infer.importance import Importance, importance
from journey.infer.llamacpp import LlamaCpp
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

V = 400
TEXTS = [module.__doc__ for module in (argparse, heapq, json, re)]
Q = GGMLQuantizationType

WIDE = {"n_embd": 256, "n_inner": 256}
SHAPES = {
    "qwen3": WIDE | {"family": "qwen3", "n_layer": 9, "n_head": 1, "n_kv_head": 1, "head_dim": 64},
    "gpt2": WIDE | {"family": "gpt2", "n_layer": 2, "n_head": 2, "n_kv_head": 2, "head_dim": 128, "n_inner": 1024},
    "llama": WIDE | {"family": "llama", "n_layer": 2, "n_head": 4, "n_kv_head": 2, "head_dim": 64, "n_inner": 512},
    "narrow": {"family": "llama", "n_layer": 2, "n_head": 2, "n_kv_head": 1, "head_dim": 32, "n_embd": 64}
    | {"n_inner": 37, "tied": False},
}


def hashed(name, *shape):
    """Numbers that are the same on every machine and in every version of torch, bell-shaped, as float32."""
    n = int(np.prod(shape))
    steps = np.arange(1, 4 * n + 1, dtype=np.uint32) * np.uint32(2654435761) ^ np.uint32(zlib.crc32(name.encode()))
    steps = (steps ^ (steps >> np.uint32(15))) * np.uint32(2246822519)
    uniform = (steps ^ (steps >> np.uint32(13))) / 2**32 - 0.5
    return uniform.reshape(n, 4).sum(1).astype(np.float32).reshape(shape)


def make(name, **changes):
    shape = {"vocab_size": V, "n_ctx": 48, "norm_eps": 1e-5} | SHAPES[name] | changes
    model = GPT(GPTConfig(**shape)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(hashed(key, *parameter.shape)) * 0.3 + (parameter.dim() == 1))
    return model


def matter(model):
    """An importance that was not measured, with some columns a hundred times others."""
    squares = {
        name: np.exp(4 * hashed(name, tensor.size(-1)))
        for name, tensor in gguf.tensors(model)
        if name.startswith("blk.") and tensor.dim() > 1
    }
    squares = {name: (values * 2**10).round().astype(np.float32) / 2**10 + 2**-10 for name, values in squares.items()}
    return Importance(squares, unused=0, text="hashed", documents=1, tokens=48, rows=1)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), V, len(SPECIALS)))


def digest(path):
    """Names, types and bytes of all tensors of a file."""
    tensors = sorted(GGUFReader(path).tensors, key=lambda tensor: tensor.name)
    said = hashlib.sha256()
    for tensor in tensors:
        said.update(f"{tensor.name} {tensor.tensor_type.name} {tensor.shape}".encode() + tensor.data.tobytes())
    return said.hexdigest()[:16]


# (shape, weighed, type) -> digest of what `llama_model_quantize` of llama.cpp (the build that node-llama-cpp 3.22.1
# brings, not ours) made of our f32 file of these models, and of the same importance.
THEIRS = {
    ("qwen3", False, "q6_k"): "f3050c9ee574c0de",
    ("qwen3", False, "q5_k_m"): "c45215807c3b33b2",
    ("qwen3", False, "q5_0"): "0dd9b2ef674a4957",
    ("qwen3", False, "q4_k_m"): "ff7a7c3e7821eabb",
    ("qwen3", False, "q4_0"): "06300dbcb25e8688",
    ("qwen3", True, "q6_k"): "1ed2815274305786",
    ("qwen3", True, "q5_k_m"): "5365bc1141c708ee",
    ("qwen3", True, "q5_0"): "b05cfde8c7d1e686",
    ("qwen3", True, "q4_k_m"): "b54ee162565c7397",
    ("qwen3", True, "q4_0"): "c7dfb280323e51dc",
    ("gpt2", False, "q4_k_m"): "0049c17c63a41fad",
    ("gpt2", True, "q5_k_m"): "42f58dbfcc4936f7",
    ("llama", True, "q4_k_m"): "1f06d968b6a93a24",
    ("narrow", False, "q4_k_m"): "31eeb7425b3f51cd",
    ("narrow", True, "q5_k_m"): "ac09b4090b8bdca2",
}


@pytest.mark.parametrize(("shape", "weighed", "type"), THEIRS)
def test_a_file_is_byte_for_byte_that_of_llama_cpps_own_quantizer(shape, weighed, type, tokenizer, tmp_path):
    model = make(shape)
    gguf.write(model, tokenizer, tmp_path / "a.gguf", type, importance=matter(model) if weighed else None)
    assert digest(tmp_path / "a.gguf") == THEIRS[shape, weighed, type]


def types_of(model, tokenizer, path, type, **about):
    gguf.write(model, tokenizer, path, type, **about)
    return {tensor.name: tensor.tensor_type for tensor in GGUFReader(path).tensors}


@pytest.mark.parametrize(("type", "most"), [("q5_k_m", Q.Q5_K), ("q4_k_m", Q.Q4_K)])
def test_the_m_keeps_more_bits_where_they_matter(type, most, tokenizer, tmp_path):
    """Nine layers: the first eighth is 0, the last 7 and 8, and every third between is 3 and 6."""
    found = types_of(make("qwen3"), tokenizer, tmp_path / "a.gguf", type)
    for part in ("attn_v", "ffn_down"):
        assert [n for n in range(9) if found[f"blk.{n}.{part}.weight"] == Q.Q6_K] == [0, 3, 6, 7, 8]
        assert found[f"blk.1.{part}.weight"] == most
    assert found["token_embd.weight"] == Q.Q6_K, "it makes the logits"
    assert {found[f"blk.{n}.ffn_up.weight"] for n in range(9)} == {most}
    assert found["blk.0.attn_norm.weight"] == Q.F32


@pytest.mark.parametrize(("type", "first"), [("q5_0", Q.Q5_1), ("q4_0", Q.Q4_1)])
def test_importance_gives_the_first_layers_of_simple_types_a_smallest_value(type, first, tokenizer, tmp_path):
    model = make("qwen3")
    plain = types_of(model, tokenizer, tmp_path / "a.gguf", type)
    weighed = types_of(model, tokenizer, tmp_path / "b.gguf", type, importance=matter(model))
    assert {name: weighed[name] for name in plain if plain[name] != weighed[name]} == {"blk.0.ffn_down.weight": first}
    assert plain["token_embd.weight"] == Q.Q6_K


def test_rows_that_do_not_fit_fall_back_and_are_named(tokenizer, tmp_path):
    model = make("qwen3")
    narrow = {f"blk.{n}.attn_output.weight" for n in range(9)}  # 64 wide
    for type, stored in (("q6_k", Q.Q8_0), ("q5_k_m", Q.Q5_1), ("q4_k_m", Q.Q5_0)):
        assert gguf.fallen_back(model, type) == dict.fromkeys(narrow, stored)
    for type in ("f16", "q8_0", "q5_0", "q4_0"):
        assert gguf.fallen_back(model, type) == {}
    small = make("narrow")  # ffn_down is 37 wide, all else 64
    found = types_of(small, tokenizer, tmp_path / "a.gguf", "q4_k_m")
    assert {name for name, type in found.items() if type == Q.F16} == {f"blk.{n}.ffn_down.weight" for n in (0, 1)}
    assert found["output.weight"] == Q.Q8_0 and found["token_embd.weight"] == found["blk.0.attn_q.weight"] == Q.Q5_0


def test_what_is_possible_is_told_where_a_type_is_not(tokenizer):
    with pytest.raises(
        JourneyError, match=r"^q4_0 packs rows .* is 64 x 37: possible here are f32, f16, q6_k, q5_k_m and"
    ):
        gguf.check(make("narrow"), ["q4_0"])
    with pytest.raises(JourneyError, match=r"^q4_k_m packs rows in blocks of 32, but output.* 50: .* are f32 and f16$"):
        gguf.check(make("narrow", n_embd=50), ["q4_k_m"])
    with pytest.raises(JourneyError, match='unknown GGUF type "q4_k", did you mean "q4_k_m"'):
        gguf.check(make("narrow"), ["q4_k"])


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_fewer_bits_make_a_smaller_file_and_larger_errors_in_llama_cpp(shape, tokenizer, tmp_path):
    model = make(shape)
    ids = torch.randint(V, (1, 48), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = model(ids)[0].numpy()
    sizes, errors = [], {}
    for type in gguf_types.TYPES:
        gguf.write(model, tokenizer, tmp_path / f"{type}.gguf", type)
        sizes.append((tmp_path / f"{type}.gguf").stat().st_size)
        with LlamaCpp(tmp_path / f"{type}.gguf", exact=True) as llama:
            errors[type] = float(np.square(ours - llama.logits(ids[0].tolist())).mean())
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)
    bits = [errors[type] for type in ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m")]
    assert bits == sorted(bits)
    assert errors["q5_k_m"] < errors["q5_0"] and errors["q4_k_m"] < errors["q4_0"]
    assert errors["q4_k_m"] < 0.5 * ours.var(), "coarse, and still the same model"


# Packing by itself.


def tricky():
    """Rows that are easily got wrong: zeros, one number alone, a huge one among small, negative, tiny, all alike."""
    rows = hashed("tricky", 8, 512) * np.float32(0.1)
    rows[0] = 0
    rows[1], rows[1, 7] = 0, -3
    rows[2, 300] = 6e4
    rows[3] = -np.abs(rows[3])
    rows[4] *= 1e-30
    rows[5] = rows[5, 0]
    return rows


@pytest.mark.parametrize("type", [Q.Q8_0, Q.Q5_1, Q.Q5_0, Q.Q4_1, Q.Q4_0], ids=lambda type: type.name)
def test_blocks_of_32_are_those_of_the_gguf_package(type):
    assert (ggml.pack(tricky(), type) == quants.quantize(tricky(), type)).all()


KINDS = (Q.Q8_0, Q.Q6_K, Q.Q5_K, Q.Q5_0, Q.Q4_K, Q.Q4_0)  # fewer bits come later


def error(type, importance=None, weights=None):
    """Mean square of what rounding changes, as the gguf package reads it, weighed by `weights`."""
    numbers = hashed("numbers", 64, 512)
    packed = ggml.pack(numbers, type, importance)
    return float((np.square(quants.dequantize(packed, type) - numbers) * (1 if weights is None else weights)).mean())


def test_the_error_grows_as_the_bits_shrink():
    errors = [error(type) for type in KINDS]
    assert errors == sorted(errors) and errors[-1] < 0.01 * hashed("numbers", 64, 512).var()


def test_every_packed_number_is_near(tmp_path):
    numbers = tricky()
    for type, steps in ((Q.Q6_K, 30), (Q.Q5_K, 15), (Q.Q4_K, 7)):
        found = quants.dequantize(ggml.pack(numbers, type), type)
        blocks = np.abs(numbers).reshape(8, -1, 256).max(-1).repeat(256, 1)
        assert (np.abs(found - numbers) <= blocks / steps + 1e-7).all(), type
        assert (found[0] == 0).all()


@pytest.mark.parametrize("type", KINDS[1:], ids=lambda type: type.name)
def test_importance_makes_the_error_smaller_where_it_counts(type):
    counts = np.exp(6 * hashed("counts", 512))
    assert error(type, counts, counts) < 0.95 * error(type, None, counts)
    assert error(type, np.ones(512, np.float32)) <= error(type) * 1.001


def test_eight_bits_take_no_importance():
    assert error(Q.Q8_0, np.exp(6 * hashed("counts", 512))) == error(Q.Q8_0)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_threads_change_no_byte(rows, monkeypatch):
    numbers, counts = hashed("numbers", rows, 512), np.exp(hashed("counts", 512))
    one = ggml.pack(numbers, Q.Q4_K, counts)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert (ggml.pack(numbers, Q.Q4_K, counts) == one).all()
    assert (ggml.pack(np.asfortranarray(numbers), Q.Q4_K, counts) == one).all()


@pytest.mark.parametrize("value", [np.inf, 1e30])
def test_numbers_that_blocks_cannot_hold_are_refused(value):
    numbers = hashed("numbers", 4, 256)
    numbers[2, 100] = value
    with pytest.raises(JourneyError, match="q4_k cannot hold these weights"):
        ggml.pack(numbers, Q.Q4_K)


def test_a_weight_that_is_no_number_is_refused_before_it_is_packed(tokenizer, tmp_path):
    model = make("llama")
    with torch.no_grad():
        model.blocks[1].mlp.up.weight[3, 5] = float("nan")
    with pytest.raises(JourneyError, match=r"blk\.1\.ffn_up\.weight holds weights that are no numbers"):
        gguf.write(model, tokenizer, tmp_path / "a.gguf", "q4_k_m")


def test_a_wrong_width_is_a_bug_and_no_crash():
    for columns, counts in ((128, None), (256, np.ones(255, np.float32)), (256, np.ones((2, 256), np.float32))):
        with pytest.raises(ValueError, match="another width"):
            ggml.pack(hashed("numbers", 2, columns), Q.Q6_K, counts)


# The importance of a text.


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "llama", "narrow"])
def test_importance_is_the_mean_square_that_transformers_matrices_read(name, tokenizer, tmp_path):
    """Each document alone, though ours read them in one row."""
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    model = make(name, n_layer=2, n_ctx=256)
    texts = [text[:80] for text in TEXTS]
    rows = [[tokenizer.bos, *tokenizer.encode(text)] for text in texts]
    huggingface.save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    names = get_tensor_name_map(
        next(arch for arch, said in MODEL_ARCH_NAMES.items() if said == model.config.family), model.config.n_layer
    )
    sums = {}
    for key, module in theirs.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and key != "lm_head":
            named = f"{names.get_name(key)}.weight"
            module.register_forward_pre_hook(
                lambda module, given, key=named: sums.update(
                    {key: sums.get(key, 0) + given[0].double().square().sum((0, 1))}
                )
            )
    with torch.inference_mode():
        for row in rows:
            theirs(torch.tensor([row]))
    found = importance(model, tokenizer, texts, "four", 1000)
    assert (found.documents, found.tokens, found.rows) == (4, sum(map(len, rows)), 1)
    assert found.squares.keys() == sums.keys() and all(key.startswith("blk.") for key in sums)
    for key, total in sums.items():
        total = torch.where(total > 0, total, total[total > 0].min())
        assert found.squares[key] == pytest.approx((total / found.tokens).numpy(), rel=1e-4), key


def test_of_a_long_text_some_documents_are_drawn(tokenizer):
    model, lengths = make("narrow"), []
    found = importance(model, tokenizer, TEXTS * 4, "long", 1000, lambda done, total: lengths.append((done, total)))
    assert 1000 <= found.tokens < 1000 + 48 and found.documents < 16
    assert found.rows == len(lengths) == -(-1000 // 48) and lengths[-1] == (found.tokens, found.tokens)
    again = importance(model, tokenizer, TEXTS * 4, "long", 1000)
    assert all((again.squares[key] == found.squares[key]).all() for key in found.squares)


def test_hooks_are_gone_afterwards(tokenizer):
    model = make("narrow")
    importance(model, tokenizer, TEXTS[:1], "a", 100)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_a_text_without_a_dev_split_is_told(texts, tokenizer):
    with pytest.raises(JourneyError, match="docs has no documents in its dev split: name another text"):
        importance(make("narrow"), tokenizer, texts, "docs", 1000)


def test_inputs_that_are_always_zero_count_as_the_least_of_the_others(tokenizer, tmp_path):
    """Without any weight ggml rounds a block to 0."""
    numbers, counts = hashed("numbers", 4, 512), np.ones(512, np.float32)
    counts[:256] = 0
    assert not quants.dequantize(ggml.pack(numbers, Q.Q4_K, counts), Q.Q4_K)[:, :256].any()
    model = make("narrow")
    before = importance(model, tokenizer, TEXTS, "a", 500)
    with torch.no_grad():
        model.blocks[1].mlp_norm.weight[[3, 5]] = 0
    after = importance(model, tokenizer, TEXTS, "a", 500)
    assert (before.unused, after.unused) == (0, 4), "of the gate and of up"
    read = after.squares["blk.1.ffn_gate.weight"]
    assert read[3] == read[5] == read.min() == np.delete(before.squares["blk.1.ffn_gate.weight"], [3, 5]).min()
    with torch.no_grad():
        model.blocks[1].mlp_norm.weight[:] = 0
    with pytest.raises(
        JourneyError, match=r"what blk\.1\.ffn_gate\.weight reads of a is always 0: leave out importance"
    ):
        importance(model, tokenizer, TEXTS, "a", 500)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e15])
def test_inputs_that_are_no_numbers_are_told(value, tokenizer):
    model = make("narrow")
    with torch.no_grad():
        model.blocks[0].attention_norm.weight[3] = value
    with pytest.raises(JourneyError, match=r"what blk\.0\.attn_q\.weight reads of a is no number, or too large"):
        importance(model, tokenizer, TEXTS, "a", 100)


def test_the_file_says_what_importance_it_was_made_by(tokenizer, tmp_path):
    model = make("qwen3", n_layer=1)
    found = importance(model, tokenizer, TEXTS, "prose", 200)
    for type in gguf_types.TYPES:
        gguf.write(model, tokenizer, tmp_path / "a.gguf", type, importance=found)
        fields = GGUFReader(tmp_path / "a.gguf").fields
        said = {key: field.contents() for key, field in fields.items() if key.startswith("quantize.")}
        if type in ("f32", "f16", "q8_0"):
            assert not gguf.weighed(model, type) and said == {}
        else:
            assert gguf.weighed(model, type) and said == {
                "quantize.imatrix.dataset": "prose",
                "quantize.imatrix.entries_count": 7,
                "quantize.imatrix.chunks_count": found.rows,
            }
    assert not gguf.weighed(make("narrow"), "q6_k"), "all of it falls back to 8 bits"
