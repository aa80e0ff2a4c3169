"""Our merges against those of the `tokenizers` library."""

import argparse
import gc
import gzip
import inspect
import json
import os
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.tokenizer import bpe, plain
from journey.tokenizer.codec import PATTERNS, splitter

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))


# Few letters and short words, so that nearly every merge is a tie; runs of one letter overlap with themselves.
tied = st.lists(st.text("ab", max_size=12) | st.text("abc '\né\x80", max_size=20), min_size=1, max_size=8)


@given(texts=tied, n_merges=st.integers(0, 30))
@settings(max_examples=300, deadline=None)
def test_merges_equal_the_library_ties_included(library_merges, texts: list[str], n_merges: int) -> None:
    words = bpe.count_words(texts)
    expected = library_merges(texts, 256 + n_merges)
    if not words:
        with pytest.raises(JourneyError, match="the corpus is empty"):
            bpe.train(words, 256 + n_merges, 0)
    elif len(expected) == n_merges:
        assert bpe.train(words, 256 + n_merges, 0) == expected
    else:
        most = 256 + len(expected)
        with pytest.raises(JourneyError, match=f"at most {most}$"):
            bpe.train(words, 256 + n_merges, 0)
        assert bpe.train(words, most, 0) == expected


@given(word=st.text("ab", min_size=2, max_size=40))
@settings(max_examples=200, deadline=None)
def test_one_word_merged_to_the_end_equals_the_library(library_merges, word: str) -> None:
    expected = library_merges([word], 400)
    assert bpe.train({word: 1}, 256 + len(expected), 0) == expected


@pytest.mark.parametrize("pattern", PATTERNS)
def test_merges_of_source_code_equal_the_library(library_merges, pattern: str) -> None:
    texts = inspect.getsource(argparse).splitlines(keepends=True)
    assert bpe.train(bpe.count_words(texts, pattern), 1500, 7) == library_merges(texts, 1500 - 7, pattern)


def books(megabytes: int) -> list[str]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(DATA / "text" / "books" / "train-00002-of-00004.parquet")
    text = "".join(text for batch in file.iter_batches(8, columns=["text"]) for text in batch["text"].to_pylist())
    return [text[: megabytes * 1_000_000]]


def languages(step: int = 1) -> list[str]:
    files = sorted((DATA / "retrieval" / "xquad").glob("*.jsonl.gz"))[step - 1 :: step]
    lines = [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    texts = [text for line in lines for text in json.loads(line).values()]
    return list(dict.fromkeys(text for text in texts if isinstance(text, str)))  # a paragraph has many questions


def code(megabytes: int) -> list[str]:
    folder, texts, left = Path(sysconfig.get_path("stdlib")), [], megabytes * 1_000_000
    for file in sorted(folder.glob("*.py")) + sorted(folder.glob("[a-r]*/*.py")):
        texts.append(file.read_text("utf-8", errors="replace")[:left])
        left -= len(texts[-1])
        if not left:
            break
    return texts


@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
@pytest.mark.parametrize(
    ("corpus", "pattern"),
    [(lambda: books(2), "gpt2"), (lambda: languages(3), "llama3"), (lambda: code(2), "qwen2")],
    ids=["books", "languages", "code"],
)
def test_8k_merges_of_real_text_equal_the_library(library_merges, corpus, pattern: str) -> None:
    texts = corpus()
    words = bpe.count_words(texts, pattern)
    assert bpe.train(words, 8192, 0) == library_merges(texts, 8192, pattern)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("corpus", [lambda: books(20), languages, lambda: code(8)], ids=["books", "languages", "code"])
def test_32k_merges_of_real_text_equal_the_library(library_merges, corpus, pattern: str) -> None:
    texts = corpus()
    words = bpe.count_words(texts, pattern, processes=2)
    assert bpe.train(words, 32768, 0) == library_merges(texts, 32768, pattern)


def test_merges_equal_the_library_where_an_id_would_be_a_surrogate(library_merges) -> None:
    """Tokens are characters inside: those from U+D800 to U+DFFF are not valid in a text, but are in ours."""
    texts = [chr(code) for start, end in ((0x3400, 0xA000), (0xAC00, 0xD7A4)) for code in range(start, end)]
    texts += [first + second for first, second in zip(texts, reversed(texts), strict=True)]
    merges = bpe.train(bpe.count_words(texts), 58_000, 0)
    assert merges == library_merges(texts, 58_000)


@given(texts=tied, n_merges=st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_merges_equal_those_of_the_plain_trainer(texts: list[str], n_merges: int) -> None:
    expected = plain.train(texts, 256 + n_merges)
    if expected:
        assert bpe.train(bpe.count_words(texts), 256 + len(expected), 0) == expected


@given(words=st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 3), min_size=1, max_size=9))
def test_counts_above_32_bits_stay_exact(words: dict[str, int]) -> None:
    most = 256 + len(plain.train([word for word, count in words.items() for _ in range(count)], 10_000, "llama3"))
    large = {word: count << 33 for word, count in words.items()}
    assert bpe.train(large, most, 0) == bpe.train(words, most, 0)


def test_counts_that_differ_beyond_the_digits_of_a_float_are_told_apart() -> None:
    assert bpe.train({"cd": 2**60 + 1, "ab": 2**60}, 257, 0) == [("c", "d")]


@pytest.mark.parametrize("length", [2, 3, 4, 7, 64, 1001])
def test_a_long_run_is_merged_as_the_library_does(library_merges, length: int) -> None:
    expected = library_merges(["a" * length], 300)
    assert bpe.train({"a" * length: 1}, 256 + len(expected), 0) == expected


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


def test_a_vocabulary_larger_than_any_is_refused_before_work() -> None:
    with pytest.raises(JourneyError, match=r"vocab_size 2000000 is too large: at most 1114119$"):
        bpe.train({"abc": 1}, 2_000_000, 7)


def test_garbage_is_collected_again_afterwards() -> None:
    with pytest.raises(JourneyError):
        bpe.train({"abc": 1}, 300, 7)
    assert gc.isenabled()


def test_an_empty_corpus_is_told() -> None:
    with pytest.raises(JourneyError, match="the corpus is empty"):
        bpe.train({}, 300, 0)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(JourneyError, match=r"lone surrogate \(U\+D800 at character 1\)"):
        bpe.train({"a\ud800": 1}, 300, 0)


def test_progress_counts_up_to_the_merges() -> None:
    calls: list[tuple[int, int]] = []
    words = bpe.count_words([inspect.getsource(argparse)])
    bpe.train(words, 256 + 64, 0, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(32, 64), (64, 64)]
