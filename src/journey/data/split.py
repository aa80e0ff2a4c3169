"""Splits that do not leak: near-duplicate documents stay together, and what still leaks is measured.

Two documents are near duplicates when they share over half of the shorter one's word 13-grams (the length by which
GPT-3's authors looked for benchmarks in their training text, arXiv:2005.14165, appendix C; `grams` says what
they are in scripts without spaces).
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from journey.data.grams import N, grams

__all__ = ["N", "Shingles", "assign", "clusters", "distinct", "draw", "leaks", "overlap", "shares"]

TEST_FLOOR = 60  # documents, so that an interval over documents means something; half as many for dev
FLOOR_SHARE = 0.16  # and no more than this share of a small corpus
GIANT = 10  # documents; a larger cluster is a template ("forward" of a hundred models) and stays in training


class Shingles:
    """The distinct word 13-grams of each document, numbered; a text of fewer words counts as one 13-gram.

    `grams[starts[i]:starts[i + 1]]` are those of document i, `owners` says i for each of them, `sizes` how many i has.
    `hashes` are those of all documents in order: gram g has `hashes[g]`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        hashes, owners = grams(texts)
        self.hashes, numbers = distinct(hashes)
        self.n_grams = len(self.hashes)
        keys, _ = distinct(owners * self.n_grams + numbers)
        self.owners, self.grams = np.divmod(keys, self.n_grams)
        self.sizes = np.bincount(self.owners, minlength=len(texts))
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])


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


def shares(n: int, dev: float, test: float) -> tuple[float, float]:
    """What share of n documents to hold out for dev and for test: those wanted, and more where n is small."""
    floor = min(FLOOR_SHARE, TEST_FLOOR / n)
    return max(dev, floor / 2), max(test, floor)


def draw(seed: int, id: str) -> bytes:
    """A hash of seed and id. Documents are held out in its order, and `max_bytes` keeps those where it is lowest."""
    return hashlib.sha256(f"{seed}:{id}".encode()).digest()


def overlap(shingles: Shingles, train: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """The share of each document's 13-grams that occur somewhere in the documents where `train` (n,) is true, (n,).

    `known` (n_grams,) says which occur elsewhere in training.
    """
    known = np.zeros(shingles.n_grams, dtype=bool) if known is None else known.copy()
    known[shingles.grams[train[shingles.owners]]] = True
    return np.add.reduceat(known[shingles.grams], shingles.starts[:-1], dtype=np.int64) / shingles.sizes


def leaks(shares: np.ndarray) -> dict[str, float]:
    """What corpus.json says of a held-out split, from the `overlap` of its documents."""
    return {
        "over_half_in_train": round(float((shares > 0.5).mean()), 4),  # share of the documents
        "in_train": round(float(shares.mean()), 4),  # mean share of a document's 13-grams
    }


def assign(
    ids: Sequence[str], shingles: Shingles, *, dev: float, test: float, seed: int, known: np.ndarray | None = None
) -> np.ndarray:
    """Each document's split, (n,) of "train", "dev" or "test": whole clusters, in the order of a hash of seed and id.

    `dev` and `test` are shares of the documents. A giant cluster stays in training: held out, it would be most of what
    is measured. So does a cluster with a document that is over half made of 13-grams from all over training, `known`
    (n_grams,) among them. In a text that is one template throughout every document is: there whole clusters are held
    out all the same, rather than nothing, and `leaks` says what they are worth.
    """
    labels = clusters(shingles)
    size = np.bincount(labels, minlength=len(ids))
    roots = [int(root) for root in np.flatnonzero((size > 0) & (size <= GIANT))]
    roots.sort(key=lambda root: draw(seed, ids[root]))
    end = np.cumsum(size[roots])
    n_test, n_dev = round(test * len(ids)), round(dev * len(ids))
    drawn = np.full(len(ids), "train")
    drawn[roots] = np.where(end <= n_test, "test", np.where(end <= n_test + n_dev, "dev", "train"))
    where = without_leaks(drawn[labels], labels, shingles, known)
    if known is None and not {"dev", "test"} <= set(where.tolist()):
        return drawn[labels]
    return where


def without_leaks(where: np.ndarray, labels: np.ndarray, shingles: Shingles, known: np.ndarray | None) -> np.ndarray:
    """The splits (n,), when each cluster with a document that training knows over half of has moved to training."""
    while True:
        leaking = (where != "train") & (overlap(shingles, where == "train", known) > 0.5)
        if not leaking.any():
            return where
        where[np.isin(labels, labels[leaking])] = "train"
