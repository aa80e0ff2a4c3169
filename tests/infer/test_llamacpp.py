"""llama.cpp through its C functions: the same ids, the same logits, and errors instead of crashes."""

import argparse
import ctypes
import heapq
import importlib.util
import json
import random
import re
import threading
import unicodedata
import urllib.request
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from journey import chat
from journey.errors import JourneyError
from journey.infer import engine, gguf, llamacpp
from journey.infer.llamacpp import LlamaCpp
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.codec import PATTERNS
from journey.tokenizer.formats import BOS, EOS, SPECIALS, Tokenizer

TEXTS = [module.__doc__ for module in (argparse, heapq, json, re)] + ["Straße 中文 🙂 naïve café ½ ² ٣ x\u0301 " * 3]
ADVERSARIAL = [
    "",
    " ",
    "\x00",
    "a\x00b\x1c\x1d\x1e\x1f\x7f\x85",
    "\r\n\r\n x\r\r\n",
    "  \t \n\n  a   b\u00a0\u2028\u3000 c  ",
    "don't I'LL we'Ve it'S 'd ’s",
    "1234567 12 ٣٤٥ ½²①",
    "🙂👩‍👩‍👧‍👦🏽🏳️‍🌈",
    "e\u0301\u0301 x\u0300 \u200b\ufeff",
    "中文字符 日本語 한국어 हिन्दी",
    "a" * 700,
    "<|user|>hi<|end|><|endoftext|><|pad|>",
    "\ud7ff\ue000\U0010ffff",
]
CHATS = [
    [{"role": "user", "content": "What does `json.dumps` do?"}],
    [{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": "\n\nHi 🙂 \n"}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b\r\n"},
        {"role": "tool", "content": '{"x": "<b>"}'},
        {"role": "user", "content": ""},
    ],
]


def make(tokenizer, n_ctx=64, family="qwen3"):
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, tokenizer.vocab_size, n_ctx, 2, 32, n_head=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    return model


@pytest.fixture(scope="module", params=PATTERNS)
def tokenizer(request):
    words = bpe.count_words(TEXTS, request.param)
    return Tokenizer.from_merges(bpe.train(words, 600, len(SPECIALS)), request.param)


@pytest.fixture(scope="module")
def talker(tokenizer, tmp_path_factory):
    """A file for each split pattern."""
    path = tmp_path_factory.mktemp("talker") / "model.gguf"
    gguf.write(make(tokenizer), tokenizer, path, "f32", template=chat.TEMPLATE)
    with LlamaCpp(path) as llama:
        yield llama


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One of them with the model that it was made of, for what has nothing to do with text."""
    own = Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), 600, len(SPECIALS)))
    made = make(own)
    made.path = tmp_path_factory.mktemp("model") / "model.gguf"
    gguf.write(made, own, made.path, "f32", template=chat.TEMPLATE, name="tiny")
    made.tokenizer = own
    return made


@pytest.fixture(scope="module")
def llama(model):
    with LlamaCpp(model.path, exact=True) as opened:
        yield opened


def ours(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids]))[0].numpy()


# Text and ids


@pytest.mark.parametrize("text", ADVERSARIAL)
def test_text_has_our_ids(text, tokenizer, talker):
    assert talker.tokenize(text) == tokenizer.encode(text)


def test_characters_of_every_kind_have_our_ids(tokenizer, talker):
    """A few of each Unicode category, after a letter, a digit and a space: where the split patterns decide."""
    kinds = {}
    for code in range(0x20000):
        if not 0xD800 <= code < 0xE000:
            kinds.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    rng = random.Random(0)
    for found in kinds.values():
        for char in rng.sample(found, min(40, len(found))):
            text = f"a{char}b 1{char}2 {char}x  {char} "
            assert talker.tokenize(text) == tokenizer.encode(text), hex(ord(char))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_has_our_ids(tokenizer, talker, text):
    assert talker.tokenize(text) == tokenizer.encode(text)


def test_special_tokens_are_read_only_where_asked(tokenizer, talker):
    text = "a<|user|>b <|end|>\n<|endoftext|>"
    special = [tokenizer.special[token] for token in ("<|user|>", EOS, BOS)]
    assert [i for i in talker.tokenize(text, parse_special=True) if i in special] == special
    assert not set(talker.tokenize(text)) & set(tokenizer.special.values())


@pytest.mark.parametrize("messages", CHATS)
def test_a_chat_prompt_has_our_ids(messages, tokenizer, talker):
    from transformers.utils.chat_template_utils import render_jinja_template

    template = talker.metadata["tokenizer.chat_template"]
    text = render_jinja_template(conversations=[messages], chat_template=template, add_generation_prompt=True)[0][0]
    assert talker.tokenize(text, parse_special=True) == chat.encode_prompt(messages, tokenizer)


def test_generation_stops_where_ours_does(tokenizer, talker):
    assert {i for i in range(talker.vocab_size) if talker.ends(i)} == tokenizer.stop


def test_llama_cpps_own_server_asks_as_we_do(model):
    """Its own template engine, tokenizer and stop: the way the file is used elsewhere."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model.path)
    parameters.n_ctx = 64
    parameters.warmup = False
    parameters.cpuparams.n_threads = 1
    server = xllamacpp.Server(parameters)

    def post(path, body):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    for messages in CHATS:
        prompt = post("/apply-template", {"messages": messages})["prompt"]
        ids = post("/tokenize", {"content": prompt, "parse_special": True, "add_special": False})["tokens"]
        assert ids == chat.encode_prompt(messages, model.tokenizer)


# Logits


def test_a_part_of_the_logits_is_that_part(llama):
    ids = list(range(50, 90))
    whole = llama.logits(ids)
    assert whole.shape == (40, 600) and whole.dtype == np.float32
    for first in (0, 1, 39):
        assert np.abs(llama.logits(ids, first) - whole[first:]).max() <= 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_a_sequence_longer_than_a_batch_is_one_sequence(model, tmp_path, monkeypatch, family):
    own, path = make(model.tokenizer, 700, family), tmp_path / "long.gguf"
    gguf.write(own, model.tokenizer, path, "f32")
    ids = torch.randint(600, (700,), generator=torch.Generator().manual_seed(0)).tolist()
    wanted = ours(own, ids)
    with LlamaCpp(path, exact=True) as llama:
        for first in (0, 511, 512, 513, 699):
            found = llama.logits(ids, first)
            tolerance = 1e-5 if family == "qwen3" else 1e-3  # gpt2's GELU is a table of f16 there
            assert np.abs(found - wanted[first:]).max() <= tolerance * np.abs(wanted).max()


def test_each_sequence_starts_afresh(llama):
    first = llama.logits([5, 6, 7])
    llama.logits([9] * 30)
    assert np.array_equal(llama.logits([5, 6, 7]), first)


def test_the_defaults_round_more(model, llama):
    """The settings reach the library: f16 keys and values and the flash kernel cost what they cost."""
    ids = list(range(60))
    wanted = ours(model, ids)
    with LlamaCpp(model.path) as default:
        loose = np.abs(default.logits(ids) - wanted).max() / np.abs(wanted).max()
    exact = np.abs(llama.logits(ids) - wanted).max() / np.abs(wanted).max()
    assert exact <= 1e-5 < loose < 5e-3


def test_greedy_is_ours(model, llama):
    prompt = [10, 20, 30]
    mine = list(engine.stream(model, prompt, max_new_tokens=100, stop=set()))
    theirs = list(llama.greedy(prompt))
    assert theirs == mine
    assert len(theirs) == 64 - 3
    assert list(islice(llama.greedy(prompt), 5)) == mine[:5]


def test_several_texts_at_once_are_those_of_each_alone(model, llama):
    """Of unlike lengths, longer together than one call takes, and more of them than sequences."""
    prompts = [[10, 20, 30], [7], [5, 6] * 20, *([i] * 30 for i in range(40, 61))]
    assert sum(map(len, prompts)) > 512
    alone = [list(islice(llama.greedy(prompt), 12)) for prompt in prompts]
    with LlamaCpp(model.path, exact=True, sequences=len(prompts)) as wide:
        for _ in range(2):
            together = list(islice(wide.greedy_together(prompts), 12))
            assert [list(row) for row in zip(*together, strict=True)] == alone
        assert len(list(wide.greedy_together([[1] * 60, [2]]))) == 64 - 60
        assert list(islice(wide.greedy(prompts[2]), 12)) == alone[2]
        for wrong in ([[]], [[1], []], [[1] * 65], [[1]] * (len(prompts) + 1)):
            with pytest.raises(JourneyError):
                next(wide.greedy_together(wrong))


def test_the_context_is_at_most_the_trained_one(model):
    with LlamaCpp(model.path, 16) as short, LlamaCpp(model.path, 10_000) as long:
        assert (short.n_ctx, long.n_ctx) == (16, 64)
        with pytest.raises(JourneyError, match="17 tokens does not fit: the context takes 1 to 16"):
            short.logits([1] * 17)


def test_sequences_that_cannot_be_read_are_told(llama):
    with pytest.raises(JourneyError, match="0 tokens"):
        llama.logits([])
    for token in (600, -1, 2**31 - 1):
        with pytest.raises(JourneyError, match="could not read"):
            llama.logits([1, token])
    assert llama.logits([1, 2]).shape == (2, 600), "and it goes on after that"


def test_metadata_is_whole(model, llama):
    assert llama.metadata["general.name"] == "tiny"
    assert llama.metadata["tokenizer.chat_template"] == chat.TEMPLATE
    assert llama.metadata["qwen3.block_count"] == "2"


# Files that are not whole, and libraries that are not ours


def test_a_missing_file_is_told(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(JourneyError, match="does not exist: name a GGUF file"):
            LlamaCpp(path)


def test_another_kind_of_file_is_told(tmp_path):
    for data in (b"", b"GGU", b"GGML" + bytes(100), b"hello"):
        path = tmp_path / "other.gguf"
        path.write_bytes(data)
        with pytest.raises(JourneyError, match="is no GGUF file"):
            LlamaCpp(path)


def test_a_file_cut_anywhere_is_told(model, tmp_path):
    data, path = model.path.read_bytes(), tmp_path / "cut.gguf"
    start = int(GGUFReader(model.path).data_offset)
    for length in (4, 8, 20, 24, 100, start // 2, start - 1, start, start + 1, len(data) // 2, len(data) - 32):
        path.write_bytes(data[:length])
        with pytest.raises(JourneyError, match=r"cannot load .*cut\.gguf \(.+\): it is damaged, make it again"):
            LlamaCpp(path)


def test_damaged_metadata_is_told(model, tmp_path):
    data, path = model.path.read_bytes(), tmp_path / "damaged.gguf"
    changes = {
        b"qwen3.block_count": b"qwen3.block_tnuoc",
        b"\x05\x00\x00\x00\x00\x00\x00\x00qwen3": b"\x05\x00\x00\x00\x00\x00\x00\x80qwen3",
        b"blk.1.attn_k.weight": b"blk.1.attn_k.thgiew",
        b"tokenizer.ggml.merges": b"tokenizer.ggml.segrem",
        b"GGUF\x03": b"GGUF\x77",
    }
    for before, after in changes.items():
        assert data.count(before) >= 1
        path.write_bytes(data.replace(before, after, 1))
        with pytest.raises(JourneyError, match="it is damaged"):
            LlamaCpp(path)


def test_weights_that_are_no_numbers_are_told(model, tmp_path):
    data, path = bytearray(model.path.read_bytes()), tmp_path / "nan.gguf"
    data[-4:] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    with pytest.raises(JourneyError, match="it is damaged"):
        LlamaCpp(path)


def test_closing_twice_is_closing(model):
    llama = LlamaCpp(model.path)
    llama.close()
    llama.close()
    with pytest.raises(ValueError, match="closed"):
        llama.logits([1])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of a process's memory")
def test_memory_comes_back(model):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    for _ in range(3):
        LlamaCpp(model.path).close()
    before = resident()
    for _ in range(30):
        with LlamaCpp(model.path) as llama:
            llama.logits([1, 2, 3])
    assert resident() - before < 30e6


def test_the_installed_library_has_the_layout_written_here():
    """Every field of the structs whose default is known stands where we look for it, and nothing lies behind."""
    lib = llamacpp.library()
    for make_defaults in (lib.llama_model_default_params, lib.llama_context_default_params):
        defaults = make_defaults()
        llamacpp.check_layout(defaults)
        for name, kind in type(defaults)._fields_:
            if kind is ctypes.c_void_p:
                assert getattr(defaults, name) is None, name
            if kind is ctypes.c_uint8:
                assert getattr(defaults, name) in (0, 1), name
    assert lib.llama_context_default_params().n_threads == lib.llama_context_default_params().n_threads_batch


@pytest.mark.parametrize("shift", [4, 8, -4])
def test_another_layout_is_refused(shift):
    """A field more or fewer, somewhere before the ones we set."""
    defaults = llamacpp.library().llama_context_default_params()
    data = bytes(defaults)
    moved = data[:16] + (bytes(shift) + data[16:-shift] if shift > 0 else data[16 - shift :] + bytes(-shift))
    with pytest.raises(JourneyError, match=r"xllamacpp .* lays out its settings in another way \(\w+ is "):
        llamacpp.check_layout(type(defaults).from_buffer_copy(moved))


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JourneyError, match="pip install xllamacpp"):
        llamacpp.library.__wrapped__()


def test_it_works_beside_another_thread(model):
    """ctypes lets other threads run during a call: two models must not share anything."""
    ids = list(range(40))
    with LlamaCpp(model.path, exact=True) as one, LlamaCpp(model.path, exact=True) as two:
        wanted, found = one.logits(ids), []
        threads = [
            threading.Thread(target=lambda llama=llama: found.append(llama.logits(ids)))
            for _ in range(3)
            for llama in (one, two)
        ]
        for first, second in zip(threads[::2], threads[1::2], strict=True):
            first.start(), second.start()
            first.join(), second.join()
        assert all(np.array_equal(logits, wanted) for logits in found) and len(found) == 6
