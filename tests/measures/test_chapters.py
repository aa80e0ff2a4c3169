"""What a chapter shows, as blocks: sentences that follow from the numbers, boxes to the scale of time."""

import pytest

from journey.measure import Subject, dots, score_keys, table
from journey.measures.repeats import induction
from journey.measures.timeline import draw, sentences
from journey.report.blocks import Dots, Fold, Lanes, Pieces, Points, Row
from journey.scores import Against, Items, Score, Taken

BASE, CHAT = Subject("base", "pretrain", 0), Subject("chat", "sft", 1, "base")


def copies(first, second, best):
    """Losses of the two copies, a model's best head being the second of its first layer."""
    heads = {"induction": [[0.0, best], [0.0, 0.0]]}
    score = Score("repeat.second", "", "second", better="lower", against=(Against("first", "", "", num="first"),))
    items = Items([str(i) for i in range(len(first))], {"first": first, "second": second})
    return Taken({"items": items}, [score], {"heads": heads})


@pytest.mark.parametrize(
    ("second", "best", "said"),
    [
        (9.0, 0.7, "has an induction head"),
        (9.0, 0.1, "too little to call it"),
        (11.0, 0.7, "shows no induction"),
    ],
)
def test_induction_is_claimed_only_with_both_signs(second, best, said):
    sentence = induction("base", copies([10.0, 10.1] * 8, [second, second + 0.1] * 8, best))
    assert said in sentence and "layer 0, head 1" in sentence and f"{best:.2f}" in sentence


@pytest.mark.parametrize("n", [0, 1])
def test_of_too_few_sequences_nothing_is_claimed(n):
    assert "too few" in induction("base", copies([10.0] * n, [9.0] * n, 0.9))


def passes():
    def step(i, text):
        cache = 4096 * (120 + i)
        return {"text": text, "tokens": 1, "ms": 2.0, "flops": 3_000_000, "bytes": 6_000_000, "cache_bytes": cache}

    return {
        "question": "What does it do?",
        "sources": ["numpy.linalg.norm", "other"],
        "used": 1,
        "search_ms": 5.0,
        "machine": "a CPU",
        "answer": "Return it.",
        "prefill": step(0, "Return") | {"tokens": 120, "ms": 10.0, "flops": 240_000_000},
        "steps": [step(1, " it"), step(2, "."), step(3, "<|end|>")],
        "parameters": 1_350_144,
        "convention": "greedy",
    }


def all_of(kind, blocks):
    inside = [all_of(kind, block.blocks) for block in blocks if isinstance(block, Row | Fold)]
    return [block for block in blocks if isinstance(block, kind)] + [block for found in inside for block in found]


def test_the_answer_is_drawn_to_the_scale_of_time():
    made = passes()
    made["steps"][1]["ms"] = 6.0
    shown = draw({Subject("index", "index", 0): Taken(facts=made)})
    (lanes,) = all_of(Lanes, shown)
    assert [box.ms for box in lanes.boxes] == [5, 10, 2, 6, 2] and [box.colour for box in lanes.boxes] == [
        4,
        0,
        1,
        1,
        1,
    ]
    arithmetic, memory, cache = lanes.lanes
    assert lanes.boxes[0].heights == {}  # a search is no pass through the model
    for box, p in zip(lanes.boxes[1:], [made["prefill"], *made["steps"]], strict=True):
        assert box.ms * box.heights[arithmetic] == pytest.approx(p["flops"] * 1e-6)  # a box's area is the work
        assert box.ms * box.heights[memory] == pytest.approx(p["bytes"] * 1e-6)
        assert box.heights[cache] == p["cache_bytes"] / 1000
    (pieces,) = all_of(Pieces, shown)
    assert list(pieces.pieces) == ["Return", "·it", ".", "<|end|>"]
    assert ["numpy.linalg.norm", "other"] in [list(points.items) for points in all_of(Points, shown)]


def test_the_sentences_are_computed_from_the_numbers():
    made = passes()
    prefill, decode, cache = (said.replace("\u00a0", " ") for said in sentences(made))
    assert "all 120 tokens" in prefill and "240 MFLOP in 10.0 ms" in prefill and "24.0 GFLOP/s" in prefill
    assert "took 3 steps" in decode and "24 times what a token of the prompt took" in decode
    assert "6.00 MB for 3.00 MFLOP, at 3.00 GB/s and 1.50 GFLOP/s" in decode
    assert "from 492 kB after the prompt to 504 kB, 4.10 kB a token" in cache and "8 % of its bytes" in cache
    made["prefill"]["ms"] = 600.0  # a prefill that is no faster a token is not praised
    assert "0.4 times what" in sentences(made)[1]
    made["steps"] = []
    assert len(sentences(made)) == 2 and "took no step" in sentences(made)[1]


def counted(n, value=1.0):
    score = Score("k", "label", "x", unit="nats", better="lower", against=(Against("mark", "", "", value=2.0),))
    return Taken({"items": Items([str(i) for i in range(n)], {"x": [value] * n})}, [score])


def test_by_default_dots_for_each_model_beside_the_marks_and_a_table():
    seen = {BASE: counted(3), CHAT: counted(4, 3.0)}
    drawn = dots(seen, "k")
    assert [(row.label, row.estimate.value, row.colour) for row in drawn.rows] == [("base", 1.0, 0), ("chat", 3.0, 1)]
    assert [(mark.value, mark.name) for mark in drawn.marks] == [(2.0, "mark 2")] and drawn.unit == "label (nats)"
    found = table(seen)
    assert found.head == ["Model", "label, nats"] and [row[1].n for row in found.rows] == [3, 4]


def test_what_no_model_has_is_no_chart():
    seen = {BASE: counted(1), CHAT: Taken()}
    assert (
        score_keys(seen) == [] and dots(seen, "k") == Dots("k", "", []) and [len(r) for r in table(seen).rows] == [1, 1]
    )
