"""The numbers of one measurement, each with its 95 % interval: what the page, `journey eval` and the effects share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log
from typing import Any

import numpy as np

from journey.evaluate.statistics import Estimate, mean, proportion, ratio

Item = Mapping[str, Any]

SHARES = "number right of number asked, Wilson's 95 % interval"
ANSWER = "nats per token of the documented answer, its <|end|> included, in the chat format"
PREFERENCE = (
    "held-out pairs whose chosen answer has the larger implicit reward, log p(model) - log p(reference); ties count "
    "half; Wilson's 95 % interval"
)
WORD_F1 = "F1 of the words that the greedy answer shares with the documented one, mean over questions"


def bits_per_byte(items: Sequence[Item], convention: str = "") -> Estimate:
    """Bits per byte of a corpus: all nats over all bytes, by documents."""
    return ratio([bits_of(i) for i in items], [i["bytes"] for i in items], "bits/byte", convention)


def bits_of(item: Item) -> float:
    """A document's bits."""
    return item["nats"] / log(2)


def accuracy(items: Sequence[Item], picked: str = "picked_norm") -> Estimate:
    """The share of multiple-choice items answered right, in percent, by the summed or the per-character score."""
    return percent(proportion([i[picked] == i["gold"] for i in items], "%", SHARES))


def chance(items: Sequence[Item]) -> float:
    """Percent right by guessing."""
    return 100 * sum(1 / len(i["logprobs"]) for i in items) / len(items)


def answer_loss(items: Sequence[Item], passage: str) -> Estimate:
    """Nats per answer token with the `right`, a `shuffled`, the `retrieved` or no (`none`) passage."""
    return ratio([i[passage] for i in items], [i["tokens"] for i in items], "nats/token", ANSWER)


def ended(items: Sequence[Item]) -> Estimate:
    """The share of answers that end by themselves, in percent."""
    return percent(proportion([i["ended"] for i in items], "%", SHARES))


def answer_f1(items: Sequence[Item]) -> Estimate:
    """Word F1 of the greedy answers with the documented ones, in percent; `items` are endings that carry an "f1"."""
    return percent(mean([i["f1"] for i in items], "%", WORD_F1))


def answer_length(items: Sequence[Item]) -> Estimate:
    """Mean length of the greedy answers, in tokens, the stop token included."""
    return mean([i["tokens"] for i in items], "tokens")


def kl(items: Sequence[Item]) -> Estimate:
    """Mean nats per token of KL(parent ‖ child), by documents; an item's nats are per token."""
    nats = [i["nats"] * i["tokens"] for i in items]
    return ratio(nats, [i["tokens"] for i in items], "nats/token")


def policy_kl(items: Sequence[Item]) -> Estimate:
    """Nats per token of KL(policy ‖ reference) on the policy's own answers; an item's nats are summed over them."""
    return ratio([i["nats"] for i in items], [i["tokens"] for i in items], "nats/token")


def preference_accuracy(items: Sequence[Item]) -> Estimate:
    """The share of held-out pairs whose chosen answer has the larger implicit reward, in percent; ties count half."""
    hits = np.array([0.5 + 0.5 * np.sign(i["margin"]) for i in items])
    return percent(proportion(hits, "%", PREFERENCE))


def score_gap(pairs: Sequence[Item]) -> Estimate:
    """How much better the chosen answers were scored than the rejected ones, mean over pairs."""
    return mean([p["chosen_score"] - p["rejected_score"] for p in pairs], "", "score of the chosen less the rejected")


def length_bias(pairs: Sequence[Item]) -> Estimate:
    """How many words longer the chosen answers are than the rejected ones, mean over pairs."""
    return mean([_words(p["chosen"]) - _words(p["rejected"]) for p in pairs], "words", "words of chosen less rejected")


def recall(items: Sequence[Item], by: str, named: bool | None = None, k: int = 5) -> Estimate:
    """The share of questions whose own passage is among the first k found by bm25, vectors or hybrid, in percent.

    `named` keeps the questions that name the function (True) or do not (False).
    """
    ranks = [i["rank"][by] for i in asked(items, named)]
    return percent(proportion([rank is not None and rank <= k for rank in ranks], "%", f"Recall@{k}; {SHARES}"))


def mrr(items: Sequence[Item], by: str, named: bool | None = None, k: int = 10) -> Estimate:
    """Mean reciprocal rank of the question's own passage among the first k, 0 where it is not among them."""
    convention = f"MRR@{k}: 1 / rank of the question's own passage, 0 beyond {k}; mean over questions"
    return mean([_reciprocal(i["rank"][by], k) for i in asked(items, named)], "", convention)


def passage_f1(items: Sequence[Item], passage: str) -> Estimate:
    """Word F1 of the greedy answers given the `retrieved`, `right`, a `shuffled` or no (`none`) passage, in percent."""
    return percent(mean([i["f1"][passage] for i in items], "%", WORD_F1))


def asked(items: Sequence[Item], named: bool | None) -> list[Item]:
    """The questions that name the function, those that do not, or (None) all."""
    return [i for i in items if named is None or i["named"] is named]


def percent(estimate: Estimate, unit: str = "%") -> Estimate:
    """A fraction as percent or points."""
    hundred = {key: 100 * getattr(estimate, key) for key in ("value", "low", "high")}
    return replace(estimate, unit=unit, **hundred)


def _reciprocal(rank: int | None, k: int) -> float:
    return 1 / rank if rank is not None and rank <= k else 0.0


def _words(messages: Sequence[Mapping[str, str]]) -> int:
    return sum(len(m["content"].split()) for m in messages)
