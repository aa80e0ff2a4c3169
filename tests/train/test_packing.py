"""Conversations packed into rows: every one once, none seen by another."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from journey.train.packing import Packed, packed


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 80))
def test_each_has_a_place_and_no_two_rows_would_fit_in_one(lengths, limit):
    bins = packed(lengths, limit)
    assert sorted(i for some in bins for i in some) == list(range(len(lengths)))
    filled = [sum(lengths[i] for i in some) for some in bins]
    assert all(n <= limit or len(some) == 1 for n, some in zip(filled, bins, strict=True))
    assert all(a + b > limit for k, a in enumerate(filled) for b in filled[k + 1 :])


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_what_a_row_holds(lengths):
    rows = [{"input_ids": [100 * i + k for k in range(n)], "labels": [-100] + [7] * (n - 1)} for i, n in
            enumerate(lengths, 1)]  # fmt: skip
    batch = Packed(limit=20, pad=5)(rows)
    ids, labels, positions = batch["input_ids"], batch["labels"], batch["position_ids"]
    assert ids.shape == labels.shape == positions.shape and ids.shape[1] <= 20
    found = []
    for row, at, place in zip(ids.tolist(), labels.tolist(), positions.tolist(), strict=True):
        starts = [*(i for i, p in enumerate(place) if p == 0), len(place)]
        for start, end in itertools.pairwise(starts):
            assert place[start:end] == list(range(end - start))
            found.append((row[start:end], at[start:end]))
    padding = [(row, at) for row, at in found if set(row) == {5} and set(at) == {-100}]
    assert all(row in padding for row in found if row[0][0] == 5)
    documents = sorted(row for row in found if row[0][0] != 5)
    assert documents == sorted((row["input_ids"], row["labels"]) for row in rows)
    assert torch.is_tensor(ids) and ids.dtype == torch.int64
