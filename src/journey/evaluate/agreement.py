"""How well an answer agrees with the documented one, by the words they share."""

import string
from collections import Counter

import regex

from journey.data.words import normal, pieces

CONVENTION = (
    "word F1 as SQuAD's: lower case, without punctuation and articles (a, an, the), words split at white space (in "
    "Chinese, Japanese, Korean, Thai and the like each letter is one, as MLQA and KorQuAD have it); twice the words "
    "shared (counted as often as both have them) over the words of both; two empty answers agree"
)
# Some punctuation is all that stands between two words: Tibetan's and Ethiopic's.
_BETWEEN = regex.compile(r"[\p{Tibetan}\p{Ethiopic}&&\p{P}]", regex.V1)
_PUNCTUATION = regex.compile(rf"[\p{{P}}{regex.escape(string.punctuation)}]+")
_ARTICLES = regex.compile(r"(?<![\p{L}\p{N}\p{M}_])(?:a|an|the)(?![\p{L}\p{N}\p{M}_])")
_SYLLABLES = regex.compile(r"\p{Hangul}")


def f1(text: str, reference: str) -> float:
    """Word F1 in [0, 1], by `CONVENTION` (Rajpurkar et al. 2016; of empty answers as in SQuAD 2.0)."""
    ours, theirs = Counter(words(text)), Counter(words(reference))
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def words(text: str) -> list[str]:
    """The words that `f1` compares."""
    plain = _PUNCTUATION.sub("", _BETWEEN.sub(" ", normal(text.lower())))
    apart = " ".join(pieces(_SYLLABLES.sub(r" \g<0> ", plain)))
    return _ARTICLES.sub(" ", apart).split()
