"""Files that people have of the benchmarks become rows of the official form, or are refused by line."""

import gzip
import json

import pytest

from journey.errors import JourneyError
from journey.evaluate.benchmark.tasks import BENCHMARKS, find, fingerprint, rows


def made(tmp_path, name, record, file=None):
    (tmp_path / (file or f"{name}.jsonl")).write_text(json.dumps(record) + "\n")
    (path,) = find(BENCHMARKS[name], tmp_path).values()
    return next(rows(BENCHMARKS[name], path))[1]


def test_hellaswag_in_the_form_of_llm_foundry_is_what_the_official_task_makes_of_its_own(tmp_path):
    from lm_eval.tasks.hellaswag.utils import preprocess

    record = {"query": "Spinning: A man sits. the boy and Ann", "endings": ["a", "b", "c", "d"], "label": 2}
    row = made(tmp_path, "hellaswag", record)
    said = preprocess(row["activity_label"] + ": " + row["ctx_a"] + " " + row["ctx_b"].capitalize())
    assert said == "Spinning: A man sits. The boy and ann"  # as str.capitalize has it
    assert row["label"] == "2" and row["endings"] == ["a", "b", "c", "d"]


def test_a_context_that_is_whole_is_left_alone(tmp_path):
    row = made(tmp_path, "hellaswag", {"query": "How to: swim: First, dive.", "endings": list("abcd"), "label": 0})
    assert (row["activity_label"], row["ctx_a"], row["ctx_b"]) == ("How to", "swim: First, dive.", "")


def test_arc_piqa_lambada_and_boolq_in_other_forms(tmp_path):
    arc = made(tmp_path, "arc_easy", {"query": "Question: Why?", "choices": ["x", "y", "z"], "gold": 2})
    assert arc == {"question": "Why?", "choices": {"text": ["x", "y", "z"], "label": ["A", "B", "C"]}, "answerKey": "C"}
    piqa = made(tmp_path, "piqa", {"query": "Question: How?\n", "choices": ["x", "y"], "gold": 1})
    assert piqa == {"goal": "How?", "sol1": "x", "sol2": "y", "label": 1}
    lambada = made(tmp_path, "lambada_openai", {"context": "It was a", "continuation": "cat"})
    assert lambada == {"text": "It was a cat"}
    boolq = made(tmp_path, "boolq", {"passage": "p", "question": "q", "answer": True, "title": "t"})
    assert boolq == {"passage": "p", "question": "q", "label": 1}


def test_truthfulqa_s_own_table(tmp_path):
    record = {
        "Question": "Why?",
        "Best Answer": "Because",
        "Correct Answers": "Because; It is so;",
        "Incorrect Answers": "No ; Never",
    }
    row = made(tmp_path, "truthfulqa_mc2", record, "truthfulqa.jsonl")
    assert row["mc1_targets"] == {"choices": ["Because", "No", "Never"], "labels": [1, 0, 0]}
    assert row["mc2_targets"] == {"choices": ["Because", "It is so", "No", "Never"], "labels": [1, 1, 0, 0]}


def test_a_row_of_another_form_names_the_line_and_the_columns(tmp_path):
    lines = [{"goal": "g", "sol1": "a", "sol2": "b", "label": 0}, {"prompt": "g", "answers": []}]
    (tmp_path / "piqa.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(JourneyError) as error:
        list(rows(BENCHMARKS["piqa"], tmp_path / "piqa.jsonl"))
    assert str(error.value) == (
        f"{tmp_path}/piqa.jsonl, line 2: piqa wants the columns goal, sol1, sol2, label or query, choices, gold; "
        "this row has prompt, answers"
    )


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ([1, 2], "no row with columns"),
        ({"query": None, "choices": ["a", "b"], "gold": 0}, "not as piqa has it"),
        ({"query": "q", "choices": ["a", "b", "c"], "gold": 0}, "not as piqa has it"),
        ({"query": "q", "choices": 7, "gold": 0}, "not as piqa has it"),
    ],
)
def test_a_row_that_only_looks_right_is_told(tmp_path, record, said):
    (tmp_path / "piqa.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(JourneyError, match=f"(line|record) 1: {said}"):
        list(rows(BENCHMARKS["piqa"], tmp_path / "piqa.jsonl"))


def test_files_are_found_by_name_and_split(tmp_path):
    for name in (
        "hellaswag_val.jsonl",
        "hellaswag-train.jsonl.gz",
        "hellaswags.jsonl",
        "gsm8k-test.jsonl",
        "notes.txt",
    ):
        (tmp_path / name).write_bytes(gzip.compress(b"{}") if name.endswith("gz") else b"{}")
    found = find(BENCHMARKS["hellaswag"], tmp_path)
    assert {split: path.name for split, path in found.items()} == {
        "validation": "hellaswag_val.jsonl",
        "train": "hellaswag-train.jsonl.gz",
    }
    (tmp_path / "hellaswag.jsonl").write_text("{}")
    with pytest.raises(JourneyError, match="both the validation split of hellaswag: leave one"):
        find(BENCHMARKS["hellaswag"], tmp_path)


def test_arc_easy_is_not_taken_for_arc_challenge(tmp_path):
    (tmp_path / "arc_easy.jsonl").write_text("{}")
    assert find(BENCHMARKS["arc_challenge"], tmp_path) == {}
    assert find(BENCHMARKS["arc_easy"], tmp_path).keys() == {"test"}


def test_a_fingerprint_follows_the_rows_and_not_the_place(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "piqa.jsonl").write_text("1")
    one, two = (fingerprint(BENCHMARKS["piqa"], tmp_path / name) for name in "ab")
    (tmp_path / "b" / "piqa.jsonl").write_text("2")
    assert one == two != fingerprint(BENCHMARKS["piqa"], tmp_path / "b")
    assert fingerprint(BENCHMARKS["piqa"], None) == fingerprint(BENCHMARKS["piqa"], tmp_path) == {"hub": "piqa"}
