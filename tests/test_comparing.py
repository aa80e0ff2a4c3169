"""`journey tokenizer compare` as it is called: what it prints, its JSON, its page, and bad input."""

import json
import re

import pytest

from journey.tokenizer.formats import Tokenizer


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two tokenizers and a parallel set of two languages, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, merges in {"bytes": [], "merged": [("t", "h"), ("Ġ", "th"), ("Ġth", "e")]}.items():
        (tmp_path / name).mkdir()
        Tokenizer.from_merges(merges).save(tmp_path / name)
    (tmp_path / "set").mkdir()
    for language, texts in {"en": ["in the cup", "of the <b>"], "fr": ["dans la tasse", "du thé"]}.items():
        records = [json.dumps({"id": str(i), "context": text}) for i, text in enumerate(texts)]
        (tmp_path / "set" / f"{language}.jsonl").write_text("\n".join(records))
    (tmp_path / "notes.txt").write_text("in the cup\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "code.py").write_text("x = 1\n")
    return tmp_path


def test_parallel_text(journey, place):
    said = journey(
        *("tokenizer", "compare", "bytes", "merged", "--on", "xquad", "--data", "set"),
        *("--text", "the <i>é", "--html", "page.html", "--json"),
    )
    assert said.code == 0, said.err
    found = said.json
    assert found["ok"] and found["verb"] == "tokenizer" and found["path"] == "page.html"
    metrics = found["metrics"]
    assert metrics["bytes.en.parity"]["value"] == metrics["merged.en.parity"]["value"] == 1
    assert metrics["bytes.fr.parity"]["value"] == pytest.approx(20 / 20)
    assert metrics["merged.fr.parity"]["value"] == pytest.approx((13 + 5) / 14)
    assert all(m.keys() == {"value", "low", "high", "n", "unit", "convention"} for m in metrics.values())
    assert metrics["merged.fr.parity"]["low"] < metrics["merged.fr.parity"]["high"]
    assert metrics["merged.digit_cuts"]["low"] is None
    cut = found["texts"][-1]
    assert cut["text"] == "the <i>é" and cut["cut"]["merged"] == ["th", "e", "·", "<", "i", ">", "‹C3›", "‹A9›"]
    page = (place / "page.html").read_text()
    assert "&lt;i&gt;" in page or "<span>&lt;</span>" in page
    assert "<i>é" not in page and "<b>" not in page and "<script" not in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|url\(", page)
    assert "<svg" in page and "prefers-color-scheme: dark" in page and "width=device-width" in page


def test_what_a_pipe_sees_is_plain(journey, place):
    said = journey("tokenizer", "compare", "bytes", "merged", "--on", "notes.txt", "code.py", "--text", "in the")
    assert said.code == 0, said.err
    assert "\x1b" not in said.out
    assert "i|n|·the" in said.out and "code against prose" in said.out and "Bytes per token" in said.out
    assert "Parity" not in said.out


def test_a_node_by_its_name(journey, life):
    said = journey("tokenizer", "compare", "tokenizer", "--text", "The array", "--workspace", life.workspace, "--json")
    assert said.code == 0, said.err
    assert said.json["vocabularies"] == [{"name": "tokenizer", "kind": "byte-level BPE", "tokens": 400}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tekkn", "--text", "a"], 'did you mean "tekken"'),
        (["zzzz", "--text", "a"], "zzzz|no journey here"),
        (["no/tokenizer.json", "--text", "a"], "no tokenizer at no/tokenizer.json"),
        (["bytes"], "name tokenizers and what to compare them on"),
        (["bytes", "bytes", "--text", "a"], '"bytes" is named twice'),
        (["bytes", "--on", "empty.txt"], "no text"),
        (["bytes", "--on", "absent.txt"], "no such text: absent.txt"),
        (["bytes", "--on", "xquad", "notes.txt"], "xquad is compared alone"),
        (["bytes", "--on", "notes.txt", "--data", "set"], "xquad is compared alone"),
        (["bytes", "--on", "xquad", "--data", "absent"], "no en.jsonl.gz"),
        (["bytes", "--text", "a", "--html", "absent/page.html"], "there is no folder absent"),
        (["set", "--text", "a"], "no tokenizer in this folder"),
        (["empty.txt", "--text", "a"], "is empty"),
        (["bytes", "--text", "a\udcff"], "lone surrogate"),
    ],
)
def test_bad_input_is_one_line(journey, place, arguments, said):
    found = journey("tokenizer", "compare", *arguments)
    assert found.code == 2
    assert len(found.err.strip().splitlines()) <= 2 and re.search(said, found.err)
    assert "Traceback" not in found.err
