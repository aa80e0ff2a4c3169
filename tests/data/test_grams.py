"""Words and 13-grams as numbers, against `data.words` and Python's tuples; of English against `re`."""

import re
import sys
import unicodedata
from itertools import permutations

import numpy as np
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from journey.data import grams as module
from journey.data.grams import N, grams, hashed
from journey.data.words import IDEOGRAPH, SYLLABLE, words

MIXED = "ab_ 1\n.ΣİßéÅ\0中文豹ーひカกขิภា한क्षि\u0301\u0323\u00ad\u200b\u200dﾊﾟ１\u1112\u1161\u212b\u3099"
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(MIXED), max_size=60), max_size=8)


def lowered(text: str) -> list[str]:
    return words(text.lower())


def weight(word: str) -> int:
    """Sixteen ideographs, or 26 other letters of a script without spaces, make up what 13 words do."""
    if regex.match(IDEOGRAPH, word, regex.V1):
        return 13
    return 8 if regex.match(SYLLABLE, word, regex.V1) else 16


def windows(text: str) -> list[tuple[str, ...]]:
    """The 13-grams as Python has them."""
    found, every = [], lowered(text)
    for start in range(len(every)):
        total = 0
        for end in range(start, len(every)):
            total += weight(every[end])
            if total >= 13 * 16:
                found.append(tuple(every[start : end + 1]))
                break
    return found or [tuple(every)]


@pytest.fixture(params=[1, 5, 1 << 17])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", request.param)


def test_letters_are_those_of_re() -> None:
    """But for those that this Python is too old to know, as such or as letters."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    expected = np.zeros(len(every), dtype=bool)
    expected[[match.start() for match in re.finditer(r"\w", every)]] = True
    kinds = module.tables()[0] % module.REWRITTEN
    differ = np.flatnonzero((kinds != module.NONE) & (kinds != module.MARK) != expected)
    assert {unicodedata.category(chr(code)) for code in differ} <= {"Cn", "Mc"}


@pytest.mark.usefixtures("block")
@given(texts)
@example(["", " ", "ΑΣ ΑΣ. Σ", "İİ", "a" * 50, "ab ba aab aba baa abab", "中a文 ab\u0301", "\u0301a"])
def test_equal_words_and_only_they_have_equal_hashes(found: list[str]) -> None:
    hashes, weights, lengths = hashed(found)
    expected = [word for text in found for word in lowered(text)]
    assert lengths.tolist() == [len(lowered(text)) for text in found] and len(hashes) == len(expected)
    assert weights.tolist() == list(map(weight, expected))
    assert len(set(zip(hashes.tolist(), expected, strict=True))) == len(set(expected)) == len(set(hashes.tolist()))


def test_many_words_have_as_many_hashes() -> None:
    """Also such as differ in the order of their letters only, and by one letter of 71, where powers are near 1."""
    many = [f"{i:x}" for i in range(200_000)] + [f"{'a' * i}b{'a' * (70 - i)}" for i in range(71)]
    many += ["".join(letters) for letters in permutations("abcdefgh")]
    hashes, _, _ = hashed([" ".join(many)])
    assert len(set(hashes.tolist())) == len(set(many)) == len(many)


@pytest.mark.usefixtures("block")
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=30).map(" ".join), max_size=6))
def test_windows_stay_within_their_text(found: list[str]) -> None:
    """Of English, 13 words each."""
    hashes, owners = grams(found)
    expected = []
    for i, text in enumerate(found):
        padded = re.findall(r"\w+", text) + [""] * (N - len(text.split()))
        expected += [(i, tuple(padded[k : k + N])) for k in range(len(padded) - N + 1)]
    compare(hashes, owners, expected)


@pytest.mark.usefixtures("block")
@given(st.lists(st.text(st.sampled_from("ab  中ひกิ\u0301"), max_size=70), max_size=6))
def test_windows_of_any_script_are_as_much_text_as_13_words(found: list[str]) -> None:
    compare(*grams(found), [(i, window) for i, text in enumerate(found) for window in windows(text)])


def compare(hashes: np.ndarray, owners: np.ndarray, expected: list[tuple[int, tuple[str, ...]]]) -> None:
    assert owners.tolist() == [i for i, _ in expected]
    assert len({window for _, window in expected}) == len(set(hashes.tolist()))
    assert len(set(zip(hashes.tolist(), (window for _, window in expected), strict=True))) == len(set(hashes.tolist()))


def test_a_text_has_its_hashes_in_any_company() -> None:
    """A letter that is done in another way than English must not change what English beside it becomes."""
    english = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen Ångström"
    alone = grams([english])[0].tolist()
    for other in ("中文", "กขค" * 20, "e\u0301", "\ufeff", "", "İ"):
        hashes, owners = grams([other, english, other])
        assert hashes[owners == 1].tolist() == alone


def test_the_normal_forms_have_the_same_hashes() -> None:
    text = "Übung, 한국어 και ἀπόμυιος が \u212b " * 10
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")] + [text]
    assert len({tuple(grams([form])[0].tolist()) for form in forms}) == 1


def test_a_long_text_without_spaces_is_hashed_in_parts() -> None:
    long = "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x9000, 4 * module.BLOCK)))
    parts = [parts for _, parts in module.blocks([long])]
    assert len(parts) >= 4 and "".join(part for some in parts for part in some) == long
    assert hashed([long])[2].tolist() == [len(long)]
