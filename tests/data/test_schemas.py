"""Conversations in the columns of other projects; TRL's own formats against TRL."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from journey import chat
from journey.data.conversations import load
from journey.tokenizer.formats import Tokenizer

Row = dict[str, Any]
Messages = list[dict[str, Any]]


def exchange(question: str, answer: str = "A") -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def system(content: str = "S") -> Messages:
    return [{"role": "system", "content": content}]


def sharegpt(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": speaker, "value": said} for speaker, said in turns]


def parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text[:1]}, {"type": "text", "text": text[1:]}]


QA = exchange("Q")
TWO = [*exchange("q0", "a0"), *QA]
UNTRAINED = [QA[0], {"role": "assistant", "content": "bad", "weight": 0}, *exchange("again")]

SCHEMAS: dict[str, tuple[Row, Messages]] = {
    "OpenAI, TRL": ({"messages": [*system(), *QA]}, [*system(), *QA]),
    "ShareGPT": ({"conversations": sharegpt(("human", "Q"), ("gpt", "A"))}, QA),
    "question, answer": ({"question": "Q", "answer": "A"}, QA),
    "with a passage": ({"question": "Q", "answer": "A", "passage": "P"}, exchange("P\n\nQ")),
    "with a context": ({"context": "P", "question": "Q", "answer": "A"}, exchange("P\n\nQ")),
    "Alpaca": ({"instruction": "Q", "input": "", "output": "A"}, QA),
    "Alpaca, with input": ({"instruction": "Q", "input": "I", "output": "A", "text": "x"}, exchange("Q\n\nI")),
    "Alpaca, with input alone": ({"instruction": "", "input": "I", "output": "A"}, exchange("I")),
    "Dolly": ({"instruction": "Q", "context": "C", "response": "A", "category": "x"}, exchange("Q\n\nC")),
    "TRL, text": ({"prompt": "Q", "completion": "A"}, QA),
    "prompt, response": ({"prompt": "Q", "response": "A", "input": None}, QA),
    "MetaMathQA": ({"query": "Q", "response": "A", "type": "x", "original_question": "x"}, QA),
    "OpenOrca": ({"id": "1", "system_prompt": "S", "question": "Q", "response": "A"}, [*system(), *QA]),
    "OpenOrca, no system": ({"id": "1", "system_prompt": "", "question": "Q", "response": "A"}, QA),
    "input, output": ({"input": "Q", "output": "A"}, QA),
    "capital columns": ({"INSTRUCTION": "Q", "RESPONSE": "A", "SOURCE": "x"}, QA),
    "columns of which some are null": ({"question": None, "answer": None, "prompt": "Q", "completion": "A"}, QA),
    "no conversation, but a question": ({"conversations": [], "question": "Q", "answer": "A"}, QA),
    "a prompt that holds its input": ({"prompt": "Do: I", "input": "I", "completion": "A"}, exchange("Do: I")),
    "an answer that is JSON": (
        {"instruction": "Q", "output": '[{"role": "boss", "name": "A"}]'},
        exchange("Q", '[{"role": "boss", "name": "A"}]'),
    ),
    # What the columns beside it tell the model
    "Alpaca, system and history": (
        {"instruction": "Q", "input": "I", "output": "A", "system": "S", "history": [["q0", "a0"], ["q1", "a1"]]},
        [*system(), *exchange("q0", "a0"), *exchange("q1", "a1"), *exchange("Q\n\nI")],
    ),
    "ms-swift": (
        {"system": "S", "query": "Q", "response": "A", "history": [["q0", "a0"]]},
        [*system(), *TWO],
    ),
    "history as messages": ({"history": exchange("q0", "a0"), "query": "Q", "response": "A"}, TWO),
    "history as JSON": ({"history": '[["q0", "a0"]]', "query": "Q", "response": "A"}, TWO),
    "no history": ({"history": [], "system": " ", "tools": "[]", "query": "Q", "response": "A"}, QA),
    "ShareGPT, system": (
        {"system": "S", "conversations": sharegpt(("human", "Q"), ("gpt", "A")), "tools": ""},
        [*system(), *QA],
    ),
    "the same system twice": ({"system": "S ", "messages": [*system(), *QA]}, [*system(), *QA]),
    "system and history before messages": (
        {"history": [["q0", "a0"]], "messages": [*system(), *QA]},
        [*system(), *TWO],
    ),
    # Messages of other spellings
    "OpenAI, parts": (
        {"messages": [{"role": m["role"], "content": parts(f"{m['content']}x")} for m in QA]},
        exchange("Qx", "Ax"),
    ),
    "OpenAI, developer": ({"messages": [{"role": "developer", "content": "S"}, *QA]}, [*system(), *QA]),
    "OpenAI, no calls": (
        {"messages": [QA[0], QA[1] | {"tool_calls": [], "refusal": None, "name": "x"}], "parallel_tool_calls": True},
        QA,
    ),
    "OpenAI, function": (
        {"messages": [QA[0], {"role": "function", "name": "f", "content": "F"}, QA[1]]},
        [QA[0], {"role": "tool", "content": "F"}, QA[1]],
    ),
    "Gemini's role": ({"messages": [QA[0], {"role": "model", "content": "A"}]}, QA),
    "Gemini": (
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "S"}]},
            "contents": [{"role": "user", "parts": [{"text": "Q"}]}, {"role": "model", "parts": [{"text": "A"}]}],
        },
        [*system(), *QA],
    ),
    "ShareGPT, tools": (
        {"conversations": sharegpt(("human", "Q"), ("function_call", "{}"), ("observation", "F"), ("gpt", "A"))},
        [*exchange("Q", "{}"), {"role": "tool", "content": "F"}, QA[1]],
    ),
    "OASST, turns": ({"messages": [{"role": "prompter", "text": "Q"}, {"role": "assistant", "text": "A"}]}, QA),
    "roles in capitals": ({"messages": [{"role": "User", "content": "Q"}, {"role": "ASSISTANT", "content": "A"}]}, QA),
    "Capybara": ({"conversation": [{"input": "q0", "output": "a0"}, {"input": "Q", "output": "A"}]}, TWO),
    "XTuner": ({"conversation": [{"system": "S", "input": "Q", "output": "A"}]}, [*system(), *QA]),
    "Firefly": ({"conversation": [{"human": "Q", "assistant": "A"}]}, QA),
    "dialog": ({"dialog": QA}, QA),
    "messages as JSON": ({"messages": json.dumps(TWO)}, TWO),
    "conversations as JSON": ({"conversations": json.dumps(sharegpt(("human", "Q"), ("gpt", "A")))}, QA),
    "UltraChat": ({"prompt": "Q", "prompt_id": "x", "messages": QA}, QA),
    # TRL's prompt and completion
    "TRL, conversational": ({"prompt": QA[:1], "completion": QA[1:]}, QA),
    "TRL, one message each": ({"prompt": QA[0], "completion": QA[1]}, QA),
    "TRL, as JSON": ({"prompt": json.dumps(QA[:1]), "completion": json.dumps(QA[1:])}, QA),
    "TRL, a prompt with answers": (
        {"prompt": [*system(), *TWO[:3]], "completion": QA[1:]},
        [*system(), TWO[0], TWO[1] | {"weight": 0}, *QA],
    ),
    "messages, completion": ({"prompt": QA[:1], "completion": "A"}, QA),
    # Answers that are not trained on
    "OpenAI, Mistral": (
        {"messages": [QA[0], {"role": "assistant", "content": "bad", "weight": 0}, *exchange("again")]},
        UNTRAINED,
    ),
    "SlimOrca": (
        {
            "conversations": [
                {"from": "human", "value": "Q", "weight": 0.0},
                {"from": "gpt", "value": "bad", "weight": 0.0},
                {"from": "human", "value": "again", "weight": 0.0},
                {"from": "gpt", "value": "A", "weight": 1.0},
            ]
        },
        UNTRAINED,
    ),
    **{
        name: (
            {"messages": [QA[0], {"role": "assistant", "content": "bad", key: off}, *exchange("again")]},
            UNTRAINED,
        )
        for name, key, off in (
            ("axolotl", "train", False),
            ("axolotl, training", "training", False),
            ("axolotl, train_on_turn", "train_on_turn", False),
            ("ChatGLM, ms-swift", "loss", False),
            ("loss 0", "loss", 0),
            ("verl", "loss_mask", 0),
            ("LLaMA-Factory, loss_weight", "loss_weight", 0.0),
        )
    },
    "LLaMA-Factory, loss_mask": (
        {"conversations": sharegpt(("human", "Q"), ("gpt", "bad"), ("human", "again"), ("gpt", "A")),
         "loss_mask": [0, 0, 1, 1]},
        UNTRAINED,
    ),
    "loss_mask, without the system message": (
        {"messages": [*system(), *exchange("Q", "bad"), *exchange("again")], "loss_mask": [1, 0, 1, 1]},
        [*system(), *UNTRAINED],
    ),
    "a loss that was measured": ({"messages": [QA[0], QA[1] | {"loss": 1.25}]}, QA),
    "an empty answer that is not trained on": (
        {"messages": [QA[0], {"role": "assistant", "content": "", "weight": 0}, *exchange("again")]},
        [QA[0], {"role": "assistant", "content": "", "weight": 0}, *exchange("again")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_in_every_kind_of_file(tmp_path: Path, name: str) -> None:
    record, expected = SCHEMAS[name]
    line = json.dumps(record)
    (tmp_path / "a.jsonl").write_text(line + "\n\n" + line + "\n")
    (tmp_path / "a.json").write_text(f"[{line}, {line}]")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line.encode() + b"\n" + line.encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record, record]), tmp_path / "a.parquet")
    for file in ("a.jsonl", "a.json", "a.jsonl.gz", "a.parquet"):
        assert load(tmp_path / file) == ([expected, expected], {})


UNUSABLE = [
    *[
        ({"messages": [QA[0], QA[1] | {"tool_calls": calls}]}, "malformed tool call", f", message 2: call {says}")
        for calls, says in (
            ([{"id": "1"}], "1 of a tool has no name"),
            ([{"name": "f"}, {"function": {"name": " ", "arguments": {}}}], "2 of a tool has no name"),
            ([{"function": {"name": "f", "arguments": "{"}}], "1 of a tool has arguments that are no JSON object"),
            ([{"function": {"name": "f", "arguments": [1]}}], "1 of a tool has arguments that are no JSON object"),
            (["f"], "1 of a tool has no name"),
            ("f", "1 of a tool has no name"),
        )
    ],
    (
        {"messages": [QA[0] | {"tool_calls": [{"name": "f"}]}, QA[1]]},
        "malformed tool call",
        ", message 1: calls a tool, which only the assistant can",
    ),
    ({"messages": QA, "tools": [{"type": "function"}]}, "malformed tools", ", tools: tool 1 is no function with a"),
    ({"conversations": QA, "functions": "get"}, "malformed tools", ", functions: tool 1 is no function with a name"),
    ({"messages": QA, "images": ["a.png"]}, "images or sound", ': the chat format has no place for "images"'),
    ({"messages": [*system(), *QA], "system": "T"}, "two system messages", ': "system" and the first message are two'),
    ({"query": "Q", "response": "A", "history": [["q0"]]}, "unknown history", ", history 1: a history is"),
    ({"query": "Q", "response": "A", "history": [["q0", None]]}, "not text", ', history 1: "answer" is null'),
    ({"query": "Q", "response": "A", "history": [["q0", ""]]}, "empty answer", ": an answer is empty"),
    ({"query": "Q", "response": "A", "history": "earlier"}, "no message", ", history: not JSON"),
    ({"messages": [QA[0], QA[1] | {"weight": 0}]}, "no answer of weight 1", ": no answer is to be trained on"),
    ({"messages": [QA[0], QA[1] | {"weight": 0.5}]}, "unknown weight", ', message 2: "weight" is neither 0 nor 1'),
    ({"messages": [QA[0], QA[1] | {"weight": "0"}]}, "unknown weight", ', message 2: "weight" is neither 0 nor 1'),
    (
        {"messages": [QA[0], QA[1] | {"train_detail": [{"train": False}]}]},
        "unknown weight",
        ", message 2: weighs parts",
    ),
    ({"messages": QA, "loss_mask": [1]}, "unknown weight", ': "loss_mask" has 1 numbers for 2 messages'),
    ({"messages": QA, "loss_mask": [1, 0.5]}, "unknown weight", ', message 2: "loss_mask" is neither 0 nor 1'),
]


@pytest.mark.parametrize(("record", "kind", "says"), UNUSABLE)
def test_what_the_chat_format_cannot_tell_is_left_out(tmp_path: Path, record: Row, kind: str, says: str) -> None:
    path, said = tmp_path / "a.jsonl", list[str]()
    path.write_text(f'{{"question": "Q", "answer": "A"}}\n{json.dumps(record)}\n')
    assert load(path, say=said.append) == ([QA], {kind: 1})
    assert said[2].startswith(f"  left out: {path}, line 2{says}")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """Our tokenizer, and what transformers makes of its folder."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer.from_merges([("t", "h"), ("th", "e"), ("x", "y")])
    tokenizer.save(folder)
    return tokenizer, AutoTokenizer.from_pretrained(folder)


TRL: list[Row] = [
    {"messages": [*system(), *TWO]},
    {"messages": [QA[0], {"role": "tool", "content": "F"}, QA[1]]},
    {"conversations": sharegpt(("system", "S"), ("user", "Q"), ("assistant", "A"))},
    {"prompt": QA[:1], "completion": QA[1:]},
    {"prompt": sharegpt(("user", "Q")), "completion": sharegpt(("assistant", "A"))},
    {"prompt": [*system(), *TWO[:3]], "completion": QA[1:]},
]


@pytest.mark.parametrize("record", TRL)
def test_trl_renders_the_same_ids(tmp_path: Path, pair: tuple[Tokenizer, Any], record: Row) -> None:
    """TRL's own functions on the row as it is, and our template; where it has a prompt, what it trains on too."""
    from trl import maybe_convert_to_chatml
    from trl.data_utils import apply_chat_template

    tokenizer, theirs = pair
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    ((messages,), _) = load(tmp_path / "a.jsonl")
    ids, mask = chat.render(messages, tokenizer)
    rendered = apply_chat_template(maybe_convert_to_chatml(json.loads(json.dumps(record))), theirs)
    whole = rendered.get("text") or rendered["prompt"] + rendered["completion"]
    assert theirs(whole, add_special_tokens=False)["input_ids"] == ids
    if "prompt" in rendered:
        prompt = theirs(rendered["prompt"], add_special_tokens=False)["input_ids"]
        assert mask == [0] * len(prompt) + [1] * (len(ids) - len(prompt))


def test_an_answer_of_weight_0_is_read_and_not_trained_on(pair: tuple[Tokenizer, Any]) -> None:
    tokenizer, theirs = pair
    ids, mask = chat.render(UNTRAINED, tokenizer)
    assert theirs.apply_chat_template(UNTRAINED, return_dict=False) == ids
    trained = [token for token, on in zip(ids, mask, strict=True) if on]
    assert tokenizer.decode(trained) == "A<|end|>"
    assert chat.render([*UNTRAINED[:1], UNTRAINED[1] | {"weight": 1}], tokenizer)[1][-4:] == [1, 1, 1, 1]
