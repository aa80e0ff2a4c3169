"""The effects of what comes after the answers: preferences, quantized files, and an index to answer from."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from journey.evaluate.statistics import change, difference
from journey.report.effect import PAIRED, Effect, Measurement, effect, pair, sides
from journey.report.estimates import (
    ANSWER,
    WORD_F1,
    Item,
    answer_loss,
    asked,
    bits_of,
    bits_per_byte,
    mrr,
    passage_f1,
    percent,
    policy_kl,
    preference_accuracy,
    recall,
)

GROUPS = {True: "named", False: "not named"}
OTHERS = {"none": "no passage", "shuffled": "the passage of another question", "right": "the right one"}
FIRST = 5  # passages that count as found


def preferences(m: Measurement) -> list[Effect]:
    """Whether held-out pairs are told apart, and how far the model moved from its reference to learn that."""
    found = []
    measured: dict[str, Any] = m.get("preferences", {})
    if several(items := measured.get("items", [])):
        here = preference_accuracy(items)
        found.append(
            effect(
                m,
                "preferences, against chance",
                "Does it prefer the better of two held-out answers, compared with the model before?",
                replace(here, value=here.value - 50, low=here.low - 50, high=here.high - 50, unit="points"),
                "higher",
                f"{here.value:.1f} % of the pairs here, 50 % by chance and before training",
                here.convention,
                here,
            )
        )
    if several(items := measured.get("kl", [])):
        moved = policy_kl(items)
        found.append(
            effect(
                m,
                "KL, own answers",
                "How far did it move from its reference on the answers it now gives?",
                moved,
                None,
                "0: it says what the reference would have said",
                "KL(policy ‖ reference), mean over the tokens of the policy's own sampled answers; bootstrap over them",
                moved,
            )
        )
    return found


def quantized(m: Measurement) -> list[Effect]:
    """What each file's fewer bits cost, on the documents that the weights before were scored on."""
    if "quantized" not in m:
        return []
    reference, found = m["quantized"]["reference"], []
    for kind, made in m["quantized"]["types"].items():
        ours, theirs = sides(pair(made["items"], reference["items"], kind))
        if several(ours):
            here, there = bits_per_byte(ours), bits_per_byte(theirs)
            found.append(
                effect(
                    m,
                    f"bits per byte, {kind}",
                    f"Does it predict worse as {kind} than with the weights it was made of?",
                    percent(change([bits_of(i) for i in ours], [bits_of(i) for i in theirs])),
                    "lower",
                    f"{here.value:.4f} bits/byte as {kind}, {there.value:.4f} in fp32; "
                    f"{100 * made['bytes'] / reference['bytes']:.0f} % of the bytes",
                    f"{m['quantized'].get('convention', '')}; {PAIRED.format(what='documents')}",
                    here,
                    there,
                )
            )
    return found


def retrieval(m: Measurement) -> list[Effect]:
    """What is found, whether two searches together find more than one, and what a found passage does to the answer."""
    items: list[Item] = m.get("retrieval", {}).get("items", [])
    by = used(m)
    found = []
    for named, said in GROUPS.items():
        if several(asked(items, named)):
            found += [_recall(m, items, by, named, said), _mrr(m, items, by, named, said)]
    if not several(items):
        return found
    found += [_fusion(m, items, by, one) for one in items[0]["rank"] if one != by]
    found += [_loss(m, items, other) for other in OTHERS]
    return found + ([_f1(m, items)] if all("f1" in i for i in items) else [])


def used(m: Measurement) -> str:
    """The search that answers are given from: what was chosen on dev, or both searches fused."""
    items, chosen = m.get("retrieval", {}).get("items", []), m.get("retrieval", {}).get("fusion", "")
    return chosen if items and chosen in items[0]["rank"] else "hybrid"


def several(items: Sequence[Item]) -> bool:
    """Whether there are enough items for an interval."""
    return len(items) > 1


def _recall(m: Measurement, items: Sequence[Item], by: str, named: bool, said: str) -> Effect:
    here = recall(items, by, named, FIRST)
    return effect(
        m,
        f"recall@{FIRST}, {said}",
        f"Function {said}: how often is the passage that answers among the first {FIRST}?",
        here,
        None,
        f"of {m['retrieval']['passages']:,} passages",
        f"{by}; {here.convention}",
        here,
    )


def _mrr(m: Measurement, items: Sequence[Item], by: str, named: bool, said: str) -> Effect:
    here = mrr(items, by, named)
    return effect(
        m,
        f"mrr@10, {said}",
        f"Function {said}: how near the top does it stand?",
        here,
        None,
        "1: always first",
        f"{by}; {here.convention}; bootstrap over questions, 2,000 resamples",
        here,
    )


def _fusion(m: Measurement, items: Sequence[Item], by: str, one: str) -> Effect:
    here, there = recall(items, by, k=FIRST), recall(items, one, k=FIRST)
    ours, theirs = ([float(i["rank"][way] is not None and i["rank"][way] <= FIRST) for i in items] for way in (by, one))
    return effect(
        m,
        f"recall@{FIRST}, {by} against {one}",
        f"Does {by} find more than {one} alone?",
        percent(difference(ours, theirs), "points"),
        "higher",
        f"{here.value:.1f} % by {by}, {there.value:.1f} % by {one}",
        f"Recall@{FIRST}, all questions; {PAIRED.format(what='questions')}",
        here,
        there,
    )


def _loss(m: Measurement, items: Sequence[Item], other: str) -> Effect:
    here, there = answer_loss(items, "retrieved"), answer_loss(items, other)
    size = difference(
        [i["retrieved"] for i in items], [i[other] for i in items], [i["tokens"] for i in items], "nats/token"
    )
    return effect(
        m,
        f"answer loss, retrieved passage against {other}",
        f"Is the answer easier with the passage that was found than with {OTHERS[other]}?",
        size,
        "lower",
        f"{here.value:.2f} nats/token with the found passage, {there.value:.2f} with {OTHERS[other]}",
        f"{ANSWER}; {PAIRED.format(what='questions')}",
        here,
        there,
    )


def _f1(m: Measurement, items: Sequence[Item]) -> Effect:
    here, there = passage_f1(items, "retrieved"), passage_f1(items, "none")
    size = percent(difference([i["f1"]["retrieved"] for i in items], [i["f1"]["none"] for i in items]), "points")
    return effect(
        m,
        "answer F1, retrieved passage against none",
        "Do answers given with the passage that was found share more words with the documented ones?",
        size,
        "higher",
        f"F1 {here.value:.1f} % with the found passage, {there.value:.1f} % with none",
        f"{WORD_F1}; {PAIRED.format(what='questions')}",
        here,
        there,
    )
