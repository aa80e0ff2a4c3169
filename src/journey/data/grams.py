"""The word 13-grams of texts as 64-bit hashes, computed in NumPy: nothing of a text is kept but these numbers.

A word is a run of letters, digits and underscores, as `\\w+` finds it; capitals count as small letters. Of 64 bits, a
billion different 13-grams share one by chance in one pair out of forty: harmless where shares of them are counted.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

N = 13
BLOCK = 1 << 17  # characters that are hashed at once: what is computed on the way fits in the cache
SPACE = re.compile(r"\s")
PAD = 0  # stands for the words that a short text lacks


def grams(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each 13-gram that lies within one text, and the text's number, both (n_windows,).

    A text of fewer words counts as one 13-gram.
    """
    words, lengths = hashed(texts)
    padded = np.maximum(lengths, N)
    shift = np.cumsum(padded - lengths) - (padded - lengths)  # how many pads stand before the words of a text
    ids = np.full(padded.sum(), PAD, dtype=np.uint64)
    ids[np.arange(len(words)) + np.repeat(shift, lengths)] = words
    return rolling(ids, padded)


def hashed(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all words of all texts, (n_words,), and how many words each text has, (n_texts,)."""
    lengths = np.zeros(len(texts), dtype=np.int64)
    found = [np.zeros(0, dtype=np.uint64)]
    for numbers, parts in blocks(texts):
        codes = np.frombuffer(" ".join([*parts, ""]).encode("utf-32-le"), dtype=np.uint32)
        words, starts = hash_words(codes)
        ends = np.cumsum([len(part) + 1 for part in parts])
        np.add.at(lengths, numbers, np.bincount(np.searchsorted(ends, starts, "right"), minlength=len(parts)))
        found.append(words)
    return np.concatenate(found), lengths


def blocks(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Parts of the texts in small letters, with the numbers of their texts, about BLOCK characters at a time.

    A long text is cut at white space, so that memory does not grow with it.
    """
    numbers, parts, size = list[int](), list[str](), 0
    for number, text in enumerate(texts):
        lowered, start = text.lower(), 0
        while start < len(lowered):
            cut = SPACE.search(lowered, start + BLOCK)
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


def hash_words(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each word among the code points `codes`, and where it begins, both (n_words,).

    A word's hash is Σ random[code] · odd^position modulo 2^64: all words' sums are differences of one running sum, and
    a power of an odd number can be divided out.
    """
    is_letter, random = tables()
    letters = is_letter[codes]
    edges = np.flatnonzero(np.diff(letters, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    odd = 0x9E3779B97F4A7C13
    powers, inverses = progression(odd, len(codes)), progression(pow(odd, -1, 2**64), len(codes))
    sums = np.concatenate([[np.uint64(0)], np.cumsum(random[codes] * powers)])
    return (sums[ends] - sums[starts]) * inverses[starts], starts


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Of each code point, whether it belongs to a word, and a random number."""
    n = 0x110000
    is_letter = np.fromiter(map(str.isalnum, map(chr, range(n))), dtype=bool, count=n)
    is_letter[ord("_")] = True
    return is_letter, np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64)


_progressions: dict[int, np.ndarray] = {}


def progression(base: int, n: int) -> np.ndarray:
    """The powers of a number modulo 2^64, (n,), from the 0th on."""
    known = _progressions.get(base)
    if known is None or len(known) < n:
        factors = np.full(max(n, 2 * BLOCK), base, dtype=np.uint64)
        factors[0] = 1
        known = _progressions[base] = np.cumprod(factors)
    return known[:n]


def rolling(ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 64-bit hash of each 13-gram that lies within one text, and the text's number, both (n_windows,)."""
    odd = np.random.default_rng(0).integers(1, 2**63, N, dtype=np.uint64) | np.uint64(1)
    mixed = scramble(ids)
    total = np.zeros(max(len(ids) - N + 1, 0), dtype=np.uint64)
    for position in range(N):
        total += odd[position] * mixed[position : position + len(total)]
    owners = np.repeat(np.arange(len(lengths)), lengths)
    within = owners[: len(total)] == owners[N - 1 :]
    return scramble(total[within]), owners[: len(total)][within]


def scramble(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64: neighbouring integers become unrelated ones."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
