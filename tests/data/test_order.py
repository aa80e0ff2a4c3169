"""The rule for roles out of order."""

import json
from pathlib import Path
from typing import Any

import pytest

from journey import chat
from journey.data.conversations import load
from journey.data.order import FIRST, JOINED
from journey.errors import JourneyError
from journey.tokenizer.formats import Tokenizer

Messages = list[dict[str, Any]]
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "w": "assistant"}


def say(*said: str) -> Messages:
    """u1 is what the user says, a1 the assistant, w1 an answer of weight 0."""
    return [{"role": ROLES[s[0]], "content": s} | ({"weight": 0} if s[0] == "w" else {}) for s in said]


def joined(role: str, *parts: str) -> dict[str, Any]:
    return {"role": ROLES[role], "content": "\n\n".join(parts)} | ({"weight": 0} if role == "w" else {})


MENDED: list[tuple[Messages, Messages, dict[str, int]]] = [
    (say("u1", "u2", "a1"), [joined("u", "u1", "u2"), *say("a1")], {JOINED: 1}),
    (say("u1", "a1", "a2", "a3"), [*say("u1"), joined("a", "a1", "a2", "a3")], {JOINED: 1}),
    (say("u1", "w1", "w2", "u2", "a1"), [*say("u1"), joined("w", "w1", "w2"), *say("u2", "a1")], {JOINED: 1}),
    (say("a1", "u1", "a2"), [joined("w", "a1"), *say("u1", "a2")], {FIRST: 1}),
    (say("s1", "a1", "u1", "a2"), [*say("s1"), joined("w", "a1"), *say("u1", "a2")], {FIRST: 1}),
    (say("a1", "a2", "u1", "a3"), [joined("w", "a1", "a2"), *say("u1", "a3")], {JOINED: 1, FIRST: 1}),
]
IN_ORDER = [
    say("u1", "a1"),
    say("s1", "u1", "a1", "u2", "a2"),
    say("u1", "a1", "t1", "t2", "a2"),  # the answers of two calls
    say("u1", "t1", "a1"),
    say("t1", "a1"),
    say("w1", "u1", "a1"),
    say("u1", "w1", "a1"),
    say("u1", "a1", "w1"),
    say("u1", "a1", "u2"),
]
UNUSABLE = [
    (say("a1"), "the assistant speaks first, and answers nobody later"),
    (say("s1", "a1", "u1"), "the assistant speaks first, and answers nobody later"),
]


def write(path: Path, *conversations: Messages) -> Path:
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in conversations))
    return path


@pytest.mark.parametrize(("messages", "expected", "counts"), MENDED)
def test_roles_out_of_order_are_put_in_order_and_told(
    tmp_path: Path, messages: Messages, expected: Messages, counts: dict[str, int]
) -> None:
    path, said = write(tmp_path / "a.jsonl", say("u1", "a1"), messages), list[str]()
    assert load(path, say=said.append) == ([say("u1", "a1"), expected], {})
    assert said[1].startswith(f"{path}: roles out of order (") and all(
        f"{kind}: {n}" in said[1] for kind, n in counts.items()
    )
    assert len(said) == 2 + len(counts) and all(
        line.startswith(f"  put in order: {path}, line 2: ") for line in said[2:]
    )
    with pytest.raises(JourneyError, match=r"a.jsonl, line 2: .*\(without strict: "):
        load(path, strict=True)


@pytest.mark.parametrize("messages", IN_ORDER)
def test_what_is_in_order_is_left_alone(tmp_path: Path, messages: Messages) -> None:
    said = list[str]()
    path = write(tmp_path / "a.jsonl", messages)
    assert load(path, strict=True, say=said.append) == ([messages], {}) and len(said) == 1


@pytest.mark.parametrize(("messages", "says"), UNUSABLE)
def test_what_no_order_would_mend_is_left_out(tmp_path: Path, messages: Messages, says: str) -> None:
    path, said = write(tmp_path / "a.jsonl", say("u1", "a1"), messages), list[str]()
    assert load(path, say=said.append)[1] == {"roles out of order": 1}
    assert said[2] == f"  left out: {path}, line 2: {says}"


def test_an_answer_before_any_question_is_read_and_not_trained_on(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_merges([])
    ((messages,), _) = load(write(tmp_path / "a.jsonl", say("a1", "u1", "a2")))
    ids, mask = chat.render(messages, tokenizer)
    assert tokenizer.decode([id for id, trained in zip(ids, mask, strict=True) if trained]) == "a2<|end|>"
    assert tokenizer.decode(ids) == "<|assistant|>a1<|end|><|user|>u1<|assistant|>a2<|end|>"
