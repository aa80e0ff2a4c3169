"""Which differences between nodes are real, and which could have been seen at all.

Nodes are compared on the same items, so only the items on which they differ say anything. Of many comparisons some
look real by chance: `holm` counts with that. What a number of items can show is known before anything is measured:
`detectable`, and `items_needed` the other way round.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, ndtri, stdtrit

from journey.errors import JourneyError
from journey.evaluate import statistics
from journey.evaluate.statistics import SEED, Clusters, Estimate, Numbers

POWER = 0.8
ALPHA = 0.05
FLIPS = 10_000
ENUMERATED = 12  # differences: of up to so many all sign flips are looked at
LEAST = 0.001  # of differences between shares: to see a smaller one takes millions of items


@dataclass(frozen=True)
class Comparison:
    """Two nodes on the same items.

    `p` says which differences are real. The interval says how large they are, and is too short while fewer than ten or
    so items differ: it held the truth 93 times in 100 with five of them and 77 times with two, and where no item
    differs it is a point.
    """

    n: int
    gained: int  # items whose number rose
    lost: int  # items whose number fell
    difference: Estimate  # after - before, a fraction where the unit is "%": paired bootstrap
    p: float  # two-sided, of no difference
    detectable: float | None  # what such items show 80 times in 100; None: no difference at all


def compare(
    after: Numbers, before: Numbers, clusters: Clusters | None = None, unit: str = "%", convention: str = ""
) -> Comparison:
    """Compare two columns over the same items: by McNemar's test where they hold 0 and 1, else by `paired_p`.

    McNemar's test takes the items for independent, so with clusters it is `paired_p` for 0 and 1, too.
    Errors: JourneyError for fewer than two items or clusters and for an item without a number.
    """
    deltas = _deltas(after, before)
    difference = statistics.difference(after, before, unit=unit, convention=convention, clusters=clusters)
    n, gained, lost = len(deltas), int((deltas > 0).sum()), int((deltas < 0).sum())
    if clusters is None and np.isin(np.array([after, before]), (0, 1)).all():
        p, visible = mcnemar(gained, lost), detectable(n, (gained + lost) / n)
    else:
        p, visible = paired_p(after, before, clusters), _detectable_mean(deltas, clusters)
    return Comparison(n, gained, lost, difference, p, visible)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test (1947): without a difference, an item that differs was gained or lost with
    probability ½ each. 1.0 if no item differs."""
    if min(gained, lost) < 0:
        raise ValueError(f"{gained} items gained and {lost} lost")
    return min(1.0, 2 * float(_at_most(min(gained, lost), gained + lost, 0.5)))


def paired_p(after: Numbers, before: Numbers, clusters: Clusters | None = None) -> float:
    """Two-sided p of equal means on the same items, by sign flips (Fisher 1935).

    Without a difference, after - before of an item could as well have been before - after: p is the share of all
    flips that move the sum as far from zero as it lies. All of them are looked at where few items differ, otherwise
    10,000 seeded ones and the one that was seen (Phipson and Smyth 2010), so p is never 0. Whole clusters are flipped
    together: then fewer than six cannot reach 0.05.
    """
    deltas = _deltas(after, before)
    if clusters is not None:
        (deltas,) = statistics.by_cluster(deltas[None], clusters)
    deltas = deltas[deltas != 0]  # a flip of nothing changes nothing
    # Sums of the same numbers in another order are equal, whatever the last bits say.
    far = abs(deltas.sum()) - 1e-10 * np.abs(deltas).sum()
    if len(deltas) <= ENUMERATED:
        signs = np.array(list(itertools.product((1, -1), repeat=len(deltas))))  # (2^k, k)
        return float((np.abs(signs @ deltas) >= far).mean())
    rng = np.random.default_rng(SEED)
    at_once = max(1, 2**21 // len(deltas))  # flips: 16 MB of them
    reached = 0
    for start in range(0, FLIPS, at_once):
        signs = 2.0 * rng.integers(2, size=(min(at_once, FLIPS - start), len(deltas)), dtype=np.int8) - 1  # (R, k)
        reached += int((np.abs(signs @ deltas) >= far).sum())
    return (reached + 1) / (FLIPS + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for being many (Holm 1979), in the order given: rejecting those up to 0.05 errs anywhere at
    all at most 5 times in 100, however the tests depend on each other."""
    found = np.asarray(ps, dtype=np.float64)
    if not ((found >= 0) & (found <= 1)).all():  # of nan, too
        raise ValueError(f"p-values lie between 0 and 1: {list(ps)}")
    order = np.argsort(found)
    adjusted = np.empty(len(found))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)))
    return adjusted.tolist()


def expected_discordant(share: float) -> float:
    """The share of items on which two nodes will differ, to be assumed before anything was measured: 2p(1 - p), as if
    two nodes that are right on a share p were right independently of each other. It is the most that nodes differ
    whose outcomes do not go against each other: a child and its parent differ on fewer items, and see more."""
    if not 0 <= share <= 1:
        raise JourneyError(f"a share of right answers lies between 0 and 1, not at {share:g}")
    return 2 * share * (1 - share)


def detectable(n: int, discordant: float, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """The smallest difference between two shares that n items show with this power, if the nodes differ on a share
    `discordant` of items: a fraction; None where they could see no difference at all.

    Of k comparisons under Holm's rule the strictest is made at alpha / k.
    """
    _check(discordant, power, alpha)
    if not discordant or power_of(n, discordant, discordant, alpha) < power:
        return None
    low, high = 0.0, discordant
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(n, middle, discordant, alpha) >= power else (middle, high)
    return high


def items_needed(difference: float, discordant: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """How many items show a difference between two shares with this power, and one fewer does not.

    Errors: JourneyError for a difference above the share of items that differ, or below 0.001.
    """
    _check(discordant, power, alpha)
    if difference > discordant:
        raise JourneyError(
            f"a difference of {100 * difference:g} points needs nodes that differ on at least as many items, "
            f"not on {100 * discordant:g} %: ask for a smaller one"
        )
    if not difference >= LEAST:  # of nan, too
        raise JourneyError(f"a difference of {100 * difference:g} points is too small: ask for {100 * LEAST:g} or more")
    low, high = 0, 1
    while power_of(high, difference, discordant, alpha) < power:
        low, high = high, 2 * high
    while high - low > 1:  # low is too few and high is enough
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle, difference, discordant, alpha) >= power else (middle, high)
    return high


def power_of(n: int, difference: float, discordant: float, alpha: float = ALPHA) -> float:
    """The probability that exact McNemar on n items finds a difference, to the right side, at p ≤ alpha.

    Counted exactly, over how many items may differ and how many of them be gained. Connor's formula (1987) has a
    normal test in mind: on the 40 to 4,000 items that it asks for, for 80 in 100, the exact test finds 77 to 79.
    """
    spread = 8 * np.sqrt(n * discordant * (1 - discordant)) + 8
    m = np.arange(max(0, np.floor(n * discordant - spread)), min(n, np.ceil(n * discordant + spread)) + 1)
    weights = np.diff(_at_most(m, n, discordant), prepend=0.0)  # that m items differ
    # The most items that may go the other way: a normal guess, then counted exactly.
    most = np.maximum(-1, np.floor((m + ndtri(alpha / 2) * np.sqrt(m)) / 2))
    while (more := _at_most(most + 1, m, 0.5) <= alpha / 2).any():
        most += more
    while (fewer := _at_most(most, m, 0.5) > alpha / 2).any():
        most -= fewer
    return float(weights @ _at_most(most, m, (1 - difference / discordant) / 2))


def _detectable_mean(deltas: np.ndarray, clusters: Clusters | None) -> float | None:
    """The smallest mean difference that shows 80 times in 100, from how the differences found vary: (t + t) standard
    errors. None where sign flips cannot reach 0.05, or nothing varies."""
    rest = deltas - deltas.mean()
    sums = rest if clusters is None else statistics.by_cluster(rest[None], clusters)[0]
    k = len(sums)
    if 2.0 ** (1 - k) > ALPHA or np.ptp(deltas) == 0:
        return None
    error = np.sqrt(k / (k - 1) * (sums**2).sum()) / len(deltas)
    return float((stdtrit(k - 1, 1 - ALPHA / 2) + stdtrit(k - 1, POWER)) * error)


def _deltas(after: Numbers, before: Numbers) -> np.ndarray:
    """after - before of each item, (n,)."""
    columns = [np.asarray(column, dtype=np.float64) for column in (after, before)]
    if columns[0].shape != columns[1].shape:
        raise ValueError(f"columns of different length: {[len(column) for column in columns]}")
    if (lacking := np.flatnonzero(~np.isfinite(columns).all(0))).size:
        raise JourneyError(
            f"item {lacking[0] + 1} of {len(after)} has no finite number in both: leave it out of the comparison"
        )
    return columns[0] - columns[1]


def _check(discordant: float, power: float, alpha: float) -> None:
    """Errors: JourneyError for what is no probability."""
    if not 0 <= discordant <= 1:
        raise JourneyError(f"the share of items on which nodes differ lies between 0 and 1, not at {discordant:g}")
    for name, value in (("power", power), ("alpha", alpha)):
        if not 0 < value < 1:
            raise JourneyError(f"{name} lies between 0 and 1, not at {value:g}")


def _at_most(k: float | np.ndarray, m: float | np.ndarray, p: float) -> np.ndarray:
    """P(X ≤ k) of X ~ Binomial(m, p), for whole k from -1."""
    within = betainc(np.maximum(np.subtract(m, k), 1), np.maximum(k, 0) + 1.0, 1 - p)
    return np.where(np.less(k, 0), 0.0, np.where(np.less(k, m), within, 1.0))
