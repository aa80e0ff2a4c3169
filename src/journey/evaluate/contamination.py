"""Has the model read the item before? Word 13-grams of test items that stand in what a model was trained on.

Brown et al. 2020 (arXiv:2005.14165, appendix C) call an item dirty when one of its 13-grams stands in training, and
score clean and dirty items apart. Words and 13-grams are those of `data.grams`: neither capitals nor punctuation count,
and in scripts without spaces a 13-gram is as many letters as say what 13 words say.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from journey.data.grams import WHOLE, N, hashed, progression, scramble, widths
from journey.data.split import distinct
from journey.tokenizer.formats import grouped

SHORTEST = 8  # words: shorter runs are found in any text by chance (the least that Brown et al. look for)
CONVENTION = (
    f"share of an item's {N}-grams of words that stand in a training text; an item of {SHORTEST} to {N - 1} words is "
    "looked for as a whole, a shorter one cannot be told"
)
_AT_ONCE = 2**18  # characters of training text: what is computed of them stays in the cache
_ODD = 0x9E3779B97F4A7C15


def overlap(items: Sequence[str], training: Iterable[str]) -> np.ndarray:
    """The share of each item's different 13-grams that stand within one of the training texts, (n_items,).

    An item that is shorter than a 13-gram is looked for as a whole, as a run of so many words anywhere in a text: 1 or
    0. One of less than SHORTEST words is nan. The texts stream by, so that they may be larger than memory: ask for the
    items of all tasks at once.
    """
    sought = _Sought(items)
    for texts in grouped(training, _AT_ONCE):
        sought.look(texts)
    return sought.shares()


def columns(shares: np.ndarray) -> dict[str, list[float | None] | list[bool]]:
    """What `overlap` found as columns of a measure's items: the share, and whether an item is "overlapping" (any of its
    13-grams was read) or "clean" (none); one that is too short to tell is neither."""
    return {
        "overlap": [None if np.isnan(share) else float(share) for share in shares],
        "overlapping": [bool(share > 0) for share in shares],
        "clean": [bool(share == 0) for share in shares],
    }


class _Sought:
    """The 13-grams of items, and the whole of short ones, as 64-bit hashes, and which were found."""

    def __init__(self, items: Sequence[str]) -> None:
        words, weights, lengths = hashed(items)
        owners = np.repeat(np.arange(len(items)), lengths)
        heavy = np.bincount(owners, weights, len(items))
        runs = widths(weights, lengths, np.zeros(len(items), dtype=bool))
        whole = (heavy < N * WHOLE) & (heavy >= SHORTEST * WHOLE)
        runs[(np.cumsum(lengths) - lengths)[whole]] = lengths[whole]
        begins = np.flatnonzero(runs)
        hashes, ranks = distinct(_Sums(words).runs(begins, runs[begins]))
        self._hashes = hashes
        self._widths = sorted({*lengths[whole].tolist()})
        self._owners, self._ranks = np.divmod(distinct(owners[begins] * len(hashes) + ranks)[0], max(1, len(hashes)))
        self._n = len(items)
        self._found = np.zeros(len(hashes), dtype=bool)
        # A table by the first bits says of 15 hashes in 16 at once that nobody asks for them.
        self._shift = np.uint64(64 - max(10, (16 * len(hashes)).bit_length()))
        self._table = np.zeros(2 ** int(64 - self._shift), dtype=bool)
        self._table[hashes >> self._shift] = True

    def look(self, texts: Sequence[str]) -> None:
        """Note which of them stand in these texts."""
        words, weights, lengths = hashed(texts)
        sums, owners = _Sums(words), np.repeat(np.arange(len(texts)), lengths)
        if (weights == WHOLE).all():
            self._note(sums, N, owners)
        else:
            runs = widths(weights, lengths, np.zeros(len(texts), dtype=bool))
            begins = np.flatnonzero(runs)
            hashes = sums.runs(begins, runs[begins])
            self._mark(hashes[self._perhaps(hashes)])
        for width in self._widths:
            self._note(sums, width, owners)

    def _note(self, sums: "_Sums", width: int, owners: np.ndarray) -> None:
        """Runs of so many words, where they lie within one text."""
        hashes = sums.all_runs(width)
        at = self._perhaps(hashes)
        self._mark(hashes[at[owners[at] == owners[at + width - 1]]])

    def _perhaps(self, hashes: np.ndarray) -> np.ndarray:
        """Where a hash stands that may be asked for."""
        return np.flatnonzero(self._table[hashes >> self._shift])

    def _mark(self, hashes: np.ndarray) -> None:
        """Note those of these hashes that are asked for."""
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        self._found[places[self._hashes[places] == hashes]] = True

    def shares(self) -> np.ndarray:
        """Of each item, (n_items,)."""
        asked = np.bincount(self._owners, minlength=self._n)
        found = np.bincount(self._owners, self._found[self._ranks], self._n)
        return np.divide(found, asked, out=np.full(self._n, np.nan), where=asked > 0)


class _Sums:
    """Running sums of words' hashes, of which the hash of any run of words is a difference: Σ word · odd^place modulo
    2^64, divided by the power at its first place."""

    def __init__(self, words: np.ndarray) -> None:
        self._inverses = progression(pow(_ODD, -1, 2**64), len(words))
        self._upto = np.zeros(len(words) + 1, dtype=np.uint64)
        np.cumsum(scramble(words) * progression(_ODD, len(words)), out=self._upto[1:])

    def runs(self, begins: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """The hashes of these runs, (n_runs,)."""
        return (self._upto[begins + widths] - self._upto[begins]) * self._inverses[begins]

    def all_runs(self, width: int) -> np.ndarray:
        """The hashes of the runs of `width` words that begin at each word, (n_words - width + 1,) or none."""
        n = max(0, len(self._upto) - width)
        return (self._upto[width : width + n] - self._upto[:n]) * self._inverses[:n]
