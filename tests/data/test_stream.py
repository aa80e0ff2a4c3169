"""Every token once an epoch, the same row whenever it is asked for, and a mixture that keeps its share."""

import tracemalloc
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.data.stream import Mixture, TokenStream
from journey.errors import JourneyError


def shards(documents, cuts=()):
    """The documents packed into shards that begin at the cuts."""
    bounds = [0, *cuts, len(documents)]
    parts = [documents[a:b] for a, b in pairwise(bounds)]
    none = np.zeros(0, np.uint16)
    return [
        (np.concatenate([none, *part]).astype(np.uint16), np.cumsum([len(d) for d in part], dtype=np.uint64))
        for part in parts
    ]


@st.composite
def streams(draw):
    """A stream of documents whose tokens are all different, so that each can be found again, in one or more shards."""
    lengths = draw(st.lists(st.integers(1, 12), min_size=2, max_size=12))
    T = draw(st.integers(1, max(1, min(8, sum(lengths) - 1))))
    ends = np.cumsum(lengths)
    documents = [np.arange(end - n, end) for n, end in zip(lengths, ends, strict=True)]
    cuts = sorted(draw(st.lists(st.integers(0, len(documents)), max_size=4)))
    return documents, TokenStream(shards(documents, cuts), T, draw(st.integers(0, 3)))


@given(streams(), st.data())
def test_a_row_is_a_piece_of_the_shuffled_documents_laid_end_to_end(made, data):
    """What a plain reader would do: shuffle the documents, join them, cut, shuffle the rows. Whatever shards they lie
    in."""
    documents, stream = made
    n, T = stream.rows_per_epoch, stream.T
    for i in data.draw(st.lists(st.integers(0, 4 * n), min_size=1, max_size=6)):
        order = np.random.default_rng((stream.seed, i // n)).permutation(len(documents))
        joined = np.concatenate([documents[d] for d in order])
        rows = np.arange(n, dtype=np.uint32)
        np.random.default_rng((stream.seed, i // n, 1)).shuffle(rows)
        place = int(rows[i % n])
        assert stream.row(i).tolist() == joined[place * T : place * T + T + 1].tolist()


def test_neighbouring_rows_of_one_document_do_not_make_a_batch():
    """A book of a thousand rows: the rows of a batch come from all over it, and never twice in an epoch."""
    stream = TokenStream(shards([np.arange(64_001)]), 64, seed=0)
    batches = np.array([stream.row(i)[0] // 64 for i in range(1000)], dtype=np.int64).reshape(-1, 4)
    assert len(np.unique(batches)) == 1000
    assert (np.abs(np.diff(batches, axis=1)) == 1).mean() < 0.01


def test_the_order_is_the_one_that_models_were_trained_in():
    """Written down: a change of NumPy's or ours that reads in another order would make every node's id a lie."""
    stream = TokenStream(shards([np.array([0, 10 * d + 1, 10 * d + 2]) for d in range(5)]), 3, seed=1)
    assert [stream.row(i).tolist() for i in (0, 1, 3, 4)] == [
        [0, 11, 12, 0],
        [0, 41, 42, 0],
        [0, 21, 22, 0],
        [0, 41, 42, 0],
    ]


@given(streams(), st.integers(0, 3))
def test_an_epoch_holds_every_token_once_but_for_a_rest_shorter_than_a_row(made, epoch):
    documents, stream = made
    n, T = stream.rows_per_epoch, stream.T
    rows = [stream.row(i) for i in range(epoch * n, (epoch + 1) * n)]
    assert all(len(row) == T + 1 for row in rows)
    inputs = [token for row in rows for token in row[:-1]]
    assert len(set(inputs)) == len(inputs) and set(inputs) <= set(range(len(stream)))
    assert len(stream) - len(inputs) <= T
    # Each row goes on where another ended, but for the first: its last target is that one's first input.
    assert len({row[-1] for row in rows} & {row[0] for row in rows}) == n - 1
    # Documents stay whole: inside a row a token is followed by its own document's next one.
    ends = {document[-1] for document in documents}
    for row in rows:
        assert all(b == a + 1 for a, b in pairwise(row) if a not in ends)


@given(streams(), st.data())
def test_a_row_depends_on_seed_and_number_alone(made, data):
    """A resumed run asks a new stream for row i, in whatever order: it must be the row of the killed one."""
    documents, stream = made
    asked = data.draw(st.lists(st.integers(0, 5 * stream.rows_per_epoch), min_size=1, max_size=6))
    first = [stream.row(i).tolist() for i in asked]
    fresh = TokenStream(shards(documents), stream.T, stream.seed)
    assert [fresh.row(i).tolist() for i in reversed(asked)] == first[::-1]


@given(streams(), st.integers(1, 30))
def test_first_is_every_token_that_the_first_rows_hold(made, n_rows):
    """The n-gram baseline must see what the model saw: no more, no less."""
    _, stream = made
    found = stream.first(n_rows)
    n = stream.rows_per_epoch
    rows = [stream.row(i).tolist() for i in range(n_rows)]
    read = [token for row in rows for token in row]
    doubled = [
        row[-1] for k in range(0, n_rows, n) for row in rows[k : k + n] if row[-1] in {r[0] for r in rows[k : k + n]}
    ]
    assert sorted(found.tolist() + doubled) == sorted(read)  # where a row goes on from another, the joint stands once
    beside = {pair for row in rows for pair in pairwise(row)}
    strange = sum(pair not in beside for pair in pairwise(found.tolist()))
    assert strange < n_rows  # and what did not stand side by side does so only between pieces


def test_epochs_and_seeds_have_orders_of_their_own():
    documents = [np.full(4, i) for i in range(50)]
    streams = [TokenStream(shards(documents), 4, seed) for seed in (0, 0, 1)]
    a, b, c = (np.concatenate([s.row(i)[:-1] for i in range(40)]).tolist() for s in streams)
    n = streams[0].rows_per_epoch
    second = np.concatenate([streams[0].row(n + i)[:-1] for i in range(40)]).tolist()
    assert a == b and a != c and a != second


def test_tokens_stay_where_they_are():
    """40 MB of tokens must not be copied: 16 bytes a document and 4 a row are kept, and a little more while they are
    shuffled."""
    tokens, ends = np.zeros(20_000_000, np.uint16), np.arange(20_000, 20_000_001, 20_000).astype(np.uint64)
    tracemalloc.start()
    stream = TokenStream([(tokens, ends)], 1024, 0)
    for epoch in range(2):
        stream.row(epoch * stream.rows_per_epoch)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * len(ends) + 12 * stream.rows_per_epoch + 20_000


def test_too_little_text_for_one_row_is_said():
    with pytest.raises(JourneyError, match="the training text has 8 tokens, too few for one row of 8"):
        TokenStream(shards([np.arange(8)]), 8, 0)
    assert TokenStream(shards([np.arange(9)]), 8, 0).rows_per_epoch == 1


class Numbered:
    """Row i is i itself."""

    def __init__(self, sign):
        self.sign = sign

    def row(self, i):
        return self.sign * (i + 1)


@given(st.integers(0, 99).map(lambda percent: percent / 100), st.integers(1, 400))
def test_a_mixture_keeps_its_share_at_every_length_and_skips_no_row(share, n):
    mixture = Mixture(Numbered(1), Numbered(-1), share)
    rows = [mixture.row(i) for i in range(n)]
    replayed = [-row for row in rows if row < 0]
    assert replayed == list(range(1, len(replayed) + 1))
    assert [row for row in rows if row > 0] == list(range(1, n - len(replayed) + 1))
    exact = Fraction(str(share)) * n
    assert exact - 1 <= len(replayed) <= exact


def test_a_quarter_is_every_fourth_row():
    mixture = Mixture(Numbered(1), Numbered(-1), 0.25)
    assert [mixture.row(i) < 0 for i in range(8)] == [False, False, False, True] * 2
