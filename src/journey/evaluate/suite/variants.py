"""A prompt said another way, by rule: what a robust model answers alike. Robustness as HELM has it (Liang et al. 2022).

Each rule changes the wording and not what is asked; which places it changes is drawn with a seed made of the item's
id, so that every node meets the same variants. Upper and lower case do change what code and names mean: a suite can
leave them out.
"""

import random
import re
from collections.abc import Callable

RATE = 0.15  # share of the long words that get a typo, one at the least
_LONG = re.compile(r"[^\W\d_]{4,}")
_SHORTER = {
    "do not": "don't",
    "does not": "doesn't",
    "did not": "didn't",
    "is not": "isn't",
    "are not": "aren't",
    "cannot": "can't",
    "will not": "won't",
    "what is": "what's",
    "who is": "who's",
    "where is": "where's",
    "it is": "it's",
    "i am": "i'm",
    "you are": "you're",
}
_LONGER = {short: long for long, short in _SHORTER.items()}
_EITHER = re.compile(rf"\b(?:{'|'.join(map(re.escape, [*_SHORTER, *_LONGER]))})\b", re.IGNORECASE)


def _typos(text: str, rng: random.Random) -> str:
    """In some words of four letters or more two inner neighbours swapped, or an inner letter left out or doubled."""
    words = list(_LONG.finditer(text))
    chosen = rng.sample(words, min(len(words), max(1, round(RATE * len(words)))))
    for match in sorted(chosen, key=lambda match: -match.start()):  # from the end: places before it stay
        word, i = match[0], rng.randrange(1, len(match[0]) - 2)
        swapped, left_out = word[:i] + word[i + 1] + word[i] + word[i + 2 :], word[:i] + word[i + 1 :]
        ways = [way for way in (swapped, left_out, word[:i] + word[i] + word[i:]) if way != word]
        text = text[: match.start()] + rng.choice(ways) + text[match.end() :]
    return text


def _upper(text: str, rng: random.Random) -> str:
    return text.upper()


def _lower(text: str, rng: random.Random) -> str:
    return text.lower()


def _spacing(text: str, rng: random.Random) -> str:
    """Single spaces between words made one, two or three; line ends and indentation stay."""
    return re.sub(r"(?<=\S) (?=\S)", lambda match: " " * rng.randint(1, 3), text)


def _contractions(text: str, rng: random.Random) -> str:
    """What is said short said long, and the other way round: do not, don't."""

    def other(match: re.Match[str]) -> str:
        found = match[0].lower()
        said = _SHORTER.get(found) or _LONGER[found]
        return said[0].upper() + said[1:] if match[0][0].isupper() else said

    return _EITHER.sub(other, text)


def _polite(text: str, rng: random.Random) -> str:
    """A question with a few polite words before it."""
    if not text.rstrip().endswith("?"):
        return text
    return f"{rng.choice(('Could you tell me:', 'I would like to know:', 'Please tell me:'))} {text}"


_RULES: dict[str, Callable[[str, random.Random], str]] = {
    "typos": _typos,
    "upper": _upper,
    "lower": _lower,
    "spacing": _spacing,
    "contractions": _contractions,
    "polite": _polite,
}
KINDS = tuple(_RULES)


def perturbed(text: str, kind: str, id: str) -> str:
    """The text under one of KINDS, the same for the same `id`. A rule that finds no place gives the text itself."""
    return _RULES[kind](text, random.Random(f"{kind} {id}"))
