"""What a stage changed, as numbers with 95 % intervals: a model against its marks, and two models on the same items."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

from journey.errors import JourneyError
from journey.evaluate.statistics import Estimate, change, difference, mean, proportion, ratio, verdict

Measurement = Mapping[str, Any]
Item = Mapping[str, Any]

SIZE = "a size"  # the verdict of an effect that is neither better nor worse: how far a model moved
PAIRED = "paired bootstrap over {what}, 2,000 resamples"
SHARES = "number right of number asked, Wilson's 95 % interval"
ANSWER = "nats per token of the documented answer, its <|end|> included, in the chat format"


@dataclass(frozen=True)
class Effect:
    """One change with its 95 % interval. `here` and `there` are the two numbers it is the difference of."""

    stage: str  # name of the node
    name: str  # short and stable: what a program looks it up by
    question: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    verdict: str
    compare: str  # what the reader should compare it with, in words
    convention: str
    here: Estimate
    there: Estimate | None = None

    def line(self) -> str:
        """The effect as one line of plain text."""
        size = f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] {self.unit}"
        return f"{self.name:<44} {size:<44} {self.verdict:<30} {self.compare} (n = {self.n:,})"

    def metric(self) -> dict[str, Any]:
        """The effect in the shape that `--json` has for every number, with its verdict."""
        keys = ("value", "low", "high", "n", "unit", "convention", "verdict", "compare")
        return {key: getattr(self, key) for key in keys}


def effects(measurements: Sequence[Measurement], lineages: Mapping[str, Mapping[str, Any]]) -> list[Effect]:
    """Every effect of every measured node: against its marks (`alone`), and against its parent (`compare`).

    `lineages` maps a node's id to its lineage; a parent that was not measured gives no effects.
    """
    by_id = {m["node"]: m for m in measurements}
    found = []
    for m in measurements:
        parents = lineages.get(m["node"], {}).get("parents", [m.get("parent")])
        found += [e for p in parents if p in by_id for e in compare(by_id[p], m)]
        found += alone(m)
    return found


def alone(m: Measurement) -> list[Effect]:
    """The effects that need no second model: against n-grams, against chance, and of its own context."""
    found = []
    for corpus, marks in m.get("baselines", {}).items():
        found += [_ngram(m, corpus, order, marks) for order in ("bigram", "trigram") if order in marks]
    if items := m.get("choices", {}).get("items"):
        found.append(_chance(m, items))
    if "repeat" in m:
        found.append(_second_copy(m))
    if items := m.get("answers", {}).get("items"):
        found += [_passage(m, items, other) for other in ("shuffled", "none")]
    return found


def compare(before: Measurement, after: Measurement) -> list[Effect]:
    """What differs from one measured node to another, on the items that both were measured on.

    Errors: JourneyError when both measured the same thing but share no item.
    """
    found = [_bits(before, after, corpus) for corpus in after["bits_per_byte"] if corpus in before["bits_per_byte"]]
    if "choices" in before and "choices" in after:
        found.append(_choices(before, after))
    if "answers" in before and "answers" in after:
        found += [_answer_loss(before, after, passage) for passage in ("right", "none")]
    if "endings" in before and "endings" in after:
        found.append(_endings(before, after))
    against = after.get("against_parent")
    if against and against["parent"] == before["node"]:
        found += [_kl(before, after, corpus, items) for corpus, items in against.get("kl", {}).items() if items]
    return found


def pair(here: Iterable[Item], there: Iterable[Item], what: str) -> list[tuple[Item, Item]]:
    """The items of two measurements that have the same id (and, where counted, the same bytes or tokens)."""
    by_id = {item["id"]: item for item in there}
    pairs = [(item, by_id[item["id"]]) for item in here if item["id"] in by_id]
    same = [(a, b) for a, b in pairs if a.get("bytes") == b.get("bytes")]
    if not same:
        raise JourneyError(f"the two measurements of {what} share no item: they were made on different texts")
    return same


def bits_per_byte(items: Sequence[Item], convention: str = "") -> Estimate:
    """Bits per byte of a corpus: all nats over all bytes, by documents."""
    return ratio([_bits_of(i) for i in items], [i["bytes"] for i in items], "bits/byte", convention)


def accuracy(items: Sequence[Item], picked: str = "picked_norm") -> Estimate:
    """The share of multiple-choice items answered right, in percent, by the summed or the per-character score."""
    return percent(proportion([i[picked] == i["gold"] for i in items], "%", SHARES))


def answer_loss(items: Sequence[Item], passage: str) -> Estimate:
    """Nats per answer token with the `right`, a `shuffled` or no (`none`) passage."""
    return ratio([i[passage] for i in items], [i["tokens"] for i in items], "nats/token", ANSWER)


def ended(items: Sequence[Item]) -> Estimate:
    """The share of answers that end by themselves, in percent."""
    return percent(proportion([i["ended"] for i in items], "%", SHARES))


def kl(items: Sequence[Item]) -> Estimate:
    """Mean nats per token of KL(parent ‖ child), by documents."""
    nats = [i["nats"] * i["tokens"] for i in items]
    return ratio(nats, [i["tokens"] for i in items], "nats/token")


def percent(estimate: Estimate, unit: str = "%") -> Estimate:
    """A fraction as percent or points."""
    hundred = {key: 100 * getattr(estimate, key) for key in ("value", "low", "high")}
    return replace(estimate, unit=unit, **hundred)


def chance(items: Sequence[Item]) -> float:
    """Percent right by guessing."""
    return 100 * sum(1 / len(i["logprobs"]) for i in items) / len(items)


def _ngram(m: Measurement, corpus: str, order: str, marks: Mapping[str, Any]) -> Effect:
    pairs = pair(m["bits_per_byte"][corpus]["items"], marks[order], corpus)
    ours, theirs = [_bits_of(a) for a, _ in pairs], [_bits_of(b) for _, b in pairs]
    here, there = bits_per_byte([a for a, _ in pairs]), bits_per_byte([b for _, b in pairs])
    compare = f"{here.value:.3f} bits/byte here, {there.value:.3f} for the {order}"
    others = [o for o in ("bigram", "trigram") if o != order and o in marks]
    compare += "".join(f", {bits_per_byte(marks[o]).value:.3f} for the {o}" for o in others)
    return _effect(
        m,
        f"bits per byte, {corpus}, against a {order}",
        f"Does it predict {corpus} better than a {order} model trained on the same {marks['trained_tokens']:,} tokens?",
        percent(change(ours, theirs)),
        "lower",
        compare,
        PAIRED.format(what="documents") + "; interpolated Kneser-Ney; " + m["bits_per_byte"][corpus]["convention"],
        here,
        there,
    )


def _chance(m: Measurement, items: Sequence[Item]) -> Effect:
    here, guess = accuracy(items), chance(items)
    over = replace(here, value=here.value - guess, low=here.low - guess, high=here.high - guess, unit="points")
    return _effect(
        m,
        "multiple choice, against chance",
        "Does it pick the right summary of a function more often than by guessing?",
        over,
        "higher",
        f"{here.value:.1f} % right here, {guess:.0f} % by guessing",
        f"acc_norm (log-probability by characters); {SHARES}",
        here,
    )


def _second_copy(m: Measurement) -> Effect:
    first, second = m["repeat"]["first"], m["repeat"]["second"]
    here, there = mean(second, "nats/token"), mean(first, "nats/token")
    return _effect(
        m,
        "repeated random tokens",
        "Random tokens come twice: does it use the first copy to predict the second?",
        difference(second, first, unit="nats/token"),
        "lower",
        f"{here.value:.2f} nats/token in the second copy, {there.value:.2f} in the first",
        PAIRED.format(what="sequences"),
        here,
        there,
    )


def _passage(m: Measurement, items: Sequence[Item], other: str) -> Effect:
    words = {"shuffled": "the passage of another question", "none": "no passage"}[other]
    here, there = answer_loss(items, "right"), answer_loss(items, other)
    per = [i["tokens"] for i in items]
    return _effect(
        m,
        f"answer loss, right passage against {other}",
        f"Is the answer easier with the right passage than with {words}?",
        difference([i["right"] for i in items], [i[other] for i in items], per, "nats/token"),
        "lower",
        f"{here.value:.2f} nats/token with the right passage, {there.value:.2f} with {words}",
        f"{ANSWER}; {PAIRED.format(what='questions')}",
        here,
        there,
    )


def _bits(before: Measurement, after: Measurement, corpus: str) -> Effect:
    pairs = pair(after["bits_per_byte"][corpus]["items"], before["bits_per_byte"][corpus]["items"], corpus)
    here, there = bits_per_byte([a for a, _ in pairs]), bits_per_byte([b for _, b in pairs])
    return _effect(
        after,
        f"bits per byte, {corpus}",
        f"Does it predict {corpus} better than {before['name']}?",
        percent(change([_bits_of(a) for a, _ in pairs], [_bits_of(b) for _, b in pairs])),
        "lower",
        f"{here.value:.3f} bits/byte here, {there.value:.3f} in {before['name']}",
        PAIRED.format(what="documents") + "; " + after["bits_per_byte"][corpus]["convention"],
        here,
        there,
    )


def _choices(before: Measurement, after: Measurement) -> Effect:
    pairs = pair(after["choices"]["items"], before["choices"]["items"], "multiple choice")
    here, there = accuracy([a for a, _ in pairs]), accuracy([b for _, b in pairs])
    ours, theirs = ([float(i["picked_norm"] == i["gold"]) for i in side] for side in zip(*pairs, strict=True))
    return _effect(
        after,
        "multiple choice",
        f"Does it pick the right summary more often than {before['name']}?",
        percent(difference(ours, theirs), "points"),
        "higher",
        f"{here.value:.1f} % right here, {there.value:.1f} % in {before['name']}",
        "acc_norm (log-probability by characters); " + PAIRED.format(what="items"),
        here,
        there,
    )


def _answer_loss(before: Measurement, after: Measurement, passage: str) -> Effect:
    pairs = pair(after["answers"]["items"], before["answers"]["items"], "answers")
    here, there = answer_loss([a for a, _ in pairs], passage), answer_loss([b for _, b in pairs], passage)
    words = {"right": "with the right passage", "none": "with no passage"}[passage]
    ours, theirs = [a[passage] for a, _ in pairs], [b[passage] for _, b in pairs]
    return _effect(
        after,
        f"answer loss, {'right' if passage == 'right' else 'no'} passage",
        f"Are the documented answers easier for it than for {before['name']}, {words}?",
        difference(ours, theirs, [a["tokens"] for a, _ in pairs], "nats/token"),
        "lower",
        f"{here.value:.2f} nats/token here, {there.value:.2f} in {before['name']}",
        f"{ANSWER}; {PAIRED.format(what='questions')}",
        here,
        there,
    )


def _endings(before: Measurement, after: Measurement) -> Effect:
    pairs = pair(after["endings"]["items"], before["endings"]["items"], "endings")
    here, there = ended([a for a, _ in pairs]), ended([b for _, b in pairs])
    ours, theirs = ([float(i["ended"]) for i in side] for side in zip(*pairs, strict=True))
    return _effect(
        after,
        "answers that end by themselves",
        f"Do more of its answers end by themselves than those of {before['name']}?",
        percent(difference(ours, theirs), "points"),
        "higher",
        f"{here.value:.1f} % end here, {there.value:.1f} % in {before['name']}",
        f"either stop token within {after['endings']['limit']} tokens; " + PAIRED.format(what="questions"),
        here,
        there,
    )


def _kl(before: Measurement, after: Measurement, corpus: str, items: Sequence[Item]) -> Effect:
    size = kl(items)
    return _effect(
        after,
        f"KL, {corpus}",
        f"How far did its predictions on {corpus} move from {before['name']}'s?",
        size,
        None,
        "0: the same prediction at every token",
        f"KL({before['name']} ‖ {after['name']}), mean over tokens; bootstrap over documents, 2,000 resamples",
        size,
    )


def _effect(
    m: Measurement,
    name: str,
    question: str,
    size: Estimate,
    better: str | None,
    compare: str,
    convention: str,
    here: Estimate,
    there: Estimate | None = None,
) -> Effect:
    word = verdict(size.low, size.high, better) if better else SIZE
    numbers = (size.value, size.low, size.high, size.n, size.unit)
    return Effect(m["name"], name, question, *numbers, word, compare, convention, here, there)


def _bits_of(item: Item) -> float:
    return item["nats"] / log(2)
