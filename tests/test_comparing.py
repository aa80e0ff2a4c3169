"""`journey tokenizer compare` as it is called: what it prints, its JSON, its page, and bad input."""

import json
import re
import shutil

import pytest

from journey import comparing
from journey.data.corpus import Corpus
from journey.tokenizer import partners
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


def compare(journey, workspace, *arguments):
    return journey("tokenizer", "compare", *arguments, "--workspace", workspace, "--json")


def test_partners_are_trained_on_what_the_tokenizer_learned_from_and_kept(journey, copy, tmp_path):
    pytest.importorskip("sentencepiece")
    asked = ["--partners", "unigram", "sentencepiece", "--on", copy.texts / "prose.jsonl"]
    asked += ["--html", tmp_path / "p.html"]
    said = compare(journey, copy.workspace, "tokenizer", *asked)
    assert said.code == 0, said.err
    sizes = [(v["name"], v["kind"], v["tokens"]) for v in said.json["vocabularies"]]
    assert sizes == [
        *[("tokenizer", "byte-level BPE", 400), ("unigram", "byte-level Unigram", 400)],
        ("sentencepiece", "SentencePiece", 400),
    ]
    numbers = {name: said.json["metrics"][f"{name}.prose.bytes_per_token"]["value"] for name, _, _ in sizes}
    assert 0.8 < numbers["unigram"] / numbers["tokenizer"] < 1.3  # although no word of this text varies in what follows
    note = said.json["partners"]
    assert re.fullmatch(r"unigram and sentencepiece: 400 entries learned from the 0.1 MB of prose .* from\.", note)
    assert note in (tmp_path / "p.html").read_text() and note in said.err  # --json: what is for people goes to stderr
    kept = {path.name: path.stat().st_mtime_ns for path in (copy.workspace / "partners").iterdir()}
    assert sorted(name.split("-")[0] for name in kept) == ["sentencepiece", "unigram"]

    again = compare(journey, copy.workspace, "base", *asked)  # a model's tokenizer is the one that it was made from
    assert again.code == 0 and again.err.count("as trained before") == 2
    assert kept == {path.name: path.stat().st_mtime_ns for path in (copy.workspace / "partners").iterdir()}
    theirs = compare(journey, copy.workspace, *(copy.workspace / "partners" / name for name in kept), "--text", "The é")
    assert {v["kind"] for v in theirs.json["vocabularies"]} == {"byte-level Unigram", "SentencePiece"}  # files like any


def test_of_much_text_partners_learn_from_random_documents(journey, copy, monkeypatch):
    pytest.importorskip("sentencepiece")
    monkeypatch.setattr(comparing, "MOST_BYTES", 30_000)
    given, train = [], partners.train
    monkeypatch.setattr(partners, "train", lambda name, texts, *rest: given.append(texts) or train(name, texts, *rest))
    said = compare(journey, copy.workspace, "tokenizer", "--partners", "unigram", "--text", "a")
    assert said.code == 0 and "in random documents" in said.json["partners"], said.err
    whole = Corpus(copy.node("prose").path).texts("train")
    assert 20_000 < sum(len(text.encode()) for text in given[0]) < 40_000
    assert {*given[0]} < {*whole} and given[0] != whole[: len(given[0])]


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (["gpt2"], '"gpt2" was not trained by journey'),
        (["elsewhere"], '"elsewhere" was not trained by journey'),
        (["elsewhere/tokenizer.json"], "was not trained by journey"),
        (["tokenizr"], 'did you mean "tokenizer"'),
        (["tokenizer", "unigram"], '"unigram" is named twice'),
    ],
)
def test_partners_need_a_tokenizer_of_ours(journey, life, tmp_path, monkeypatch, first, said):
    pytest.importorskip("sentencepiece")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    Tokenizer.from_merges([]).save(tmp_path / "elsewhere")
    found = compare(journey, life.workspace, *first, "--partners", "unigram", "--text", "a")
    assert found.code == 2 and said in found.json["error"] and "\n" not in found.json["error"]


def test_partners_when_the_text_is_gone_or_too_small(journey, copy, monkeypatch):
    pytest.importorskip("sentencepiece")
    asked = ["tokenizer", "--partners", "unigram", "--text", "a"]
    lineage = copy.node("tokenizer").path / "lineage.json"
    monkeypatch.setattr(comparing, "MOST_BYTES", 300)
    found = compare(journey, copy.workspace, *asked)
    assert "400 entries are too many for unigram on this text: at most" in found.json["error"]
    shutil.rmtree(copy.node("prose").path)
    found = compare(journey, copy.workspace, *asked)
    assert found.code == 2 and 'the text that "tokenizer" learned from (prose-' in found.json["error"]
    assert lineage.exists() and "partners" not in [path.name for path in copy.workspace.iterdir()]


def test_gpt2_where_it_is_nowhere_says_what_compare_takes(journey, tmp_path, monkeypatch, caplog):
    """`--tokenizer` is another verb's."""
    import huggingface_hub.constants

    monkeypatch.delenv("JOURNEY_DATA", raising=False)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    found = journey("tokenizer", "compare", "gpt2", "--text", "a")
    assert found.code == 2 and "name in its place a folder with encoder.json and vocab.bpe" in found.err
    assert len(found.err.splitlines()) == 1 and "--tokenizer" not in found.err and not caplog.records


def test_partners_of_a_tokenizer_in_no_journey_stand_beside_it(journey, life, tmp_path, monkeypatch):
    pytest.importorskip("sentencepiece")
    monkeypatch.chdir(tmp_path)
    made = journey("tokenizer", "train", "--data", life.texts / "prose.jsonl", "--vocab-size", 400, "--out", "tok")
    assert made.code == 0, made.err
    said = journey("tokenizer", "compare", "tok", "--partners", "unigram", "--text", "a")
    assert said.code == 0, said.err
    assert [path.name.split("-")[0] for path in (tmp_path / "partners").iterdir()] == ["unigram"]
