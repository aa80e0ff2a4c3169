"""Words and 13-grams as numbers, against `re` and Python's tuples."""

import re
import sys
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journey.data import grams as module
from journey.data.grams import N, grams, hashed

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab_ 1\nΣİß\0")), max_size=8)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@pytest.fixture(params=[1, 5, 1 << 17])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", request.param)


def test_letters_are_those_of_re() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    expected = np.zeros(len(every), dtype=bool)
    expected[[match.start() for match in re.finditer(r"\w", every)]] = True
    assert np.array_equal(module.tables()[0], expected)


@pytest.mark.usefixtures("block")
@given(texts)
@example(["", " ", "ΑΣ ΑΣ. Σ", "İİ", "a" * 50, "ab ba aab aba baa abab"])
def test_equal_words_and_only_they_have_equal_hashes(found: list[str]) -> None:
    hashes, lengths = hashed(found)
    expected = [word for text in found for word in words(text)]
    assert lengths.tolist() == [len(words(text)) for text in found] and len(hashes) == len(expected)
    assert len(set(zip(hashes.tolist(), expected, strict=True))) == len(set(expected)) == len(set(hashes.tolist()))


def test_many_words_have_as_many_hashes() -> None:
    """Also such as differ in the order of their letters only, and by one letter of 71, where powers are near 1."""
    many = [f"{i:x}" for i in range(200_000)] + [f"{'a' * i}b{'a' * (70 - i)}" for i in range(71)]
    many += ["".join(letters) for letters in permutations("abcdefgh")]
    hashes, _ = hashed([" ".join(many)])
    assert len(set(hashes.tolist())) == len(set(many)) == len(many)


@pytest.mark.usefixtures("block")
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=30).map(" ".join), max_size=6))
def test_windows_stay_within_their_text(found: list[str]) -> None:
    hashes, owners = grams(found)
    expected = []
    for i, text in enumerate(found):
        padded = words(text) + [""] * (N - len(words(text)))
        expected += [(i, tuple(padded[k : k + N])) for k in range(len(padded) - N + 1)]
    assert owners.tolist() == [i for i, _ in expected]
    assert len({window for _, window in expected}) == len(set(hashes.tolist()))
    assert len(set(zip(hashes.tolist(), (window for _, window in expected), strict=True))) == len(set(hashes.tolist()))
