"""Scores that are no ratio of two sums but a function of several: a score names it, and the bootstrap computes it for
all resamples at once (`statistics.of_sums`)."""

import numpy as np

from journey.evaluate import overlap


def perplexity(sums: np.ndarray) -> np.ndarray:
    """exp(nats / tokens): (2, R) -> (R,). A document weighs by its tokens, as in the loss of a training."""
    return np.exp(sums[0] / sums[1])


FORMULAS = overlap.FORMULAS | {"perplexity": perplexity}
SIZES = overlap.SIZES | {"perplexity": 2}  # how many sums each is of
