import random
import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.data.split import GIANT, N, Shingles, assign, clusters, connected, leaks, overlap

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


LETTERS = {
    script: [chr(code) for first, last in ranges for code in range(first, last + 1)]
    for script, ranges in {
        "Chinese": [(0x4E00, 0x5000)],
        "Japanese": [(0x3041, 0x3096), (0x30A1, 0x30FA), (0x5B57, 0x5B5F)],
        "Thai": [(0xE01, 0xE2E), (0xE40, 0xE44)],
        "Khmer": [(0x1780, 0x17A2)],
    }.items()
}
LONG = {"Chinese": 100, "Japanese": 130, "Thai": 200, "Khmer": 200}  # characters


@pytest.mark.parametrize("script", LETTERS)
@pytest.mark.parametrize("change", ["end", "two"])
def test_near_duplicates_without_spaces_share_a_cluster(script: str, change: str) -> None:
    """Nine tenths equal, or two letters in the middle changed; commas and line ends make no difference."""
    rng = random.Random(0)
    n, found = LONG[script], list[str]()
    for _ in range(60):
        text = "".join(rng.choices(LETTERS[script], k=n))
        other = "".join(rng.choices(LETTERS[script], k=n))
        cut = 9 * n // 10 if change == "end" else n // 2
        twin = text[:cut] + (other[cut:] if change == "end" else other[:2] + text[cut + 2 :])
        found += [f"{text[:20]}，{text[20:]}。", f"{twin[:40]}\n{twin[40:]}"]
    shingles = Shingles(found)
    assert clusters(shingles).tolist() == [i - i % 2 for i in range(len(found))]
    where = assign([str(i) for i in range(len(found))], shingles, dev=0.1, test=0.2, seed=0)
    assert (where[::2] == where[1::2]).all() and len(set(where)) == 3
    assert overlap(shingles, where == "train")[where != "train"].max() == 0


def test_short_near_duplicates_of_one_chinese_template_stay_together() -> None:
    """Two characters of 47 changed. What the documents have in common beside that is most of each of them: it is said,
    and twins stay on one side."""
    rng = random.Random(0)
    who, where = ["张伟", "王芳", "李娜", "刘洋", "陈静"], ["北京", "上海", "广州", "成都", "西安"]
    what, when = ["雨伞", "手表", "地图", "苹果", "钢琴"], ["早上", "中午", "晚上", "春天", "昨天"]
    found, drawn = list[str](), set[tuple[str, ...]]()
    while len(found) < 200:
        name, city, item, day, gift = some = tuple(map(rng.choice, (who, where, what, when, what)))
        if some not in drawn:
            drawn.add(some)
            found += [
                f"{day}{name}在{city}的市场买了一个{item}，然后坐火车回家，把它送给了邻居，邻居{so}高兴并且送给{name}一个{gift}。"
                for so in ("非常", "十分")
            ]
    shingles = Shingles(found)
    splits = assign([str(i) for i in range(200)], shingles, dev=0.08, test=0.16, seed=0)
    assert (splits[::2] == splits[1::2]).all() and (splits == "test").sum() == 32 and (splits == "dev").sum() == 16
    assert leaks(overlap(shingles, splits == "train")[splits == "test"])["over_half_in_train"] == 1.0


def test_unrelated_texts_of_few_letters_share_no_cluster() -> None:
    """Thai has 44 consonants: thirteen of them in a row would come again by chance much sooner than thirteen words."""
    rng = random.Random(0)
    syllables = ["".join(rng.choices(LETTERS["Thai"], k=4)) for _ in range(300)]
    found = ["".join(rng.choices(syllables, [1 / (i + 1) for i in range(300)], k=80)) for _ in range(300)]
    shingles = Shingles(found)
    assert len(set(clusters(shingles).tolist())) == 300
    assert overlap(shingles, np.arange(300) < 200)[200:].mean() < 0.02
