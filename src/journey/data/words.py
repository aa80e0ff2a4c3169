"""What a word is, in every script: near duplicates, retrieval and the agreement of answers all count the same ones.

Where words stand apart, a word is a run of letters, digits, underscores and the marks on them (vowel signs in Hindi,
harakat in Arabic). Where they do not (Chinese, Japanese, Thai, Lao, Khmer, Burmese …), it is one letter with its marks:
Unicode's own word breaks (UAX #29) say no more without a dictionary for each language. Who needs more than single
letters says so: BM25 counts pairs too, a 13-gram is as many of them as carry what 13 words do.
"""

import unicodedata

import regex

# Letters that are words by themselves, or pieces of one: those that stand for half a word or more, and the others.
IDEOGRAPH = r"[\p{Han}\p{Ideographic}&&\p{Alphabetic}]"
SYLLABLE = r"[\p{L}&&[\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Line_Break=SA}\p{Javanese}\p{Balinese}]]"
LETTER = r"[\p{L}\p{N}_]"  # what `re` means by \w
UNSPACED = rf"(?:[{IDEOGRAPH}{SYLLABLE}]\p{{M}}*)"  # one word each
SPACED = rf"(?:[{LETTER}--[{IDEOGRAPH}{SYLLABLE}]][[{LETTER}\p{{M}}]--[{IDEOGRAPH}{SYLLABLE}]]*)"

_WORD = regex.compile(f"{UNSPACED}|{SPACED}", regex.V1)
_UNSPACED = regex.compile(UNSPACED, regex.V1)
# What nobody sees: joiners, soft hyphens, marks of direction. Not the zero-width space, which is there to part words.
IGNORED = regex.compile(r"[\p{Default_Ignorable_Code_Point}--\u200b]+", regex.V1)
# The same letters in another width or form: full-width digits, half-width kana, radicals and ligatures of PDFs.
OTHER_FORM = regex.compile(
    r"[\u2e80-\u2fdf\u3130-\u33ff\uf900-\ufaff\ufb1d-\ufdff\ufe30-\ufefc\uff00-\uffef\U0002f800-\U0002fa1f]+"
)
# Letters and marks that composing them may change.
COMPOSED = regex.compile(r"[\p{NFC_QC=No}\p{NFC_QC=Maybe}\p{M}]+", regex.V1)


def words(text: str) -> list[str]:
    """The words of a text, in order, in `normal` form; capitals stay. `grams` finds the same ones in NumPy."""
    return _WORD.findall(normal(text))


def normal(text: str) -> str:
    """The text in one form: letters composed with their accents (NFC), East Asian and Arabic ones in their ordinary
    width and shape (NFKC), nothing invisible. Latin letters without loose accents stay as they are."""
    if text.isascii():
        return text
    plain = OTHER_FORM.sub(lambda match: unicodedata.normalize("NFKC", match[0]), IGNORED.sub("", text))
    return unicodedata.normalize("NFC", plain)


def pieces(text: str) -> list[str]:
    """The text split at white space, as `str.split` does, and around each letter of a script without spaces."""
    return _UNSPACED.sub(r" \g<0> ", text).split()
