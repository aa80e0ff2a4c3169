import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from journey.data.conversations import load, question_messages, split
from journey.data.questions import Question
from journey.errors import JourneyError

DATA = os.environ.get("JOURNEY_DATA", "")


def exchange(question: str, answer: str = "A") -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


SCHEMAS: list[tuple[dict[str, Any], list[dict[str, str]]]] = [
    (
        {"messages": [{"role": "system", "content": "S"}, *exchange("Q")]},
        [{"role": "system", "content": "S"}, *exchange("Q")],
    ),
    ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, exchange("Q")),
    ({"question": "Q", "answer": "A"}, exchange("Q")),
    ({"question": "Q", "answer": "A", "passage": "P"}, exchange("P\n\nQ")),
    ({"instruction": "Q", "input": "", "output": "A"}, exchange("Q")),
    ({"instruction": "Q", "input": "I", "output": "A"}, exchange("Q\n\nI")),
    ({"instruction": "Q", "context": "C", "response": "A", "category": "x"}, exchange("Q\n\nC")),
    ({"prompt": "Q", "completion": "A"}, exchange("Q")),
    ({"prompt": "Q", "response": "A"}, exchange("Q")),
]


@pytest.mark.parametrize(("record", "expected"), SCHEMAS)
def test_schemas_in_every_kind_of_file(tmp_path: Path, record: dict[str, Any], expected: list[dict[str, str]]) -> None:
    line = json.dumps(record)
    (tmp_path / "a.jsonl").write_text(line + "\n\n" + line + "\n")
    (tmp_path / "a.json").write_text(f"[{line}, {line}]")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line.encode() + b"\n" + line.encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record, record]), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.jsonl.gz", "a.parquet"):
        assert load(tmp_path / name) == [expected, expected]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not JSON"),
        ('"text"', "line 2: a record is an object with columns, not str"),
        ('{"chosen": "x", "rejected": "y"}', "line 2: holds chosen, rejected; expected messages"),
        ('{"question": "Q", "answer": " "}', 'line 2: "answer" is empty'),
        ('{"prompt": "Q", "response": 3}', 'line 2: "response" is int, not text'),
        ('{"messages": [{"role": "usr", "content": "x"}]}', 'line 2, message 1: the role "usr" is none of'),
        ('{"messages": [{"role": "user", "content": "x"}]}', "line 2: no message is the assistant's"),
        ('{"messages": ["x"]}', "line 2, message 1: a message is"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "Q", "answer": "A"}\n' + line + "\n")
    with pytest.raises(JourneyError) as error:
        load(path)
    assert f"{path}, {says}" in str(error.value) and "\n" not in str(error.value)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="no such file"):
        load(tmp_path / "missing.jsonl")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(JourneyError, match="use one of"):
        load(tmp_path / "a.csv")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(JourneyError, match="no conversations in this file"):
        load(tmp_path / "empty.jsonl")
    (tmp_path / "a.json").write_text('{"question": "Q", "answer": "A"}')
    with pytest.raises(JourneyError, match="a JSON list of records"):
        load(tmp_path / "a.json")


def test_the_passage_comes_before_the_question_in_one_turn() -> None:
    question = Question("id", "What?", "That.", "A passage.", True)
    assert question_messages(question, False) == exchange("What?", "That.")
    assert question_messages(question, True) == exchange("A passage.\n\nWhat?", "That.")


def records(n: int, per_question: int = 1) -> list[list[dict[str, str]]]:
    return [exchange(f"Q{i // per_question}", f"A{i}") for i in range(n)]


@pytest.mark.parametrize(("n", "dev", "test"), [(3, 1, 1), (40, 2, 2), (1000, 50, 50), (9000, 128, 200)])
def test_what_is_held_out(n: int, dev: int, test: int) -> None:
    parts = split(records(n), seed=0)
    assert list(parts) == ["train", "dev", "test"]
    assert {name: len(part) for name, part in parts.items()} == {"train": n - dev - test, "dev": dev, "test": test}
    assert sorted(m[1]["content"] for part in parts.values() for m in part) == sorted(f"A{i}" for i in range(n))


def test_the_seed_draws() -> None:
    assert split(records(200), 0) == split(records(200), 0) != split(records(200), 1)


@pytest.mark.parametrize(("n", "per_question"), [(300, 7), (300, 100), (30, 10)])
def test_conversations_that_begin_alike_stay_together(n: int, per_question: int) -> None:
    parts = split(records(n, per_question), seed=0)
    asked = [{messages[0]["content"] for messages in part} for part in parts.values()]
    assert sum(map(len, asked)) == math.ceil(n / per_question) and all(asked)


def test_too_few_questions_to_hold_some_out() -> None:
    with pytest.raises(JourneyError, match="40 records ask 2 different questions: too few to hold some out"):
        split(records(40, 20), seed=0)


@pytest.mark.skipif(not DATA, reason="JOURNEY_DATA is not set")
@pytest.mark.parametrize(("name", "n"), [("dolly-15k", 15_003), ("rasbt-1k", 1_100)])
def test_real_instruction_data(name: str, n: int) -> None:
    found = load(Path(DATA) / "instruct" / f"{name}.jsonl.gz")
    assert len(found) == n
    assert all([m["role"] for m in messages] == ["user", "assistant"] for messages in found)
    assert all(message["content"].strip() for messages in found for message in messages)
