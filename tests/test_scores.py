"""Scores: what is counted, what follows from it, and that it is `evaluate.statistics` that counts."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.evaluate import statistics
from journey.evaluate.statistics import Estimate
from journey.scores import SIZE, Against, Items, Score, Taken, changes, comparisons, estimate, estimates

BITS = Score("bits", "bits per byte", "bits", den="bytes", unit="bits/byte", better="lower", parent=True)
RIGHT = Score("right", "answered right", "right", share=True, unit="%", better="higher", parent=True)
LENGTH = Score("length", "answer length", "tokens", unit="tokens", parent=True)
SCORES = (BITS, RIGHT, LENGTH)

rows = st.lists(
    st.fixed_dictionaries(
        {
            "bits": st.floats(0.1, 1e3),
            "bytes": st.integers(1, 2048),
            "right": st.booleans(),
            "tokens": st.integers(1, 64),
        }
    ),
    min_size=2,
    max_size=12,
)


def items(*found, ids=None):
    return Items.of({"id": id} | row for id, row in zip(ids or map(str, range(len(found))), found, strict=False))


def taken(*found, scores=SCORES, ids=None):
    return Taken({"items": items(*found, ids=ids)}, scores)


def documents(bits, n=60):
    """Documents of unlike length and difficulty, `bits` a byte on the whole."""
    rng = np.random.default_rng(0)
    size = rng.integers(50, 2000, n)
    return [{"bits": float(bits * b * h), "bytes": int(b)} for b, h in zip(size, rng.normal(1, 0.1, n), strict=True)]


def same(ours: Estimate, theirs: Estimate, times=1.0):
    assert [ours.value, ours.low, ours.high] == [times * theirs.value, times * theirs.low, times * theirs.high]
    assert ours.n == theirs.n


@given(rows)
def test_an_estimate_is_what_statistics_says_of_the_columns(found):
    by_key = estimates(taken(*found))
    columns = {name: [row[name] for row in found] for name in found[0]}
    same(by_key["bits"], statistics.ratio(columns["bits"], columns["bytes"]))
    same(by_key["right"], statistics.proportion(columns["right"]), 100)
    same(by_key["length"], statistics.mean(columns["tokens"]))
    assert [e.unit for e in by_key.values()] == ["bits/byte", "%", "tokens"]


@given(rows, st.randoms(), st.integers(0, 3))
def test_a_change_is_drawn_over_the_items_that_both_have_whatever_their_order(found, random, extra):
    """`extra` items of each side are unknown to the other."""
    before = [row | {"bits": 1.5 * row["bits"], "right": True, "tokens": 9} for row in found]
    ids = [str(i) for i in range(len(found))]
    more = [found[0]] * extra
    order = random.sample(range(len(found)), len(found))
    old = taken(*[before[i] for i in order], *more, ids=[*(ids[i] for i in order), *(f"a{i}" for i in range(extra))])
    new = taken(*more, *found, ids=[*(f"b{i}" for i in range(extra)), *ids])
    bits, right, length = changes(old, new, "base", "chat")
    columns = {name: [row[name] for row in found] for name in found[0]}
    per = columns["bytes"]
    same(bits.size, statistics.difference(columns["bits"], [1.5 * b for b in columns["bits"]], per))
    same(right.size, statistics.difference(np.array(columns["right"], float), [1.0] * len(found)), 100)
    same(length.size, statistics.difference(columns["tokens"], [9] * len(found)))
    same(bits.there, statistics.ratio([1.5 * b for b in columns["bits"]], per))
    assert (right.size.unit, right.here.unit, length.verdict) == ("points", "%", SIZE)


@given(rows, st.sampled_from(["difference", "percent"]), st.sampled_from([None, "lower", "higher"]))
def test_what_was_taken_is_the_same_after_the_disk(found, change, better):
    mark = Against("mark", "for the mark", "Is it above?", value=2.0)
    column = Against("tokens", "by tokens", "Is it?", num="tokens")
    score = Score("k", "l", "bits", den="bytes", change=change, better=better, against=(mark, column), where="right")
    whole = Taken({"items": items(*found)}, (score, *SCORES), {"limit": 64, "said": ["a", None]}, 1.5)
    assert Taken.read(json.loads(json.dumps(whole.json() | {"seconds": 1.5}))) == replace(whole, scores=[*whole.scores])


def test_percent_and_points():
    """A score says how its change is told: in percent of the other, or in its own unit."""
    before, after = documents(2.0), documents(1.5)
    percent = replace(BITS, change="percent", compared="by documents")
    (effect,) = changes(taken(*before, scores=[BITS]), taken(*after, scores=[percent]), "base", "coder")
    assert effect.size.value == pytest.approx(-25) and effect.size.unit == "%"
    assert effect.size.low == pytest.approx(-25) == effect.size.high  # every document fell by a quarter
    assert (effect.key, effect.node, effect.verdict) == ("bits", "coder", "clear")
    assert "in base" in effect.compare and effect.size.convention.startswith(
        "by documents; paired bootstrap over items"
    )
    (plain,) = changes(taken(*before, scores=[BITS]), taken(*after, scores=[BITS]), "base", "coder")
    assert plain.size.unit == "bits/byte" and plain.size.value == pytest.approx(plain.here.value - plain.there.value)


def test_a_rise_is_worse_and_noise_is_not_distinguishable():
    (up,) = changes(taken(*documents(2.0), scores=[BITS]), taken(*documents(2.2), scores=[BITS]), "a", "b")
    assert up.verdict == "worse"
    noise = [row | {"bits": row["bits"] * (1 + 0.1 * (-1) ** i)} for i, row in enumerate(documents(2.0))]
    (same,) = changes(taken(*documents(2.0), scores=[BITS]), taken(*noise, scores=[BITS]), "a", "b")
    assert same.verdict == "not distinguishable from zero" and same.size.low < 0 < same.size.high


def test_only_items_that_both_were_measured_on_are_compared():
    before = taken(*documents(2.0), scores=[BITS])
    found = documents(1.5)
    found[1]["bytes"] = 49  # cut at another length: another text
    ids = ["elsewhere", *map(str, range(1, 60))]
    (effect,) = changes(before, taken(*found, scores=[BITS], ids=ids), "base", "coder")
    assert effect.size.n == 58
    with pytest.raises(JourneyError, match="two measurements of bits share no item"):
        changes(before, taken(*found, scores=[BITS], ids=[f"x{i}" for i in range(60)]), "base", "coder")


def test_a_score_that_only_one_node_has_or_that_is_not_for_the_parent_does_not_change():
    alone = replace(BITS, parent=False)
    assert changes(taken(*documents(2), scores=[BITS]), taken(*documents(1), scores=[alone]), "a", "b") == []
    assert changes(taken(*documents(2), scores=[]), taken(*documents(1), scores=[BITS]), "a", "b") == []


def test_a_constant_is_taken_from_the_number_and_a_column_is_drawn_with_it():
    chance = Against("chance", "by guessing", "More often than by guessing?", value=25.0)
    found = [{"right": i < 60, "other": i < 50} for i in range(100)]
    beside = Against("other", "by the other", "More than the other?", num="other")
    score = replace(RIGHT, against=(chance, beside))
    guess, other = comparisons(taken(*found, scores=[score]), "chat")
    here = statistics.proportion([row["right"] for row in found])
    assert (guess.key, other.key) == ("right vs chance", "right vs other")
    assert guess.size.value == pytest.approx(35) and guess.size.low == 100 * here.low - 25 and guess.verdict == "clear"
    assert guess.compare == "60.0\u00a0% here, 25.0\u00a0% by guessing" and guess.size.unit == "points"
    columns = ([float(row[name]) for row in found] for name in ("right", "other"))
    same(other.size, statistics.difference(*columns), 100)
    assert other.question == "More than the other?" and other.there.value == 50
    (worse, _) = comparisons(taken(*[row | {"right": False} for row in found], scores=[score]), "chat")
    assert worse.verdict == "worse"


def test_a_stated_size_stands_by_itself():
    kl = Score("kl", "KL", "nats", den="tokens", unit="nats/token", stated="0: the same", question="How far?")
    found = [{"nats": 1.0 if i % 2 else 8.0, "tokens": 10 if i % 2 else 20} for i in range(40)]
    (effect,) = comparisons(taken(*found, scores=[kl]), "coder")
    assert effect.size.value == pytest.approx(0.3) and effect.verdict == SIZE  # by tokens, not by documents
    assert not effect.signed and effect.compare == "0: the same" and effect.key == "kl"
    assert effect.metric() == effect.size.metric() | {"verdict": SIZE, "compare": "0: the same"}
    assert not effect.shown().sign


def test_only_the_items_of_which_a_column_holds():
    found = [{"right": i % 3 == 0, "named": i < 30} for i in range(60)]
    named = replace(RIGHT, where="named")
    both = taken(*found, scores=[RIGHT, named, replace(named, key="none", where="never")])
    for column in both.items["items"].columns, both.items["items"].rows()[0]:
        assert "right" in column
    both = replace(both, items={"items": items(*[row | {"never": False} for row in found])})
    by_key = {score.key: estimate(both, score) for score in (RIGHT, replace(named, key="named"))}
    assert (by_key["right"].n, by_key["named"].n) == (60, 30)
    assert estimate(both, both.scores[-1]) is None


@pytest.mark.parametrize("n", [0, 1])
def test_of_fewer_than_two_items_nothing_is_said(n):
    few = taken(*documents(2.0)[:n], scores=[replace(BITS, stated="a size", against=(Against("m", "", "", value=1),))])
    many = taken(*documents(2.0), scores=[BITS])
    assert estimates(few) == {} and comparisons(few, "base") == [] and estimate(few, BITS) is None
    assert changes(few, many, "a", "b") == changes(many, few, "a", "b") == changes(few, few, "a", "b") == []
    assert estimate(few, replace(BITS, where="named" if n == 0 else "bits")) is None
    assert Taken.read(json.loads(json.dumps(few.json()))).items["items"].ids == few.items["items"].ids


def test_one_item_of_another_text_is_still_another_text():
    few = taken(*documents(2.0)[:1], scores=[BITS], ids=["elsewhere"])
    with pytest.raises(JourneyError, match="share no item"):
        changes(taken(*documents(2.0), scores=[BITS]), few, "a", "b")


def test_nothing_was_taken_where_there_is_neither_score_nor_fact():
    assert not Taken() and not Taken({"items": items()}) and Taken(scores=[BITS]) and Taken(facts={"skipped": "why"})


def test_numbers_are_told_in_decimals_that_tell_them_apart():
    """In one decimal both would be 1.5."""
    near = Against("f", "in fp32", "Worse?", num="there")
    score = replace(BITS, change="percent", against=(near,))
    found = [row | {"there": row["bits"] * 1.0001} for row in documents(1.5)]
    (effect,) = comparisons(taken(*found, scores=[score]), "gguf")
    ours, theirs = effect.compare.split(" here, ")
    assert ours != theirs.removesuffix(" in fp32") and effect.than == theirs
    assert effect.shortly == theirs.replace("\u00a0bits/byte", "")


def test_columns_of_unlike_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        Items(["a", "b"], {"x": [1]}).rows()


def test_items_in_clusters_are_drawn_a_cluster_at_a_time():
    parts = [f"subject {i // 20}" for i in range(100)]
    score = Score("mmlu", "MMLU", "right", unit="%", better="higher", parent=True, cluster="part")
    before, after = ([{"right": float(i // 20 < n), "part": part} for i, part in enumerate(parts)] for n in (1, 3))
    found = taken(*after, scores=[score])
    e, plain = estimate(found, score), estimate(found, replace(score, cluster=""))
    exact = statistics.mean([row["right"] for row in after], clusters=parts)
    assert (e.low, e.high) == pytest.approx((100 * exact.low, 100 * exact.high))
    assert e.value == plain.value and e.high - e.low > 2 * (plain.high - plain.low)
    (effect,) = changes(taken(*before, scores=[score]), found, "base", "chat")
    (alone,) = changes(taken(*before, scores=[replace(score, cluster="")]), found, "base", "chat")
    assert effect.size.high - effect.size.low >= alone.size.high - alone.size.low
    one = replace(score, cluster="part")
    assert estimate(Taken({"items": items(*after[:20])}, [one]), one).n == 20  # one cluster alone: by items
