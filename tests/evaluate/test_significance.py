import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.evaluate import significance, statistics
from journey.evaluate.significance import detectable, holm, items_needed, mcnemar, paired_p, power_of

scipy_stats = pytest.importorskip("scipy.stats")
counts = st.integers(0, 60)
shares = st.floats(0.02, 1)


@given(counts, counts)
def test_mcnemar_is_the_two_sided_binomial_test_of_a_half(gained, lost):
    expected = scipy_stats.binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_thousands_of_items_is_still_exact():
    assert mcnemar(5300, 4900) == pytest.approx(scipy_stats.binomtest(5300, 10200, 0.5).pvalue, rel=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_sign_flips_of_right_and_wrong_are_mcnemars_test(pairs):
    after, before = np.array(pairs, dtype=float).T
    gained, lost = int((after > before).sum()), int((after < before).sum())
    exact = gained + lost <= significance.ENUMERATED
    assert paired_p(after, before) == pytest.approx(mcnemar(gained, lost), abs=1e-9 if exact else 0.02)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
def test_few_items_are_flipped_in_every_way(deltas):
    """Tenths, whose sums differ in the last bit by the order in which they are added."""
    after, before = np.array(deltas) * 0.1 + 0.7, np.full(len(deltas), 0.7)
    sums = [abs(sum(s * d for s, d in zip(signs, deltas, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(deltas))]  # fmt: skip
    assert paired_p(after, before) == pytest.approx(np.mean([s >= abs(sum(deltas)) for s in sums]))


def test_many_items_are_flipped_as_scipy_does():
    rng = np.random.default_rng(3)
    before = rng.normal(size=70)
    for shift in (0.0, 0.1, 0.25):
        after = before + rng.normal(shift, 1, 70)
        expected = scipy_stats.permutation_test(
            (after, before),
            lambda a, b, axis: (a - b).mean(axis),
            vectorized=True,
            permutation_type="samples",
            rng=0,
        ).pvalue
        assert paired_p(after, before) == pytest.approx(expected, abs=0.02)
        assert paired_p(before, after) == paired_p(after, before) == paired_p(after, before)


def test_p_is_never_zero():
    assert paired_p(np.ones(300), np.zeros(300)) == 1 / (significance.FLIPS + 1)
    assert paired_p(np.ones(3), np.zeros(3)) == 2 / 8


def test_flips_of_many_items_take_little_memory(monkeypatch):
    """All at once they would take 320 MB, and 1.6 GB when there are 10,000."""
    monkeypatch.setattr(significance, "FLIPS", 2000)
    tracemalloc.start()
    paired_p(np.ones(20_000), np.zeros(20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6


def test_without_a_difference_p_is_uniform():
    """Skewed numbers, alike in both: each p up to x in a share x of experiments, and of clusters, too."""
    rng = np.random.default_rng(11)
    clusters = np.repeat(np.arange(14), 3)
    alone, whole = [], []
    for _ in range(200):
        pair = rng.exponential(size=(2, 14))
        alone.append(paired_p(*pair))
        whole.append(paired_p(*(pair[:, clusters] + rng.exponential(size=(2, 42)) / 5), clusters))
    for found in (alone, whole):
        assert scipy_stats.kstest(found, "uniform").pvalue > 0.01


def test_items_that_only_repeat_their_cluster_are_one_item():
    rng = np.random.default_rng(5)
    after, before = rng.normal(0.4, 1, 10), rng.normal(0, 1, 10)
    clusters = np.repeat([f"subject {i}" for i in range(10)], 20)
    repeated = [np.repeat(column, 20) for column in (after, before)]
    assert paired_p(*repeated, clusters) == pytest.approx(paired_p(after, before))
    assert paired_p(*repeated) < 0.01 < paired_p(*repeated, clusters)


def by_closed_testing(ps):
    """The definition: a hypothesis falls if every set that holds it falls to Bonferroni, so its adjusted p is the
    largest Bonferroni p among these sets."""
    sets = [s for k in range(1, len(ps) + 1) for s in itertools.combinations(range(len(ps)), k)]
    return [max(min(1, len(s) * min(ps[j] for j in s)) for s in sets if i in s) for i in range(len(ps))]


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.3, 1.0]) | st.floats(0, 1), max_size=6))
def test_holm_is_closed_testing_by_bonferroni(ps):
    assert holm(ps) == pytest.approx(by_closed_testing(ps))


def test_holm_refuses_what_is_no_probability():
    for p in (math.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm([0.5, p])


@given(st.integers(1, 14), shares, st.floats(0, 1), st.sampled_from([0.05, 0.0625, 0.2]))
@settings(max_examples=40)
def test_power_is_that_of_all_outcomes_added_up(n, discordant, part, alpha):
    difference = part * discordant
    gain, loss = (discordant + difference) / 2, (discordant - difference) / 2
    total = sum(
        scipy_stats.multinomial.pmf([g, m - g, n - m], n, [gain, loss, 1 - discordant])
        for m in range(n + 1)
        for g in range(m + 1)
        if 2 * g > m and mcnemar(g, m - g) <= alpha
    )
    assert power_of(n, difference, discordant, alpha) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(("n", "discordant"), [(60, 0.5), (500, 0.1), (500, 0.42), (14_042, 0.2), (9, 1.0)])
def test_the_detectable_difference_is_found_80_times_in_100(n, discordant):
    """Simulated: 20,000 experiments, each with the exact test."""
    true = detectable(n, discordant)
    gain, loss = (discordant + true) / 2, (discordant - true) / 2
    tables = np.random.default_rng(0).multinomial(n, [gain, loss, 1 - gain - loss], size=20_000)
    tables, times = np.unique(tables[:, :2], axis=0, return_counts=True)
    found = sum(t for (up, down), t in zip(tables, times, strict=True) if up > down and mcnemar(up, down) <= 0.05)
    assert found / 20_000 == pytest.approx(0.8, abs=0.012)  # four standard errors


def test_500_items_show_4_points():
    """Of nodes that differ on every tenth item. Connor's formula, of a normal test, says a little less."""
    z = scipy_stats.norm.ppf([0.975, 0.8])
    connor = next(
        d for d in np.arange(0.001, 0.1, 1e-5)
        if (z[0] * math.sqrt(0.1) + z[1] * math.sqrt(0.1 - d * d)) ** 2 <= 500 * d * d
    )  # fmt: skip
    assert connor < detectable(500, 0.1) == pytest.approx(0.0407, abs=1e-4)
    assert detectable(500, 0.1) == pytest.approx(connor, rel=0.05)


@given(st.floats(0.004, 1), shares, st.sampled_from([0.5, 0.8, 0.95]), st.sampled_from([0.05, 0.005]))
@settings(max_examples=40, deadline=None)
def test_the_items_needed_are_enough_and_one_fewer_is_not(difference, discordant, power, alpha):
    difference = min(difference, discordant)
    n = items_needed(difference, discordant, power, alpha)
    assert detectable(n, discordant, power, alpha) <= difference + 1e-9
    fewer = detectable(n - 1, discordant, power, alpha) if n > 1 else None
    assert fewer is None or fewer > difference


def test_what_is_rarely_seen_or_often_compared_needs_more_items():
    assert items_needed(0.02, 0.1) < items_needed(0.02, 0.1, power=0.9) < items_needed(0.02, 0.1, 0.9, alpha=0.005)
    assert items_needed(0.02, 0.1, 0.9, alpha=0.005) < items_needed(0.02, 0.1, 0.9, alpha=1e-30)
    assert items_needed(0.02, 0.1) < items_needed(0.02, 0.3)
    assert detectable(500, 0.1) > detectable(5000, 0.1)


def test_where_no_difference_can_be_seen_none_is_named():
    """Five items that differ have p = 0.06 even if all are gained."""
    assert detectable(5, 1.0) is None and detectable(6, 1.0) is not None
    assert detectable(500, 0.0) is None and detectable(500, 0.008) is None


def test_a_level_as_low_as_of_500_comparisons_is_exact():
    """15 items of 15 gained: p = 2/2¹⁵, where a normal test has 0.0001."""
    assert mcnemar(15, 0) < 0.0001 < mcnemar(14, 0)
    assert power_of(15, 1, 1, alpha=0.0001) == 1 and power_of(14, 1, 1, alpha=0.0001) == 0


def test_before_a_measurement_nodes_are_taken_for_independent():
    rng = np.random.default_rng(2)
    one, other = rng.random((2, 100_000)) < 0.3
    assert significance.expected_discordant(0.3) == pytest.approx((one != other).mean(), abs=0.006)
    assert significance.expected_discordant(0) == significance.expected_discordant(1) == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: items_needed(0.2, 0.1), "20 points needs nodes that differ on at least as many items, not on 10 %"),
        (lambda: items_needed(0.0001, 0.1), "0.01 points is too small: ask for 0.1 or more"),
        (lambda: items_needed(0.1, 10), "share of items on which nodes differ lies between 0 and 1, not at 10"),
        (lambda: detectable(100, 0.1, power=80), "power lies between 0 and 1, not at 80"),
        (lambda: detectable(100, 0.1, alpha=0), "alpha lies between 0 and 1, not at 0"),
        (lambda: significance.expected_discordant(30), "between 0 and 1, not at 30"),
        (lambda: paired_p([1, math.nan, 2], [1, 1, 1]), "item 2 of 3 has no finite number in both"),
        (lambda: significance.compare([1, math.inf], [0, math.inf]), "item 2 of 2"),
        (lambda: items_needed(math.nan, 0.1), "nan points is too small"),
        (lambda: significance.compare([1, 0], [0, 0], ["a", "a"]), "at least two of them, there are 1"),
        (lambda: significance.compare([1], [0]), "at least two items, there are 1"),
    ],
)
def test_what_cannot_be_counted_is_said_in_one_line(asked, said):
    with pytest.raises(JourneyError, match=said) as error:
        asked()
    assert "\n" not in str(error.value)


def test_columns_of_other_items_are_refused():
    with pytest.raises(ValueError, match="different length"):
        paired_p([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="gained"):
        mcnemar(-1, 3)


def test_right_and_wrong_answers_are_compared_by_mcnemar():
    after = np.array([1] * 60 + [0] * 40, dtype=float)
    before = np.roll(after, 3)
    before[:8] = 0
    found = significance.compare(after, before, convention="acc")
    assert (found.n, found.gained, found.lost) == (100, 8, 3)
    assert found.difference == statistics.difference(after, before, unit="%", convention="acc")
    assert found.difference.value == pytest.approx(0.05)
    assert found.p == mcnemar(8, 3)
    assert found.detectable == detectable(100, 0.11)


def test_right_and_wrong_answers_in_clusters_are_flipped_by_the_cluster():
    """Twelve subjects: of each that changed all ten items did, so there are not ten times as many findings."""
    after = np.repeat([1.0] * 5 + [0.0] * 7, 10)
    before, clusters = np.zeros(120), np.repeat(np.arange(12), 10)
    found = significance.compare(after, before, clusters)
    assert (found.n, found.gained, found.lost, found.difference.n) == (120, 50, 0, 120)
    assert found.p == 2 / 2**5 and mcnemar(50, 0) < 1e-9
    assert found.difference == statistics.difference(after, before, unit="%", clusters=clusters)


def test_other_numbers_are_compared_by_flips():
    rng = np.random.default_rng(8)
    before = rng.normal(3, 1, 40)
    after = before + rng.normal(-0.3, 0.5, 40)
    found = significance.compare(after, before, unit="nats")
    assert found.p == paired_p(after, before) and found.difference.unit == "nats"
    assert found.gained + found.lost == 40 and found.lost > found.gained


@pytest.mark.parametrize("each", [1, 5])
def test_the_detectable_difference_of_other_numbers_is_found_80_times_in_100(each):
    """Of 30 items, and of 30 clusters of items that share most of what moves them."""
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(30), each) if each > 1 else None

    def deltas():
        return np.repeat(rng.normal(size=30), each) + rng.normal(0, 0.3, 30 * each)

    visible = np.median([significance._detectable_mean(deltas(), clusters) for _ in range(200)])
    zero = np.zeros(30 * each)
    found = np.mean([paired_p(deltas() + visible, zero, clusters) <= 0.05 for _ in range(250)])
    assert found == pytest.approx(0.8, abs=0.075)


def test_numbers_that_do_not_vary_or_are_few_name_no_detectable_difference():
    assert significance.compare([0.5] * 9, [0.25] * 9).detectable is None
    assert significance.compare([0.5, 0.2, 0.1, 0.4, 0.7], [0.25] * 5).detectable is None  # p ≥ 2/2⁵
    assert significance.compare([0.5, 0.2, 0.1, 0.4, 0.7, 0.3], [0.25] * 6).detectable > 0
