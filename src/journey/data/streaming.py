"""Splitting a text that is larger than memory, in two passes.

The first reads the source once: it drops what repeats itself, draws the documents to hold out and writes all others to
a training file. The second reads that file and marks which 13-grams of the held-out documents stand in it. Those over
half known, and what is nearly the same as they are, then move to training.

Memory grows by eight bytes a document and never with the text: at most HELD bytes of it are held out.
"""

import heapq
import io
import shutil
from collections.abc import Iterable, Iterator
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from journey.data.documents import GROUP, GROUP_BYTES, Writer, groups, read_parquet, write_parquet
from journey.data.grams import grams
from journey.data.source import FEWEST, Document, Notes, Progress, TooFew
from journey.data.split import Shingles, assign, draw, leaks, overlap, shares
from journey.errors import JourneyError
from journey.files import publish, read_json, write_bytes, write_json

MOST_DEV, MOST_TEST = 2_000, 4_000  # documents: intervals get narrower with their root, measuring longer with them
HELD = 32 << 20  # bytes of documents that may be held out; comparing them takes ten times as much memory
LONGEST = HELD // 8  # bytes; a longer document stays in training: held out, it would be most of what is measured
SIEVE = 25  # bits of a hash by which most 13-grams of training are seen to be no held-out ones
SAVE_EVERY = 64  # row groups, about ten seconds of comparing


def read_once(
    documents: Iterable[Document],
    state: Path,
    *,
    dev: float,
    test: float,
    seed: int,
    notes: Notes,
) -> None:
    """The first pass: makes a folder `state` with training documents, those drawn for holding out, and counts.

    Of the first n documents those that hash lowest (`split.draw`) are held, as many as `quota` says for n; one for
    which there is no longer room goes to training. Fewer than FEWEST raise TooFew, where they
    can be cut into more.
    """
    part = state.with_name(f".{state.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    seen, drawn = Seen(), list[tuple[int, int, int, Document]]()  # a heap, the highest hash on top
    n_read = n = n_bytes = held = spelled = 0
    with Writer(part / "train.parquet") as train:
        for batch in batches(documents):
            n_read += len(batch)
            for document in compress(batch, seen.add(batch)):
                size = document.n_bytes()
                n, n_bytes = n + 1, n_bytes + size
                spelled += document.special_spellings()
                if size > LONGEST:
                    train.add(document)
                    continue
                heapq.heappush(drawn, (-number(seed, document), n, size, document))
                held += size
                while len(drawn) > sum(quota(n, dev, test)) or held > HELD:
                    _, _, size, document = heapq.heappop(drawn)
                    held -= size
                    train.add(document)
    if n < FEWEST and notes.prose:  # what can be cut into more
        raise TooFew(n)
    write_parquet(part / "held.parquet", [item[-1] for item in sorted(drawn, key=lambda item: item[1])])
    facts = {"documents": n, "bytes": n_bytes, "duplicates_dropped": n_read - n, "special_spellings": spelled}
    write_json(part / "facts.json", facts | notes.facts())
    publish(part, state)


def finish(
    source: str, state: Path, folder: Path, *, dev: float, test: float, seed: int, progress: Progress
) -> dict[str, Any]:
    """The second pass: writes train, dev and test to `folder`; returns counts as corpus.json has them."""
    facts = read_json(state / "facts.json")
    held = read_parquet(state / "held.parquet")
    n = facts["documents"]
    n_dev, n_test = quota(n, dev, test)
    where = np.full(len(held), "train")
    if held:
        shingles = Shingles([document.text for document in held])
        known = find_known(state, shingles, n - len(held), progress)
        part = {"dev": n_dev / (n_dev + n_test), "test": n_test / (n_dev + n_test)}
        where = assign([document.id for document in held], shingles, **part, seed=seed, known=known)
        seen = overlap(shingles, where == "train", known)
    if not all((where == split).any() for split in ("dev", "test")):
        raise JourneyError(
            f"{source}: its {n:,} documents are too much alike, or too long, to hold some out: "
            f"give others, or cut those of over {LONGEST >> 20} MB into several"
        )
    with Writer(folder / "train.parquet") as train:
        done = 0
        for group in groups(state / "train.parquet"):
            train.copy(group)
            done += len(group)
            progress(done, n - len(held), unit="documents written")
        for i in np.flatnonzero(where == "train"):
            train.add(held[i])
    facts["splits"] = {"train": {"documents": n, "bytes": facts["bytes"]}}
    for split in ("dev", "test"):
        chosen = [held[i] for i in np.flatnonzero(where == split)]
        write_parquet(folder / f"{split}.parquet", chosen)
        counts = {"documents": len(chosen), "bytes": sum(document.n_bytes() for document in chosen)}
        for key, value in counts.items():
            facts["splits"]["train"][key] -= value
        facts["splits"][split] = counts | leaks(seen[where == split])
    return facts


def find_known(state: Path, shingles: Shingles, total: int, progress: Progress) -> np.ndarray:
    """Which of the 13-grams, (n_grams,), stand in the training file. Saved now and then, and taken up after a kill."""
    known, start, done = np.zeros(shingles.n_grams, dtype=bool), 0, 0
    saved = state / "known.npz"
    if saved.exists():
        with np.load(saved) as kept:
            known, start, done = kept["known"], int(kept["group"]), int(kept["done"])
    shift = np.uint64(64 - SIEVE)
    sieve = np.zeros(1 << SIEVE, dtype=bool)
    sieve[shingles.hashes >> shift] = True
    for group, table in enumerate(groups(state / "train.parquet", start), start + 1):
        hashes, _ = grams(table["text"].to_pylist())
        hashes = hashes[sieve[hashes >> shift]]
        at = np.minimum(np.searchsorted(shingles.hashes, hashes), shingles.n_grams - 1)
        known[at[shingles.hashes[at] == hashes]] = True
        done += len(table)
        if group % SAVE_EVERY == 0:
            data = io.BytesIO()
            np.savez(data, known=known, group=group, done=done)
            write_bytes(saved, data.getvalue())
        progress(done, total, unit="documents")
    return known


def quota(n: int, dev: float, test: float) -> tuple[int, int]:
    """How many of n documents to hold out for dev and for test."""
    dev, test = shares(n, dev, test)
    return min(MOST_DEV, round(dev * n)), min(MOST_TEST, round(test * n))


def number(seed: int, document: Document) -> int:
    """The first 64 bits of `split.draw`."""
    return int.from_bytes(draw(seed, document.id)[:8])


def lowest(documents: Iterable[Document], max_bytes: int, seed: int) -> int:
    """The highest `number` of a document to keep, so that those with a lower one make up at most `max_bytes`."""
    found = np.fromiter(
        ((number(seed, document), document.n_bytes()) for document in documents),
        dtype=[("number", np.uint64), ("size", np.int64)],
    )
    found.sort(order="number")
    fits = found["number"][np.cumsum(found["size"]) <= max_bytes]
    return int(fits[-1]) if len(fits) else -1


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """The documents, GROUP of them or GROUP_BYTES at a time."""
    batch, size = list[Document](), 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= GROUP_BYTES or len(batch) >= GROUP:
            yield batch
            batch, size = [], 0
    yield batch


class Seen:
    """Which documents have come before, by 64 bits of their hash: of ten million, one is taken for another with a
    chance of three in a million. Kept as sorted runs, each longer than the next: eight bytes a document, where a
    Python set has a hundred."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def add(self, documents: list[Document]) -> np.ndarray:
        """Which of the documents are new, (n,) of bool; from now on none of them is."""
        keys = np.array([int.from_bytes(document.key()[:8]) for document in documents], dtype=np.uint64)
        new = np.zeros(len(keys), dtype=bool)
        new[np.unique(keys, return_index=True)[1]] = True
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            new &= run[at] != keys
        run = np.sort(keys[new])
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")  # merges two sorted halves
        if len(run):
            self._runs.append(run)
        return new
