"""The rule for rows that cannot be used, and the files that hold rows."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey import chat
from journey.data import preferences, rows, schemas
from journey.data.conversations import conversation, load
from journey.errors import JourneyError
from journey.tokenizer.formats import Tokenizer

GOOD = '{"question": "Q", "answer": "A"}'
PAIR = '{"prompt": "Q", "chosen": "x", "rejected": "y"}'
MANY = [f'{{"question": "Q{i}", "answer": "A"}}' for i in range(9)]


def say(*messages: tuple[str, Any]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in messages]})


BAD = [
    ('"text"', "no object", ": a record is an object with columns, not str"),
    ("[]", "no object", ": a record is an object with columns, not list"),
    ("null", "no object", ": a record is an object with columns, not NoneType"),
    ("{}", "unknown columns", ": holds nothing; expected messages"),
    ('{"chosen": "x", "rejected": "y"}', "nothing asked", ": says nowhere what was asked"),
    ('{"chosen": "x"}', "unknown columns", ": holds chosen; expected messages"),
    (
        '{"text": "<|user|>Q"}',
        "unknown columns",
        ": holds text; expected messages, question and answer, instruction and",
    ),
    ('{"question": "Q", "answer": " "}', "empty answer", ': "answer" is empty'),
    ('{"question": "Q", "answer": null}', "empty answer", ': "answer" is null'),
    ('{"instruction": "Q", "input": "", "output": ""}', "empty answer", ': "output" is empty'),
    ('{"question": " ", "answer": "A"}', "nothing asked", ": what the user says is empty"),
    ('{"prompt": [], "completion": "A"}', "nothing asked", ': "prompt" is empty'),
    ('{"question": null, "answer": "A"}', "not text", ': "question" is null, not text'),
    ('{"prompt": "Q", "response": 3}', "not text", ': "response" is int, not text'),
    ('{"instruction": "Q", "input": {"a": 1}, "output": "A"}', "not text", ': "input" is dict, not text'),
    ('{"question": "Q", "answer": "A", "context": {"title": []}}', "not text", ': "context" is dict, not text'),
    ('{"messages": []}', "no messages", ': "messages" is empty'),
    ('{"conversations": null}', "no messages", ': "conversations" is empty'),
    ('{"messages": ["x"]}', "no message", ", message 1: a message is"),
    ('{"messages": [{"content": "x"}]}', "no message", ", message 1: a message is"),
    ('{"messages": {"role": "user"}}', "no message", ": is dict, not a list of messages"),
    ('{"messages": "hello"}', "no message", ": not JSON"),
    (say(("usr", "x")), "unknown role", ', message 1: the role "usr" is none of'),
    (say(("user\n", "x"), ("né\n\ud83d", "A")), "unknown role", ', message 2: the role "né\\n\\ud83d" is none of'),
    (say((3, "x")), "unknown role", ', message 1: the role "int" is none of'),  # type: ignore[arg-type]
    (say(("user", "x")), "no answer", ": no message is the assistant's"),
    (say(("system", "x")), "no answer", ": no message is the assistant's"),
    (say(("user", "x"), ("assistant", "")), "empty answer", ": an answer is empty"),
    (say(("user", "x"), ("assistant", "\n")), "empty answer", ": an answer is empty"),
    (say(("user", "x"), ("assistant", None)), "empty answer", ', message 2: "content" is null'),
    (say(("user", "x"), ("assistant", ""), ("user", "y"), ("assistant", "A")), "empty answer", ": an answer is empty"),
    (say(("user", None), ("assistant", "A")), "not text", ', message 1: "content" is null, not text'),
    (say(("user", "Q"), ("system", "S"), ("assistant", "A")), "system message not first", ": message 2 is a system"),
    (say(("system", "S"), ("developer", "S"), ("assistant", "A")), "system message not first", ": message 2 is a"),
    (say(("user", "half \ud83d"), ("assistant", "A")), "half a character", ', message 1: "content" holds half a char'),
    ('{"question": "Q", "answer": "\\udc00"}', "half a character", ': "answer" holds half a character (U+DC00 at'),
    (say(("user", [{"type": "image_url"}]), ("assistant", "A")), "not text", ', message 1: "content" is a list'),
]


@pytest.mark.parametrize(("line", "kind", "says"), BAD)
def test_a_bad_row_is_left_out_counted_and_named(tmp_path: Path, line: str, kind: str, says: str) -> None:
    path, said = tmp_path / "a.jsonl", list[str]()
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    found, left_out = load(path, say=said.append)
    assert len(found) == 2 and left_out == {kind: 1}
    assert said[:2] == [f"{path}: question -> answer: 2 conversations", f"{path}: 1 of 3 rows left out ({kind}: 1)"]
    assert len(said) == 3 and said[2].startswith(f"  left out: {path}, line 3{says}") and "\n" not in said[2]
    with pytest.raises(JourneyError) as error:
        load(path, strict=True)
    assert str(error.value).startswith(f"{path}, line 3{says}") and "\n" not in str(error.value)


BAD_PAIRS = [
    ("[]", "no object", ": a record is an object with columns, not list"),
    ('{"prompt": "Q", "chosen": "x"}', "unknown columns", ": holds prompt, chosen; expected chosen and rejected"),
    ('{"chosen": "x", "rejected": "y"}', "nothing asked", ": says nowhere what was asked"),
    ('{"prompt": "", "chosen": "x", "rejected": "y"}', "nothing asked", ": says nowhere what was asked"),
    ('{"prompt": null, "chosen": "x", "rejected": "y"}', "nothing asked", ": says nowhere what was asked"),
    ('{"system": "S", "chosen": "x", "rejected": "y"}', "nothing asked", ": says nowhere what was asked"),
    ('{"prompt": "Q", "chosen": 1, "rejected": "y"}', "not text", ': "chosen" is int, not text'),
    ('{"prompt": "Q", "chosen": "", "rejected": "y"}', "empty answer", ': "chosen" is empty'),
    ('{"prompt": "Q", "chosen": "x", "rejected": null}', "empty answer", ': "rejected" is null'),
    ('{"prompt": "Q", "chosen": "x", "rejected": []}', "not one answer each", ": the answers are not one message each"),
    ('{"prompt": ["Q"], "chosen": "x", "rejected": "y"}', "no message", ", prompt, message 1: a message is"),
    ('{"prompt": "Q", "chosen": "x \\ud83d", "rejected": "y"}', "half a character", ': "chosen" holds half a char'),
    ('{"prompt": "\\ud83d", "chosen": "x", "rejected": "y"}', "half a character", ': "prompt" holds half a char'),
    (
        '{"prompt": "Q", "chosen": [{"role": "bots", "content": "x"}], "rejected": "y"}',
        "unknown role",
        ', chosen, message 1: the role "bots" is none of',
    ),
    (
        '{"prompt": [{"role": "assistant", "content": "Q"}], "chosen": "x", "rejected": "y"}',
        "nothing asked last",
        ": the prompt ends with the assistant's own message",
    ),
    ('{"prompt": "Q", "chosen": "x", "rejected": "x"}', "equal answers", ": the two answers are equal"),
    (
        '{"chosen": "\\n\\nHuman: Q\\n\\nAssistant: x\\n\\nHuman: ?", "rejected": "\\n\\nHuman: Q\\n\\nAssistant: y"}',
        "not one answer each",
        ": the answers are not one message each",
    ),
    (
        '{"chosen": "\\n\\nHuman: Q\\n\\nAssistant:", "rejected": "\\n\\nHuman: Q\\n\\nAssistant: y"}',
        "empty answer",
        ": an answer is empty",
    ),
]


@pytest.mark.parametrize(("line", "kind", "says"), BAD_PAIRS)
def test_the_same_rule_for_preferences(tmp_path: Path, line: str, kind: str, says: str) -> None:
    path, said = tmp_path / "a.jsonl", list[str]()
    path.write_text(f"{PAIR}\n\n{line}\n")
    found, left_out = preferences.load(path, say=said.append)
    assert len(found) == 1 and left_out == {kind: 1}
    assert said[0] == f"{path}: prompt -> chosen, rejected (UltraFeedback, TRL): 1 preferences"
    assert said[1] == f"{path}: 1 of 2 rows left out ({kind}: 1)"
    assert len(said) == 3 and said[2].startswith(f"  left out: {path}, line 3{says}") and "\n" not in said[2]
    with pytest.raises(JourneyError) as error:
        preferences.load(path, strict=True)
    assert str(error.value).startswith(f"{path}, line 3{says}") and "\n" not in str(error.value)


def test_the_first_three_are_shown_and_more_than_half_is_said_loudly(tmp_path: Path) -> None:
    path, said = tmp_path / "a.jsonl", list[str]()
    path.write_text("\n".join([GOOD, *['{"question": "Q", "answer": ""}'] * 4, "[]"]))
    assert load(path, say=said.append)[1] == {"empty answer": 4, "no object": 1}
    assert said == [
        f"{path}: question -> answer: 1 conversations",
        f"MORE THAN HALF IS LEFT OUT: {path}: 5 of 6 rows left out (empty answer: 4, no object: 1)",
        *(f'  left out: {path}, line {line}: "answer" is empty' for line in (2, 3, 4)),
    ]


def test_where_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"text": "x"}\n{"question": "Q", "answer": ""}\n')
    with pytest.raises(JourneyError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}, line 2: holds text; expected messages")
    assert str(error.value).endswith("none of the 2 rows can be used (unknown columns: 1, empty answer: 1)")
    path.write_text("\n")
    with pytest.raises(JourneyError, match="no conversations in this file"):
        load(path)
    with pytest.raises(JourneyError, match="no preferences in this file"):
        preferences.load(path)


def test_of_a_good_file_only_its_schema_is_said(tmp_path: Path) -> None:
    said, path = list[str](), tmp_path / "a.jsonl"
    path.write_text("\n".join(MANY))
    assert load(path, say=said.append)[1] == {} and said == [f"{path}: question -> answer: 9 conversations"]


@pytest.mark.parametrize(("name", "place"), [("a.parquet", "row 2"), ("a.json", "record 2"), ("a.jsonl", "line 2")])
def test_the_place_of_a_row(tmp_path: Path, name: str, place: str) -> None:
    path, rows, said = tmp_path / name, [{"question": "Q", "answer": a} for a in ("A", "", None)], list[str]()
    if name == "a.parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if name == "a.json" else "\n".join(map(json.dumps, rows)))
    assert load(path, say=said.append)[1] == {"empty answer": 2}
    assert said[2] == f'  left out: {path}, {place}: "answer" is empty'


# Files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ndjson", "\n".join(MANY)),
        ("A.JSONL", "\n".join(MANY)),
        ("a.json", "\n".join(MANY)),  # lines, as `datasets` reads them too
        ("a.jsonl", f"[{','.join(MANY)}]"),
        ("a.jsonl", json.dumps([json.loads(line) for line in MANY], indent=1)),
        ("a.jsonl", "\ufeff \n[" + ",\n".join(MANY) + "]"),
        ("a.JSON", f'{{"version": 1, "data": [{",".join(MANY)}], "names": ["x"]}}'),
        ("a.json", f'{{"rows": [{",".join(MANY)}]}}'),
        ("a.json.gz", f"[{','.join(MANY)}]"),
        ("a.ndjson.zst", "\n".join(MANY)),
        ("a.jsonl.gz", f"[{','.join(MANY)}]"),
        ("a.jsonl", "\n".join(f"[{say(('user', f'Q{i}'), ('assistant', 'A'))[14:-2]}]" for i in range(9))),
    ],
)
def test_files_of_other_forms(tmp_path: Path, name: str, content: str) -> None:
    data = content.encode()
    if name.endswith(".gz"):
        data = gzip.compress(data)
    elif name.endswith(".zst"):
        data = pyarrow.compress(data, codec="zstd", asbytes=True)
    (tmp_path / name).write_bytes(data)
    found, left_out = load(tmp_path / name)
    assert [messages[0]["content"] for messages in found] == [f"Q{i}" for i in range(9)] and not left_out


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", f"{GOOD}\n{{\n", "a.jsonl, line 2: not JSON"),
        ("a.json", f"{GOOD}\n{GOOD}\n{{", "a.json, line 3: not JSON"),
        ("a.json", f"[{GOOD},\n{GOOD}\n{GOOD}]", "a.json, line 3: not JSON"),
        ("a.jsonl", "[\n{\n]", "a.jsonl, line 3: not JSON"),
        ("a.json", "", "a.json, line 1: not JSON"),
        ("a.json", GOOD, "a.json: holds one dict; conversations are a JSON list of records"),
        ("a.json", "3", "a.json: holds one int; conversations are a JSON list of records"),
        ("a.json", '{"data": []}', "a.json: holds one dict"),
        ("a.json", f'{{"train": [{GOOD}], "test": [{GOOD}]}}', r"holds several lists of records \(train, test\)"),
        ("a.json", "[" * 100_000, "a.json: JSON that is nested too deeply"),
        ("a.json", f"[{'9' * 5_000}]", "a.json: JSON with an integer of thousands of digits"),
        ("a.jsonl", "[" * 100_000, "a.jsonl: JSON that is nested too deeply"),
        ("a.xlsx", "x", "use .jsonl"),
    ],
)
def test_damaged_files_are_errors(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(JourneyError, match=says) as error:
        load(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="no such file"):
        load(tmp_path / "missing.jsonl")


def test_a_value_nested_within_a_row_is_no_traceback(tmp_path: Path) -> None:
    deep = "[" * 900 + "]" * 900
    call = {"name": "f", "arguments": {"x": json.loads(deep)}}
    tools = {"messages": json.loads(say(("user", "Q"), ("assistant", "A")))["messages"], "tools": [call]}
    called = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "tool_calls": [call]}]}
    replies: list[Any] = []
    for i in range(400):
        replies = [{"role": ("assistant", "prompter")[i % 2], "text": "x", "replies": replies}]
    tree = {"message_tree_id": "1", "prompt": {"role": "prompter", "text": "Q", "replies": replies}}
    (tmp_path / "t.jsonl").write_text("\n".join([GOOD, *map(json.dumps, (tools, called, tree))]))
    assert len(load(tmp_path / "t.jsonl")[0]) == 4
    rows = [{"messages": json.loads(deep)}, {"messages": [{"role": json.loads(deep), "content": "x"}]}]
    rows += [{"question": "Q", "answer": json.loads(deep)}, {"prompt": f'[{{"role": {deep}}}]', "completion": "A"}]
    (tmp_path / "a.jsonl").write_text("\n".join([GOOD, *map(json.dumps, rows)]))
    assert load(tmp_path / "a.jsonl")[1].total() == 3
    pairs = [json.loads(PAIR) | {"id": json.loads(deep), "chosen_score": 10**400, "rejected_score": float("nan")}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    ((pair,), _) = preferences.load(tmp_path / "b.jsonl")
    assert (pair.chosen_score, pair.rejected_score) == (None, None)


NAMES = [
    *schemas.CONVERSATIONS, *schemas.SYSTEMS, *schemas.BESIDE, *schemas.SPEAKER, *schemas.CONTENT, *schemas.WEIGHTS,
    *schemas.ASKED, *schemas.ANSWERED, "passage", "context", "history", "chosen", "rejected", "preferred_output",
    "non_preferred_output", "type", "id", "chosen_score", "metadata", "tool_calls", "Prompt", "", "tools", "replies",
    "message_tree_id", "message_id", "parent_id", "rank", "deleted", "function", "name", "arguments", "lang",
]  # fmt: skip
TEXTS = [*schemas.SPEAKERS, *chat.ROLES, "", " ", "Q", "text", "\ud83d", "\n\nHuman: Q\n\nAssistant:", "[", "[]", "{}"]
TEXTS += [json.dumps([{"role": "user", "content": "Q"}]), '[["q", "a"]]', "\n\nHuman: Q\n\nAssistant: A"]
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "gpt"]), "content": st.sampled_from(TEXTS)},
    optional={"weight": st.sampled_from([0, 1, 0.5, None, "x", []])},
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.lists(MESSAGE, max_size=4),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.sampled_from(NAMES), some, max_size=4),
    max_leaves=8,
)
ROW = st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=5)
TOKENIZER = Tokenizer.from_merges([])


@given(ROW | VALUE)
@settings(max_examples=150, deadline=None)
def test_any_row_is_read_or_left_out(row: object) -> None:
    """And what is read can be rendered and learned from."""
    try:
        messages = conversation(row, "here")
    except rows.Unusable as error:
        assert str(error).startswith("here") and "\n" not in str(error)
    else:
        assert any(chat.render(messages, TOKENIZER)[1])


@given(st.lists(ROW | VALUE, max_size=4), st.binary(max_size=40), st.sampled_from([".jsonl", ".csv", ".tsv"]))
@settings(max_examples=100, deadline=None)
def test_any_file_is_read_or_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, some: list[object], more: bytes, ending: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{ending}"
    path.write_bytes("\n".join([GOOD, *map(json.dumps, some)]).encode() + b"\n" + (more if ending != ".jsonl" else b""))
    try:
        load(path)
    except JourneyError as error:
        assert "\n" not in str(error)


@given(ROW, VALUE, VALUE)
@settings(max_examples=150, deadline=None)
def test_any_preference_is_read_or_left_out(row: dict[str, Any], chosen: object, rejected: object) -> None:
    try:
        pair = preferences.pair(row | {"chosen": chosen, "rejected": rejected}, "here")
    except rows.Unusable as error:
        assert str(error).startswith("here") and "\n" not in str(error)
    else:
        prompt, *answers = preferences.encode(pair, TOKENIZER)
        assert prompt[-1] == TOKENIZER.special["<|assistant|>"] and all(len(ids) > 1 for ids in answers)
