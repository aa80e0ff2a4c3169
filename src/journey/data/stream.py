"""Documents as one stream of tokens, cut into rows. Row i is a pure function of (seed, i): a resumed run reads on
exactly where the killed one stopped, and accumulation sees the rows that one big batch would have seen."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from journey.errors import JourneyError


class TokenStream:
    """Packed documents, each begun by the document mark, cut into rows; documents, then rows, are shuffled anew every
    epoch. Without the second, a batch would be neighbouring rows: of long documents, four pages of one book.

    The tokens stay where they are, in memory or on disk; 16 bytes a document are kept to find them, and 4 a row.
    """

    def __init__(self, shards: Sequence[tuple[np.ndarray, Sequence[int] | np.ndarray]], T: int, seed: int) -> None:
        """`shards`: the ids of documents, each beginning with the mark, and where each ends; T: tokens in a row."""
        self._shards = shards
        self._first = np.cumsum([0, *(len(ends) for _, ends in shards)]).tolist()  # document of each shard
        self._tokens = sum(len(tokens) for tokens, _ in shards)
        self.T, self.seed = T, seed
        self.rows_per_epoch = (self._tokens - 1) // T
        if self.rows_per_epoch < 1:
            raise JourneyError(
                f"the training text has {self._tokens:,} tokens, too few for one row of {T}: use more text"
            )
        self._epoch = -1

    def __len__(self) -> int:
        """Tokens in one epoch."""
        return self._tokens

    @property
    def shares(self) -> dict[str, float]:
        """Of a mixture, how much of it each stream is; a stream is no mixture."""
        return {}

    def epochs(self, n_rows: int) -> dict[str, float]:
        """How many times the first `n_rows` rows read the text, which has no suffix."""
        return {"": n_rows / self.rows_per_epoch}

    def row(self, i: int) -> np.ndarray:
        """The T+1 tokens of row i: inputs are all but the last, targets all but the first."""
        epoch, j = divmod(i, self.rows_per_epoch)
        self._shuffle(epoch)
        place = int(self._rows[j])
        return self._read(place * self.T, (place + 1) * self.T + 1)

    def first(self, n_rows: int) -> np.ndarray:
        """Every token that the first `n_rows` rows hold (an n-gram model trains on these); of an epoch in the order of
        its documents, neighbouring rows joined."""
        parts = []
        for epoch in range(-(-n_rows // self.rows_per_epoch)):
            self._shuffle(epoch)
            places = np.sort(self._rows[: n_rows - epoch * self.rows_per_epoch].astype(np.int64))
            for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1):
                parts.append(self._read(int(run[0]) * self.T, (int(run[-1]) + 1) * self.T + 1))
        return np.concatenate(parts)

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start to stop of the epoch, gathered from the documents in its order."""
        place = int(np.searchsorted(self._ends, start, side="right"))
        skip = start - (int(self._ends[place - 1]) if place else 0)
        parts, missing = [], stop - start
        while missing:
            part = self._document(int(self._order[place]))[skip : skip + missing]
            parts.append(part)
            place, skip, missing = place + 1, 0, missing - len(part)
        return np.concatenate(parts)

    def _shuffle(self, epoch: int) -> None:
        """Lay out the documents of an epoch, and say in which order its rows come."""
        if epoch == self._epoch:
            return
        # Ends are unsigned on disk, and a difference of those with Python's numbers would be a float.
        lengths = [np.diff(np.asarray(ends, dtype=np.int64), prepend=0) for _, ends in self._shards]
        self._order = np.random.default_rng((self.seed, epoch)).permutation(self._first[-1])
        self._ends = np.cumsum(np.concatenate(lengths)[self._order])  # of the documents in this order
        self._rows = np.arange(self.rows_per_epoch, dtype=np.uint32)
        np.random.default_rng((self.seed, epoch, 1)).shuffle(self._rows)
        self._epoch = epoch

    def _document(self, number: int) -> np.ndarray:
        shard = bisect_right(self._first, number) - 1
        (tokens, ends), i = self._shards[shard], number - self._first[shard]
        return tokens[ends[i - 1] if i else 0 : ends[i]]


class Stream(Protocol):
    """Rows that are the same whenever they are asked for: of one text, or of a mixture."""

    @property
    def shares(self) -> dict[str, float]:
        """Of a mixture, how much of it each stream is, by the suffix that its numbers have."""
        ...

    def __len__(self) -> int:
        """Tokens in one epoch."""
        ...

    def row(self, i: int) -> np.ndarray:
        """The T+1 tokens of row i."""
        ...

    def epochs(self, n_rows: int) -> dict[str, float]:
        """How many times the first `n_rows` rows read each text, by its suffix."""
        ...


class Mixture:
    """Two streams of which the second gives a fixed share of the rows, spread evenly: replay of older text."""

    def __init__(self, main: Stream, replay: Stream, share: float) -> None:
        self._main, self._replay, self._share = main, replay, share

    def __len__(self) -> int:
        """Tokens in one epoch of both."""
        return len(self._main) + len(self._replay)

    @property
    def shares(self) -> dict[str, float]:
        """Those within what is new: the replayed text is scored beside it, not as a part of it."""
        return self._main.shares

    def epochs(self, n_rows: int) -> dict[str, float]:
        """How many times the first `n_rows` rows read each text; the replayed one has the suffix `_replay`."""
        replayed = int(n_rows * self._share)
        return self._main.epochs(n_rows - replayed) | {"_replay": self._replay.epochs(replayed)[""]}

    def row(self, i: int) -> np.ndarray:
        """Row i of the mixture: row i comes from the replay whenever the share of i+1 rows passes a whole number."""
        replayed = int((i + 1) * self._share)
        if replayed > int(i * self._share):
            return self._replay.row(replayed - 1)
        return self._main.row(i - replayed)
