"""The plain trainer: by hand, against the library, and short enough to be read."""

import inspect
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.tokenizer import plain
from journey.tokenizer.codec import PATTERNS

tied = st.lists(st.text("ab", max_size=12) | st.text("abc '\né\x80", max_size=20), min_size=1, max_size=8)


def test_the_most_frequent_pair_is_merged_first_and_then_the_lowest() -> None:
    # bc stands three times; "a bc" and " d" once each, and the id of the space (Ġ, after the letters) is the higher one
    assert plain.train(["abc", "bc", "bc", " d"], 259) == [("b", "c"), ("a", "bc"), ("Ġ", "d")]


def test_of_a_run_the_left_ones_are_merged() -> None:
    assert plain.merge(list("aaaaa"), ("a", "a")) == ["aa", "aa", "a"]


@pytest.mark.parametrize("nothing", [[], [""], ["a", "b"]])
def test_where_nothing_can_be_merged_nothing_is(nothing: list[str]) -> None:
    assert plain.train(nothing, 300) == []


@pytest.mark.parametrize("size", [0, 100, 256])
def test_a_vocabulary_of_bytes_has_no_merges(size: int) -> None:
    assert plain.train(["abab"], size) == []


@given(texts=tied, n_merges=st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_merges_equal_the_library_ties_included(library_merges, texts: list[str], n_merges: int) -> None:
    assert plain.train(texts, 256 + n_merges) == library_merges(texts, 256 + n_merges)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_merges_of_source_code_equal_the_library(library_merges, pattern: str) -> None:
    texts = [inspect.getsource(textwrap)]
    assert plain.train(texts, 400, pattern) == library_merges(texts, 400, pattern)


def test_it_is_short_enough_to_teach() -> None:
    assert len(Path(plain.__file__).read_text().splitlines()) <= 60
