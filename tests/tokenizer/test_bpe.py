"""Our merges against those of the `tokenizers` library."""

import argparse
import inspect
import json
import os
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from journey.errors import JourneyError
from journey.tokenizer import bpe
from journey.tokenizer.codec import PATTERNS, splitter

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))


def library_merges(texts: list[str], vocab_size: int, pattern: str = "gpt2") -> list[tuple[str, str]]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


# Few letters and short words, so that nearly every merge is a tie; runs of one letter overlap with themselves.
tied = st.lists(st.text("ab", max_size=12) | st.text("abc '\né\x80", max_size=20), min_size=1, max_size=8)


@given(texts=tied, n_merges=st.integers(0, 30))
@settings(max_examples=300, deadline=None)
def test_merges_equal_the_library_ties_included(texts: list[str], n_merges: int) -> None:
    words = bpe.count_words(texts)
    expected = library_merges(texts, 256 + n_merges)
    if len(expected) == n_merges:
        assert bpe.train(words, 256 + n_merges, 0) == expected
    else:
        most = 256 + len(expected)
        with pytest.raises(JourneyError, match=f"at most {most}$"):
            bpe.train(words, 256 + n_merges, 0)
        assert bpe.train(words, most, 0) == expected


@given(word=st.text("ab", min_size=2, max_size=40))
@settings(max_examples=200, deadline=None)
def test_one_word_merged_to_the_end_equals_the_library(word: str) -> None:
    expected = library_merges([word], 400)
    assert bpe.train({word: 1}, 256 + len(expected), 0) == expected


@pytest.mark.parametrize("pattern", PATTERNS)
def test_merges_of_source_code_equal_the_library(pattern: str) -> None:
    texts = inspect.getsource(argparse).splitlines(keepends=True)
    assert bpe.train(bpe.count_words(texts, pattern), 1500, 7) == library_merges(texts, 1500 - 7, pattern)


@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
def test_merges_of_real_text_equal_the_library() -> None:
    texts = [(DATA / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")]
    assert bpe.train(bpe.count_words(texts), 4096, 7) == library_merges(texts, 4096 - 7)


@given(text=st.text())
def test_the_pieces_of_every_pattern_join_to_the_text(text: str) -> None:
    for pattern in PATTERNS:
        assert "".join(splitter(pattern).findall(text)) == text


def test_the_special_tokens_take_their_place_in_the_vocabulary() -> None:
    words = {"abab": 3, "abc": 2}
    assert bpe.train(words, 258, 0) == [("a", "b"), ("ab", "ab")]
    assert bpe.train(words, 258, 1) == [("a", "b")]


def test_the_order_of_the_words_does_not_matter() -> None:
    words = bpe.count_words([inspect.getsource(argparse)])
    assert bpe.train(words, 500, 0) == bpe.train(dict(sorted(words.items())), 500, 0)


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(JourneyError, match=r"vocab_size 262 is too small: .* are 263"):
        bpe.train({"ab": 1}, 262, 7)


def test_a_vocabulary_too_large_for_the_corpus_names_the_largest() -> None:
    with pytest.raises(JourneyError, match=r"vocab_size 300 is too large for this corpus: at most 265$"):
        bpe.train({"abc": 1}, 300, 7)


def test_an_unknown_pattern_names_the_nearest() -> None:
    with pytest.raises(JourneyError, match='did you mean "gpt2"'):
        bpe.count_words(["a"], "gtp2")


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(JourneyError, match=r"lone surrogate \(U\+D800 at character 1\)"):
        bpe.train({"a\ud800": 1}, 300, 0)


def test_progress_counts_up_to_the_merges() -> None:
    calls: list[tuple[int, int]] = []
    words = bpe.count_words([inspect.getsource(argparse)])
    bpe.train(words, 256 + 64, 0, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(32, 64), (64, 64)]
