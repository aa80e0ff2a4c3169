"""Nodes side by side: marks follow Holm's rule over all comparisons, and a page shows what numbers are made of."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from journey.evaluate.significance import detectable
from journey.evaluating.benchmarks import needed, promise
from journey.evaluating.board import board
from journey.evaluating.lines import contaminated, every_item, lines, metrics
from journey.evaluating.options import Options
from journey.evaluating.page import page
from journey.scores import Against, Items, Score, Taken

TASKS = ("hellaswag", "arc_easy")
CHANCE = Against("chance", "by guessing", "?", num="chance")


def taken(task, right, read=None, parts=None):
    """What a benchmark finds of 0 and 1 for each item."""
    rows = [
        {"id": f"{task}/{i}", "part": parts[i] if parts else task, "acc": float(hit), "chance": 0.25}
        for i, hit in enumerate(right)
    ]
    apart = [
        Score(f"{task}.acc.{part}", "", "acc", where=part, share=True, unit="%")
        for part in ("clean", "overlapping")
        if read
    ]
    if read:
        rows = [row | {"overlapping": i in read, "clean": i not in read} for i, row in enumerate(rows)]
    score = Score(
        f"{task}.acc",
        task,
        "acc",
        share=True,
        unit="%",
        against=(CHANCE,),
        convention=f"how {task} was asked",
        full=10.0,
        cluster="part" if parts else "",
    )
    items = [
        {"id": row["id"], "prompt": f"<b>{task} {i}", "options": [" yes", " no"], "logprobs": [0.0, -1.0], "gold": 0}
        for i, row in enumerate(rows)
    ]
    facts = {"shots": 0, "items": items, "convention": "so"}
    if read is not None:
        facts["read"] = {
            "texts": ["docs"],
            "unknown": ["what gpt2 was trained on"],
            "overlapping": len(read),
            "clean": 9,
        }
    return Taken({"items": Items.of(rows)}, [score, *apart], facts)


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    base = {task: (rng.random(200) < 0.3).astype(float) for task in TASKS}
    better = {"hellaswag": base["hellaswag"].copy(), "arc_easy": base["arc_easy"].copy()}
    better["hellaswag"][np.flatnonzero(base["hellaswag"] == 0)[:30]] = 1.0
    better["arc_easy"][np.flatnonzero(base["arc_easy"] == 0)[:6]] = 1.0
    return {
        "base": {task: taken(task, base[task]) for task in TASKS},
        "chat": {task: taken(task, better[task], read={1, 2}) for task in TASKS},
    }


def test_a_mark_stands_where_holm_s_rule_over_all_comparisons_lets_it(found):
    made = board(found, TASKS, "base")
    hella, arc = made.differences["chat", "hellaswag"], made.differences["chat", "arc_easy"]
    assert (hella.comparison.gained, hella.comparison.lost, hella.mark) == (30, 0, "▲")
    assert arc.comparison.p == pytest.approx(binomtest(6, 6).pvalue) == pytest.approx(0.03125)
    assert hella.holm == pytest.approx(2 * hella.comparison.p) and arc.holm == pytest.approx(0.03125)
    assert arc.mark == "▲" and hella.comparison.difference.value == pytest.approx(15.0)
    back = board(found, TASKS, "chat")
    assert back.differences["base", "hellaswag"].mark == "▼"
    worse = {**found, "third": {"hellaswag": found["base"]["hellaswag"], "arc_easy": found["chat"]["arc_easy"]}}
    many = board(worse, TASKS, "base")
    assert many.differences["chat", "arc_easy"].mark == ""  # 0.031 three times over is no 0.05 any more
    assert many.differences["third", "hellaswag"].comparison.p == 1.0


def test_the_centred_mean_is_zero_for_guessing_and_a_hundred_for_all_right():
    all_right = {task: taken(task, [1.0] * 40) for task in TASKS}
    quarter = {task: taken(task, [1.0, 0, 0, 0] * 10) for task in TASKS}
    made = board({"all": all_right, "guessing": quarter}, TASKS, "all")
    assert made.centred["all"].value == pytest.approx(100) and made.centred["guessing"].value == pytest.approx(0)
    e = made.centred["guessing"]
    half = (made.numbers["guessing", "hellaswag"].high - made.numbers["guessing", "hellaswag"].low) / 2
    assert (e.high - e.low) / 2 == pytest.approx(half / 0.75 / np.sqrt(2)) and e.n == 2


def test_items_of_subjects_are_compared_by_subject():
    parts = [f"mmlu_{i // 10}" for i in range(80)]
    before, after = np.zeros(80), np.zeros(80)
    after[:10] = 1.0  # one whole subject, which may be luck
    found = {"a": {"mmlu": taken("mmlu", before, parts=parts)}, "b": {"mmlu": taken("mmlu", after, parts=parts)}}
    d = board(found, ["mmlu"], "a").differences["b", "mmlu"]
    assert d.comparison.p == 1.0 and d.mark == ""
    alone = {"a": {"mmlu": taken("mmlu", before)}, "b": {"mmlu": taken("mmlu", after)}}
    assert board(alone, ["mmlu"], "a").differences["b", "mmlu"].mark == "▲"


def test_nodes_that_were_asked_other_items_are_not_compared():
    found = {"a": {"arc_easy": taken("arc_easy", [1.0] * 9)}, "b": {"arc_easy": taken("other", [1.0] * 9)}}
    assert board(found, ["arc_easy"], "a").differences == {}


def test_the_terminal_the_json_and_the_page_say_the_same(found):
    made = board(found, TASKS, "base")
    said = "\n".join(lines(made, found))
    assert "hellaswag acc, 0-shot, n = 200" in said and "▲" in said and "mean above chance" in said
    numbers = metrics(made)
    assert numbers["chat.hellaswag.acc vs base"]["gained"] == 30
    assert numbers["base.hellaswag.acc"]["n"] == 200
    whole = json.loads(json.dumps(every_item(made, found)))
    assert len(whole["items"]["hellaswag"]["chat"]["scored"]) == 200
    assert whole["items"]["hellaswag"]["chat"]["asked"][0]["options"] == [" yes", " no"]
    html = page(made, found)
    assert "30 gained" in html and "&lt;b&gt;hellaswag" in html and "<b>hellaswag" not in html
    assert "how hellaswag was asked" in html and "guessing 25.0" in html


def test_what_was_read_in_training_is_told_beside_the_score(found):
    made = board(found, TASKS, "base")
    said = list(contaminated(made, found))
    assert said[0].startswith("hellaswag: 2 items share 13 words in a row with chat's training texts: without them ")
    assert said[-1] == "not looked at for test items: what gpt2 was trained on (chat)"
    assert "Read in training?" in page(made, found)


def test_what_can_be_seen_is_said_before_anything_is_asked():
    (line,) = promise(Options(tasks="hellaswag", items=500), 1)
    alike, apart = (100 * detectable(500, share) for share in (0.1, 0.375))
    assert f"{apart:.1f} points" in line and f"{alike:.1f} points" in line and "Holm" not in line
    (strict,) = promise(Options(tasks="hellaswag,piqa", items=500), 8)
    assert "8 comparisons under Holm's rule" in strict and strict != line
    (few,) = promise(Options(tasks="hellaswag", items=5), 1)
    assert "no difference can be seen" in few
    assert list(promise(Options(tasks="hellaswag"), 1)) == []  # how many all are is not known yet


def test_power_tells_items_by_what_is_assumed_and_by_what_was_measured(found):
    told = dict(needed(15.0, found, "base"))
    measured = told["hellaswag, chat and base: they differed on 15.0 %"]
    assert measured and measured < told["nodes that answer independently (of four options)"]
    assert told["that differ on 10 %"] is None  # ten in a hundred cannot make fifteen points
