import math

import numpy as np
import pytest

from journey.errors import JourneyError
from journey.evaluate import statistics

rng = np.random.default_rng(7)


def sample(n=80):
    """Nats and bytes of n documents before and after, strongly paired."""
    size = rng.integers(50, 2000, n).astype(float)
    before = size * rng.normal(1.5, 0.3, n)
    return size, before, before * rng.normal(0.95, 0.02, n)


def scipy_interval(columns, statistic):
    stats = pytest.importorskip("scipy.stats")
    result = stats.bootstrap(
        columns, statistic, paired=True, vectorized=True, method="percentile", n_resamples=9999, rng=0
    )
    return result.confidence_interval


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda size, before, after: statistics.mean(after), lambda s, b, a, axis: a.mean(axis)),
        (
            lambda size, before, after: statistics.ratio(after, size),
            lambda s, b, a, axis: a.sum(axis) / s.sum(axis),
        ),
        (
            lambda size, before, after: statistics.difference(after, before, size),
            lambda s, b, a, axis: (a.sum(axis) - b.sum(axis)) / s.sum(axis),
        ),
        (
            lambda size, before, after: statistics.difference(after, before),
            lambda s, b, a, axis: (a - b).mean(axis),
        ),
        (
            lambda size, before, after: statistics.change(after, before),
            lambda s, b, a, axis: a.sum(axis) / b.sum(axis) - 1,
        ),
    ],
    ids=["mean", "ratio", "difference per byte", "difference", "change"],
)
def test_intervals_are_scipys(ours, theirs):
    size, before, after = sample()
    estimate = ours(size, before, after)
    expected = scipy_interval((size, before, after), theirs)
    width = expected.high - expected.low
    assert estimate.value == pytest.approx(theirs(size, before, after, axis=0), rel=1e-12)
    assert abs(estimate.low - expected.low) < 0.08 * width  # two Monte Carlo runs of one quantile
    assert abs(estimate.high - expected.high) < 0.08 * width
    assert estimate.n == 80


def test_the_interval_covers_the_truth_95_times_in_100():
    covered = 0
    for _ in range(120):
        estimate = statistics.mean(rng.normal(3.0, 1.0, 60))
        covered += estimate.low <= 3.0 <= estimate.high
    assert 0.88 <= covered / 120 <= 0.99


def test_pairing_narrows_the_difference():
    size, before, after = sample()
    paired = statistics.difference(after, before, size)
    shuffled = statistics.difference(rng.permutation(after), before, size)
    assert (paired.high - paired.low) < 0.5 * (shuffled.high - shuffled.low)


def test_change_of_bits_per_byte_needs_no_bytes():
    size, before, after = sample()
    direct = statistics.ratio(after, size).value / statistics.ratio(before, size).value - 1
    assert statistics.change(after, before).value == pytest.approx(direct)


def test_an_estimate_repeats_exactly_and_keeps_its_words():
    items = rng.normal(size=30)
    first, second = (statistics.mean(items, "bits", "all of it") for _ in range(2))
    assert first == second
    assert (first.unit, first.convention) == ("bits", "all of it")


@pytest.mark.parametrize("hits", [0, 3, 75, 150])
def test_proportion_is_wilsons(hits):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(hits, 150).proportion_ci(method="wilson")
    estimate = statistics.proportion([True] * hits + [False] * (150 - hits))
    assert estimate.value == hits / 150
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_all_of_150_is_not_certain():
    assert statistics.proportion([True] * 150).low == pytest.approx(0.975, abs=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "better", "expected"),
    [
        (-2, -1, "lower", "clear"),
        (-2, -1, "higher", "worse"),
        (1, 2, "higher", "clear"),
        (1, 2, "lower", "worse"),
        (-1, 1, "lower", "not distinguishable from zero"),
        (0, 2, "higher", "not distinguishable from zero"),
        (0, 0, "lower", "not distinguishable from zero"),
    ],
)
def test_verdict(low, high, better, expected):
    assert statistics.verdict(low, high, better) == expected


def test_refuses_what_has_no_interval():
    with pytest.raises(JourneyError, match="at least two items, there are 1"):
        statistics.mean([1.0])
    with pytest.raises(JourneyError, match="there are 0"):
        statistics.proportion([])
    with pytest.raises(ValueError, match="different length"):
        statistics.difference([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="better"):
        statistics.verdict(1, 2, "bigger")


def trainings(k, n=60, between=0.05, noise=0.02, seed=0):
    """k trainings on the same n documents: each has a level of its own, each document a difficulty of its own."""
    draw = np.random.default_rng(seed)
    size = draw.integers(100, 2000, n).astype(float)
    hard = draw.normal(0, 0.3, n)
    return [(size * (2 + draw.normal(0, between) + hard + draw.normal(0, noise, n)), size) for _ in range(k)]


def test_one_training_has_the_interval_of_its_documents():
    """Close to the bootstrap's, whose shape the t distribution has here."""
    (bits, size), *_ = runs = trainings(1)
    ours, theirs = statistics.over_trainings(runs), statistics.ratio(bits, size)
    assert ours.value == theirs.value and ours.n == 60
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.15 * (theirs.high - theirs.low))


def test_alike_trainings_say_no_more_than_one():
    (run,) = trainings(1)
    assert statistics.over_trainings([run] * 5) == statistics.over_trainings([run])


def test_without_a_difference_between_documents_it_is_students_interval():
    """Each training constant over the documents: the textbook's mean ± t(k - 1) s/√k."""
    stats = pytest.importorskip("scipy.stats")
    levels, size = [2.0, 2.3, 1.9, 2.05], np.full(50, 100.0)
    found = statistics.over_trainings([(size * level, size) for level in levels])
    expected = stats.t.interval(0.95, 3, np.mean(levels), stats.sem(levels))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_a_difference_of_trainings_is_welchs():
    stats = pytest.importorskip("scipy.stats")
    after, before, size = [2.0, 2.3, 1.9], [2.5, 2.55], np.full(50, 100.0)
    found = statistics.difference_of_trainings(
        [(size * level, size) for level in after], [(size * level, size) for level in before]
    )
    expected = stats.ttest_ind(after, before, equal_var=False).confidence_interval()
    assert found.value == pytest.approx(np.mean(after) - np.mean(before))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_a_difference_is_paired_over_documents():
    """What makes a document hard makes it hard for both: the interval is far narrower than that of either mean."""
    alike = [(bits * 1.01, size) for bits, size in trainings(3, between=1e-6)]
    found = statistics.difference_of_trainings(alike, trainings(3, between=1e-6))
    alone = statistics.over_trainings(alike)
    assert found.low > 0 and found.high - found.low < 0.2 * (alone.high - alone.low)


def test_an_interval_over_trainings_covers_the_truth():
    """Three trainings of a population with mean 2, each time other documents and other seeds."""
    covered = 0
    for seed in range(300):
        found = statistics.over_trainings(trainings(3, seed=seed))
        covered += found.low <= 2 <= found.high
    assert 0.92 <= covered / 300 <= 0.995


def test_trainings_on_other_documents_are_refused():
    with pytest.raises(ValueError, match="different length"):
        statistics.difference_of_trainings(trainings(2, n=20), trainings(2, n=21))


def clustered(k=12, each=None, seed=0):
    """Items after and before, and their clusters' names: what moves an item is mostly its cluster."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(2, 30, k) if each is None else np.full(k, each)
    names = np.repeat([f"subject {i}" for i in draw.permutation(k)], sizes)
    before = np.repeat(draw.normal(size=k), sizes) + draw.normal(0, 0.2, sizes.sum())
    return before + np.repeat(draw.normal(0.3, 0.5, k), sizes), before, names


def test_clusters_of_one_item_are_the_plain_bootstrap_bit_for_bit():
    after, before, _ = clustered()
    names = [f"{i % 7}-{i}" for i in range(len(after))]  # their alphabetical order is not the items'
    assert statistics.mean(after, clusters=names) == statistics.mean(after)
    assert statistics.difference(after, before, clusters=names) == statistics.difference(after, before)


def test_a_cluster_is_drawn_whole_and_each_item_counts_alike():
    """A slow loop over the same draws, with clusters of 2 to 29 items."""
    after, before, names = clustered()
    order = list(dict.fromkeys(names))
    drawn = np.random.default_rng(statistics.SEED).integers(len(order), size=(statistics.RESAMPLES, len(order)))
    means = []
    for row in drawn:
        items = np.concatenate([np.flatnonzero(names == order[cluster]) for cluster in row])
        means.append((after[items].mean(), (after - before)[items].mean()))
    for found, values in (
        (statistics.mean(after, clusters=names), [m for m, _ in means]),
        (statistics.difference(after, before, clusters=names), [d for _, d in means]),
    ):
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)
        assert found.n == len(after)
    assert statistics.mean(after, clusters=names).value == statistics.mean(after).value


def test_clusters_may_lie_anywhere_in_the_items():
    after, before, names = clustered()
    order = np.argsort(np.random.default_rng(1).random(len(after)), kind="stable")
    first = {name: i for i, name in reversed([*enumerate(names[order])])}
    together = np.array(sorted(order, key=lambda i: first[names[i]]))  # clusters in the order of their first item
    found = statistics.difference(after[order], before[order], clusters=names[order])
    expected = statistics.difference(after[together], before[together], clusters=names[together])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_items_that_repeat_their_cluster_say_no_more_than_it():
    values = np.random.default_rng(6).normal(size=15)
    found = statistics.mean(np.repeat(values, 40), clusters=np.repeat(np.arange(15), 40))
    alone, unaware = statistics.mean(values), statistics.mean(np.repeat(values, 40))
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-12)
    assert unaware.high - unaware.low < 0.25 * (found.high - found.low)


def test_an_interval_over_clusters_covers_the_truth():
    """57 clusters, as MMLU has subjects; the plain bootstrap takes their items for independent, and is wrong."""
    covered = unaware = 0
    for seed in range(100):
        after, before, names = clustered(57, each=8, seed=seed)
        found, plain = statistics.difference(after, before, clusters=names), statistics.difference(after, before)
        covered += found.low <= 0.3 <= found.high
        unaware += plain.low <= 0.3 <= plain.high
    assert covered >= 88 > 70 > unaware


def test_clusters_that_give_no_interval_are_refused():
    with pytest.raises(JourneyError, match="at least two of them, there are 1"):
        statistics.mean([1.0, 2.0, 3.0], clusters=["law"] * 3)
    with pytest.raises(ValueError, match="2 names of clusters for 3 items"):
        statistics.mean([1.0, 2.0, 3.0], clusters=["law", "art"])


def test_a_median_lies_between_two_repeats_as_often_as_it_says():
    assert math.isnan(statistics.median([3, 1, 2, 5, 4]).low)  # five have no two that hold it 95 times in 100
    six = statistics.median([3, 1, 2, 5, 4, 9])
    assert (six.value, six.low, six.high, six.n) == (3.5, 1, 9, 6)
    rng = np.random.default_rng(0)
    for n in (6, 9, 20):
        drawn = [statistics.median(rng.exponential(size=n)) for _ in range(2000)]
        held = np.mean([e.low <= math.log(2) <= e.high for e in drawn])
        assert 0.94 < held <= 0.99, (n, held)
