"""Our codec against the `tokenizers` library and tiktoken, on the strings that split tokenizers apart."""

import argparse
import base64
import gzip
import inspect
import json
import os
import sys
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from journey.errors import JourneyError
from journey.tokenizer import bpe
from journey.tokenizer.codec import ALPHABET, PATTERNS, Codec, Merge, spell, unspell
from journey.tokenizer.formats import BOS, SPECIALS, Tokenizer

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
adversarial = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=12).map("".join)


@cache
def merges_of_source() -> list[Merge]:
    return bpe.train(bpe.count_words([inspect.getsource(argparse), "é 中文 don't 👍"]), 700, 0)


@cache
def gpt2() -> tuple[Codec, Tokenizer, Tokenizer, tiktoken.Encoding]:
    folder = DATA / "tokenizer" / "gpt2"
    tokenizer = Tokenizer.load(folder)
    merges = [tuple(merge) for merge in json.loads(tokenizer.backend.to_str())["model"]["merges"]]
    lines = (folder / "gpt2.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    pattern = PATTERNS["gpt2"]
    encoding = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={BOS: 50256})
    return Codec(merges, "gpt2", [BOS]), tokenizer, Tokenizer.load(folder / "gpt2.tiktoken"), encoding


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


@needs_gpt2
@given(text=adversarial)
@settings(max_examples=500, deadline=None)
def test_gpt2_ids_equal_tiktoken(text: str) -> None:
    codec, tokenizer, from_ranks, encoding = gpt2()
    expected = encoding.encode_ordinary(text)
    assert codec.encode(text) == expected
    assert tokenizer.encode(text) == expected
    assert from_ranks.encode(text) == expected


@needs_gpt2
@pytest.mark.parametrize("language", ["ar", "de", "el", "hi", "ru", "th", "tr", "vi", "zh"])
def test_gpt2_ids_of_real_text_equal_tiktoken(language: str) -> None:
    codec, tokenizer, _, encoding = gpt2()
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
