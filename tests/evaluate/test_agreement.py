"""Word F1 against its definition, written out in another way."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.evaluate.agreement import f1, words

TEXTS = st.lists(st.sampled_from([*"ab theTHE An.,-'`\n\t", "Straße", "中", "\u2028"]), max_size=30).map("".join)


def squad_words(text):
    """SQuAD's four steps, one after the other."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def brute_force(text, reference):
    """Strikes out words one by one; then the harmonic mean of precision and recall."""
    ours, theirs = squad_words(text), squad_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    left, shared = list(theirs), 0
    for word in ours:
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


@given(TEXTS, TEXTS)
def test_f1_is_its_definition(text, reference):
    assert f1(text, reference) == pytest.approx(brute_force(text, reference), abs=1e-12)


@given(st.text(max_size=20), st.text(max_size=20))
def test_f1_is_symmetric_bounded_and_whole_for_equals(a, b):
    assert 0 <= f1(a, b) == f1(b, a) <= 1
    assert f1(a, a) == 1


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("Return the array.", "returns an array", 0.5),  # the articles gone, "return" and "returns" are two words
        ("the the the", "", 1.0),
        ("", "word", 0.0),
        ("word word", "word", 2 / 3),  # what is said twice counts twice
        ("Theory of sets", "theory of sets!", 1.0),  # no article inside a word
        ("don't", "dont", 1.0),
    ],
)
def test_cases(text, reference, expected):
    assert f1(text, reference) == pytest.approx(expected)


def test_words():
    assert words("The  `np.array`\tis AN array.") == ["nparray", "is", "array"]
