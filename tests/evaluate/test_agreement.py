"""Word F1 against its definition, written out in another way."""

import re
import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.evaluate.agreement import f1, words

ENGLISH = st.lists(st.sampled_from([*"ab theTHE An.,-'`\n\t", "Straße", "é", "\u2028"]), max_size=30).map("".join)
MIXED = st.lists(st.sampled_from([*"ab theTHE.,'\n中文ひカ。，“”—กข", "กิ"]), max_size=30).map("".join)
LATIN = st.text(st.characters(max_codepoint=0x24F, exclude_characters="\xad¡§«¶·»¿"))  # without Latin-1's punctuation


def squad_words(text):
    """SQuAD's four steps, one after the other."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def mlqa_words(text):
    """MLQA's way for mixed scripts: no punctuation of Unicode's, then each character by itself but for other runs."""
    text = "".join(c for c in text.lower() if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    found, run = [], ""
    for character in [*re.sub(r"(?<![a-z])(a|an|the)(?![a-z])", " ", text), " "]:
        if character.isascii() and not character.isspace():
            run += character
            continue
        found += [run] if run else []
        run = ""
        if unicodedata.category(character) == "Mn":
            found[-1] += character
        elif not character.isspace():
            found.append(character)
    return found


def brute_force(ours, theirs):
    """Strikes out words one by one; then the harmonic mean of precision and recall."""
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


@given(ENGLISH, ENGLISH)
def test_f1_is_its_definition(text, reference):
    assert f1(text, reference) == pytest.approx(brute_force(squad_words(text), squad_words(reference)), abs=1e-12)


@given(MIXED, MIXED)
def test_f1_of_scripts_without_spaces_is_mlqas(text, reference):
    assert f1(text, reference) == pytest.approx(brute_force(mlqa_words(text), mlqa_words(reference)), abs=1e-12)


@given(st.text(st.characters(max_codepoint=127)) | LATIN)
def test_latin_words_are_squads(text):
    assert words(text) == squad_words(text)


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
        ("黑豹队丢了308分", "黑豹队只丢了308分", 14 / 15),
        ("黑豹队丢了３０８分。", "黑豹队，丢了 308 分", 1.0),
        ("使用 the NumPy 库", "使用numpy库", 1.0),
        ("a中", "中the", 1.0),
        ("パンサーズは負けた", "パンサーズが負けた", 16 / 18),
        ("ﾊﾟﾝｻｰｽﾞ", "パンサーズ", 1.0),
        ("ทีมรับ", "ทีมรุก", 4 / 8),  # ที ม รั บ · ที ม รุ ก
        ("서울에서", "서울에서는", 8 / 9),
        ("हिन्दी भाषा।", "हिन्दी", 2 / 3),
        ("¿Qué? «Sí», dijo…", "qué sí dijo", 1.0),
        ("don’t “quote”", "dont quote", 1.0),
        ("e\u0301te\u0301", "été", 1.0),
        ("a\u0331", "", 0.0),  # no article
        ("བོད་ཡིག་", "བོད་སྐད་", 1 / 2),
        ("🙂", "🙃", 0.0),
    ],
)
def test_cases(text, reference, expected):
    assert f1(text, reference) == pytest.approx(expected)


def test_words():
    assert words("The  `np.array`\tis AN array.") == ["nparray", "is", "array"]
