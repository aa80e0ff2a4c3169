"""pass@k: how often at least one of k answers is right, from n answers drawn."""

from journey.errors import JourneyError

CONVENTION = "pass@k, the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374): 1 - C(n-c, k) / C(n, k)"


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The probability, in [0, 1], that k of the n answers drawn without putting back hold a right one.

    `1 - (1 - correct/n)**k`, which one would write first, is too low: Chen et al. 2021, §2.1.
    """
    if k > n:
        raise JourneyError(f"pass@{k} needs at least {k} samples a problem and there are {n}: draw more")
    if not 0 <= correct <= n or k < 1:
        raise ValueError(f"{correct} right of {n} for pass@{k}")
    missed = 1.0
    for drawn in range(k):  # a product of ratios: the binomials themselves leave what a float can hold
        missed *= max(0, n - correct - drawn) / (n - drawn)
    return 1 - missed
