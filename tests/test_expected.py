"""Expectations: how one is written, and what becomes of it, judged by the whole interval."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.evaluate.statistics import Estimate
from journey.expected import CAME_OUT, COST, DID_NOT, PARTLY, Expected, judged, outcome, parse
from journey.scores import SIZE, Against, Items, Score, Taken, comparisons


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<= -10 %", Expected("k", sign="<=", bound=-10, unit="%")),
        ("<=-10%", Expected("k", sign="<=", bound=-10, unit="%")),
        ("< 0", Expected("k", sign="<")),
        (" > 1e-3 bits/byte ", Expected("k", sign=">", bound=1e-3, unit="bits/byte")),
        ("is >= 90 %", Expected("k", itself=True, sign=">=", bound=90, unit="%")),
        ("vs bigram < 0", Expected("k", against="bigram", sign="<")),
        ("vs fp32 within 0.5 %", Expected("k", against="fp32", sign="within", bound=0.5, unit="%")),
        ("within 0.5", Expected("k", sign="within", bound=0.5)),
        ("cost", Expected("k", word="cost")),
        ("size", Expected("k", word="size")),
        ("vs fp32 cost", Expected("k", against="fp32", word="cost")),
    ],
)
def test_an_expectation_is_a_few_words(text, found):
    assert parse("k", text) == found


@pytest.mark.parametrize(
    "text", ["", "10", "less", "<=", "<= many", "< 1.2.3", "< .", "== 3", "vs < 0", "costs", "< 0 < 1", 5, None, True]
)
def test_what_is_no_expectation_is_told_with_how_one_is_written(text):
    with pytest.raises(JourneyError, match=r"^k: .* is no expectation: write a change as .*<= -10 %") as error:
        parse("k", text)
    assert "\n" not in str(error.value)


@given(st.text(alphabet="<>=is vs within cost size 0123456789.e-+%\n", max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        parse("k", text)
    except JourneyError:
        pass


def within(low, value, high):
    return Estimate(value, low, high, 9)


@pytest.mark.parametrize(
    ("text", "interval", "became"),
    [
        ("< 0", (-3, -2, -1), CAME_OUT),
        ("< 0", (-3, -2, 0), PARTLY),  # zero itself is not below zero
        ("< 0", (-3, -2, 1), PARTLY),
        ("< 0", (-1, 1, 3), DID_NOT),
        ("<= 0", (-3, -2, 0), CAME_OUT),
        ("<= -10 %", (-12, -11, -10), CAME_OUT),
        ("<= -10 %", (-12, -11, -9), PARTLY),
        ("<= -10 %", (-11, -9, -8), DID_NOT),
        ("> 0", (1, 2, 3), CAME_OUT),
        ("> 0", (-1, 2, 3), PARTLY),
        ("> 0", (-2, -1, 3), DID_NOT),
        ("is >= 90", (90, 95, 99), CAME_OUT),
        ("is >= 90", (89, 93, 97), PARTLY),
        ("is >= 90", (60, 67, 74), DID_NOT),
        ("within 0.5", (-0.5, 0.1, 0.5), CAME_OUT),
        ("within 0.5", (-0.6, 0.1, 0.5), PARTLY),
        ("within 0.5", (-1.2, -1.0, -0.9), DID_NOT),  # better is no faithful copy either
        ("cost", (-1, 0, 1), COST),
        ("size", (-1, 0, 1), SIZE),
    ],
)
def test_it_is_judged_by_the_whole_interval(text, interval, became):
    each = parse("k", text)
    assert outcome(each, replace(within(*interval), unit=each.unit)) == became


def test_per_cent_of_points_say_nothing_and_that_is_said():
    found = taken(3.0, ended=0.9, n=200)
    effects = comparisons(found["toy"], "base")
    (each,) = judged([parse("ended", "is >= 10 points")], "base", found, effects)
    assert each.verdict == PARTLY and each.compare == "expected in points, but counted in %"


NATS = Score(
    "nats", "nats", "nats", unit="nats", better="lower", against=(Against("mark", "for the mark", "?", value=2),)
)
ENDED = Score("ended", "answers that end", "ended", share=True, unit="%", convention="Wilson")


def taken(value, ended=1.0, n=20):
    """Every item has this value, and this share of them ended."""
    items = Items([str(i) for i in range(n)], {"nats": [value] * n, "ended": [i < ended * n for i in range(n)]})
    return {"toy": Taken({"items": items}, [NATS, ENDED])}


def verdicts(found, *expected):
    shown = judged([parse(*each) for each in expected], "base", found, comparisons(found["toy"], "base"))
    return [each.verdict for each in shown]


def test_a_change_the_number_itself_and_another_of_the_same_items():
    expected = ("nats", "vs mark < 0"), ("nats", "is <= 1"), ("ended", "is >= 80 %"), ("nats", "vs mark cost")
    assert verdicts(taken(1.0), *expected) == [CAME_OUT, CAME_OUT, CAME_OUT, COST]
    assert verdicts(taken(3.0, ended=0.2), *expected) == [DID_NOT, DID_NOT, DID_NOT, COST]
    assert verdicts(taken(3.0, ended=0.9), ("ended", "is >= 80 %")) == [PARTLY]  # 18 of 20: Wilson reaches below


def test_what_was_not_measured_is_not_judged():
    """No parent: nothing changed; no such comparison; too few items."""
    assert verdicts(taken(1.0), ("nats", "< 0"), ("nats", "vs other < 0"), ("other", "is < 0")) == []
    assert verdicts(taken(1.0, n=1), ("nats", "vs mark < 0"), ("nats", "is < 3")) == []


def test_what_is_shown_says_whose_and_what_was_expected():
    found = taken(1.0)
    effects = comparisons(found["toy"], "base")
    each, itself = judged([parse("nats", "vs mark <= -0.5 nats"), parse("ended", "is >= 80 %")], "b*se", found, effects)
    assert each.question.startswith(r"**b\*se:** nats") and "mark" in each.question and "0.5\u00a0nats" in each.question
    assert (
        each.estimate.value == -1 and each.sign and each.compare == "1.00\u00a0nats here, 2.00\u00a0nats for the mark"
    )
    assert each.tone == "clear"  # the verdict of the number beside that of the expectation
    assert "at least 80\u00a0%" in itself.question and not itself.sign and itself.estimate.value == 100
    assert itself.compare == "Wilson"


@pytest.mark.parametrize(
    ("text", "said", "mark"),
    [
        ("<= -10 %", "lower than before by at least 10\u00a0%", "the mark is \u221210\u00a0%"),
        (">= 10 %", "higher than before by at least 10\u00a0%", "the mark is +10\u00a0%"),
        ("<= 10 %", "higher than before by at most 10\u00a0%", "the mark is +10\u00a0%"),
        (">= -10 %", "lower than before by at most 10\u00a0%", "the mark is \u221210\u00a0%"),
        ("< 0", "lower than before", ""),
        ("vs bigram < 0", "lower than bigram", ""),
        ("vs fp32 within 0.5 %", "within ±\u00a00.5\u00a0% of fp32", "the mark is ±0.5\u00a0%"),
        ("is >= 90 %", "at least 90\u00a0%", "the mark is 90\u00a0%"),
        ("is < 0", "below 0", "the mark is 0"),
        ("cost", "the cost", ""),
        ("size", "", ""),
    ],
)
def test_an_expectation_in_words(text, said, mark):
    assert (parse("k", text).said(), parse("k", text).mark()) == (said, mark)
