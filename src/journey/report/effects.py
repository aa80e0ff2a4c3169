"""What a stage changed, as numbers with 95 % intervals: a model against its marks, and two models on the same items."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from journey.evaluate.statistics import change, difference, mean
from journey.report import later
from journey.report.effect import PAIRED, Effect, Measurement, effect, pair, sides
from journey.report.estimates import (
    ANSWER,
    SHARES,
    WORD_F1,
    Item,
    accuracy,
    answer_f1,
    answer_length,
    answer_loss,
    bits_of,
    bits_per_byte,
    chance,
    ended,
    kl,
    percent,
)


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
    """The effects that need no second model: against n-grams, against chance, of its own context, and of what was made
    of it (preferences, quantized files, an index)."""
    found = []
    for corpus, marks in m.get("baselines", {}).items():
        found += [_ngram(m, corpus, order, marks) for order in ("bigram", "trigram") if order in marks]
    if items := m.get("choices", {}).get("items"):
        found.append(_chance(m, items))
    if "repeat" in m:
        found.append(_second_copy(m))
    if items := m.get("answers", {}).get("items"):
        found += [_passage(m, items, other) for other in ("shuffled", "none")]
    return found + later.preferences(m) + later.quantized(m) + later.retrieval(m)


def compare(before: Measurement, after: Measurement) -> list[Effect]:
    """What differs from one measured node to another, on the items that both were measured on.

    Errors: JourneyError when both measured the same thing but share no item.
    """
    scored = before.get("bits_per_byte", {})
    found = [_bits(before, after, corpus) for corpus in after.get("bits_per_byte", {}) if corpus in scored]
    if "choices" in before and "choices" in after:
        found.append(_choices(before, after))
    if "answers" in before and "answers" in after:
        found += [_answer_loss(before, after, passage) for passage in ("right", "none")]
    if "endings" in before and "endings" in after:
        found += _greedy(before, after)
    against = after.get("against_parent")
    if against and against["parent"] == before["node"]:
        found += [_kl(before, after, corpus, items) for corpus, items in against.get("kl", {}).items() if items]
    return found


def _ngram(m: Measurement, corpus: str, order: str, marks: Mapping[str, Any]) -> Effect:
    pairs = pair(m["bits_per_byte"][corpus]["items"], marks[order], corpus)
    ours, theirs = [bits_of(a) for a, _ in pairs], [bits_of(b) for _, b in pairs]
    here, there = bits_per_byte([a for a, _ in pairs]), bits_per_byte([b for _, b in pairs])
    compare = f"{here.value:.3f} bits/byte here, {there.value:.3f} for the {order}"
    others = [o for o in ("bigram", "trigram") if o != order and o in marks]
    compare += "".join(f", {bits_per_byte(marks[o]).value:.3f} for the {o}" for o in others)
    return effect(
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
    return effect(
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
    return effect(
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
    return effect(
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
    return effect(
        after,
        f"bits per byte, {corpus}",
        f"Does it predict {corpus} better than {before['name']}?",
        percent(change([bits_of(a) for a, _ in pairs], [bits_of(b) for _, b in pairs])),
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
    return effect(
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
    return effect(
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


def _greedy(before: Measurement, after: Measurement) -> list[Effect]:
    """What became of the greedy answers: whether they end, how long they are, and what they share with the documented
    ones (which older measurements do not say)."""
    pairs = pair(after["endings"]["items"], before["endings"]["items"], "endings")
    ours, theirs = sides(pairs)
    limit, paired, parent = after["endings"]["limit"], PAIRED.format(what="questions"), before["name"]
    here, there = ended(ours), ended(theirs)
    found = [
        effect(
            after,
            "answers that end by themselves",
            f"Do more of its answers end by themselves than those of {parent}?",
            percent(difference([float(i["ended"]) for i in ours], [float(i["ended"]) for i in theirs]), "points"),
            "higher",
            f"{here.value:.1f} % end here, {there.value:.1f} % in {parent}",
            f"either stop token within {limit} tokens; {paired}",
            here,
            there,
        )
    ]
    if all("f1" in i for i in (*ours, *theirs)):
        here, there = answer_f1(ours), answer_f1(theirs)
        found.append(
            effect(
                after,
                "answer F1",
                f"Do its answers share more words with the documented ones than those of {parent}?",
                percent(difference([i["f1"] for i in ours], [i["f1"] for i in theirs]), "points"),
                "higher",
                f"F1 {here.value:.1f} % here, {there.value:.1f} % in {parent}",
                f"{WORD_F1}, without a passage; {paired}",
                here,
                there,
            )
        )
    here, there = answer_length(ours), answer_length(theirs)
    length = effect(
        after,
        "answer length",
        f"Are its answers longer than those of {parent}?",
        difference([i["tokens"] for i in ours], [i["tokens"] for i in theirs], unit="tokens"),
        None,
        f"{here.value:.1f} tokens here, {there.value:.1f} in {parent}",
        f"greedy answers without a passage, {limit} tokens at most; {paired}",
        here,
        there,
    )
    return [*found, length]


def _kl(before: Measurement, after: Measurement, corpus: str, items: Sequence[Item]) -> Effect:
    size = kl(items)
    return effect(
        after,
        f"KL, {corpus}",
        f"How far did its predictions on {corpus} move from {before['name']}'s?",
        size,
        None,
        "0: the same prediction at every token",
        f"KL({before['name']} ‖ {after['name']}), mean over tokens; bootstrap over documents, 2,000 resamples",
        size,
    )
