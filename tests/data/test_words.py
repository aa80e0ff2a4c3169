"""Words of many scripts, by hand, and of Latin letters as `re` finds them."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.data.words import normal, pieces, words

LATIN = st.characters(max_codepoint=0x24F, exclude_characters="\xad")  # the soft hyphen is not seen, and parts no word


@given(st.text(LATIN))
def test_latin_words_are_runs_of_letters(text: str) -> None:
    assert words(text) == re.findall(r"\w+", text)
    assert pieces(text) == text.split()
    assert normal(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("黑豹队丢了308分。", ["黑", "豹", "队", "丢", "了", "308", "分"]),
        ("用numpy计算，人々〇", ["用", "numpy", "计", "算", "人", "々", "〇"]),
        ("コンピューターで食べた", list("コンピューターで食べた")),
        ("ทีมรับของ", ["ที", "ม", "รั", "บ", "ข", "อ", "ง"]),
        ("ພາສາລາວ", ["ພ", "າ", "ສ", "າ", "ລ", "າ", "ວ"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្", "មែ", "រ"]),
        ("ကျွန်တော်", ["ကျွ", "န်", "တော်"]),
        ("བོད་ཡིག", ["བོད", "ཡིག"]),  # the tsheg parts syllables
        ("हिन्दी भाषा, தமிழ் မ", ["हिन्दी", "भाषा", "தமிழ்", "မ"]),
        ("كَتَبَ שָׁלוֹם", ["كَتَبَ", "שָׁלוֹם"]),
        ("한국어는 말이다", ["한국어는", "말이다"]),
        ("ΑΒΓ защита ärger x² ½ _a1", ["ΑΒΓ", "защита", "ärger", "x²", "½", "_a1"]),
    ],
)
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert words(text) == [unicodedata.normalize("NFC", word) for word in expected]


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("e\u0301te\u0301", "été"),
        ("３０８ＡＢＣ", "308ABC"),
        ("ﾊﾟｿｺﾝ ｶﾞ", "パソコン ガ"),
        ("か\u3099", "が"),
        ("\u1112\u1161\u11ab", "한"),
        ("\u2f08", "人"),  # a radical, as some PDFs have it
        ("\ufee3\ufea4\ufee4\ufeaa", "محمد"),  # letters in the shapes that they have inside a word
        ("exam\u00adple", "example"),
        ("می\u200cخواهم", "میخواهم"),
        ("\ufeffword\u200e", "word"),
    ],
)
def test_one_word_in_two_forms(written: str, same: str) -> None:
    assert words(written) == words(same)


def test_a_zero_width_space_parts_words() -> None:
    assert words("កម\u200bពុ") == ["ក", "ម", "ពុ"] and words("ab\u200bcd") == ["ab", "cd"]


def test_a_mark_on_nothing_is_no_word() -> None:
    assert words("\u0301 \u0301a . \u0e31") == ["a"]


def test_pieces_of_mixed_text() -> None:
    assert pieces("don't 用numpy, ทีม\n한국어") == ["don't", "用", "numpy,", "ที", "ม", "한국어"]


@given(st.text())
def test_normal_is_stable(text: str) -> None:
    assert normal(normal(text)) == normal(text)
    assert "".join(words(text)) == "".join(words(" ".join(words(text))))
