"""An item that stands in training is found, whatever streams by in which portions, and one that does not is not."""

import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.data.split import Shingles
from journey.data.split import overlap as in_memory
from journey.evaluate import contamination
from journey.evaluate.contamination import columns, overlap

RNG = random.Random(3)
VOCABULARY = ["".join(RNG.choice("abcdefghijklmnop") for _ in range(6)) for _ in range(800)]


def words(n, seed=0):
    return random.Random(seed).choices(VOCABULARY, k=n)


def text(n, seed=0):
    return " ".join(words(n, seed))


TRAINING = [text(200, seed) for seed in range(100, 110)]


def inside(item, place=3):
    """Training texts, one of which holds the item."""
    return [*TRAINING[:place], f"{text(30, 7)} {item} {text(30, 8)}", *TRAINING[place:]]


def test_a_planted_item_is_found_and_another_is_not():
    planted, other = text(40, 1), text(40, 2)
    np.testing.assert_array_equal(overlap([planted, other], inside(planted)), [1, 0])


def test_the_share_is_that_of_the_13_grams_that_stand_there():
    item = words(40, 1)  # 28 13-grams, of which the first 20 words hold 8
    assert overlap([" ".join(item)], inside(" ".join(item[:20]))) == pytest.approx(8 / 28)


@pytest.mark.parametrize(("changed", "share"), [(12, 0), (13, 1 / 13), (11, 1 / 13)])
def test_twelve_words_in_a_row_are_no_13_gram_and_thirteen_are_one(changed, share):
    item = words(25, 1)
    near = [*item[:changed], "other", *item[changed + 1 :]]
    assert overlap([" ".join(item)], inside(" ".join(near))) == pytest.approx(share)


def test_capitals_and_punctuation_do_not_matter_and_a_missing_word_does():
    item = "The quick, brown fox — it jumps over the lazy dog; then it runs away!"
    assert overlap([item], inside(re.sub(r"\W+", " ", item).upper()))[0] == 1
    assert overlap([item], inside(item.replace("lazy ", "")))[0] == 0


@pytest.mark.parametrize(("n", "share"), [(7, np.nan), (8, 1), (12, 1), (13, 1), (1, np.nan), (0, np.nan)])
def test_a_short_item_is_looked_for_as_a_whole_and_one_too_short_is_not_judged(n, share):
    item = text(n, 1)
    np.testing.assert_array_equal(overlap([item], inside(item)), [share])
    np.testing.assert_array_equal(overlap([item], TRAINING), [0 if share == 1 else np.nan])
    np.testing.assert_array_equal(overlap([item], [*TRAINING, item]), [share])  # standing alone too


def test_short_items_of_every_length_are_looked_for_together():
    items = [text(n, 20 + n) for n in range(8, 13)]
    for planted in items:
        np.testing.assert_array_equal(overlap(items, inside(planted)), [item == planted for item in items])


def test_a_short_training_text_holds_a_short_item_and_no_part_of_a_long_one():
    short, long = text(9, 1), text(30, 1)
    assert long.startswith(short)
    np.testing.assert_array_equal(overlap([short, long], [short]), [1, 0])


def test_an_item_that_is_cut_over_two_documents_is_no_hit():
    for n in (10, 20):
        item = words(n, 1)
        halves = [" ".join(item[: n // 2]), " ".join(item[n // 2 :])]
        assert overlap([" ".join(item)], halves)[0] == 0
        assert overlap([" ".join(item)], [" ".join(halves)])[0] == 1


def test_an_item_of_another_length_does_not_end_where_it_ended():
    """Neighbours among the items have no 13-gram in common, an empty one takes none away."""
    items = ["", text(20, 1), "", text(9, 2), text(5, 3), text(30, 4), ""]
    found = overlap(items, [text(20, 1), text(30, 4)])
    np.testing.assert_array_equal(found, [np.nan, 1, np.nan, 0, np.nan, 1, np.nan])


CHINESE = "模型在训练时读过的文字里如果已经有了测试的题目那么它的分数就说明不了什么问题"


def test_chinese_is_counted_in_characters():
    assert overlap([CHINESE], [f"他们说{CHINESE}对吗"])[0] == 1
    assert overlap([CHINESE], [CHINESE[:20] + "另" + CHINESE[21:]])[0] == pytest.approx(
        np.mean([not i <= 20 < i + 16 for i in range(len(CHINESE) - 15)])
    )
    np.testing.assert_array_equal(overlap([CHINESE[:12], CHINESE[:9]], [f"他们说{CHINESE}"]), [1, np.nan])
    np.testing.assert_array_equal(overlap([CHINESE[:12]], [f"{CHINESE[:11]}另{CHINESE[12:]}"]), [0])


def test_what_is_mixed_with_another_script_is_still_found():
    item = text(30, 1)
    assert overlap([item, text(10, 2)], [f"{CHINESE} {item} {CHINESE} {text(10, 2)}"]) == pytest.approx([1, 1])


PARTS = st.lists(st.integers(0, 40).flatmap(lambda n: st.builds(text, st.just(n), st.integers(0, 3))), max_size=6)


@given(PARTS, PARTS, st.booleans(), st.integers(1, 400))
def test_the_portions_in_which_training_streams_by_change_nothing(items, training, mixed, at_once):
    training = [*training, CHINESE] if mixed else training
    whole = overlap(items, training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contamination, "_AT_ONCE", at_once)
        np.testing.assert_array_equal(overlap(items, iter(training)), whole)


def by_hand(item, training):
    """The same by Python's sets of words."""
    said = [document.split() for document in training]
    mine = item.split()
    if len(mine) < 8:
        return np.nan
    n = min(13, len(mine))
    there = {tuple(document[i : i + n]) for document in said for i in range(len(document) - n + 1)}
    asked = {tuple(mine[i : i + n]) for i in range(len(mine) - n + 1)}
    return np.mean([gram in there for gram in asked])


@given(PARTS, PARTS)
def test_it_is_what_sets_of_words_say(items, training):
    np.testing.assert_allclose(overlap(items, training), [by_hand(item, training) for item in items])


def test_of_long_items_it_is_the_overlap_by_which_texts_are_split():
    items = [text(60, seed) + " " + TRAINING[seed][:200] for seed in range(5)] + [TRAINING[6]]
    train = np.array([False] * len(items) + [True] * len(TRAINING))
    expected = in_memory(Shingles([*items, *TRAINING]), train)[: len(items)]
    assert 0 < expected[0] < 1
    np.testing.assert_allclose(overlap(items, TRAINING), expected)


def test_columns_say_which_items_are_clean_and_which_cannot_be_told():
    assert columns(np.array([0.0, 0.25, np.nan])) == {
        "overlap": [0.0, 0.25, None],
        "overlapping": [False, True, False],
        "clean": [True, False, False],
    }


def test_nothing_is_found_in_nothing():
    assert overlap([], TRAINING).shape == (0,)
    np.testing.assert_array_equal(overlap([text(20)], []), [0])
