"""Calls of tools as text: written, they can be read again by the rule that Hermes and Qwen models are read by."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from journey.data.calls import tools_text
from journey.data.conversations import load

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
CALL = {"name": "weather", "arguments": {"city": "Zürich"}}
WRITTEN = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'


def read_calls(content: str) -> list[dict[str, Any]]:
    """As vLLM's parser of Hermes calls finds them."""
    return [json.loads(found) for found in re.findall(r"<tool_call>(.*?)</tool_call>", content, re.DOTALL)]


def read_tools(content: str) -> list[dict[str, Any]]:
    (listed,) = re.findall(r"<tools>\n(.*?)\n</tools>", content, re.DOTALL)
    return [json.loads(line) for line in listed.splitlines()]


def loaded(path: Path, **row: Any) -> list[dict[str, Any]]:
    path.write_text(json.dumps(row))
    ((messages,), left_out) = load(path, strict=True)
    assert not left_out
    return messages


ASKED = {"role": "user", "content": "Rain?"}
OPENAI = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "tool_calls": [OPENAI]},
        {"content": "", "tool_calls": [OPENAI]},
        {"tool_calls": [OPENAI | {"function": CALL}]},
        {"tool_calls": [CALL]},
        {"tool_calls": json.dumps([OPENAI])},
        {"content": None, "function_call": OPENAI["function"]},
    ],
)
def test_every_spelling_of_a_call(tmp_path: Path, message: dict[str, Any]) -> None:
    answer = {"role": "tool", "tool_call_id": "1", "content": "No."}
    found = loaded(tmp_path / "a.jsonl", messages=[ASKED, {"role": "assistant"} | message, answer, *SAID])
    assert found == [ASKED, {"role": "assistant", "content": WRITTEN}, {"role": "tool", "content": "No."}, *SAID]


SAID = [{"role": "assistant", "content": "It stays dry."}]


def test_calls_stand_below_what_is_said_each_in_its_own_marks(tmp_path: Path) -> None:
    calls = [OPENAI, OPENAI | {"function": {"name": "now", "arguments": ""}}]
    _, said = loaded(
        tmp_path / "a.jsonl", messages=[ASKED, {"role": "assistant", "content": "Let me see.", "tool_calls": calls}]
    )
    assert said["content"] == f'Let me see.\n{WRITTEN}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>'
    assert read_calls(said["content"]) == [CALL, {"name": "now", "arguments": {}}]


def test_sharegpts_calls_are_written_alike_and_what_is_none_stays(tmp_path: Path) -> None:
    turns = [("human", "Rain?"), ("function_call", json.dumps(CALL)), ("observation", "No."), ("gpt", "It stays dry.")]
    said = loaded(tmp_path / "a.jsonl", conversations=[{"from": name, "value": value} for name, value in turns])
    assert said[1] == {"role": "assistant", "content": WRITTEN}
    turns[1] = ("function_call", "weather()")
    said = loaded(tmp_path / "a.jsonl", conversations=[{"from": name, "value": value} for name, value in turns])
    assert said[1] == {"role": "assistant", "content": "weather()"}


@pytest.mark.parametrize("name", ["tools", "functions"])
@pytest.mark.parametrize(
    "tools", [[WEATHER], [{"type": "function", "function": WEATHER}], json.dumps([WEATHER]), [json.dumps(WEATHER)]]
)
def test_tools_stand_in_the_system_message(tmp_path: Path, name: str, tools: Any) -> None:
    row = {name: tools, "messages": [ASKED, *SAID]}
    system, *rest = loaded(tmp_path / "a.jsonl", **row)
    assert rest == row["messages"] and system == {"role": "system", "content": tools_text([WEATHER], "")}
    assert read_tools(system["content"]) == [{"type": "function", "function": WEATHER}]
    row["messages"] = [{"role": "system", "content": "Be brief."}, ASKED, *SAID]
    assert loaded(tmp_path / "a.jsonl", **row)[0]["content"] == f"Be brief.\n\n{system['content']}"
    row["messages"] = [system, ASKED, *SAID]  # they stand there already
    assert loaded(tmp_path / "a.jsonl", **row)[0] == system


@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
@pytest.mark.parametrize("name", ["simple_python", "multiple", "parallel"])
def test_real_functions_and_calls(tmp_path: Path, name: str) -> None:
    """BFCL's questions with their right calls, as OpenAI writes them."""
    folder = DATA / "tools" / "bfcl-v4"
    asked = [json.loads(line) for line in (folder / f"{name}.json").open()]
    truth = {row["id"]: row["ground_truth"] for row in map(json.loads, (folder / "answers" / f"{name}.json").open())}
    rows, calls = [], []
    for row in asked:
        one = [{"name": f, "arguments": {key: values[0] for key, values in arguments.items()}}
               for call in truth[row["id"]] for f, arguments in call.items()]  # fmt: skip
        written = [
            {"type": "function", "function": call | {"arguments": json.dumps(call["arguments"])}} for call in one
        ]
        messages = [*row["question"][0], {"role": "assistant", "content": None, "tool_calls": written}]
        rows.append({"messages": messages, "tools": row["function"]})
        calls.append(one)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, left_out = load(path, strict=True)
    assert len(found) == len(rows) >= 200 and not left_out
    for row, messages, one in zip(rows, found, calls, strict=True):
        assert [tool["function"] for tool in read_tools(messages[0]["content"])] == row["tools"]
        assert read_calls(messages[-1]["content"]) == one
