"""`journey tokenizer explain`, as it is typed."""

import json
import os
import shutil
from pathlib import Path

import pytest

from journey.tokenizer.formats import Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))


@pytest.fixture
def mine(tmp_path):
    tokenizer = Tokenizer.from_merges([("l", "o"), ("lo", "w"), ("e", "r")])
    (tmp_path / "mine").mkdir()
    tokenizer.save(tmp_path / "mine")
    tokenizer.save_tiktoken(tmp_path / "mine.tiktoken")
    return tokenizer


def test_explain_shows_the_merges_and_writes_the_page(mine, journey, tmp_path):
    page = tmp_path / "lower.html"
    output = journey("tokenizer", "explain", "a <|end|> lower", "--tokenizer", tmp_path / "mine", "--html", page)
    assert output.code == 0 and "\x1b" not in output.out and f"page: {page}" in output.err
    assert "rank 1     lo + w   ␣ low e r" in output.out
    assert "<|end|>: spelled out in a text, that is ordinary text" in output.out
    assert page.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("form", ["mine", "mine/tokenizer.json", "mine.tiktoken"])
def test_explain_tells_a_program_the_same_for_every_form(mine, journey, tmp_path, form):
    told = journey("tokenizer", "explain", "é lower <|end|>", "--tokenizer", tmp_path / form, "--json").json
    assert told["ok"] and told["verb"] == "tokenizer" and told["path"] is None
    assert told["ids"] == mine.encode("é lower <|end|>") and told["words"][1]["text"] == " lower"


def test_without_a_name_it_is_the_journeys_and_a_node_is_found_by_its_name(mine, journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "journeys" / "life"
    place.mkdir(parents=True)
    shutil.copytree("mine", place / "own-1")
    (place / "own-1" / "lineage.json").write_text(
        json.dumps({"id": "1" * 64, "name": "own", "stage": "tokenizer", "parents": [], "files": {}, "metrics": {}})
    )
    stages = [{"name": "own", "stage": "tokenizer", "id": "1" * 64, "path": "own-1", "parents": [], "data": []}]
    plan = {"format": 2, "recipe": "life", "seed": 0, "stages": stages, "measure": {}, "expect": {}}
    (place / "plan.json").write_text(json.dumps(plan))
    for more in ([], ["--tokenizer", "own"], ["--workspace", place]):
        output = journey("tokenizer", "explain", "low", *more)
        assert output.code == 0 and output.out.startswith("own: gpt2 pattern, 266 tokens\n"), output.err
    assert 'no node "owl"' in journey("tokenizer", "explain", "low", "--tokenizer", "owl").err


@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
def test_gpt2s_is_there_by_name_and_where_there_is_no_journey(journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--tokenizer", "gpt2"]):
        assert journey("tokenizer", "explain", "Hello", "--json", *more).json["ids"] == [15496]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a\udcff"], "lone surrogate"),
        (["a" * 5000], "5,000 bytes: explain shows every merge of at most 4,096"),
        (["a", "--html", "nowhere/a.html"], "cannot write nowhere/a.html: --html names a file"),
        (["a", "--html", "mine"], "cannot write mine: --html names a file"),
        (["a", "--tokenizer", "nobody"], "no journey in"),
        (["a", "--tokenizer", "bad.tiktoken"], "bad.tiktoken, line 1: not a token in base64 and its rank"),
    ],
)
def test_what_cannot_be_explained_is_one_line(mine, journey, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("bad.tiktoken").write_text("what\n")
    output = journey(
        "tokenizer", "explain", *["--tokenizer", "mine"][: 2 * ("--tokenizer" not in arguments)], *arguments
    )
    assert output.code == 2 and said in output.err and len(output.err.splitlines()) == 1
    assert output.out == ""
