"""Ids and masks of every adapter's rows against transformers' own, on the template that we save."""

import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from journey import chat
from journey.data.conversations import load
from journey.data.rows import records
from journey.tokenizer.formats import Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))
ROWS = 60

SLIMORCA = [
    {"conversations": [
        {"from": "system", "value": "You are an AI assistant.\nThink step by step.", "weight": None},
        {"from": "human", "value": f"Write {i} sentences about the café.", "weight": 0.0},
        {"from": "gpt", "value": "The café opens at 8. " * (1 + i % 3), "weight": 1.0},
    ]} for i in range(6)
]  # fmt: skip
OASST1 = [
    {"message_tree_id": f"{i}", "tree_state": "ready_for_export", "prompt": {
        "message_id": f"{i}", "text": f"¿Qué es {i}?", "role": "prompter", "lang": "es", "deleted": False, "replies": [
            {"message_id": f"{i}-b", "text": "No sé.", "role": "assistant", "rank": 1, "replies": []},
            {"message_id": f"{i}-a", "text": f"Es {i}.", "role": "assistant", "rank": 0, "replies": [
                {"message_id": f"{i}-c", "text": "¿Por qué?", "role": "prompter", "rank": None, "replies": [
                    {"message_id": f"{i}-d", "text": "Porque sí.\n", "role": "assistant", "replies": []}]}]}]}}
    for i in range(6)
]  # fmt: skip


def bfcl() -> list[dict[str, Any]]:
    """BFCL's questions, functions and right calls, as OpenAI writes them, with an answer of the tool."""
    folder = DATA / "tools" / "bfcl-v4"
    truth = {row["id"]: row["ground_truth"] for row in map(json.loads, (folder / "answers/multiple.json").open())}
    found = []
    for row in islice(map(json.loads, (folder / "multiple.json").open()), ROWS):
        (call,) = truth[row["id"]]
        ((name, arguments),) = call.items()
        called = {"name": name, "arguments": json.dumps({key: values[0] for key, values in arguments.items()})}
        said = [
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": called}]},
            {"role": "tool", "tool_call_id": "1", "content": '{"ok": true}'},
            {"role": "assistant", "content": "Done."},
        ]
        found.append({"messages": [*row["question"][0], *said], "tools": row["function"]})
    return found


def real(name: str) -> list[Any]:
    return [record for _, record in islice(records(DATA / name), ROWS)]


SOURCES = {
    "dolly-15k": lambda: real("instruct/dolly-15k.jsonl.gz"),
    "rasbt-1k": lambda: real("instruct/rasbt-1k.jsonl.gz"),
    "hh-rlhf": lambda: real("preference/hh-rlhf/helpful-base.jsonl.gz"),
    "ultrafeedback": lambda: real("preference/ultrafeedback-eval.jsonl.gz"),
    "bfcl": bfcl,
    "oasst1": lambda: OASST1,
    "slimorca": lambda: SLIMORCA,
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """Our tokenizer, and what transformers makes of its folder."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer.from_merges([("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("\u010a", "\u010a")])
    tokenizer.save(folder)
    return tokenizer, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", SOURCES)
def test_ids_and_mask_are_those_of_transformers(tmp_path: Path, pair: tuple[Tokenizer, Any], name: str) -> None:
    if name not in ("oasst1", "slimorca") and not DATA.is_dir():
        pytest.skip("JOURNEY_DATA is not set")
    tokenizer, theirs = pair
    path, rows = tmp_path / "a.jsonl", SOURCES[name]()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, left_out = load(path)
    assert len(found) >= 0.9 * len(rows) and len(found) + left_out.total() == len(rows)
    for messages in found:
        assert not any(token in message["content"] for message in messages for token in chat.SPECIALS)
        ids, mask = chat.render(messages, tokenizer)
        said = theirs.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        assert said["input_ids"] == ids and sum(mask) > 0
        if any(message.get("weight") == 0 for message in messages):  # the template knows no weights: compared without
            unweighed = [{"role": m["role"], "content": m["content"]} for m in messages]
            mask, weighed = chat.render(unweighed, tokenizer)[1], mask
            assert all(a <= b for a, b in zip(weighed, mask, strict=True)) and weighed != mask
        assert said["assistant_masks"] == mask
