"""Documents as one stream of tokens, cut into rows. Row i is a pure function of (seed, i): a resumed run reads on
exactly where the killed one stopped, and accumulation sees the rows that one big batch would have seen."""

from collections.abc import Callable, Sequence

import numpy as np

from journey.errors import JourneyError

_ENCODE_AT_ONCE = 2048  # documents


class TokenStream:
    """Packed documents, each begun by the document mark, in an order shuffled anew every epoch."""

    def __init__(self, documents: Sequence[np.ndarray], T: int, seed: int) -> None:
        """`documents`: arrays of ids, each beginning with the mark; T: tokens in a row."""
        self._tokens = np.concatenate(documents)
        self._ends = np.cumsum([len(ids) for ids in documents])
        self.T, self.seed = T, seed
        self.rows_per_epoch = (len(self._tokens) - 1) // T
        if self.rows_per_epoch < 1:
            raise JourneyError(
                f"the training text has {len(self._tokens):,} tokens, too few for one row of {T}: use more text"
            )
        self._epoch: tuple[int, np.ndarray] = (-1, self._tokens)

    def __len__(self) -> int:
        """Tokens in one epoch."""
        return len(self._tokens)

    def row(self, i: int) -> np.ndarray:
        """The T+1 tokens of row i: inputs are all but the last, targets all but the first."""
        epoch, j = divmod(i, self.rows_per_epoch)
        return self._order(epoch)[j * self.T : (j + 1) * self.T + 1]

    def first(self, n_rows: int) -> np.ndarray:
        """Every token that the first `n_rows` rows hold, in the order read (an n-gram model trains on these)."""
        parts = []
        for epoch in range(-(-n_rows // self.rows_per_epoch)):
            rows = min(n_rows - epoch * self.rows_per_epoch, self.rows_per_epoch)
            parts.append(self._order(epoch)[: rows * self.T + 1])
        return np.concatenate(parts)

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self._ends))
            starts = np.concatenate([[0], self._ends[:-1]])
            self._epoch = (epoch, np.concatenate([self._tokens[starts[d] : self._ends[d]] for d in order]))
        return self._epoch[1]


class Mixture:
    """Two streams of which the second gives a fixed share of the rows, spread evenly: replay of older text."""

    def __init__(self, main: TokenStream, replay: TokenStream, share: float) -> None:
        self._main, self._replay, self._share = main, replay, share

    def row(self, i: int) -> np.ndarray:
        """Row i of the mixture: row i comes from the replay whenever the share of i+1 rows passes a whole number."""
        replayed = int((i + 1) * self._share)
        if replayed > int(i * self._share):
            return self._replay.row(replayed - 1)
        return self._main.row(i - replayed)


def encode_documents(
    texts: Sequence[str],
    encode_batch: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    mark: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[np.ndarray]:
    """Each text's ids behind the document mark, as small as int32 allows."""
    documents = []
    for start in range(0, len(texts), _ENCODE_AT_ONCE):
        batch = encode_batch(texts[start : start + _ENCODE_AT_ONCE])
        documents += [np.array([mark, *ids], dtype=np.int32) for ids in batch]
        if progress:
            progress(len(documents), len(texts), "documents")
    return documents
