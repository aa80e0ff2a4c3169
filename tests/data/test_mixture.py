"""How a mixture is written, and the order of its rows: every share to within one row, at every length."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.data.mixture import Turns, Weighted, is_mixture, parse, spelled
from journey.data.stream import Mixture, TokenStream
from journey.errors import JourneyError

WEIGHTS = st.lists(st.integers(1, 60), min_size=2, max_size=7)


def shares_of(weights):
    return [Fraction(weight, sum(weights)) for weight in weights]


@given(WEIGHTS)
def test_every_text_has_its_share_of_any_first_rows_to_within_one_and_skips_none(weights):
    shares = shares_of(weights)
    turns, counts = Turns(shares), [0] * len(shares)
    for i in range(min(3 * turns.period, 500)):
        part, rank = turns.at(i)
        assert rank == counts[part]
        counts[part] += 1
        assert all(abs(count - share * (i + 1)) < 1 for count, share in zip(counts, shares, strict=True))
        assert turns.counts(i + 1) == counts


@given(WEIGHTS, st.lists(st.integers(0, 2000), min_size=1, max_size=8))
def test_a_turn_depends_on_shares_and_number_alone(weights, asked):
    """A resumed run asks for row i first, the killed one came to it: it must be the same row."""
    shares = shares_of(weights)
    walked = Turns(shares)
    order = [walked.at(i) for i in range(2001)]
    fresh = Turns(shares)
    assert [fresh.at(i) for i in asked] == [order[i] for i in asked]
    assert fresh.at(10**12 * fresh.period + asked[0])[0] == order[asked[0] % fresh.period][0]


def test_weights_of_many_digits_need_no_period():
    """Of 0.123456789 and the rest the period is a billion rows; only those that are asked for are worked out."""
    turns = Turns(list(parse("a=0.123456789,b=0.876543211").values()))
    assert turns.period == 10**9 and turns.counts(1000) == [123, 877]


def test_the_order_is_the_one_that_models_were_trained_in():
    """Written down: another order under the same version would make every node's id a lie."""
    turns = Turns([Fraction(1, 2), Fraction(3, 10), Fraction(1, 5)])
    assert [turns.at(i)[0] for i in range(10)] == [0, 1, 0, 2, 0, 1, 0, 1, 0, 2]


def stream(first, T=4, documents=5):
    ids = [np.arange(first + 10 * d, first + 10 * d + 8) for d in range(documents)]
    shard = np.concatenate(ids).astype(np.uint16), np.cumsum([len(i) for i in ids])
    return TokenStream([shard], T, 0)


def test_each_stream_goes_its_own_way_and_repeats_by_its_own_epochs():
    """Row for row what the streams alone would give, in turn; the smaller one is read more often."""
    streams = {"_a": stream(0), "_b": stream(1000, documents=2)}
    mixed = Weighted(streams, [Fraction(3, 5), Fraction(2, 5)])
    rows = [mixed.row(i).tolist() for i in range(50)]
    assert [row for row in rows if row[0] < 1000] == [streams["_a"].row(i).tolist() for i in range(30)]
    assert [row for row in rows if row[0] >= 1000] == [streams["_b"].row(i).tolist() for i in range(20)]
    assert mixed.epochs(50) == {"_a": 30 / 9, "_b": 20 / 3} and mixed.shares == {"_a": 0.6, "_b": 0.4}
    assert len(mixed) == 40 + 16


def test_a_text_of_less_than_a_batch_repeats_within_it():
    one = stream(0, documents=1)
    assert one.rows_per_epoch == 1 and one.epochs(8) == {"": 8}
    assert [one.row(i).tolist() for i in range(8)] == [[0, 1, 2, 3, 4]] * 8


def test_replay_beside_a_mixture_takes_its_share_and_leaves_the_mixture_as_it_is():
    parts = {"_a": stream(0), "_b": stream(1000)}
    mixed = Weighted(parts, [Fraction(1, 2)] * 2)
    both = Mixture(mixed, stream(5000), 0.25)
    rows = [both.row(i).tolist() for i in range(40)]
    assert [row for row in rows if row[0] < 5000] == [mixed.row(i).tolist() for i in range(30)]
    assert both.epochs(40) == {"_a": 15 / 9, "_b": 15 / 9, "_replay": 10 / 9}
    assert both.shares == mixed.shares


@given(st.dictionaries(st.text("abc/.-", min_size=1), st.floats(1e-6, 1e6), min_size=2, max_size=5))
def test_a_mapping_is_the_text_of_the_command_line(weights):
    shares = parse(spelled(weights))
    assert list(shares) == list(weights) and sum(shares.values()) == 1
    total = sum(map(Fraction, map(repr, weights.values())))
    assert all(shares[text] == Fraction(repr(weight)) / total for text, weight in weights.items())


def test_weights_need_not_sum_to_one():
    assert parse("docs=7, code=3") == parse("docs=0.70,code=3e-1") == {"docs": Fraction(7, 10), "code": Fraction(3, 10)}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("docs=0,code=1", 'the weight of docs must be a number above 0, not "0"'),
        ("docs=1,code=-1", 'the weight of code must be a number above 0, not "-1"'),
        ("docs=1,code=nan", "the weight of code must be a number above 0"),
        ("docs=1,code=inf", "the weight of code must be a number above 0"),
        ("docs=1,code=1e-999999999", "the weight of code must be a number above 0"),
        ("docs=1,code=", 'the weight of code must be a number above 0, not ""'),
        ("docs=1,code=much", 'the weight of code must be a number above 0, not "much"'),
        ("docs=1,code=True", "the weight of code must be a number above 0"),
        ("docs,code", '"docs" is no text with a weight: write TEXT=WEIGHT'),
        ("docs=1,code", '"code" is no text with a weight'),
        ("docs=1,,code=1", '"" is no text with a weight'),
        ("=1,code=1", '"=1" is no text with a weight'),
        (",", '"" is no text with a weight'),
        ("docs=1,docs=2", "docs stands there twice"),
        ("docs=1", "is a mixture of one text: name the text alone"),
    ],
)
def test_what_is_no_mixture_is_a_line(value, said):
    assert is_mixture(value)
    with pytest.raises(JourneyError) as error:
        parse(value)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("mapping", "said"), [({}, "a mixture of no texts"), ({"a,b": 1, "c": 1}, '"a,b" cannot stand in a mixture')]
)
def test_a_mapping_that_cannot_be_spelled_is_told(mapping, said):
    with pytest.raises(ValueError, match=said):
        spelled(mapping)


def test_a_file_is_a_file_whatever_its_name(tmp_path):
    path = tmp_path / "a=1,b=2.txt"
    assert is_mixture(str(path))
    path.write_text("x")
    assert not is_mixture(str(path)) and not is_mixture("docs")
