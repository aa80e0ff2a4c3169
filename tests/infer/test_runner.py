"""The kernel and torch's own runner against the full forward pass: any rows, in any pieces, in any blocks."""

import os
import platform
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from journey.infer import build
from journey.infer.blocks import BLOCK
from journey.infer.native import Native, check, computes
from journey.infer.runner import Step, make
from journey.infer.torch_runner import TorchRunner
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.quantized import OutlierLinear, quantize

kernel = pytest.mark.skipif(not build.available(), reason="there is no C compiler")
# Widths and heads that are no multiple of a vector, shared keys, an untied head, odd vocabularies.
SHAPES = {
    "gpt2": GPTConfig.make("gpt2", 97, 64, 2, 36, 4),
    "gpt2 of odd heads": GPTConfig.make("gpt2", 51, 64, 1, 21, 3),
    "llama": GPTConfig.make("llama", 97, 64, 2, 32, 4, 1, tied=False),
    "qwen2": GPTConfig.make("qwen2", 97, 64, 1, 48, 2, 2),
    "qwen3": GPTConfig.make("qwen3", 103, 64, 2, 80, 4, 2),
}


def built(config: GPTConfig) -> GPT:
    torch.manual_seed(0)
    model = GPT(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + name.endswith("norm.weight"))
    return model


MODELS = {name: built(config) for name, config in SHAPES.items()}
RUNNERS = [pytest.param(Native, marks=kernel, id="kernel"), pytest.param(TorchRunner, id="torch")]


def step_of(ids, starts, lengths, tables):
    """Tokens of several rows, each from its start on, all their logits asked for."""
    places = [np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
    tokens = [row[at] for row, at in zip(ids, places, strict=True)]
    rows = [np.full(n, i) for i, n in enumerate(lengths)]
    parts = (np.concatenate(tokens), np.concatenate(places), np.concatenate(rows), tables, np.arange(sum(lengths)))
    return Step(*(np.ascontiguousarray(part, dtype=np.int32) for part in parts))


@st.composite
def readings(draw):
    """Rows of some tokens, cut into pieces: what each step reads of each row, 0 for nothing."""
    n = draw(st.integers(1, 4))
    pieces = draw(st.lists(st.lists(st.integers(0, 20), min_size=n, max_size=n), min_size=1, max_size=4))
    return n, [piece for piece in pieces if any(piece)]


def laid_out(n, model, seed):
    """Ids of n rows of the whole context, and the blocks of each, wherever."""
    random, width = np.random.default_rng(seed), 64 // BLOCK
    ids = random.integers(0, model.config.vocab_size, (n, 64)).astype(np.int32)
    return ids, random.permutation(n * width).reshape(n, width)


def steps_of(ids, tables, pieces):
    """A step for each piece, as far as the context goes, and what it reads: (row, its positions) of each."""
    starts = np.zeros(len(ids), dtype=int)
    for piece in pieces:
        lengths = np.minimum(piece, 64 - starts)
        if len(going := np.flatnonzero(lengths)):
            step = step_of(ids[going], starts[going], lengths[going], tables[going])
            yield step, [(row, slice(starts[row], starts[row] + lengths[row])) for row in going]
        starts = starts + lengths


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("shape", SHAPES)
@settings(deadline=None, max_examples=10)
@given(reading=readings(), seed=st.integers(0, 2**16))
@torch.inference_mode()
def test_rows_in_pieces_equal_the_full_pass(runner, shape, reading, seed):
    n, pieces = reading
    model = MODELS[shape]
    ids, tables = laid_out(n, model, seed)
    full, run = model(torch.from_numpy(ids).long()), runner(model, tables.size)
    for step, read in steps_of(ids, tables, pieces):
        assert (run(step) - torch.cat([full[part] for part in read])).abs().max() < 1e-4


@kernel
@pytest.mark.parametrize("shape", SHAPES)
@settings(deadline=None, max_examples=10)
@given(reading=readings(), seed=st.integers(0, 2**16))
def test_the_kernel_s_bits_do_not_depend_on_what_is_beside(shape, reading, seed):
    """Alone and whole, or in pieces beside others, by one thread or two: not a bit differs."""
    n, pieces = reading
    model = MODELS[shape]
    ids, tables = laid_out(n, model, seed)
    together, width = Native(model, tables.size), tables.shape[1]
    alone = [Native(model, width)(step_of(ids[[i]], [0], [64], np.arange(width)[None])) for i in range(n)]
    for step, read in steps_of(ids, tables, pieces):
        assert torch.equal(together(step), torch.cat([alone[row][part] for row, part in read]))


@kernel
@pytest.mark.parametrize(
    ("shape", "bits", "group"),
    [
        ("gpt2", 8, 0),
        ("gpt2 of odd heads", 8, 0),
        ("qwen3", 8, 0),
        ("llama", 4, 32),
        ("qwen2", 4, 64),
        ("wide", 4, 128),
    ],
)
@settings(deadline=None, max_examples=5)
@given(cuts=st.lists(st.integers(1, 63), max_size=6), seed=st.integers(0, 2**16))
@torch.inference_mode()
def test_few_bits_are_computed_as_they_say(shape, bits, group, cuts, seed):
    """As torch computes with the dequantized weights, and the same bits in any pieces."""
    config = SHAPES.get(shape) or GPTConfig.make("llama", 97, 64, 1, 128, 4)
    model = built(replace(config, n_inner=2 * config.n_embd) if bits == 4 and shape != "wide" else config)
    if shape == "qwen2":
        model = built(replace(GPTConfig.make("qwen2", 97, 64, 1, 64, 2, 2), n_inner=128))
    quantize(model, bits, group or 64)
    assert computes(model)
    ids = np.random.default_rng(seed).integers(0, config.vocab_size, (1, 64)).astype(np.int32)
    full = model(torch.from_numpy(ids).long())[0]
    table = np.arange(4)[None]
    whole = Native(model, 4)(step_of(ids, [0], [64], table))
    assert (whole - full).abs().max() < 1e-4 * full.abs().max()
    run, places = Native(model, 4), sorted({0, 64, *cuts})
    parts = [run(step_of(ids, [a], [b - a], table)) for a, b in pairwise(places)]
    assert torch.equal(torch.cat(parts), whole)


@kernel
def test_what_another_text_left_is_not_looked_at():
    """Not even multiplied by nothing: it may be no number."""
    model = MODELS["qwen3"]
    ids = np.arange(64, dtype=np.int32)[None]
    run, step = Native(model, 4), step_of(ids, [0], [37], np.arange(4)[None])
    expected = run(step)
    run.keys.fill_(float("nan"))
    run.values.fill_(float("nan"))
    assert torch.equal(run(step), expected)


@kernel
def test_inputs_in_8_bits_are_not_the_kernel_s():
    model = built(SHAPES["gpt2"])
    quantize(model, 8, kind=OutlierLinear)
    assert not computes(model)


@kernel
def test_many_threads_give_the_bits_of_one(monkeypatch):
    model = MODELS["qwen3"]
    ids = np.arange(60, dtype=np.int32)[None]
    step = step_of(ids, [0], [60], np.arange(4)[None])
    one = Native(model, 4)(step)
    monkeypatch.setattr("journey.infer.native._ALONE", 0)
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        assert torch.equal(Native(model, 4)(step), one)


@kernel
def test_weights_that_are_trained_on_are_seen():
    model = built(SHAPES["gpt2"])
    run, step = Native(model, 1), step_of(np.array([[5]]), [0], [1], np.array([[0]]))
    before = run(step)
    with torch.no_grad():
        model.blocks[0].mlp.up.weight.mul_(3)
        expected = model(torch.tensor([[5]]))[0]
    assert (run(step) - expected).abs().max() < 1e-4 < (before - expected).abs().max()


@kernel
def test_the_kernel_takes_only_what_it_computes():
    model = built(SHAPES["gpt2"])
    assert computes(model) and make(model, 1).name == "kernel"
    handle = model.blocks[1].register_forward_hook(lambda *_: None)
    assert not computes(model) and make(model, 1).name == "torch"
    handle.remove()
    assert computes(model)
    model.blocks[0].mlp.up = nn.Sequential(model.blocks[0].mlp.up)
    assert not computes(model)
    assert not computes(built(SHAPES["gpt2"]).bfloat16())
    model = built(SHAPES["gpt2"])
    model.norm = nn.LayerNorm(36, bias=False)  # to the kernel a norm without bias is RMSNorm
    assert not computes(model)


def test_where_there_is_a_compiler_there_is_a_kernel():
    """One that fails its own check is not kept, and every test of it would be skipped without a word."""
    if any(map(shutil.which, build.COMPILERS)) and os.environ.get(build.SWITCH) != "off":
        assert build.library().vector_floats() in (8, 16)


@kernel
def test_what_computes_otherwise_is_not_kept(monkeypatch, tmp_path):
    wrong = tmp_path / "kernel.c"
    right = build.SOURCE.read_text()
    assert "0.044715f" in right
    wrong.write_text(right.replace("0.044715f", "0.144715f"))
    monkeypatch.setattr(build, "SOURCE", wrong)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build._found.cache_clear()
    try:
        with pytest.raises(build.NotBuiltError, match="computes other logits than torch"):
            build.library()
        tried = []
        monkeypatch.setattr(build, "_build", lambda *_: tried.append(1))
        assert not build.available() and tried == []  # it is not tried again
        monkeypatch.undo()
        monkeypatch.setattr(build, "SOURCE", wrong)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        wrong.write_text("this is no C")
        build._found.cache_clear()
        with pytest.raises(build.NotBuiltError, match="could not build the kernel"):
            build.library()
        assert [path.name for path in (tmp_path / "journey").iterdir()] == []
    finally:
        monkeypatch.undo()
        build._found.cache_clear()
    assert check(build.library()) < 1e-5


@kernel
@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="of another kind of processor")
@pytest.mark.parametrize(("kind", "lanes"), [("x86-64", 8), ("x86-64-v3", 8)])
@torch.inference_mode()
def test_older_processors_compute_the_same(monkeypatch, tmp_path, kind, lanes):
    """Without AVX-512, and without AVX2: other ways through the C, which this machine would not go."""
    monkeypatch.setattr(build, "FLAGS", tuple(flag.replace("native", kind) for flag in build.FLAGS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = build._load()  # checked against torch
    assert library.vector_floats() == lanes
    ids, table = np.arange(64, dtype=np.int32)[None], np.arange(4)[None]
    for bits in (4, 8):
        model = built(replace(GPTConfig.make("llama", 97, 64, 1, 64, 4, 2), n_inner=96))
        quantize(model, bits, 32)
        whole = Native(model, 4, library)(step_of(ids, [0], [64], table))
        assert (whole - model(torch.from_numpy(ids).long())[0]).abs().max() < 1e-4 * whole.abs().max()
        run = Native(model, 4, library)
        parts = [run(step_of(ids, [a], [b - a], table)) for a, b in ((0, 1), (1, 6), (6, 40), (40, 64))]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("how", ["switched off", "no compiler"])
def test_without_a_kernel_it_is_torch(monkeypatch, how):
    build._found.cache_clear()
    if how == "no compiler":
        monkeypatch.setenv("PATH", "")
    else:
        monkeypatch.setenv(build.SWITCH, "off")
    try:
        assert not build.available()
        assert make(MODELS["gpt2"], 1).name == "torch"
    finally:
        monkeypatch.undo()
        build._found.cache_clear()
