import json
import os
from pathlib import Path

import pytest

from journey.data import documents, installed
from journey.data.corpus import FEWEST, SPLITS, Corpus, build
from journey.data.questions import summary
from journey.data.sources import Document
from journey.errors import JourneyError


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a tenth of the real documentation: that of the standard library alone."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installed, "PACKAGES", ())
        build("installed-docs", folder, seed=0)
    return folder


def write(folder: Path, texts: list[str]) -> str:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def distinct_texts(n: int) -> list[str]:
    return [f"Text {i} speaks of {i * 7} and of nothing else, " + "really " * (i % 5) + "nothing." for i in range(n)]


def test_splits_hold_every_document_once(tmp_path: Path) -> None:
    texts = distinct_texts(500)
    facts = build(write(tmp_path, texts), tmp_path, dev=0.1, test=0.2, seed=0)
    corpus = Corpus(tmp_path)
    assert sorted(text for split in SPLITS for text in corpus.texts(split)) == sorted(texts)
    assert {split: len(corpus.documents(split)) for split in SPLITS} == {"train": 350, "dev": 50, "test": 100}
    assert corpus.name == "mine" and corpus.facts == facts
    assert facts["bytes"] == sum(len(text.encode()) for text in texts)
    assert corpus.questions("train") == [] == corpus.choices("test")


def test_a_split_is_read_from_any_document_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "GROUP", 7)
    build(write(tmp_path, distinct_texts(100)), tmp_path, seed=0)
    corpus = Corpus(tmp_path)
    texts = corpus.texts("train")
    for start in (0, 1, 6, 7, 8, 20, len(texts) - 1, len(texts), len(texts) + 9):
        assert list(corpus.stream("train", start)) == texts[start:]


def test_a_small_corpus_holds_out_more(tmp_path: Path) -> None:
    build(write(tmp_path, distinct_texts(400)), tmp_path, dev=0.02, test=0.04, seed=0)
    corpus = Corpus(tmp_path)
    assert (len(corpus.documents("test")), len(corpus.documents("dev"))) == (60, 30)


def test_duplicates_and_special_spellings_are_counted(tmp_path: Path) -> None:
    texts = [*distinct_texts(100), "Text 0 speaks  of 0 and of nothing else, NOTHING.", "<|end|> is <|user|> text"]
    facts = build(write(tmp_path, texts), tmp_path, seed=0)
    assert (facts["documents"], facts["duplicates_dropped"], facts["special_spellings"]) == (101, 1, 2)
    corpus = Corpus(tmp_path)
    assert texts[-1] in [text for split in SPLITS for text in corpus.texts(split)]


def test_max_bytes_keeps_a_random_part(tmp_path: Path) -> None:
    texts = distinct_texts(500)
    half = sum(map(len, texts)) // 2
    facts = build(write(tmp_path, texts), tmp_path, seed=0, max_bytes=half)
    assert half - 200 < facts["bytes"] <= half
    kept = {d.id for split in SPLITS for d in Corpus(tmp_path).documents(split)}
    assert any(int(id.split(":")[1]) > 450 for id in kept) and any(int(id.split(":")[1]) < 50 for id in kept)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, distinct_texts(200))
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        build(path, tmp_path / name, seed=3)
        written.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert written[0] == written[1]


@pytest.mark.parametrize("texts", [[], ["", "  \n"], ["the same"] * 99, distinct_texts(FEWEST - 1)])
def test_too_little_text(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(JourneyError, match=r"mine.jsonl: \d documents that are not empty or repeated"):
        build(write(tmp_path, texts), tmp_path)


def test_impossible_shares(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="at most half together"):
        build(write(tmp_path, distinct_texts(20)), tmp_path, dev=0.3, test=0.4)


def test_documentation_has_headings(documentation: Path) -> None:
    documents = {d.id: d.text for split in SPLITS for d in Corpus(documentation).documents(split)}
    assert documents["json.JSONDecoder.raw_decode"].startswith(
        "json.JSONDecoder.raw_decode(s, idx=0)\n\nDecode a JSON document from ``s``"
    )
    assert documents["statistics"].startswith("statistics\n\nBasic statistics module.")
    assert not [id for id in documents if any(part.startswith("_") and part[1] != "_" for part in id.split("."))]


def test_held_out_documentation_answers_no_training_question(documentation: Path) -> None:
    corpus = Corpus(documentation)
    trained = {question.answer for question in corpus.questions("train")}
    train_ids = {document.id for document in corpus.documents("train")}
    assert len(trained) > 500
    for split in ("dev", "test"):
        ids = {document.id for document in corpus.documents(split)}
        asked = corpus.questions(split)
        assert asked and not ids & train_ids
        assert {question.id.split("#")[0] for question in asked} <= ids
        assert not trained & {question.answer for question in asked}
        assert {choice.id for choice in corpus.choices(split)} <= ids
        assert not trained & {option for choice in corpus.choices(split) for option in choice.options}


def test_nothing_held_out_is_half_known(documentation: Path) -> None:
    """Counted again here with sets of tuples, on the texts as written."""
    import re

    def grams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.split("\n\n", 1)[1].lower())
        return {tuple(words[i : i + 13]) for i in range(max(len(words) - 12, 1))}

    corpus = Corpus(documentation)
    known = set().union(*map(grams, corpus.texts("train")))
    for split in ("dev", "test"):
        shares = [len(grams(text) & known) / len(grams(text)) for text in corpus.texts(split)]
        assert max(shares) <= 0.5
        assert corpus.facts["splits"][split]["over_half_in_train"] == 0
        assert corpus.facts["splits"][split]["in_train"] == pytest.approx(sum(shares) / len(shares), abs=1e-4)


def test_line_separators_in_answers_survive(tmp_path: Path) -> None:
    """U+2028 ends a line for str.splitlines(), and not in JSON lines."""
    write_to = tmp_path / "corpus.json"
    build(write(tmp_path, distinct_texts(50)), tmp_path)
    assert write_to.exists()
    question = {"id": "a", "question": "a\u2028b", "answer": "c", "passage": "d", "named": True}
    (tmp_path / "questions-train.jsonl").write_text(json.dumps(question, ensure_ascii=False) + "\n")
    assert Corpus(tmp_path).questions("train")[0].question == "a\u2028b"


def test_a_document_carries_what_questions_need() -> None:
    assert summary(Document("id", "text", "Return the sum of the items.")) == "Return the sum of the items."


SENTENCE = "Sentence {i} of this text says that {j} is seven times {i}, and not more."


def sentences(n: int) -> list[str]:
    return [SENTENCE.format(i=i, j=7 * i) for i in range(n)]


def everything(folder: Path) -> list[str]:
    return [text for split in SPLITS for text in Corpus(folder).texts(split)]


@pytest.fixture(params=["held", "streamed"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is held in memory, and one that is too large for that."""
    if request.param == "streamed":
        from journey.data import corpus, streaming

        monkeypatch.setattr(corpus, "LIMIT", 0)
        monkeypatch.setattr(streaming, "SIEVE", 12)


def test_the_same_text_is_the_same_corpus_whatever_its_line_ends(tmp_path: Path) -> None:
    text = "\n\n".join("\n".join(sentences(2000)[i : i + 4]) for i in range(0, 2000, 4)) + "\n"
    ways = {
        "lf": text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "mac": text.replace("\n", "\r").encode(),
        "space": text.replace("\n\n", "\n \t\n").encode(),
        "wide": text.replace("\n\n", "\n\u3000\n").encode(),
        "mark": text.replace("\n", "\r\n").encode("utf-8-sig"),
        "utf16": text.replace("\n", "\r\n").encode("utf-16"),
        "utf32": text.encode("utf-32"),
    }
    made = {}
    for way, data in ways.items():
        for folder in (tmp_path / way / "text", tmp_path / way / "made"):
            folder.mkdir(parents=True)
        (tmp_path / way / "text" / "a.txt").write_bytes(data)
        facts = build(str(tmp_path / way / "text"), tmp_path / way / "made")
        made[way] = [[(d.id, d.text) for d in Corpus(tmp_path / way / "made").documents(s)] for s in SPLITS]
        assert facts["documents"] > 30 and facts["bytes"] <= len(text)
        assert {"cut_finer", "long_documents_cut", "not_read"}.isdisjoint(facts)
    assert all(one == made["lf"] for one in made.values())


@pytest.mark.parametrize("joint", ["\n", " ", "\r\n"])
def test_a_text_without_blank_lines_is_cut_into_pieces(tmp_path: Path, either: None, joint: str) -> None:
    text = joint.join(sentences(2000))
    (tmp_path / "book.txt").write_bytes(text.encode())
    (tmp_path / "made").mkdir()
    facts = build(str(tmp_path / "book.txt"), tmp_path / "made")
    assert facts["cut_finer"] == {"documents": 1, "piece": 4000} and "long_documents_cut" not in facts
    assert facts["documents"] == len(everything(tmp_path / "made")) > 30
    lines = sorted(line for text in everything(tmp_path / "made") for line in text.split(".") if line.strip())
    assert len(lines) == 2000  # none is lost, none is cut


def test_a_small_text_is_cut_into_smaller_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(sentences(100)))
    facts = build(str(tmp_path / "a.txt"), tmp_path)
    size = (tmp_path / "a.txt").stat().st_size
    assert facts["cut_finer"] == {"documents": 1, "piece": size // 20} and facts["documents"] > FEWEST
    assert sorted("\n".join(everything(tmp_path)).split("\n")) == sorted(sentences(100))
    facts = build(str(tmp_path / "a.txt"), tmp_path, max_bytes=4000)
    assert facts["cut_finer"]["piece"] == 200 and 3000 < facts["bytes"] <= 4000


@pytest.mark.parametrize(
    ("separator", "joint", "n"),
    [("line", "\n", 120), ("line", "\r\n", 120), ("<|endoftext|>", "\n<|endoftext|>\n", 120), ("##", "##", 120)],
)
def test_documents_end_at_the_separator(tmp_path: Path, either: None, separator: str, joint: str, n: int) -> None:
    (tmp_path / "a.txt").write_bytes(joint.join(sentences(n)).encode())
    (tmp_path / "made").mkdir()
    facts = build(str(tmp_path / "a.txt"), tmp_path / "made", separator=separator)
    assert sorted(everything(tmp_path / "made")) == sorted(sentences(n))
    assert facts["special_spellings"] == 0 and {"cut_finer", "endoftext_marks"}.isdisjoint(facts)


def test_marks_that_nobody_asked_to_cut_at_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n<|endoftext|>\n\n".join(sentences(2000)))
    facts = build(str(tmp_path / "a.txt"), tmp_path)
    assert facts["endoftext_marks"] == 1999 == facts["special_spellings"]


def test_a_document_that_no_memory_should_hold_is_cut(
    tmp_path: Path, either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from journey.data import cutting

    monkeypatch.setattr(cutting, "LONG", 40_000)
    (tmp_path / "a.txt").write_text("\n\n".join(distinct_texts(2000)) + "\n\n" + "\n".join(sentences(2000)))
    (tmp_path / "made").mkdir()
    facts = build(str(tmp_path / "a.txt"), tmp_path / "made")
    assert facts["long_documents_cut"] == 1 and "cut_finer" not in facts
    assert max(map(len, everything(tmp_path / "made"))) < 9_000


@pytest.mark.parametrize("text", ["", " \n\n ", "One sentence.", "\n".join(sentences(8)), "the same\n" * 9999])
def test_too_little_text_in_a_file_names_the_separator(tmp_path: Path, either: None, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "made").mkdir()
    with pytest.raises(JourneyError) as error:
        build(str(tmp_path / "a.txt"), tmp_path / "made")
    said = str(error.value)
    assert "\n" not in said and "a.txt: " in said and not list((tmp_path / "made").rglob("*"))
    if text.strip():
        assert "1 document" in said and "separator" in said


def test_what_was_left_out_and_not_read_is_recorded(tmp_path: Path, either: None) -> None:
    rows = [{"text": text} for text in distinct_texts(60)]
    rows[7:7] = [{"text": None}, {"content": "x"}]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "text" / "b.pdf").write_text("x")
    (tmp_path / "made").mkdir()
    facts = build(str(tmp_path / "text"), tmp_path / "made")
    assert Corpus(tmp_path / "made").facts == facts and facts["documents"] == 60
    assert facts["not_read"] == {".pdf": 1}
    assert facts["left_out"] == {'"text" is null': 1, 'no "text"': 1}
    assert facts["first_left_out"] == [f"{tmp_path / 'text' / 'a.jsonl'}, line {i}" for i in (8, 9)]
    with pytest.raises(JourneyError, match=r'a\.jsonl, line 8: "text" is null'):
        build(str(tmp_path / "text"), tmp_path / "made", strict=True)


def test_a_folder_may_have_a_name_that_is_not_utf8(tmp_path: Path, either: None) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    place.mkdir()
    (place / "made").mkdir()
    (place / "caf\udce9.txt").write_text("\n".join(sentences(400)))
    facts = build(str(place), place / "made", separator="line")
    assert facts["documents"] == 400 and facts["name"] == "caf\\udce9"
    corpus = Corpus(place / "made")
    assert len(list(corpus.stream("train"))) == facts["splits"]["train"]["documents"] == len(corpus.texts("train"))
    assert all(document.id.startswith("caf\\udce9.txt:") for document in corpus.documents("test"))
