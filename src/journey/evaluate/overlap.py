"""BLEU and chrF: how much of a translation stands in the reference, counted over a whole corpus.

sacrebleu cuts texts and counts n-grams of each pair; a score is a function of the counts' sums, so that the bootstrap
can add them up for each resample (`statistics.of_sums`). That function is written here for many sums at once.
"""

from collections.abc import Sequence

import numpy as np

ORDERS, CHARACTERS, BETA = 4, 6, 2  # n-grams of words up to 4; of characters up to 6, recall weighs twice
SIZES = {"bleu": 2 + 2 * ORDERS, "chrf": 3 * CHARACTERS}  # how many counts a pair has


def counts(said: Sequence[str], wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """The counts of each pair, (n, SIZES[name]), as sacrebleu's metrics have them by default."""
    from sacrebleu.metrics import BLEU, CHRF

    of = {"bleu": BLEU(), "chrf": CHRF()}
    return {
        name: np.array(metric._extract_corpus_statistics([*said], [[*wanted]])).reshape(len(said), SIZES[name])
        for name, metric in of.items()
    }


def signatures() -> dict[str, str]:
    """How each is counted, as sacrebleu says it (Post 2018, arXiv:1804.08771)."""
    from sacrebleu.metrics import BLEU, CHRF

    found = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        metric.corpus_score(["a"], [["a"]])  # only then it knows how many references there are
        found[name] = str(metric.get_signature())
    return found


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU (Papineni et al. 2002) of 0 to 100: (10, R) -> (R,). An order without a match counts as half of one, the
    next as a quarter (Chen and Cherry 2014, method 3); with no n-gram of an order at all there is no score: 0."""
    said, wanted, right, every = sums[0], sums[1], sums[2 : 2 + ORDERS], sums[2 + ORDERS :]
    missed = (right == 0) & (every > 0)
    halved = 0.5 ** np.cumsum(missed, axis=0)
    precision = np.where(missed, halved, right) / np.maximum(every, 1)
    known = (every > 0).all(axis=0) & (right > 0).any(axis=0)
    brevity = np.exp(np.minimum(0.0, 1 - wanted / np.maximum(said, 1)))
    mean = np.log(np.where(precision > 0, precision, 1.0)).mean(axis=0)
    return np.where(known, 100 * brevity * np.exp(mean), 0.0)


def chrf(sums: np.ndarray) -> np.ndarray:
    """chrF2 (Popović 2015) of 0 to 100: (18, R) -> (R,). The mean precision and the mean recall over the orders that
    both sides have, recall weighing twice."""
    said, wanted, right = sums[0::3], sums[1::3], sums[2::3]  # (6, R) each
    both = (said > 0) & (wanted > 0)
    n = np.maximum(1, both.sum(axis=0))
    precision = np.where(both, right / np.maximum(said, 1), 0.0).sum(axis=0) / n
    recall = np.where(both, right / np.maximum(wanted, 1), 0.0).sum(axis=0) / n
    down = BETA**2 * precision + recall
    return 100 * (1 + BETA**2) * precision * recall / np.where(down > 0, down, 1.0)


FORMULAS = {"bleu": bleu, "chrf": chrf}
