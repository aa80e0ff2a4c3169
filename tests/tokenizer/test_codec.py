"""Our codec against the `tokenizers` library and tiktoken, on the strings that split tokenizers apart."""

import argparse
import base64
import gzip
import inspect
import os
import random
import shutil
import sys
import tempfile
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import GPT2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from journey.errors import JourneyError
from journey.tokenizer import bpe
from journey.tokenizer.codec import ALPHABET, PATTERNS, Codec, Merge, spell, unspell
from journey.tokenizer.formats import BOS, GPT2_FILES, SPECIALS, Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))
needs_gpt2 = pytest.mark.skipif(not (DATA / "tokenizer" / "gpt2").is_dir(), reason="JOURNEY_DATA is not set")

FRAGMENTS = [
    *("'s", "'S", "'LL", "'\u017f", "\u212a", "\u0130", "don't", "<|endoftext|>", "<|end|>", "<|user|>", "<|"),
    *(" ", "  ", " " * 40, "\t", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u1680"),
    *("\u180e", "\u2003", "\u2028", "\u200b", "\u202f", "\u3000", "\ufeff", "\x00", "\x7f", "\u00ad", "\u200d"),
    *("e\u0301", "\u0301", "é", "한국어", "ᄒ\u1161", "中文", "ไทย", "العربية", "हिन्दी", "עִברִית"),
    *("👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "\U0010ffff", "\ue000", "\ufffd", "\ufffe", "\U00013000"),
    *("123456789", "٣٤٥", "Ⅳ", "½", "²", "\U0001d7d8", "x" * 60, "=" * 60, "a_b.c(d)", "İstanbul", "ﬁ"),
]


def texts(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(FRAGMENTS) | st.text(alphabet, max_size=5), max_size=12).map("".join)


# What is a letter depends on the version of Unicode: `regex`, by which our readable codec splits, has a newer one than
# the Rust libraries. They agree with each other on `anything`, and with `regex` on characters that have long had names.
anything = texts(st.characters(exclude_categories=["Cs"]))
adversarial = texts(st.characters(exclude_categories=["Cs", "Cn"]))


@cache
def merges_of_source() -> list[Merge]:
    return bpe.train(bpe.count_words([inspect.getsource(argparse), "é 中文 don't 👍"]), 700, 0)


@cache
def gpt2() -> tuple[Codec, dict[str, Tokenizer], tiktoken.Encoding]:
    """GPT-2's tokenizer: readable, from each of its public forms, and tiktoken's own."""
    folder = DATA / "tokenizer" / "gpt2"
    with tempfile.TemporaryDirectory() as hub:
        for ours, theirs in zip(*GPT2_FILES, strict=True):
            shutil.copy(folder / ours, Path(hub, theirs))
        GPT2Tokenizer.from_pretrained(hub).save_pretrained(hub)  # tokenizer.json, as the Hub has it
        forms = {
            "encoder.json and vocab.bpe": Tokenizer.load(folder),
            ".tiktoken": Tokenizer.load(folder / "gpt2.tiktoken"),
            "tokenizer.json": Tokenizer.load(hub),
        }
    merges = forms["tokenizer.json"].merges
    lines = (folder / "gpt2.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    pattern = PATTERNS["gpt2"]
    encoding = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={BOS: 50256})
    return Codec(merges, "gpt2", [BOS]), forms, encoding


@given(text=adversarial, pattern=st.sampled_from(list(PATTERNS)))
@settings(max_examples=500, deadline=None)
def test_ids_equal_the_library_and_decode_to_the_text(text: str, pattern: str) -> None:
    codec = Codec(merges_of_source(), pattern, SPECIALS)
    tokenizer = Tokenizer.from_merges(merges_of_source(), pattern)
    ids = codec.encode(text)
    assert ids == tokenizer.encode(text)
    assert codec.decode(ids) == text
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_character_of_unicode_is_split_as_in_the_library(pattern: str) -> None:
    codec, tokenizer = Codec([], pattern), Tokenizer.from_merges([], pattern)
    everything = map(chr, range(sys.maxunicode + 1))
    named = [char for char in everything if unicodedata.category(char) not in ("Cs", "Co", "Cn")]
    assert len(named) > 140_000
    for start in range(0, len(named), 1000):
        # Each character beside a letter, a digit, a space, an apostrophe and itself.
        text = "".join(f"a{c}1{c} {c}{c}'{c}" for c in named[start : start + 1000])
        pieces = tokenizer.backend.pre_tokenizer.pre_tokenize_str(text)
        assert [spell(piece) for piece in codec.split.findall(text)] == [piece for piece, _ in pieces]


def agree(texts: list[str]) -> None:
    """Every form of GPT-2 gives tiktoken's ids, special tokens as text and as tokens, and every text comes back."""
    _, forms, encoding = gpt2()
    expected = encoding.encode_ordinary_batch(texts, num_threads=1)
    allowed = encoding.encode_batch(texts, num_threads=1, allowed_special="all")
    for name, tokenizer in forms.items():
        assert [tokenizer.encode(text) for text in texts] == tokenizer.encode_batch(texts) == expected, name
        assert [tokenizer.decode(ids) for ids in expected] == texts, name
        # As other readers of tokenizer.json use it, and as chat.py puts ids together.
        tokenizer.backend.encode_special_tokens = False
        try:
            assert [encoding.ids for encoding in tokenizer.backend.encode_batch_fast(texts)] == allowed, name
        finally:
            tokenizer.backend.encode_special_tokens = True


@needs_gpt2
@given(texts=st.lists(anything, min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_gpt2_ids_equal_tiktoken(texts: list[str]) -> None:
    agree(texts)


@needs_gpt2
@given(text=adversarial)
@settings(max_examples=300, deadline=None)
def test_our_codec_gives_gpt2s_ids_and_tokens_between_special_ones(text: str) -> None:
    codec, _, encoding = gpt2()
    assert codec.encode(text) == encoding.encode_ordinary(text)
    first, *rest = text.split(BOS)
    marked = sum(([codec.ids[BOS], *codec.encode(part)] for part in rest), codec.encode(first))
    assert marked == encoding.encode(text, allowed_special="all")


@needs_gpt2
@pytest.mark.slow
def test_gpt2_ids_of_ten_thousand_texts_equal_tiktoken() -> None:
    seen: set[str] = set()

    @given(texts=st.lists(anything, min_size=10, max_size=20, unique=True))
    @settings(max_examples=1200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(texts: list[str]) -> None:
        agree(texts)
        seen.update(texts)

    check()
    assert len(seen) >= 10_000


@needs_gpt2
@pytest.mark.slow
@pytest.mark.parametrize("alphabet", ["etaoinshrdlu", "ab01.-_中文é👍\u0301\x00"])
def test_ten_megabytes_without_a_space(alphabet: str) -> None:
    """One word, which is the worst case, and many."""
    _, forms, encoding = gpt2()
    text = "".join(random.Random(0).choices(alphabet, k=10_000_000 // len(max(alphabet).encode())))
    ids = forms["encoder.json and vocab.bpe"].encode(text)
    assert ids == encoding.encode_ordinary(text)
    assert forms["encoder.json and vocab.bpe"].decode(ids) == text


@needs_gpt2
def test_gpt2s_merges_are_those_of_its_file() -> None:
    _, forms, _ = gpt2()
    lines = (DATA / "tokenizer" / "gpt2" / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    for name in ("encoder.json and vocab.bpe", "tokenizer.json"):
        assert [" ".join(merge) for merge in forms[name].merges] == lines


@needs_gpt2
@pytest.mark.parametrize("language", ["ar", "de", "el", "hi", "ru", "th", "tr", "vi", "zh"])
def test_gpt2_ids_of_real_text_equal_tiktoken(language: str) -> None:
    codec, forms, encoding = gpt2()
    tokenizer = forms["encoder.json and vocab.bpe"]
    with gzip.open(DATA / "retrieval" / "xquad" / f"{language}.jsonl.gz", "rt", encoding="utf-8") as lines:
        text = "".join(line for line, _ in zip(lines, range(20), strict=False))
    assert codec.encode(text) == tokenizer.encode(text) == encoding.encode_ordinary(text)


@given(ids=st.lists(st.integers(0, 699 + len(SPECIALS)), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_ids_decode_as_in_the_library_broken_characters_too(ids: list[int]) -> None:
    codec = Codec(merges_of_source(), "gpt2", SPECIALS)
    assert codec.decode(ids) == Tokenizer.from_merges(merges_of_source()).decode(ids)


def test_the_spelling_of_a_special_token_is_ordinary_text() -> None:
    codec = Codec(merges_of_source(), "gpt2", SPECIALS)
    for token in SPECIALS:
        assert codec.ids[token] not in codec.encode(f"a{token}b")
        assert codec.decode([codec.ids[token]]) == token


def test_a_piece_of_thousands_of_characters_is_quick() -> None:
    codec = Codec(merges_of_source())
    text = "=" * 20_000 + "ab" * 10_000
    assert codec.encode(text) == Tokenizer.from_merges(merges_of_source()).encode(text)


def test_the_patterns_are_those_of_the_models_they_are_named_after() -> None:
    assert PATTERNS["qwen2"] == PRETOKENIZE_REGEX
    assert inspect.signature(TikTokenConverter).parameters["pattern"].default == PATTERNS["llama3"]


def test_bytes_have_gpt2s_characters() -> None:
    assert spell(" é\n") == "ĠÃ©Ċ"
    assert "".join(ALPHABET[:3]) == '!"#' and ALPHABET[220] == "Ġ"
    assert sorted(pre_tokenizers.ByteLevel.alphabet()) == ALPHABET
    assert sorted(unspell("".join(ALPHABET))) == list(range(256))


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(JourneyError, match=r"lone surrogate \(U\+DFFF at character 2\)"):
        Codec([]).encode("ab\udfff")
