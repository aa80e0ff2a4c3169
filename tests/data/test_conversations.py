import json
import math
import os
from pathlib import Path

import pytest

from journey.data.conversations import load, question_messages, split
from journey.data.questions import Question
from journey.errors import JourneyError

DATA = os.environ.get("JOURNEY_DATA", "")


def exchange(question: str, answer: str = "A") -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


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


def test_a_system_message_or_a_history_does_not_part_equal_first_questions(tmp_path: Path) -> None:
    rows = [{"instruction": "Q", "output": "A", "history": [[f"q{i % 30}", "a"]], "system": f"{i}"} for i in range(90)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parts = split(load(tmp_path / "a.jsonl")[0], seed=0)
    asked = [{messages[1]["content"] for messages in part} for part in parts.values()]
    assert sum(map(len, asked)) == 30 and all(asked)


def test_of_preferences_the_chosen_answer_alone_is_trained_on(tmp_path: Path) -> None:
    asked = "\n\nHuman: Q\n\nAssistant: earlier\n\nHuman: And?\n\nAssistant: "
    rows = [{"chosen": f"{asked}good", "rejected": f"{asked}bad"}]
    rows += [
        {"prompt": "Q", "chosen": "same", "rejected": "same"},
        {"prompt": "Q", "chosen": "good", "rejected": "bad"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, left_out = load(tmp_path / "a.jsonl")
    said = exchange("Q", "earlier")
    assert found == [[said[0], said[1] | {"weight": 0}, *exchange("And?", "good")], exchange("Q", "good")]
    assert left_out == {"equal answers": 1}  # as dpo leaves it out


@pytest.mark.skipif(not DATA, reason="JOURNEY_DATA is not set")
@pytest.mark.parametrize(("name", "n"), [("dolly-15k", 15_003), ("rasbt-1k", 1_100)])
def test_real_instruction_data(name: str, n: int) -> None:
    found, left_out = load(Path(DATA) / "instruct" / f"{name}.jsonl.gz")
    assert len(found) == n and not left_out
    assert all([m["role"] for m in messages] == ["user", "assistant"] for messages in found)
    assert all(message["content"].strip() for messages in found for message in messages)
