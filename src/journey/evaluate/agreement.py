"""How well an answer agrees with the documented one, by the words they share."""

import re
import string
from collections import Counter

CONVENTION = (
    "word F1 as SQuAD's: lower case, without punctuation and articles (a, an, the), words split at white space; twice "
    "the words shared (counted as often as both have them) over the words of both; two empty answers agree"
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def f1(text: str, reference: str) -> float:
    """Word F1 in [0, 1], by `CONVENTION` (Rajpurkar et al. 2016; of empty answers as in SQuAD 2.0)."""
    ours, theirs = Counter(words(text)), Counter(words(reference))
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def words(text: str) -> list[str]:
    """The words that `f1` compares."""
    return _ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split()
