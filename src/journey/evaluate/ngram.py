"""Interpolated Kneser-Ney: the n-gram model that a neural network has to beat.

As Chen and Goodman (1999) interpolate it, with one discount an order. At the top order n-grams are counted as they
occur; below it a word counts once for every different word seen before it (its continuations), since the lower order
is asked exactly when the longer context is new: "Francisco" is frequent, but follows only "San". A document begins with
its mark and contexts do not reach across it; an n-gram that begins with the mark has no continuations and keeps
its own count, as in KenLM.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from journey.errors import JourneyError


@dataclass(frozen=True)
class Level:
    """One order's table: n-grams and contexts as sorted integers, base V."""

    ngrams: np.ndarray  # (N,)
    counts: np.ndarray  # (N,)
    contexts: np.ndarray  # (H,)
    totals: np.ndarray  # (H,) sum of the counts after this context
    followers: np.ndarray  # (H,) different words after this context
    discount: float


class KneserNey:
    """An n-gram model of a stream of ids: `KneserNey(ids, 3, vocab_size, mark).nats(other_ids)`.

    `mark` is the id that begins every document. It is context and never predicted; the lowest order interpolates
    with 1/vocab_size, so every id has a probability. JourneyError if there is nothing to learn from.
    """

    def __init__(self, ids: Sequence[int] | np.ndarray, order: int, vocab_size: int, mark: int):
        if vocab_size**order >= 2**63:
            raise ValueError(f"{order}-grams of a vocabulary of {vocab_size} do not fit in 64 bits")
        self.order, self.vocab_size, self.mark = order, vocab_size, mark
        ids = np.asarray(ids, dtype=np.int64)
        self.levels: list[Level] = []
        for k in range(order, 0, -1):
            keys, valid = self._keys(ids, k)
            raw, raw_counts = np.unique(keys[valid], return_counts=True)
            if k == order:
                ngrams, counts = raw, raw_counts
            else:
                suffixes = self.levels[0].ngrams % vocab_size**k  # each different longer n-gram is one continuation
                begins = raw // vocab_size ** (k - 1) == mark
                ngrams, place = np.unique(np.concatenate([suffixes, raw[begins]]), return_inverse=True)
                weights = np.concatenate([np.ones(len(suffixes), np.int64), raw_counts[begins]])
                counts = np.bincount(place, weights).astype(np.int64)
            if not len(ngrams):
                raise JourneyError(f"an n-gram model of order {order} needs longer documents than these {len(ids)} ids")
            self.levels.insert(0, self._level(ngrams, counts))

    def nats(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """-ln p of each id (T,) given those before it in its document; 0 where nothing is predicted, that is at marks
        and, in a stream that does not begin with one, at the first id."""
        ids = np.asarray(ids, dtype=np.int64)
        p = np.full(len(ids), 1 / self.vocab_size)
        for k, level in enumerate(self.levels, start=1):
            keys, valid = self._keys(ids, k)
            context, known = _find(level.contexts, keys // self.vocab_size)
            ngram, seen = _find(level.ngrams, keys)
            discounted = np.where(seen, level.counts[ngram] - level.discount, 0)
            interpolated = (discounted + level.discount * level.followers[context] * p) / level.totals[context]
            p = np.where(valid & known, interpolated, p)  # a context never seen leaves the word to the lower order
        predicted = ids != self.mark
        predicted[:1] = False
        return np.where(predicted, -np.log(p), 0.0)

    def _keys(self, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k-gram that ends at each position as one integer (T,), and whether the document holds it (T,)."""
        positions = np.arange(len(ids))
        starts = np.maximum.accumulate(np.where(ids == self.mark, positions, 0))  # where each id's document begins
        keys = np.zeros(len(ids), np.int64)
        for back in range(k - 1, -1, -1):
            keys = keys * self.vocab_size + np.roll(ids, back)  # what the roll wraps around is not valid
        return keys, (positions - starts >= k - 1) & (ids != self.mark)

    def _level(self, ngrams: np.ndarray, counts: np.ndarray) -> Level:
        contexts, first = np.unique(ngrams // self.vocab_size, return_index=True)  # sorted, so a context's lie together
        once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
        # With no n-gram seen just once the estimate would be 0 and leave nothing for unseen words: KenLM's fallback.
        discount = once / (once + 2 * twice) if once else 0.5
        followers = np.diff(np.append(first, len(ngrams)))
        return Level(ngrams, counts, contexts, np.add.reduceat(counts, first), followers, discount)


def _find(table: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each key stands in the sorted table, and whether it does."""
    place = np.searchsorted(table, keys)
    place[place == len(table)] = 0
    return place, table[place] == keys
