"""What a sweep keeps of its trainings' histories, and whose bests it compares."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.sweep import between
from journey.sweep.trails import LEAST, MOST, NOISY, _trail, trails


@pytest.fixture
def node(tmp_path):
    """Nodes of histories, each with the lines of one list of dev numbers, at the same tokens."""
    made = []

    def make(dev, *, loss=None, lr=0.1, tokenizer="t", key="dev_bits_per_byte"):
        folder = tmp_path / f"n{len(made)}"
        folder.mkdir()
        lines = [
            {
                "step": i + 1,
                "tokens": 10 * (i + 1),
                "loss": 5.0 if loss is None else loss[i],
                "lr": lr,
                "dev_nothing": 1.0,
            }
            for i in range(len(dev))
        ]
        for line, value in zip(lines, dev, strict=True):
            line |= {} if value is None else {key: value}
        (folder / "history.json").write_text(json.dumps(lines))
        lineage = {"tokenizer_hash": tokenizer, "data": {"data": {"name": "docs"}, "replay_data": {"name": "old"}}}
        made.append(SimpleNamespace(path=folder, lineage=lineage))
        return made[-1]

    return make


def test_of_the_seeds_mean_least_and_most(node):
    """Where all seeds have a number, and nowhere else."""
    seeds = [node([4.0, None, 3.0, 2.0, 1.0, 9.0]), node([5.0, 7.0, 3.0, 3.0, 2.0, None])]
    said, (found,) = trails([seeds])
    assert said == [
        {"name": "dev_bits_per_byte", "label": "bits per byte, docs", "unit": "bits/byte", "better": "lower"}
    ]
    assert found == {
        "dev_bits_per_byte": {
            "tokens": [10, 30, 40, 50],
            "mean": [4.5, 3.0, 2.5, 1.5],
            "low": [4.0, 3.0, 2.0, 1.0],
            "high": [5.0, 3.0, 3.0, 2.0],
        }
    }


def test_too_few_numbers_are_no_curve(node):
    short = [3.0] * (LEAST - 1) + [None] * 9
    said, found = trails([[node(short, loss=range(len(short)))]])
    assert [each["name"] for each in said] == ["loss"] and found[0]["loss"]["mean"] == [*range(len(short))]


def test_a_loss_a_token_is_not_compared_between_vocabularies(node):
    assert trails([[node([None] * 9, tokenizer="a")], [node([None] * 9, tokenizer="b")]]) == ([], [{}, {}])
    said, _ = trails([[node([None] * 9, tokenizer="a")], [node([None] * 9, tokenizer="a")]])
    assert [each["name"] for each in said] == ["loss"]


def test_the_learning_rate_is_shown_where_it_differs(node):
    same, (_, b) = trails([[node([1.0] * 9)], [node([2.0] * 9)]])
    assert [each["name"] for each in same] == ["dev_bits_per_byte"] and "lr" not in b
    other, (a, b) = trails([[node([1.0] * 9)], [node([2.0] * 9, lr=0.2)]])
    assert [each["name"] for each in other] == ["dev_bits_per_byte", "lr"]
    assert a["lr"] == {"tokens": [*range(10, 91, 10)], "mean": [0.1] * 9} and b["lr"]["mean"] == [0.2] * 9


def test_failed_points_and_stages_without_a_history_have_no_trail(node, tmp_path):
    assert trails([[], []]) == ([], [{}, {}])
    said, found = trails([[], [node([1.0] * 9)], []])
    assert len(said) == 1 and [len(each) for each in found] == [0, 1, 0]
    assert trails([[SimpleNamespace(path=tmp_path / "merged", lineage={})]]) == ([], [{}])


def test_what_was_replayed_has_the_name_of_its_text(node):
    (said,), _ = trails([[node([1.0] * 9, key="dev_bits_per_byte_replay")]])
    assert said["label"] == "bits per byte, old"


@given(st.lists(st.floats(-1e3, 1e3), min_size=LEAST, max_size=700))
def test_a_long_history_is_thinned(values):
    """Dev numbers and rates are picked, the first and the last among them; of a noisy loss neighbours are averaged."""
    history = [{"tokens": i, "dev": v, "loss": v} for i, v in enumerate(values)]
    picked, averaged = (_trail([history], key) for key in ("dev", "loss"))
    assert len(picked["mean"]) == min(MOST, len(values)) and len(averaged["mean"]) == min(NOISY, len(values))
    assert [picked["tokens"][0], picked["tokens"][-1]] == [0, len(values) - 1]
    assert picked["mean"] == [float(f"{values[t]:.6g}") for t in map(int, picked["tokens"])]
    assert sorted(set(picked["tokens"])) == picked["tokens"] and sorted(set(averaged["tokens"])) == averaged["tokens"]
    assert min(values) - 0.1 <= min(averaged["mean"]) and max(averaged["mean"]) <= max(values) + 0.1


def point(dev, test):
    items = {"bits": {"test": ([test] * 4, [1.0] * 4)}}
    return {"runs": [{"items": items}], "metrics": {"bits": {"dev": {"value": dev}}}}


@pytest.mark.parametrize(("better", "best", "away"), [("lower", 0, [None, 40.0]), ("higher", 1, [-40.0, None])])
def test_the_bests_of_groups_are_compared_on_test(better, best, away):
    points = [point(1.0, 10.0), point(2.0, 50.0)]
    groups = [{"values": {"schedule": name}, "best": i} for i, name in enumerate("ab")]
    axes = [SimpleNamespace(name="schedule", key="stages.base.schedule"), SimpleNamespace(name="peak", key="peak")]
    found = between.compare_groups(SimpleNamespace(axes=axes), points, groups, "bits", better)
    assert found["best"] == best
    assert [each and each["value"] for each in found["against_best"]] == away


def test_named_choices_are_conditions_that_are_not_compared():
    points = [point(1.0, 10.0), point(2.0, 50.0)]
    groups = [{"values": {"budget": name, "n_layer": 1}, "best": i} for i, name in enumerate("ab")]
    keys = {"budget": "budget", "n_layer": "stages.base.n_layer", "lr": "stages.base.lr"}
    axes = [SimpleNamespace(name=name, key=key) for name, key in keys.items()]
    assert between.compare_groups(SimpleNamespace(axes=axes), points, groups, "bits", "lower") is None


def test_a_group_that_failed_is_compared_with_nothing():
    points = [point(1.0, 10.0), {"runs": [], "error": "lost"}]
    groups = [{"values": {"a": 1}, "best": 0}, {"values": {"a": 2}, "best": None}]
    axes = [SimpleNamespace(name="a", key="stages.base.a")]
    assert between.compare_groups(SimpleNamespace(axes=axes), points, groups, "bits", "lower") is None
