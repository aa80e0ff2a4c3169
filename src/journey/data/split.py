"""Splits that do not leak: near-duplicate documents stay together, and what still leaks is measured.

Two documents are near duplicates when they share over half of the shorter one's word 13-grams (the length by which
GPT-3's authors looked for benchmarks in their training text, arXiv:2005.14165, appendix C).
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

N = 13
GIANT = 10  # documents; a larger cluster is a template ("forward" of a hundred models) and stays in training
WORD = re.compile(r"\w+")


class Shingles:
    """The distinct word 13-grams of each document, numbered; a text of fewer words counts as one 13-gram.

    `grams[starts[i]:starts[i + 1]]` are those of document i, `owners` says i for each of them, `sizes` how many i has.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        vocabulary: dict[str, int] = {}
        ids: list[int] = []
        counts = []
        for text in texts:
            words = [vocabulary.setdefault(word, len(vocabulary)) for word in WORD.findall(text.lower())]
            words += [-1] * (N - len(words))
            ids += words
            counts.append(len(words))
        lengths = np.array(counts, dtype=np.int64)
        hashes, owners = rolling(np.array(ids, dtype=np.int64), lengths)
        _, grams = distinct(hashes)
        keys, _ = distinct(owners * (grams.max(initial=0) + 1) + grams)
        self.owners, self.grams = np.divmod(keys, grams.max(initial=0) + 1)
        self.n_grams = int(grams.max(initial=0)) + 1
        self.sizes = np.bincount(self.owners, minlength=len(texts))
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])


def rolling(ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 64-bit hash of each 13-gram that lies within one document, and the document's number, both (n_windows,)."""
    odd = np.random.default_rng(0).integers(1, 2**63, N, dtype=np.uint64) | np.uint64(1)
    mixed = scramble(ids.astype(np.uint64))
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


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values in order, and each value's rank among them; one sort, a fifth of the time of np.unique."""
    order = np.argsort(values)
    ordered = values[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.cumsum(new) - 1
    return ordered[new], ranks


def clusters(shingles: Shingles) -> np.ndarray:
    """The cluster of each document, (n,), named by its smallest index: near duplicates, theirs, and so on.

    All pairs of the holders of a 13-gram would be quadratic in boilerplate, so a holder is compared with the first and
    with the previous holder only: near duplicates have most of their 13-grams in common, and meet there.
    """
    n = len(shingles.sizes)
    order = np.argsort(shingles.grams, kind="stable")
    grams, owners = shingles.grams[order], shingles.owners[order]
    new = np.concatenate([[True], grams[1:] != grams[:-1]])
    first = owners[np.maximum.accumulate(np.where(new, np.arange(len(grams)), 0))]
    previous = np.concatenate([[0], owners[:-1]])
    either = ~new & (first != previous)  # where they are one and the same, the pair counts once
    keys = np.concatenate([(first * n + owners)[~new], (previous * n + owners)[either]])
    pairs, ranks = distinct(keys)
    a, b = np.divmod(pairs, n)
    near = np.bincount(ranks, minlength=len(pairs)) > 0.5 * np.minimum(shingles.sizes[a], shingles.sizes[b])
    return connected(n, a[near], b[near])


def connected(n: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest index in each node's connected component, by label propagation with pointer jumping."""
    labels = np.arange(n)
    while True:
        before = labels.copy()
        low = np.minimum(labels[a], labels[b])
        for end in (a, b):
            np.minimum.at(labels, labels[end], low)
            np.minimum.at(labels, end, low)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def overlap(shingles: Shingles, train: np.ndarray) -> np.ndarray:
    """The share of each document's 13-grams that occur somewhere in the documents where `train` (n,) is true, (n,)."""
    known = np.zeros(shingles.n_grams, dtype=bool)
    known[shingles.grams[train[shingles.owners]]] = True
    return np.add.reduceat(known[shingles.grams], shingles.starts[:-1], dtype=np.int64) / shingles.sizes


def assign(ids: Sequence[str], shingles: Shingles, *, dev: float, test: float, seed: int) -> np.ndarray:
    """Each document's split, (n,) of "train", "dev" or "test": whole clusters, in the order of a hash of seed and id.

    `dev` and `test` are shares of the documents. A giant cluster stays in training: held out, it would be most of what
    is measured. So does a cluster with a document that is over half made of 13-grams from all over training.
    """
    labels = clusters(shingles)
    size = np.bincount(labels, minlength=len(ids))
    roots = [int(root) for root in np.flatnonzero((size > 0) & (size <= GIANT))]
    roots.sort(key=lambda root: hashlib.sha256(f"{seed}:{ids[root]}".encode()).digest())
    end = np.cumsum(size[roots])
    n_test, n_dev = round(test * len(ids)), round(dev * len(ids))
    drawn = np.full(len(ids), "train")
    drawn[roots] = np.where(end <= n_test, "test", np.where(end <= n_test + n_dev, "dev", "train"))
    where = drawn[labels]
    while True:
        leaking = (where != "train") & (overlap(shingles, where == "train") > 0.5)
        if not leaking.any():
            return where
        where[np.isin(labels, labels[leaking])] = "train"
