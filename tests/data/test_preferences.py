import gzip
import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from journey import chat
from journey.data.calls import tools_text
from journey.data.conversations import first_question, split
from journey.data.preferences import Pair, encode, load, save, saved
from journey.errors import JourneyError
from journey.tokenizer.formats import Tokenizer

DATA = os.environ.get("JOURNEY_DATA", "")


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


SYSTEM = {"role": "system", "content": "S"}
GOOD_AND_BAD = {"chosen": "good", "rejected": "bad"}


def answered(*asked):
    """The two answers as whole conversations."""
    return {"chosen": [*asked, assistant("good")], "rejected": [*asked, assistant("bad")]}


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
    "orca": ({"system": "S", "question": "Q"} | GOOD_AND_BAD, [SYSTEM, user("Q")]),
    "orca, no system": ({"system": "", "question": "Q"} | GOOD_AND_BAD, [user("Q")]),
    "a question with its context": ({"question": "Q", "context": "C"} | GOOD_AND_BAD, [user("C\n\nQ")]),
    "query": ({"query": "Q", "history": [["q0", "a0"]]} | GOOD_AND_BAD, [user("q0"), assistant("a0"), user("Q")]),
    "system beside prompt": ({"system": "S", "prompt": "Q"} | GOOD_AND_BAD, [SYSTEM, user("Q")]),
    "system beside messages": ({"system": "S", "prompt": LONG} | GOOD_AND_BAD, [SYSTEM, *LONG]),
    "system beside whole conversations": ({"system": "S"} | answered(*LONG), [SYSTEM, *LONG]),
    "history": (
        {"instruction": "Q", "input": "I", "system": "S", "history": [["q0", "a0"]]} | GOOD_AND_BAD,
        [SYSTEM, user("q0"), assistant("a0"), user("Q\n\nI")],
    ),
    "LLaMA-Factory": (
        {
            "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        [SYSTEM, user("Q")],
    ),
    "axolotl": ({"messages": LONG, "chosen": assistant("good"), "rejected": assistant("bad")}, LONG),
    "axolotl, input": ({"system": "S", "input": "Q"} | GOOD_AND_BAD, [SYSTEM, user("Q")]),
    "Argilla": ({"instruction": "Q", "chosen_response": "good", "rejected_response": "bad"}, [user("Q")]),
    "ms-swift": ({"query": "Q", "response": "good", "rejected_response": "bad"}, [user("Q")]),
    "OpenAI": (
        {
            "input": {"messages": [SYSTEM, user("Q")], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [assistant("good")],
            "non_preferred_output": [assistant("bad")],
        },
        [SYSTEM, user("Q")],
    ),
    "OpenAI, tools": (
        {
            "input": {"messages": [SYSTEM, user("Q")], "tools": [{"name": "f"}]},
            "preferred_output": [assistant("good")],
            "non_preferred_output": [assistant("bad")],
        },
        [{"role": "system", "content": "S\n\n" + tools_text([{"name": "f"}], "")}, user("Q")],
    ),
    "one message each": ({"prompt": user("Q"), "chosen": assistant("good"), "rejected": assistant("bad")}, [user("Q")]),
    "messages as JSON": (
        {
            "prompt": json.dumps(LONG),
            "chosen": json.dumps([assistant("good")]),
            "rejected": json.dumps([assistant("bad")]),
        },
        LONG,
    ),
    "conversations as JSON": ({name: json.dumps(said) for name, said in answered(*LONG).items()}, LONG),
    "UltraFeedback, its column of messages": (
        {"prompt": "Q", "messages": [user("Q"), assistant("good")]} | answered(user("Q")),
        [user("Q")],
    ),
    # The question stands in the prompt and in the answers
    "dpo-question-twice, white space": ({"prompt": "Q"} | answered(user("Q ")), [user("Q ")]),
    "dpo-question-twice, line end": ({"prompt": "Q\n"} | answered(user("\nQ")), [user("\nQ")]),
    "white space after the question in one answer": (
        {"prompt": "Q", "chosen": [user("Q "), assistant("good")], "rejected": [user("Q"), assistant("bad")]},
        [user("Q ")],
    ),
    "dpo-question-twice, system": ({"prompt": "Q"} | answered(SYSTEM, user("Q")), [SYSTEM, user("Q")]),
    "dpo-question-twice, system and space": ({"prompt": " Q"} | answered(SYSTEM, user("Q")), [SYSTEM, user("Q")]),
    "dpo-question-twice, turns": ({"prompt": "And?"} | answered(SYSTEM, *LONG), [SYSTEM, *LONG]),
    "dpo-question-twice, the first turn": ({"prompt": "Q"} | answered(*LONG), LONG),
    "instruction twice": ({"instruction": "Q", "input": ""} | answered(user("Q ")), [user("Q ")]),
    "question twice, system apart": ({"system": "S", "question": "Q"} | answered(user("Q ")), [SYSTEM, user("Q ")]),
    "the system twice": ({"system": "S", "question": "Q"} | answered(SYSTEM, user("Q")), [SYSTEM, user("Q")]),
    "messages twice": ({"prompt": [SYSTEM, *LONG]} | answered(*LONG), [SYSTEM, *LONG]),
    "the last question alone twice": ({"prompt": LONG} | answered(LONG[-1]), LONG),
    "a prompt that goes on": ({"prompt": LONG[:2]} | answered(LONG[-1]), LONG),
    "HH-RLHF, all twice": (
        {
            "prompt": f"{LONG_TEXT}\n\nAssistant:",
            "chosen": f"{LONG_TEXT}{ASSISTANT}good",
            "rejected": f"{LONG_TEXT}{ASSISTANT}bad",
        },
        LONG,
    ),
    "texts that repeat the question": (
        {"prompt": "What is it? ", "chosen": "What is it?\n\ngood", "rejected": " What is it? bad"},
        [user("What is it? ")],
    ),
    "ShareGPT's names, all": (
        {
            "prompt": [{"from": "user", "value": "Q"}],
            "chosen": [{"from": "assistant", "value": "good"}],
            "rejected": [{"from": "assistant", "value": "bad"}],
        },
        [user("Q")],
    ),
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
        rejected = "bad\n\nworse" if "speaks twice" in name else "bad"
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


def test_repetitions_are_left_out_and_counted_and_are_no_bad_rows(tmp_path):
    path, said = tmp_path / "a.jsonl", []
    other = GOOD.replace("Q", "Q2")
    path.write_text("\n".join([GOOD, other, GOOD, '{"prompt": "Q", "chosen": "x", "rejected": "x"}', GOOD]))
    pairs, left_out = load(path, say=said.append)
    assert [pair.prompt[0]["content"] for pair in pairs] == ["Q", "Q2"]
    assert left_out == {"equal answers": 1, "repeated": 2}
    assert said == [
        f"{path}: prompt -> chosen, rejected (UltraFeedback, TRL): 4 preferences",
        f"{path}: 1 of 5 rows left out (equal answers: 1)",
        f"  left out: {path}, line 4: the two answers are equal",
        f"{path}: 2 preferences left out that repeat another",
    ]
    path.write_text(f"{GOOD}\n{GOOD}")
    assert load(path, strict=True)[1] == {"repeated": 1}


def test_where_nothing_is_left(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "Q", "chosen": "x", "rejected": "x"}\n[]\n')
    with pytest.raises(JourneyError) as error:
        load(path)
    assert str(error.value) == (
        f"{path}, line 1: the two answers are equal; none of the 2 rows can be used (equal answers: 1, no object: 1)"
    )


ASKED_OTHERWISE = [
    ({"prompt": "Q", "chosen": [user("R"), assistant("x")], "rejected": [user("R"), assistant("y")]}, "two questions"),
    (
        {
            "prompt": [SYSTEM, user("Q")],
            "chosen": [SYSTEM | {"content": "T"}, user("Q"), assistant("x")],
            "rejected": [SYSTEM | {"content": "T"}, user("Q"), assistant("y")],
        },
        "two system messages",
    ),
    ({"system": "T", "prompt": [SYSTEM, user("Q")], "chosen": "x", "rejected": "y"}, "two system messages"),
    ({"prompt": [user("Q"), SYSTEM], "chosen": "x", "rejected": "y"}, "system message not first"),
    ({"prompt": "Q", "images": ["a.png"], "chosen": "x", "rejected": "y"}, "images or sound"),
    ({"prompt": "Q", "tools": [{"title": "f"}], "chosen": "x", "rejected": "y"}, "malformed tools"),
    ({"input": {"messages": [user("Q")], "tools": [1]}, "preferred_output": "x", "non_preferred_output": "y"},
     "malformed tools"),
    ({"prompt": "Q", "chosen": assistant("x") | {"tool_calls": [1]}, "rejected": "y"}, "malformed tool call"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "kind"), ASKED_OTHERWISE)
def test_what_is_asked_in_two_ways_is_left_out(tmp_path, record, kind):
    (tmp_path / "a.jsonl").write_text(f"{GOOD}\n{json.dumps(record)}")
    assert load(tmp_path / "a.jsonl")[1] == {kind: 1}


def test_answers_that_differ_in_white_space_alone_are_a_pair(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "Q", "chosen": "x", "rejected": "x\n"}))
    ((found,), _) = load(tmp_path / "a.jsonl")
    assert (found.chosen, found.rejected) == ([assistant("x")], [assistant("x\n")])


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [("Hi", "Hi there"), ("Write on", "Write once"), ("Say Q.", "Say Q."), ("The sky is", "The sky is: blue")],
)
def test_an_answer_that_only_begins_like_the_question_is_kept(tmp_path, prompt, answer):
    rows = [{"prompt": prompt, "chosen": answer, "rejected": f"{answer} again"}]
    rows.append({"prompt": "Say it all", "chosen": "Say it all again", "rejected": "no"})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (first, second), _ = load(tmp_path / "a.jsonl")
    assert first.chosen == [assistant(answer)] and second.chosen == [assistant("Say it all again")]


def test_trl_asks_and_compares_the_same(tmp_path):
    """TRL's own functions on the rows as they are: the conversation with each answer."""
    from trl.data_utils import maybe_convert_to_chatml, maybe_extract_prompt

    for name, (record, _) in SCHEMAS.items():
        if not name.startswith(("TRL, m", "TRL, the", "UltraFeedback", "ShareGPT's names, all", "dpo-question-twice")):
            continue
        (tmp_path / "a.jsonl").write_text(json.dumps(record))
        ((found,), _) = load(tmp_path / "a.jsonl")
        theirs = maybe_extract_prompt(maybe_convert_to_chatml(json.loads(json.dumps(record))))
        for ours, column in ((found.chosen, "chosen"), (found.rejected, "rejected")):
            assert found.prompt + ours == theirs["prompt"] + theirs[column], name


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
    assert len(pairs) + sum(dropped.values()) == n and {*dropped} <= {"equal answers", "empty answer"}
    assert len(pairs) > 0.95 * n
    for pair in pairs:
        assert pair.prompt[-1]["role"] == "user" and pair.chosen != pair.rejected
        assert all(len(answer) == 1 and answer[0]["role"] == "assistant" for answer in (pair.chosen, pair.rejected))
    assert (pairs[0].chosen_score is not None) == name.startswith("ultra")
