"""Splits that do not leak: near-duplicate documents stay together, and what still leaks is measured.

Two documents are near duplicates when they share over half of the shorter one's word 13-grams (the length that GPT-3's
authors used to find training text in their benchmarks, arXiv:2005.14165, appendix C).
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

N = 13
GIANT = 10
WORD = re.compile(r"\w+")


class Shingles:
    """The distinct word 13-grams of each document as 64-bit hashes; a text of fewer words counts as one 13-gram.

    `hashes[starts[i]:starts[i+1]]` belong to document i.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        vocabulary: dict[str, int] = {}
        mix = np.random.default_rng(0).integers(1, 2**63, N, dtype=np.uint64) | np.uint64(1)
        parts = []
        for text in texts:
            words = [vocabulary.setdefault(word, len(vocabulary)) for word in WORD.findall(text.lower())]
            words = words + [-1] * (N - len(words))
            ids = scramble(np.array(words, dtype=np.int64).astype(np.uint64))
            count = len(ids) - N + 1
            total = np.zeros(count, dtype=np.uint64)
            for position in range(N):
                total += mix[position] * ids[position: position + count]
            parts.append(np.unique(scramble(total)))
        self.sizes = np.array([len(part) for part in parts], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.hashes = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
        self.owners = np.repeat(np.arange(len(parts)), self.sizes)


def scramble(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64: neighbouring integers become unrelated ones."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def clusters(shingles: Shingles) -> np.ndarray:
    """A cluster number per document, the smallest index in it; near duplicates, and theirs in turn, share one.

    All pairs of the holders of a 13-gram would be quadratic in boilerplate, so a holder is only compared with the first
    and with the previous holder: near duplicates have nearly all their 13-grams in common, and meet there.
    """
    n = len(shingles.sizes)
    order = np.argsort(shingles.hashes, kind="stable")
    hashes, owners = shingles.hashes[order], shingles.owners[order]
    new = np.concatenate([[True], hashes[1:] != hashes[:-1]])
    first = owners[np.maximum.accumulate(np.where(new, np.arange(len(hashes)), 0))]
    keys = np.concatenate([first[~new] * n + owners[~new], (owners[:-1] * n + owners[1:])[~new[1:]]])
    pairs, shared = np.unique(keys, return_counts=True)
    a, b = pairs // n, pairs % n
    # A pair that is both first and previous was counted twice; the threshold below halves it again.
    near = shared > 0.5 * np.minimum(shingles.sizes[a], shingles.sizes[b])
    return connected(n, a[near], b[near])


def connected(n: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest index in each node's connected component, by label propagation with pointer jumping."""
    labels = np.arange(n)
    while True:
        low = np.minimum(labels[a], labels[b])
        before = labels.copy()
        for end in (a, b):
            np.minimum.at(labels, labels[end], low)
            np.minimum.at(labels, end, low)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def overlap(shingles: Shingles, held_out: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The share of each held-out document's 13-grams that occur anywhere in the training documents, (n_held_out,)."""
    known = np.unique(shingles.hashes[np.isin(shingles.owners, train)])
    seen = np.isin(shingles.hashes, known)
    totals = np.add.reduceat(seen, shingles.starts[:-1])
    return totals[held_out] / shingles.sizes[held_out]


def assign(ids: Sequence[str], shingles: Shingles, *, dev: float, test: float, seed: int) -> np.ndarray:
    """Each document's split, (n,) of "train", "dev" or "test": whole clusters, drawn by a hash of the seed and their id.

    `dev` and `test` are shares of the documents. A cluster of more than GIANT documents stays in training: it is a template, and
    held out it would be most of what is measured. So does a held-out document of which more than half is still found in training.
    """
    labels = clusters(shingles)
    roots, sizes = np.unique(labels, return_counts=True)
    drawn = sorted(
        (hashlib.sha256(f"{seed}:{ids[root]}".encode()).digest(), root, size)
        for root, size in zip(roots, sizes, strict=True)
        if size <= GIANT
    )
    wanted = [("test", round(test * len(ids))), ("dev", round(dev * len(ids)))]
    chosen: dict[int, str] = {}
    for _, root, size in drawn:
        if wanted and wanted[0][1] <= 0:
            wanted.pop(0)
        if not wanted:
            break
        chosen[root] = wanted[0][0]
        wanted[0] = (wanted[0][0], wanted[0][1] - size)
    where = np.array([chosen.get(root, "train") for root in labels])
    while True:
        held_out = np.flatnonzero(where != "train")
        leaking = held_out[overlap(shingles, held_out, np.flatnonzero(where == "train")) > 0.5]
        if not len(leaking):
            return where
        where[np.isin(labels, labels[leaking])] = "train"
