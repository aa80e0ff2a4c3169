"""`journey data show`, as it is typed: what it shows is what sft and dpo train on."""

import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from journey.checkpoint import open_tokenizer
from journey.data import conversations, preferences
from journey.showing import lines
from journey.showing.examples import of_conversation, of_pair, tokens
from journey.stages.sft import encode
from journey.tokenizer.formats import Tokenizer

DATA = os.environ.get("JOURNEY_DATA", "")
TOKENIZER = Tokenizer.from_merges([("t", "h"), ("th", "e")])


def say(*contents):
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS = [
    {"messages": [{"role": "system", "content": "S"}, *say("the q", "an a")], "lang": "de"},
    {"messages": [*say("q0 " * 30, "a0", "q1 " * 5, "a1")]},  # the older exchange does not fit
    {"messages": say("What is it?\n\n" + "long " * 60, "a2")},  # the text that it is about is cut
    {"messages": say("q" * 90, "a3")},  # does not fit at all
    {"messages": say("the q", "an a")},
    {"messages": say("the q", "another")},
    {"question": "Q", "answer": ""},
]


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "a.jsonl", *ROWS)


def test_what_is_shown_is_what_sft_trains_on(life, journey, data):
    node = life.node("coder")
    tokenizer = open_tokenizer(node.path)
    shown = journey("data", "show", data, "--model", node.path, "-n", 9, "--json").json
    assert shown["ok"] and shown["verb"] == "data" and len(shown["examples"]) == 6
    kept = [example for example in shown["examples"] if not example["left_out"]]

    class Run:
        def say(self, line):
            pass

    found, _ = conversations.load(data)
    rows = encode(found, tokenizer, 64, Run())
    assert [example["parts"][0]["ids"] for example in kept] == [row.input_ids for row in rows]
    for example, row in zip(kept, rows, strict=True):
        assert example["parts"][0]["trained"] == [int(label != -100) for label in row.labels]
    said = {example["where"][-1]: (example["cut"], example["left_out"]) for example in shown["examples"]}
    assert said["2"] == ("the oldest 1 exchange left out", "") and said["4"] == ("", "too long")
    assert re.fullmatch(r"the last \d+ characters of what the question is about cut off", said["3"][0])
    assert said["1"] == said["5"] == ("", "")


def test_without_colours_marks_stand_around_what_is_trained_on(life, journey, data):
    output = journey("data", "show", data, "--model", life.node("chat").path, "-n", 6)
    assert output.code == 0 and "\x1b" not in output.out, output.err
    assert "<|system|>S\n<|user|>the q\n<|assistant|>⟦an a<|end|>⟧\n" in output.out
    assert f"{data}: 1 of 7 rows left out (empty answer: 1)" in output.out
    assert f"{data}, line 4 · user, assistant · " in output.out and "LEFT OUT, too long: " in output.out
    assert "⟦…⟧ is trained on" in output.out


def test_the_seed_draws_and_the_order_is_that_of_the_file(journey, tmp_path, life):
    path = write(tmp_path / "b.jsonl", *({"question": f"Q{i}", "answer": "A"} for i in range(200)))

    def drawn(*more):
        told = journey("data", "show", path, "--model", life.node("tokenizer").path, "--json", *more).json
        return [int(example["where"].rpartition(" ")[2]) for example in told["examples"]]

    assert drawn() == drawn("--seed", 0) == sorted(drawn()) != drawn("--seed", 1) and len(drawn()) == 3
    assert drawn("-n", 0) == [] and len(drawn("--examples", 500)) == 200


def test_stats_count_all(life, journey, data):
    told = journey("data", "show", data, "--model", life.node("chat").path, "-n", 0, "--stats", "--json").json
    numbers = {name: metric["value"] for name, metric in told["metrics"].items()}
    tokenizer = open_tokenizer(life.node("chat").path)
    found, _ = conversations.load(data)
    lengths = sorted(conversations.fitted(messages, tokenizer, 10**9).length for messages in found)
    assert (numbers["tokens_least"], numbers["tokens_most"]) == (lengths[0], lengths[-1])
    assert numbers["tokens_median"] in lengths[2:4] and numbers["examples"] == 6
    assert [numbers[name] for name in ("fit", "shortened", "too_long", "left_out", "duplicates")] == [3, 2, 1, 1, 0]
    assert numbers["repeated_questions"] == 2  # of three that ask "the q"
    assert sum(one["rows"] for one in told["histogram"]) == 6 and told["languages"]["de"] == 1
    assert all(any(one["from"] <= n <= one["to"] for one in told["histogram"]) for n in lengths)
    assert told["left_out"] == {"empty answer": 1} and told["turns"] == {"1": 5, "2": 1}
    shares = [conversations.fitted(messages, tokenizer, 64) for messages in found]
    kept = [one for one in shares if one.messages]
    share = 100 * sum(sum(one.mask) for one in kept) / sum(len(one.ids) for one in kept)
    assert numbers["trained_share"] == pytest.approx(share)
    output = journey("data", "show", data, "--model", life.node("chat").path, "-n", 0, "--stats")
    assert "the context of 64: 3 (50.0%) fit, 2 (33.3%) are shortened, 1 (16.7%) left out (too long)" in output.out


def test_exact_duplicates_are_no_repeated_questions(journey, tmp_path, life):
    path = write(tmp_path / "a.jsonl", *[{"question": "Q", "answer": answer} for answer in "AABA"])
    told = journey("data", "show", path, "--model", life.node("tokenizer").path, "--stats", "--json").json
    assert (told["metrics"]["duplicates"]["value"], told["metrics"]["repeated_questions"]["value"]) == (2, 1)


def test_preferences_show_both_answers(life, journey, tmp_path):
    path = write(tmp_path / "p.jsonl", {"prompt": "Q", "chosen": "good", "rejected": "bad"}, ROWS[-1])
    output = journey("data", "show", path, "--model", life.node("chat").path, "--stats")
    assert output.code == 0, output.err
    shown = "prompt:\n<|user|>Q\n<|assistant|>\nchosen:\n⟦good<|end|>⟧\nrejected:\n⟦bad<|end|>⟧\n"
    assert (
        shown in output.out and f"{path}: prompt -> chosen, rejected (UltraFeedback, TRL): 1 preferences" in output.out
    )
    one = of_pair(preferences.placed(path)[0][0], TOKENIZER, 5)
    assert one.left_out == "too long" and one.length == 8
    pairs = journey("data", "show", life.node("pairs").path, "--model", life.node("chat").path, "-n", 1, "--json").json
    assert [part["name"] for part in pairs["examples"][0]["parts"]] == ["prompt", "chosen", "rejected"]


def test_ids_stand_below_their_tokens(life, journey, tmp_path):
    path = write(tmp_path / "a.jsonl", {"question": "the q", "answer": "A"})
    node = life.node("chat")
    output = journey("data", "show", path, "--model", node.path, "--ids")
    rows = output.out.splitlines()
    at = next(i for i, line in enumerate(rows) if line.startswith("<|assistant|>"))
    tokenizer = open_tokenizer(node.path)
    marks, ids = rows[at].split(), [int(id) for id in rows[at + 1].split()]
    assert marks == ["<|assistant|>", "⟦A⟧", "⟦<|end|>⟧"]
    assert ids == [tokenizer.special["<|assistant|>"], *tokenizer.encode("A"), tokenizer.special["<|end|>"]]


def placed(*said):
    return conversations.Placed(say(*said), "here", "", "")


def drawn(*said, colour):
    example = of_conversation(placed(*said), TOKENIZER, 99)
    return list(lines.drawn(example, TOKENIZER, colour, False, 80))


def test_colours_tell_tokens_apart_and_say_what_is_trained_on():
    (part,) = of_conversation(placed("the the", "the the"), TOKENIZER, 99).parts
    terminal = Console(force_terminal=True, color_system="truecolor", width=80)
    with terminal.capture() as capture:
        for line in drawn("the the", "the the", colour=True):
            terminal.print(line)
    assert "⟦" not in capture.get() and "\x1b[1;" in capture.get()
    styles = [lines._style(token, i, part) for i, token in enumerate(tokens(part, TOKENIZER))]
    assert len(set(styles)) == 6  # special, two shades of what is read and of what is trained on, the trained end
    plain = re.sub(r"\x1b\[[\d;]*m", "", capture.get())
    assert plain == "<|user|>the the\n<|assistant|>the the<|end|>\n"


def test_what_a_terminal_would_obey_is_shown():
    text = drawn("\x1b[2J\n\u200b", "é", colour=False)[0].plain
    assert text == "<|user|>\\u{1B}[2J\\n\\xE2\\x80\\x8B"  # the last in three tokens, a byte each


def test_a_special_tokens_spelling_is_shown_as_the_text_that_it_is():
    shown = tokens(of_conversation(placed("<|end|>", "A"), TOKENIZER, 99).parts[0], TOKENIZER)
    assert [token.text for token in shown if token.special] == ["<|user|>", "<|assistant|>", "<|end|>"]
    assert "".join(token.text for token in shown) == "<|user|><|end|><|assistant|>A<|end|>"


def test_a_page(life, journey, data, tmp_path):
    page = tmp_path / "a.html"
    output = journey("data", "show", data, "--model", life.node("chat").path, "-n", 6, "--stats", "--html", page)
    assert output.code == 0 and f"page: {page}" in output.err
    html = page.read_text()
    assert html.startswith("<!DOCTYPE html>") and "http" not in html.replace("http://www.w3.org", "")
    assert 'class="trained special"' in html and 'class="read"' in html and "As the model sees them" in html


@pytest.mark.parametrize("place", ["no/a.html", "", "pipe", "loop"])
def test_a_page_never_takes_the_place_of_what_is_no_file(life, journey, data, tmp_path, place):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    output = journey("data", "show", data, "--model", life.node("chat").path, "--html", tmp_path / place)
    assert output.code == 2 and "--html names a file" in output.err
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "loop").is_symlink()


def test_a_texts_questions_and_what_has_none(life, journey):
    output = journey("data", "show", life.node("prose").path, "--model", life.node("chat").path)
    assert output.code == 2 and "prose has no questions: give documentation" in output.err
    output = journey("data", "show", "asked.jsonl", "--model", life.node("chat").path)
    assert output.code == 2 and "no such file: asked.jsonl" in output.err
    output = journey("data", "show", life.node("base").path, "--model", life.node("chat").path)
    assert output.code == 2 and "give conversations, preferences, or a text" in output.err


def test_questions_are_asked_both_ways(life, journey, tmp_path, monkeypatch):
    from journey.data.questions import Question
    from journey.verbs import data as verb

    class Text:
        def __init__(self, folder):
            pass

        def questions(self, split):
            return [Question("id", "What?", "That.", "A passage.", True)] if split == "train" else []

    monkeypatch.setattr("journey.data.corpus.Corpus", Text)
    found = verb._questions(life.node("prose"), lambda line: None)
    assert [one.messages[0]["content"] for one in found.items] == ["A passage.\n\nWhat?", "What?"]


@pytest.mark.skipif(not DATA, reason="JOURNEY_DATA is not set")
def test_without_a_model_gpt2s_tokens_on_real_data(journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = journey("data", "show", Path(DATA) / "preference" / "ultrafeedback-eval.jsonl.gz", "-n", 1)
    assert output.code == 0 and "(UltraFeedback, TRL): 199 preferences" in output.out
    assert "rejected:\n⟦" in output.out
