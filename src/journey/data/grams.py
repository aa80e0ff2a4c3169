"""The 13-grams of texts as 64-bit hashes, computed in NumPy: nothing of a text is kept but these numbers.

Words are those of `data.words`; capitals count as small letters. A 13-gram is 13 words of a script with spaces. In the
others a word is one letter, and a 13-gram is as many as make up 13 words: 16 Chinese characters or 26 kana or letters
of Thai, and of a mixed text as many as these weights say. So long, they are about as rare as sequences of 10 and of 6
English words (a Chinese character stands for 0.6 English words in XQuAD's translations, a Thai letter for 0.24): texts
that have nothing to do with each other share hardly any. Were they longer, a text of 50 characters would share less
than half of them with one in which two characters differ.

Of 64 bits, a billion different 13-grams share one by chance in one pair out of forty: harmless where shares of them are
counted.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import regex

from journey.data.words import COMPOSED, IDEOGRAPH, IGNORED, LETTER, OTHER_FORM, SYLLABLE, normal

N = 13
BLOCK = 1 << 17  # characters that are hashed at once: what is computed on the way fits in the cache
BREAK = regex.compile(rf"\s|(?=[{IDEOGRAPH}{SYLLABLE}])", regex.V1)  # where no word is cut in two
PAD = 0  # stands for the words that a short text lacks

# What a code point is. Those from MARK on are rare in most texts, and a block without them is done faster.
NONE, SPACED, MARK, LONE, HALF = range(5)  # no letter · of a word · on the letter before · a word, of two weights
REWRITTEN = 8  # `normal` may write it in another way
WEIGHT = np.zeros(5, dtype=np.uint8)  # of a word that begins with such a letter: a 13-gram weighs N times WHOLE
WHOLE = WEIGHT[SPACED] = 208 // N
WEIGHT[LONE], WEIGHT[HALF] = 208 // 16, 208 // 26


def grams(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each 13-gram that lies within one text, and the text's number, both (n_windows,).

    A text of fewer words counts as one 13-gram.
    """
    words, weights, lengths = hashed(texts)
    alike = bool((weights == WHOLE).all())
    heavy = lengths * WHOLE if alike else np.bincount(np.repeat(np.arange(len(texts)), lengths), weights, len(texts))
    short = heavy < N * WHOLE
    padded = np.where(short, np.maximum(lengths, N), lengths)
    shift = np.cumsum(padded - lengths) - (padded - lengths)  # how many pads stand before the words of a text
    place = np.arange(len(words)) + np.repeat(shift, lengths)
    ids = np.full(padded.sum(), PAD, dtype=np.uint64)
    ids[place] = words
    if alike:
        return rolling(ids, padded)
    loads = np.zeros(len(ids), dtype=np.uint8)
    loads[place] = weights
    return rolling(ids, padded, widths(loads, padded, short))


def widths(weights: np.ndarray, lengths: np.ndarray, short: np.ndarray) -> np.ndarray:
    """How many words the 13-gram has that begins at each word, (n_words,); 0 where none begins."""
    upto = np.cumsum(weights, dtype=np.int64)
    end = np.searchsorted(upto, upto - weights + N * WHOLE) + 1
    texts_end = np.cumsum(lengths)
    found = np.where(end <= np.repeat(texts_end, lengths), end - np.arange(len(weights)), 0)
    found[np.repeat(short, lengths)] = 0
    found[(texts_end - lengths)[short]] = lengths[short]
    return found


def hashed(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hashes and weights of all words of all texts, (n_words,), and how many words each text has, (n_texts,)."""
    lengths = np.zeros(len(texts), dtype=np.int64)
    found, weights = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.uint8)]
    for numbers, parts in blocks(texts):
        codes, kinds = coded(parts)
        if kinds.max() >= REWRITTEN:
            parts = [normal(part) for part in parts]
            codes, kinds = coded(parts)
            kinds %= REWRITTEN
        starts, stops = edges(kinds)
        weights.append(WEIGHT[kinds[starts]])
        ends = np.cumsum([len(part) + 1 for part in parts])
        np.add.at(lengths, numbers, np.bincount(np.searchsorted(ends, starts, "right"), minlength=len(parts)))
        found.append(hash_words(codes, starts, stops))
    return np.concatenate(found), np.concatenate(weights), lengths


def coded(parts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The code points of the parts, a space behind each, and the kind of each."""
    codes = np.frombuffer(" ".join([*parts, ""]).encode("utf-32-le"), dtype=np.uint32)
    return codes, tables()[0].take(codes)


def edges(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each word begins and ends, both (n_words,), by the kinds of all code points."""
    if kinds.max() <= SPACED:
        letters = kinds.view(bool)
        at = np.flatnonzero(np.diff(letters, prepend=False, append=False))
        return at[::2], at[1::2]
    last = np.maximum.accumulate(np.where(kinds == MARK, 0, np.arange(len(kinds))))  # of marks, what they stand on
    of = kinds[last]
    of[of == MARK] = NONE  # marks at the beginning stand on nothing
    follows = np.concatenate([[False], (of[1:] == SPACED) & (of[:-1] == SPACED)])
    begins = (of != NONE) & (kinds != MARK) & ~follows
    starts = np.flatnonzero(begins)
    borders = np.append(np.flatnonzero(begins | (of == NONE)), len(of))
    return starts, borders[np.searchsorted(borders, starts, "right")]


def blocks(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Parts of the texts in small letters, with the numbers of their texts, about BLOCK characters at a time.

    A long text is cut between two words, so that memory does not grow with it.
    """
    numbers, parts, size = list[int](), list[str](), 0
    for number, text in enumerate(texts):
        lowered, start = text.lower(), 0
        while start < len(lowered):
            cut = BREAK.search(lowered, start + BLOCK)
            end = cut.start() if cut else len(lowered)
            numbers.append(number)
            parts.append(lowered[start:end])
            size += end - start
            start = end
            if size >= BLOCK:
                yield numbers, parts
                numbers, parts, size = [], [], 0
    if parts:
        yield numbers, parts


def hash_words(codes: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The hash of each word among the code points `codes`, given where it begins and ends, all (n_words,).

    A word's hash is Σ random[code] · odd^position modulo 2^64: all words' sums are differences of one running sum, and
    a power of an odd number can be divided out.
    """
    random = tables()[1]
    odd = 0x9E3779B97F4A7C13
    powers, inverses = progression(odd, len(codes)), progression(pow(odd, -1, 2**64), len(codes))
    sums = np.concatenate([[np.uint64(0)], np.cumsum(random.take(codes) * powers)])
    return (sums[stops] - sums[starts]) * inverses[starts]


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Of each code point, what kind it is, and a random number."""
    n = 0x110000
    every = np.arange(n, dtype=np.uint32).tobytes().decode("utf-32-le", "surrogatepass")
    kinds = np.full(n, NONE, dtype=np.uint8)
    for kind, pattern in ((SPACED, LETTER), (MARK, r"\p{M}"), (LONE, IDEOGRAPH), (HALF, SYLLABLE)):
        for match in regex.finditer(f"{pattern}+", every, regex.V1):
            kinds[match.start() : match.end()] = kind
    for pattern in (IGNORED, OTHER_FORM, COMPOSED):
        for match in pattern.finditer(every):
            kinds[match.start() : match.end()] |= REWRITTEN
    return kinds, np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64)


_progressions: dict[int, np.ndarray] = {}


def progression(base: int, n: int) -> np.ndarray:
    """The powers of a number modulo 2^64, (n,), from the 0th on."""
    known = _progressions.get(base)
    if known is None or len(known) < n:
        factors = np.full(max(n, 2 * BLOCK), base, dtype=np.uint64)
        factors[0] = 1
        known = _progressions[base] = np.cumprod(factors)
    return known[:n]


def rolling(ids: np.ndarray, lengths: np.ndarray, widths: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The 64-bit hash of each 13-gram that lies within one text, and the text's number, both (n_windows,).

    `widths` as the function of this name has them; without, each has 13 words.
    """
    longest = N if widths is None else max(N, widths.max())
    odd = np.random.default_rng(0).integers(1, 2**63, longest, dtype=np.uint64) | np.uint64(1)
    mixed = scramble(ids)
    total = np.zeros(max(len(ids) - N + 1, 0), dtype=np.uint64)
    for position in range(N):
        total += odd[position] * mixed[position : position + len(total)]
    owners = np.repeat(np.arange(len(lengths)), lengths)
    if widths is None:
        within = owners[: len(total)] == owners[N - 1 :]
    else:
        for position in range(N, longest):
            wide = np.flatnonzero(widths > position)
            total[wide] += odd[position] * mixed[wide + position]
        within = widths[: len(total)] > 0
    return scramble(total[within]), owners[: len(total)][within]


def scramble(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64: neighbouring integers become unrelated ones."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
