import gzip
import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from journey import chat
from journey.data.conversations import first_question, split
from journey.data.preferences import Pair, encode, load, save, saved
from journey.errors import JourneyError
from journey.tokenizer.formats import Tokenizer

DATA = os.environ.get("JOURNEY_DATA", "")


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "
LONG = [user("Q"), assistant("A"), user("And?")]
LONG_TEXT = f"{HUMAN}Q{ASSISTANT}A{HUMAN}And?"
SCHEMAS = {
    "TRL, text": ({"prompt": "Q", "chosen": "good", "rejected": "bad"}, [user("Q")]),
    "TRL, messages": (
        {"prompt": LONG, "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        LONG,
    ),
    "TRL, the prompt inside": (
        {"chosen": [user("Q"), assistant("good")], "rejected": [user("Q"), assistant("bad")]},
        [user("Q")],
    ),
    "UltraFeedback, prompt beside the whole conversation": (
        {"prompt": "Q", "chosen": [user("Q"), assistant("good")], "rejected": [user("Q"), assistant("bad")]},
        [user("Q")],
    ),
    "HH-RLHF": ({"chosen": f"{LONG_TEXT}{ASSISTANT}good", "rejected": f"{LONG_TEXT}{ASSISTANT}bad "}, LONG),
    "HH-RLHF, the prompt apart": (
        {"prompt": f"{LONG_TEXT}\n\nAssistant:", "chosen": " good".strip(), "rejected": "bad"},
        LONG,
    ),
    "HH-RLHF, one who speaks twice": (
        {"chosen": f"{HUMAN}Q{ASSISTANT}good", "rejected": f"{HUMAN}Q{ASSISTANT}bad{ASSISTANT}worse"},
        [user("Q")],
    ),
    "rasbt": ({"instruction": "Q", "input": "", "chosen": "good", "rejected": "bad", "output": "x"}, [user("Q")]),
    "rasbt, with input": ({"instruction": "Q", "input": "I", "chosen": "good", "rejected": "bad"}, [user("Q\n\nI")]),
    "ShareGPT's names": (
        {"prompt": [{"from": "human", "value": "Q"}], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        [user("Q")],
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_in_every_kind_of_file(tmp_path, name):
    record, prompt = SCHEMAS[name]
    line = json.dumps(record)
    (tmp_path / "a.jsonl").write_text(f"{line}\n\n")
    (tmp_path / "a.json").write_text(f"[{line}]")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), tmp_path / "a.parquet")
    for file in ("a.jsonl", "a.json", "a.jsonl.gz", "a.parquet"):
        ((found,), _) = load(tmp_path / file)
        rejected = "bad\n\nworse" if "twice" in name else "bad"
        assert (found.prompt, found.chosen, found.rejected) == (prompt, [assistant("good")], [assistant(rejected)])


@pytest.mark.parametrize(
    ("record", "scores"),
    [
        ({"chosen_score": 0.5, "rejected_score": 0}, (0.5, 0.0)),
        ({"score_chosen": 9, "score_rejected": 7}, (9.0, 7.0)),
        ({"metadata": {"score_chosen": 9.0, "score_rejected": 7.5}}, (9.0, 7.5)),
        ({"metadata": None}, (None, None)),
    ],
)
def test_scores(tmp_path, record, scores):
    (tmp_path / "a.jsonl").write_text(json.dumps(record | {"prompt": "Q", "chosen": "x", "rejected": "y"}))
    ((pair,), _) = load(tmp_path / "a.jsonl")
    assert (pair.chosen_score, pair.rejected_score) == scores


GOOD = '{"prompt": "Q", "chosen": "x", "rejected": "y"}'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a record is an object with columns, not list"),
        ('{"prompt": "Q", "chosen": "x"}', "line 2: holds prompt, chosen; expected chosen and rejected"),
        ('{"chosen": "x", "rejected": "y"}', "line 2: says nowhere what was asked"),
        ('{"prompt": "Q", "chosen": 1, "rejected": "y"}', 'line 2: "chosen" is int, not text'),
        ('{"prompt": ["Q"], "chosen": "x", "rejected": "y"}', "line 2, prompt, message 1: a message is"),
        (
            '{"prompt": "Q", "chosen": [{"role": "bots", "content": "x"}], "rejected": "y"}',
            'line 2, chosen, message 1: the role "bots" is none of',
        ),
        (
            '{"prompt": [{"role": "assistant", "content": "Q"}], "chosen": "x", "rejected": "y"}',
            "line 2: the prompt ends with the assistant's own message",
        ),
    ],
)
def test_bad_records_are_named(tmp_path, line, says):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(JourneyError) as error:
        load(path)
    assert f"{path}, {says}" in str(error.value) and "\n" not in str(error.value)


def test_what_says_nothing_is_left_out_and_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    equal = '{"prompt": "Q", "chosen": "x", "rejected": "x"}'
    goes_on = json.dumps({"chosen": f"{HUMAN}Q{ASSISTANT}x{HUMAN}?", "rejected": f"{HUMAN}Q{ASSISTANT}y"})
    path.write_text("\n".join([GOOD, equal, equal, goes_on, GOOD]))
    pairs, left_out = load(path)
    assert len(pairs) == 1
    assert left_out == {"equal answers": 2, "not one answer each": 1, "repeated": 1}
    path.write_text(f"{equal}\n{equal}\n")
    with pytest.raises(JourneyError, match=r"no preference to learn from \(equal answers: 2\); each needs two diff"):
        load(path)
    path.write_text("")
    with pytest.raises(JourneyError, match="it is empty"):
        load(path)


def test_what_is_saved_is_loaded(tmp_path):
    pairs = [
        Pair("a", [user("Q\u2028\n")], [assistant("x")], [assistant("")], 0.5, 0.0),
        Pair("b", LONG, [assistant("<|end|>")], [assistant("中")]),
    ]
    save(pairs, tmp_path / "pairs.jsonl")
    assert saved(tmp_path / "pairs.jsonl") == pairs
    record = json.loads((tmp_path / "pairs.jsonl").read_text().split("\n")[0])
    assert list(record) == ["id", "prompt", "chosen", "rejected", "chosen_score", "rejected_score"]


def test_trl_renders_the_same_ids(tmp_path):
    """Our template in transformers, given the pair as TRL gives it."""
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.from_merges([("t", "h"), ("th", "e"), ("x", "y")])
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    pair = Pair("a", [{"role": "system", "content": "S"}, *LONG], [assistant("the xy")], [assistant("")])
    prompt, chosen, rejected = encode(pair, tokenizer)
    assert theirs.apply_chat_template(pair.prompt, add_generation_prompt=True, return_dict=False) == prompt
    for answer, ids in ((pair.chosen, chosen), (pair.rejected, rejected)):
        assert theirs.apply_chat_template(pair.prompt + answer, return_dict=False) == prompt + ids
        assert ids[-1] == tokenizer.special[chat.END]


def test_one_prompts_pairs_stay_together():
    pairs = [Pair(f"{i}", [user(f"Q{i % 30}")], [assistant("x")], [assistant(f"{i}")]) for i in range(90)]
    parts = split(pairs, 0, lambda pair: first_question(pair.prompt))
    assert sorted(pair.id for part in parts.values() for pair in part) == sorted(pair.id for pair in pairs)
    asked = [{pair.prompt[0]["content"] for pair in part} for part in parts.values()]
    assert sum(map(len, asked)) == 30 and all(asked)


@pytest.mark.skipif(not DATA, reason="JOURNEY_DATA is not set")
@pytest.mark.parametrize(
    ("name", "n", "left_out"),
    [
        ("rasbt-1k", 1_100, None),
        ("ultrafeedback-eval", 200, None),
        ("hh-rlhf/helpful-base", 2_354, None),
    ],
)
def test_real_preferences(name, n, left_out):
    pairs, dropped = load(Path(DATA) / "preference" / f"{name}.jsonl.gz")
    assert len(pairs) + sum(dropped.values()) == n
    assert len(pairs) > 0.95 * n
    for pair in pairs:
        assert pair.prompt[-1]["role"] == "user" and pair.chosen != pair.rejected
        assert all(len(answer) == 1 and answer[0]["role"] == "assistant" for answer in (pair.chosen, pair.rejected))
    assert (pairs[0].chosen_score is not None) == name.startswith("ultra")
