import random
import re
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.data.split import GIANT, N, Shingles, assign, clusters, connected, overlap

texts = st.lists(st.lists(st.sampled_from("abcd"), min_size=0, max_size=40).map(" ".join), min_size=1, max_size=12)


def grams(text: str) -> set[tuple[str, ...]]:
    """The oracle: 13-grams as Python tuples."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + N]) for i in range(max(len(words) - N + 1, 1))}


def corpus(n: int, families: int, copies: int) -> list[str]:
    """n unrelated texts of 60 words, and families of which each copy changes the last 10 words."""
    rng = random.Random(0)

    def words(k: int) -> list[str]:
        return [str(rng.randrange(10**6)) for _ in range(k)]

    found = [" ".join(words(60)) for _ in range(n)]
    for _ in range(families):
        shared = words(50)
        found += [" ".join(shared + words(10)) for _ in range(copies)]
    rng.shuffle(found)
    return found


@given(texts)
def test_shingles_are_the_distinct_13_grams(found: list[str]) -> None:
    shingles = Shingles(found)
    expected = [grams(text) for text in found]
    assert shingles.sizes.tolist() == [len(g) for g in expected]
    mine = [set(shingles.grams[a:b].tolist()) for a, b in zip(shingles.starts, shingles.starts[1:], strict=False)]
    for i, j in combinations(range(len(found)), 2):
        assert len(mine[i] & mine[j]) == len(expected[i] & expected[j])


@given(texts, st.data())
def test_overlap_is_the_share_of_13_grams_found_in_training(found: list[str], data: st.DataObject) -> None:
    train = np.array(data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found))))
    known = set().union(*(grams(text) for text, in_train in zip(found, train, strict=True) if in_train))
    expected = [len(grams(text) & known) / len(grams(text)) for text in found]
    assert overlap(Shingles(found), train).tolist() == expected


@given(st.integers(1, 30), st.data())
def test_connected(n: int, data: st.DataObject) -> None:
    edges = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
    labels = list(range(n))
    for _ in range(n):
        for a, b in edges:
            labels[a] = labels[b] = min(labels[a], labels[b])
    a, b = (np.array([edge[side] for edge in edges], dtype=np.int64) for side in (0, 1))
    assert connected(n, a, b).tolist() == labels


@settings(max_examples=50)
@given(texts)
def test_only_near_duplicates_share_a_cluster(found: list[str]) -> None:
    """Every cluster is connected by pairs that share over half of the shorter one's 13-grams."""
    sets = [grams(text) for text in found]
    pairs = [
        (i, j)
        for i, j in combinations(range(len(sets)), 2)
        if len(sets[i] & sets[j]) > min(len(sets[i]), len(sets[j])) / 2
    ]
    a, b = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    allowed = connected(len(sets), a, b)
    for label in set(clusters(Shingles(found)).tolist()):
        members = clusters(Shingles(found)) == label
        assert len(set(allowed[members].tolist())) == 1


def test_families_share_a_cluster_and_strangers_do_not() -> None:
    found = corpus(50, families=10, copies=5)
    labels = clusters(Shingles(found))
    first = [text.split()[0] for text in found]
    assert len(set(labels.tolist())) == 60
    assert all((labels[i] == labels[j]) == (first[i] == first[j]) for i, j in combinations(range(len(found)), 2))


def test_assign_holds_out_the_shares_asked_and_nothing_leaks() -> None:
    found = corpus(400, families=100, copies=4)
    ids = [f"id{i}" for i in range(len(found))]
    shingles = Shingles(found)
    where = assign(ids, shingles, dev=0.1, test=0.2, seed=0)
    assert abs((where == "test").mean() - 0.2) < 0.01 and abs((where == "dev").mean() - 0.1) < 0.01
    labels = clusters(shingles)
    assert all(len(set(where[labels == label])) == 1 for label in set(labels.tolist()))
    assert overlap(shingles, where == "train")[where != "train"].max() <= 0.5
    plain = np.random.default_rng(0).random(len(found)) < 0.3  # what the clusters are for: documents drawn one by one
    assert (overlap(shingles, ~plain)[plain] > 0.5).mean() > 0.2


def test_a_template_stays_in_training() -> None:
    found = corpus(100, families=1, copies=GIANT + 1)
    first = [text.split()[0] for text in found]
    template = max(set(first), key=first.count)
    for seed in range(10):
        where = assign([str(i) for i in range(len(found))], Shingles(found), dev=0.2, test=0.3, seed=seed)
        assert {str(w) for w, f in zip(where, first, strict=True) if f == template} == {"train"}


def test_a_document_patched_together_from_training_goes_to_training() -> None:
    """It is near no single document, but all of it is known."""
    base = corpus(200, families=0, copies=0)
    rng = random.Random(1)
    patched = [" ".join(" ".join(text.split()[:30]) for text in rng.sample(base, 4)) for _ in range(40)]
    shingles = Shingles(base + patched)
    assert len(set(clusters(shingles).tolist())) == 240
    where = assign([str(i) for i in range(240)], shingles, dev=0.1, test=0.1, seed=0)
    assert {"dev", "test"} <= set(where)
    assert overlap(shingles, where == "train")[where != "train"].max() <= 0.5


def test_assign_depends_on_the_seed_alone() -> None:
    found = corpus(100, families=5, copies=3)
    ids = [str(i) for i in range(len(found))]
    one, same, other = (assign(ids, Shingles(found), dev=0.1, test=0.2, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()
