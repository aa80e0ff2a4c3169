"""The effects: numbers a reader can redo by hand, verdicts that can go either way, and pairs of the same items only."""

import math
from typing import Any

import pytest
from journey.report.effect import SIZE
from journey.report.effects import alone, compare, effects
from journey.report.estimates import length_bias, mrr, policy_kl, preference_accuracy, recall, score_gap
from journey.report.summary import line, summary

from journey.errors import JourneyError

CONVENTION = "by documents"


def scored(bits: list[float], size: int = 100) -> list[dict[str, Any]]:
    return [{"id": f"d{i}", "nats": b * size * math.log(2), "bytes": size, "tokens": 30} for i, b in enumerate(bits)]


def measured(name: str = "base", bits: float = 2.0, **more: Any) -> dict[str, Any]:
    items = scored([bits * (1 + 0.01 * (i % 7)) for i in range(60)])
    found = {"node": f"id-{name}", "name": name, "stage": "pretrain", "parent": None}
    return found | {"bits_per_byte": {"docs": {"items": items, "convention": CONVENTION}}} | more


def named(found: list[Any], name: str) -> Any:
    (effect,) = [e for e in found if e.name == name]
    return effect


def test_bits_per_byte_change_is_the_ratio_of_sums_in_percent() -> None:
    effect = named(compare(measured(bits=2.0), measured("coder", bits=1.5)), "bits per byte, docs")
    assert effect.value == pytest.approx(-25)
    assert effect.low == pytest.approx(-25) and effect.high == pytest.approx(-25)  # every document fell by a quarter
    assert (effect.stage, effect.unit, effect.n, effect.verdict) == ("coder", "%", 60, "clear")
    assert effect.here.value == pytest.approx(1.5 * 1.0295, abs=0.01)
    assert "in base" in effect.compare and CONVENTION in effect.convention


def test_a_rise_is_worse_and_noise_is_not_distinguishable() -> None:
    up = named(compare(measured(bits=2.0), measured("coder", bits=2.2)), "bits per byte, docs")
    assert up.verdict == "worse" and up.value == pytest.approx(10)
    noise = measured("coder")
    noise["bits_per_byte"]["docs"]["items"] = scored([2.0 * (1 + 0.01 * (i % 7)) + 0.2 * (-1) ** i for i in range(60)])
    same = named(compare(measured(), noise), "bits per byte, docs")
    assert same.verdict == "not distinguishable from zero" and same.low < 0 < same.high


def test_only_items_that_both_were_measured_on_are_compared() -> None:
    after = measured("coder", bits=1.5)
    after["bits_per_byte"]["docs"]["items"][0] |= {"id": "elsewhere"}
    after["bits_per_byte"]["docs"]["items"][1] |= {"bytes": 50}  # cut at another length: another text
    assert named(compare(measured(), after), "bits per byte, docs").n == 58
    for item in after["bits_per_byte"]["docs"]["items"]:
        item["id"] += "x"
    with pytest.raises(JourneyError, match="docs share no item"):
        compare(measured(), after)


def test_order_of_items_does_not_matter() -> None:
    after = measured("coder", bits=1.5)
    after["bits_per_byte"]["docs"]["items"].reverse()
    effect = named(compare(measured(), after), "bits per byte, docs")
    assert effect.low == pytest.approx(-25) and effect.high == pytest.approx(-25)


def test_ngrams_are_marks_with_the_other_number_beside() -> None:
    marks = {"bigram": scored([2.5] * 60), "trigram": scored([1.5] * 60), "trained_tokens": 1000}
    found = alone(measured(bits=2.0, baselines={"docs": marks}))
    bigram = named(found, "bits per byte, docs, against a bigram")
    trigram = named(found, "bits per byte, docs, against a trigram")
    assert bigram.verdict == "clear" and trigram.verdict == "worse"
    assert "2.500 for the bigram" in bigram.compare and "1.500 for the trigram" in bigram.compare
    assert "1,000 tokens" in bigram.question


def chosen(right: int, n: int = 100) -> dict[str, Any]:
    items = [
        {"id": f"c{i}", "gold": 1, "picked": 0, "picked_norm": 1 if i < right else 2, "logprobs": [-1.0] * 4}
        for i in range(n)
    ]
    return {"items": items, "convention": "acc", "harness": None}


def test_multiple_choice_against_chance_and_parent() -> None:
    before, after = measured(choices=chosen(25)), measured("chat", choices=chosen(60))
    assert named(alone(before), "multiple choice, against chance").verdict == "not distinguishable from zero"
    over = named(alone(after), "multiple choice, against chance")
    assert over.verdict == "clear" and over.value == pytest.approx(35) and "25 % by guessing" in over.compare
    assert named(compare(before, after), "multiple choice").value == pytest.approx(35)
    assert named(compare(after, before), "multiple choice").verdict == "worse"


def answered(right: float, shuffled: float, none: float) -> dict[str, Any]:
    """Answers of unlike length: per token is not the mean over questions."""
    items = [
        {"id": f"q{i}", "named": True, "tokens": t, "right": right * t, "shuffled": shuffled * t, "none": none * t}
        for i, t in enumerate([5, 20] * 30)
    ]
    return {"items": items}


def test_answer_losses_are_per_token() -> None:
    before, after = measured(answers=answered(4, 4, 5)), measured("chat", answers=answered(2, 3, 1.5))
    fell = named(compare(before, after), "answer loss, right passage")
    assert fell.value == pytest.approx(-2) and fell.verdict == "clear"
    assert (fell.here.value, fell.there.value) == (pytest.approx(2), pytest.approx(4))
    assert named(alone(after), "answer loss, right passage against shuffled").value == pytest.approx(-1)
    assert named(alone(after), "answer loss, right passage against none").verdict == "worse"
    read = named(alone(before), "answer loss, right passage against shuffled")
    assert read.value == pytest.approx(0) and read.verdict == "not distinguishable from zero"


def test_endings_and_repeats() -> None:
    def ends(share: float) -> dict[str, Any]:
        items = [{"id": f"q{i}", "ended": i < 50 * share, "tokens": 9, "text": ""} for i in range(50)]
        return {"items": items, "limit": 64}

    effect = named(
        compare(measured(endings=ends(0)), measured("chat", endings=ends(1))), "answers that end by themselves"
    )
    assert effect.value == pytest.approx(100) and effect.verdict == "clear" and "64 tokens" in effect.convention
    assert effect.here.low < 100  # Wilson: 50 of 50 does not make it certain
    copies = {"first": [11.0, 10.9, 11.1] * 9, "second": [11.2, 11.1, 11.3] * 9}
    second = named(alone(measured(repeat=copies)), "repeated random tokens")
    assert second.value == pytest.approx(0.2) and second.verdict == "worse"


def test_kl_is_a_size_and_only_from_the_parent() -> None:
    kl = {"docs": [{"id": f"d{i}", "nats": 0.1 if i % 2 else 0.4, "tokens": 10 if i % 2 else 20} for i in range(40)]}
    after = measured("coder", against_parent={"parent": "id-base", "weights": [], "kl": kl, "cka": []})
    effect = named(compare(measured(), after), "KL, docs")
    assert effect.value == pytest.approx(0.3) and effect.verdict == SIZE  # by tokens, not by documents
    assert not [e for e in compare(measured("other"), after) if e.name.startswith("KL")]


def test_effects_follow_the_lineage() -> None:
    base, coder, chat = measured(), measured("coder", bits=1.5), measured("chat", bits=1.6)
    lineages = {
        "id-base": {"parents": ["id-tok"]},
        "id-coder": {"parents": ["id-base"]},
        "id-chat": {"parents": ["id-coder"]},
    }
    found = effects([base, coder, chat], lineages)
    assert [e.stage for e in found if e.name == "bits per byte, docs"] == ["coder", "chat"]
    assert "in coder" in found[-1].compare
    assert effects([coder], lineages) == []


def test_line_and_metric() -> None:
    effect = named(compare(measured(bits=2.0), measured("coder", bits=1.5)), "bits per byte, docs")
    assert "-25.000 [-25.000, -25.000] %" in effect.line() and "clear" in effect.line()
    assert {"value", "low", "high", "n", "unit", "convention", "verdict", "compare"} == set(effect.metric())


def test_greedy_answers_by_words_and_length() -> None:
    def said(tokens: int, f1: float | None) -> dict[str, Any]:
        items = [{"id": f"q{i}", "ended": True, "tokens": tokens + i % 3, "text": ""} for i in range(30)]
        return {"items": [i if f1 is None else i | {"f1": f1} for i in items], "limit": 64}

    found = compare(measured(endings=said(10, 0.25)), measured("chat", endings=said(14, 0.5)))
    assert named(found, "answer F1").value == pytest.approx(25) and named(found, "answer F1").verdict == "clear"
    longer = named(found, "answer length")
    assert longer.value == pytest.approx(4) and longer.verdict == SIZE and longer.signed and longer.unit == "tokens"
    old = compare(measured(endings=said(10, None)), measured("chat", endings=said(14, 0.5)))
    assert not [e for e in old if e.name == "answer F1"] and named(old, "answer length")


def margins(*values: float) -> list[dict[str, Any]]:
    return [{"id": f"p{i}", "margin": m, "chosen_tokens": 5, "rejected_tokens": 5} for i, m in enumerate(values)]


def test_preferences_are_judged_against_a_tie() -> None:
    assert preference_accuracy(margins(1, -1, 0, 2)).value == pytest.approx(62.5)
    kl = [{"id": "a", "nats": 6.0, "tokens": 2}, {"id": "b", "nats": 1.0, "tokens": 5}]
    assert policy_kl(kl).value == pytest.approx(1.0)  # by tokens, not by answers: that would be 1.6
    untrained = alone(measured(preferences={"items": margins(*[0.0] * 50), "kl": []}))
    told = named(untrained, "preferences, against chance")
    assert told.value == 0 and told.verdict == "not distinguishable from zero"
    assert not [e for e in untrained if e.name.startswith("KL")]
    trained = named(alone(measured(preferences={"items": margins(*[0.1] * 50), "kl": kl})), told.name)
    assert trained.value == pytest.approx(50) and trained.low < 50 and trained.verdict == "clear"
    wrong = named(alone(measured(preferences={"items": margins(*[-0.1] * 50), "kl": kl})), told.name)
    assert wrong.verdict == "worse"


def test_pairs_are_counted_by_score_and_words() -> None:
    def pair(chosen: str, rejected: str, gap: float) -> dict[str, Any]:
        said = {
            key: [{"role": "assistant", "content": text}] for key, text in (("chosen", chosen), ("rejected", rejected))
        }
        return said | {"chosen_score": 0.2 + gap, "rejected_score": 0.2}

    pairs = [pair("a b c", "a", 0.4), pair("a", "a b c d", 0.2)]
    assert score_gap(pairs).value == pytest.approx(0.3) and length_bias(pairs).value == pytest.approx(-0.5)


def made_smaller(factor: float, ids: str = "d") -> dict[str, Any]:
    items = scored([2.0 + 0.01 * i for i in range(30)])
    worse = [i | {"id": i["id"].replace("d", ids), "nats": i["nats"] * factor} for i in reversed(items)]
    types = {"q8_0": {"bytes": 300, "items": worse}}
    return {
        "name": "gguf",
        "node": "id-gguf",
        "quantized": {"reference": {"items": items, "bytes": 1000}, "types": types},
    }


def test_a_quantized_file_costs_what_the_same_documents_say() -> None:
    cost = named(alone(made_smaller(1.01)), "bits per byte, q8_0")
    assert (cost.value, cost.low, cost.high) == pytest.approx((1, 1, 1)) and cost.verdict == "worse"
    assert "30 % of the bytes" in cost.compare and cost.stage == "gguf"
    with pytest.raises(JourneyError, match="q8_0 share no item"):
        alone(made_smaller(1.01, ids="e"))


def searched(ranks: list[int | None], named_: bool = True, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{i}{named_}",
            "named": named_,
            "rank": {"bm25": None, "vectors": 1, "hybrid": rank},
            "tokens": 5 + i % 9,
        }
        | {"retrieved": 2.0 * (5 + i % 9), "right": 1.5 * (5 + i % 9), "shuffled": 3.0, "none": 4.0 * (5 + i % 9)}
        | more
        for i, rank in enumerate(ranks)
    ]


def test_recall_and_mrr_count_what_stands_near_the_top() -> None:
    items = searched([1, 5, 6, None]) + searched([None, None], named_=False)
    assert recall(items, "hybrid").value == pytest.approx(100 / 3)
    assert recall(items, "hybrid", named=True).value == pytest.approx(50)
    assert recall(items, "hybrid", named=True, k=6).value == pytest.approx(75)
    assert mrr(items, "hybrid", named=True).value == pytest.approx((1 + 1 / 5 + 1 / 6) / 4)
    assert mrr(items, "hybrid", named=True, k=5).value == pytest.approx((1 + 1 / 5) / 4)
    assert mrr(items, "vectors").value == 1 and recall(items, "bm25", named=False).value == 0


def indexed(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "index",
        "node": "id-index",
        "retrieval": {"items": items, "passages": 900, "fusion": "weights 1, 1"},
    }


def test_a_found_passage_is_judged_by_the_answer() -> None:
    f1 = {"retrieved": 0.4, "right": 0.5, "shuffled": 0.1, "none": 0.1}
    found = alone(indexed(searched([1, 2, None, 1] * 10, f1=f1) + searched([7, None] * 10, named_=False, f1=f1)))
    assert named(found, "recall@5, named").value == pytest.approx(75)
    assert named(found, "recall@5, not named").value == 0
    assert named(found, "answer loss, retrieved passage against none").value == pytest.approx(-2)
    assert named(found, "answer loss, retrieved passage against right").verdict == "worse"
    assert named(found, "answer F1, retrieved passage against none").value == pytest.approx(30)
    assert named(found, "recall@5, hybrid against bm25").value == pytest.approx(50)
    assert named(found, "recall@5, hybrid against vectors").verdict == "worse"


def test_too_few_items_are_no_effect_and_no_crash() -> None:
    one = alone(indexed(searched([1] * 9) + searched([2], named_=False)))
    assert not [e for e in one if "not named" in e.name] and named(one, "recall@5, named").n == 9
    assert alone(indexed([])) == [] and alone(indexed(searched([1]))) == []
    assert alone(measured(preferences={"items": margins(1.0), "kl": []})) == []
    assert compare(measured(), indexed([])) == [] and compare(indexed([]), measured()) == []


def test_the_summary_says_the_same_numbers() -> None:
    quantized, index = made_smaller(1.01), indexed(searched([1, None] * 5) + searched([7, 1] * 5, named_=False))
    bits = summary(quantized)
    assert bits["bits_per_byte.q8_0"]["value"] == pytest.approx(1.01 * bits["bits_per_byte.fp32"]["value"])
    numbers = summary(index)
    assert numbers["recall_at_5.named"]["value"] == 50 and numbers["recall_at_5.not_named"]["n"] == 10
    assert numbers["answer_loss.retrieved"]["value"] == pytest.approx(2)
    assert "fp32" in line(quantized) and "recall@5 50 % (named)" in line(index)
    preferred = measured(preferences={"items": margins(1, 1, 1, -1), "kl": [{"id": "a", "nats": 1.0, "tokens": 2}] * 2})
    assert summary(preferred)["preference_accuracy"]["value"] == 75 and summary(preferred)["policy_kl"]["value"] == 0.5
