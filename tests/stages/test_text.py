"""The text stage: three splits that do not know each other."""

import json
from pathlib import Path

import numpy as np
import pytest

from journey.data import corpus as corpora
from journey.data.corpus import Corpus
from journey.errors import JourneyError
from journey.lineage import peak_memory
from journey.stages.run import Run
from journey.stages.story import Told
from journey.stages.text import Text, text


def write(path, texts):
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in texts))
    return str(path)


def test_the_splits_hold_each_document_once(life):
    corpus = Corpus(life.node("prose").path)
    splits = {split: corpus.texts(split) for split in ("train", "dev", "test")}
    every = [document for texts in splits.values() for document in texts]
    assert len(every) == len(set(every)) == 400
    assert len(splits["dev"]) >= 20 and len(splits["test"]) >= 40


def test_the_lineage_has_the_fingerprint_of_what_was_read(life):
    from journey.data.sources import fingerprint

    source = life.node("prose").lineage["data"]["source"]
    assert (
        source["fingerprint"]
        == fingerprint(str(life.texts / "prose.jsonl"))
        == Corpus(life.node("prose").path).fingerprint
    )


def test_the_same_text_and_seed_is_the_same_split(life, tmp_path):
    config = Text(source=str(life.texts / "prose.jsonl"))
    again = text(None, config, Run(tmp_path / "again", seed=3))
    other = text(None, config, Run(tmp_path / "other", seed=4))
    assert again.id == life.node("prose").id != other.id
    splits = [Corpus(node.path).texts("test") for node in (again, life.node("prose"), other)]
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "0 documents"),
        (["", "  \n"], "0 documents"),
        (["the same words"] * 50, "1 document"),
        ([f"word {i}" for i in range(9)], "9 documents"),
    ],
)
def test_a_text_that_is_empty_after_filtering_is_told(tmp_path, texts, said):
    source = write(tmp_path / "few.jsonl", texts)
    with pytest.raises(JourneyError, match=said) as error:
        text(None, Text(source=source), Run(tmp_path / "text"))
    assert "\n" not in str(error.value) and "few.jsonl" in str(error.value)
    assert not (tmp_path / "text").exists()


def test_a_text_of_one_document_in_many_versions_has_nothing_to_hold_out(tmp_path):
    """All are near duplicates, so all belong on one side: to be told here, and not as a division by zero later."""
    words = [f"word{i}" for i in range(200)]
    source = write(tmp_path / "versions.jsonl", [" ".join([*words, str(i)]) for i in range(60)])
    with pytest.raises(JourneyError, match=r"versions\.jsonl") as error:
        text(None, Text(source=source), Run(tmp_path / "text"))
    assert "\n" not in str(error.value)


def test_a_line_that_is_no_json_is_named(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(JourneyError, match=r"bad\.jsonl, line 2"):
        text(None, Text(source=str(tmp_path / "bad.jsonl")), Run(tmp_path / "text"))


def bad_lines(folder):
    lines = [f"Line {i} of caf\xe9 number {i * i}, and no other line.".encode("latin-1") for i in range(200)]
    (folder / "bad.jsonl").write_bytes(b"".join(b'{"text": "%s"}\n' % line for line in lines))
    return str(folder / "bad.jsonl")


def test_bytes_that_are_not_utf8_are_refused_with_both_ways_out(tmp_path):
    source = bad_lines(tmp_path)
    with pytest.raises(JourneyError) as error:
        text(None, Text(source=source), Run(tmp_path / "text"))
    said = str(error.value)
    assert "bad.jsonl: byte 23, in line 1, is not UTF-8" in said and "\n" not in said
    assert "iconv" in said and f"journey text --source {source} --errors replace --out DIR" in said


@pytest.mark.parametrize("limit", [10**9, 0])
def test_bytes_that_are_not_utf8_are_replaced_and_counted(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(corpora, "LIMIT", limit)
    said = []
    run = Run(tmp_path / "text")
    run.console.say = said.append
    node = text(None, Text(source=bad_lines(tmp_path), errors="replace"), run)
    assert said == ["text: 200 bytes in 1 file were not UTF-8 and became U+FFFD"]
    assert node.lineage["metrics"]["replaced_bytes"]["value"] == 200
    corpus = Corpus(node.path)
    assert corpus.facts["replaced_bytes"] == 200 and corpus.facts["replaced_files"] == 1
    assert all("caf\ufffd" in line for split in ("train", "dev", "test") for line in corpus.texts(split))


def test_a_killed_stage_goes_on_from_its_first_pass(tmp_path, monkeypatch):
    """A text larger than LIMIT; that the result is the same to the byte is tested in tests/data/test_streaming.py."""
    from journey.data import streaming

    monkeypatch.setattr(corpora, "LIMIT", 0)
    config = Text(source=write(tmp_path / "many.jsonl", [f"Line {i} is not line {i * 7}." for i in range(500)]))
    whole = text(None, config, Run(tmp_path / "whole"))
    finish = streaming.finish
    monkeypatch.setattr(streaming, "finish", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        text(None, config, Run(tmp_path / "text"))
    monkeypatch.setattr(streaming, "finish", finish)
    monkeypatch.setattr(corpora, "read", None)
    node = text(None, config, Run(tmp_path / "text"))
    assert node.lineage["files"] == whole.lineage["files"]
    assert not list(tmp_path.glob(".work-*"))


@pytest.mark.parametrize(("share", "said"), [(-0.1, "test: must be at least 0"), (0.9, "are shares of the documents")])
def test_shares_that_are_none_are_told(life, tmp_path, share, said):
    with pytest.raises(JourneyError, match=said):
        text(None, Text(source=str(life.texts / "prose.jsonl"), test=share), Run(tmp_path / "text"))


def test_the_peak_memory_is_that_of_the_stage_and_not_of_what_was_before(life, tmp_path):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux can")
    big = np.ones(50_000_000)  # 400 MB
    del big
    before = peak_memory()
    node = text(None, Text(source=str(life.texts / "code.jsonl")), Run(tmp_path / "text"))
    assert 10e6 < node.lineage["peak_memory"] < before - 200e6


def test_special_spellings_are_counted(tmp_path):
    source = write(tmp_path / "marks.jsonl", [f"{i} some words <|end|> and <|user|> more {i * 7}" for i in range(100)])
    node = text(None, Text(source=source), Run(tmp_path / "text"))
    assert node.lineage["metrics"]["special_spellings"]["value"] == 200
    assert any("<|end|>" in document for document in Corpus(node.path).texts("train"))


def lines_of(n):
    return [f"Line {i} of this text is not line {i * 7}, and no other." for i in range(n)]


def said_by(config, place):
    said = []
    run = Run(place)
    run.console.say = said.append
    return text(None, config, run), said


def test_a_text_that_is_plain_says_nothing(tmp_path):
    source = write(tmp_path / "many.jsonl", lines_of(200))
    assert said_by(Text(source=source), tmp_path / "text")[1] == []


def test_what_its_owner_may_not_know_of_a_text_is_said(tmp_path):
    (tmp_path / "many").mkdir()
    rows = [json.dumps({"text": line}) for line in lines_of(100)]
    rows[50:50] = ['{"text": null}', *['{"body": 1}'] * 4]
    (tmp_path / "many" / "rows.jsonl").write_text("\n".join(rows))
    for name in ("a.csv", "b.csv", "c.pdf", ".DS_Store"):
        (tmp_path / "many" / name).write_text("x")
    node, said = said_by(Text(source=str(tmp_path / "many")), tmp_path / "text")
    rows = tmp_path / "many" / "rows.jsonl"
    assert said == [
        "text: 3 files of other kinds not read: .csv 2, .pdf 1",
        f'text: 5 rows left out ("text" is null 1, no "text" 4): {rows}, line 51; {rows}, line 52; {rows}, line 53; …',
    ]
    story = " ".join(block.text for block in text.tell(Told(node, None)).blocks if hasattr(block, "text"))
    assert "3 files of other kinds not read: .csv 2, .pdf 1." in story and "5 rows left out" in story
    with pytest.raises(JourneyError, match=r'rows\.jsonl, line 51: "text" is null; it has text'):
        said_by(Text(source=str(tmp_path / "many"), strict=True), tmp_path / "strict")


@pytest.mark.parametrize(
    ("joint", "config", "says"),
    [
        ("\n", {}, "1 document by blank lines, which are too few: all is cut into pieces of whole lines of about"),
        ("\n", {"separator": "---"}, "1 document by ---, which are too few: all is cut into pieces of whole lines"),
        ("\n\n<|endoftext|>\n", {}, '<|endoftext|> stands 1,999 times in the text: separator "<|endoftext|>" would'),
        ("\n<|endoftext|>\n", {"separator": "<|endoftext|>"}, ""),
        ("\n", {"separator": "line"}, ""),
    ],
)
def test_where_a_text_is_cut_is_said(tmp_path, joint, config, says):
    (tmp_path / "book.txt").write_text(joint.join(lines_of(2000)))
    node, said = said_by(Text(source=str(tmp_path / "book.txt"), **config), tmp_path / "text")
    assert [line.startswith(f"text: {says}") for line in said] == ([True] if says else [])
    assert not said or "separator" in said[0]
    n = 2000 if config.get("separator") in ("line", "<|endoftext|>") else pytest.approx(30, abs=6)
    assert node.lineage["metrics"]["documents"]["value"] == n


def test_settings_that_came_later_leave_the_id_alone(tmp_path):
    from journey.stages.run import identify

    source = write(tmp_path / "many.jsonl", lines_of(200))

    def id(**more):
        return identify(text, Text(source=source, **more), [], {}, 0)

    assert len({id(), id(separator="line"), id(strict=True)}) == 3
    assert id() == id(separator="blank-line", strict=False)


def test_an_empty_separator_is_refused_before_any_work():
    with pytest.raises(JourneyError, match="separator is empty"):
        Text(separator="")


def test_a_text_that_a_stage_makes_by_itself_says_the_same(tmp_path, monkeypatch):
    """`journey tokenizer train --data FILE` and its like come through here."""
    from journey.console import Console
    from journey.stages.run import text_of

    (tmp_path / "book.txt").write_bytes("\r\n".join(lines_of(500)).encode())
    said = []
    console = Console()
    console.say = said.append
    node = text_of(str(tmp_path / "book.txt"), tmp_path, 0, console)
    assert len(said) == 1 and said[0].startswith("book: 1 document by blank lines, which are too few")
    assert "\r" not in "".join(Corpus(node.path).texts("train"))


def test_web_text_is_read_as_it_is_shared(tmp_path):
    """A folder of many parquet files beside a list of them, as FineWeb's; folders of .jsonl.zst, of several frames and
    with a second column, as The Pile's; .jsonl with `meta`, as RedPajama's."""
    import pyarrow.parquet

    def zst(records):
        return pyarrow.compress("".join(json.dumps(r) + "\n" for r in records).encode(), codec="zstd", asbytes=True)

    records = [{"text": line, "meta": {"pile_set_name": "Pile-CC"}} for line in lines_of(240)]
    web, pile, red = (tmp_path / name for name in ("fineweb", "pile", "redpajama"))
    for folder in (web / "sample" / "10BT", pile / "train", red):
        folder.mkdir(parents=True)
    for i in range(24):
        part = [{"text": r["text"], "id": f"<urn:{i}>", "score": 3.5} for r in records[10 * i : 10 * i + 10]]
        path = web / "sample" / "10BT" / f"{i:03}_00000.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), path, row_group_size=3)
    (web / "dataset_infos.json").write_text(json.dumps({"default": {"features": {}}}))
    for i in range(2):
        part = records[120 * i : 120 * i + 120]
        (pile / "train" / f"{i:02}.jsonl.zst").write_bytes(zst(part[:50]) + zst(part[50:]))
    write(red / "arxiv_sample.jsonl", [])
    (red / "c4_sample.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    found = []
    for source in (web, pile, red):
        corpus = Corpus(text(None, Text(source=str(source)), Run(tmp_path / f"made-{source.name}")).path)
        found.append({document for split in corpora.SPLITS for document in corpus.texts(split)})
    assert found[0] == found[1] == found[2] == {r["text"] for r in records}


@pytest.mark.parametrize(
    ("row", "columns"), [({"body": "x", "url": "u"}, "body, url"), ({"text": 7, "u": 1}, "text, u")]
)
def test_a_shard_with_another_schema_names_the_column_and_those_there_are(tmp_path, row, columns):
    """One parquet file of many; and in the midst of lines, where `strict` wants all of them."""
    import pyarrow.parquet

    (tmp_path / "set").mkdir()
    for name, rows in (("a", [{"text": line} for line in lines_of(20)]), ("b", [row] * 5)):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set" / f"{name}.parquet")
    with pytest.raises(JourneyError, match=rf'b\.parquet.*"text".* it has {columns}'):
        text(None, Text(source=str(tmp_path / "set")), Run(tmp_path / "made"))
    lines = [json.dumps({"text": line}) for line in lines_of(20)]
    (tmp_path / "c.jsonl").write_text("\n".join([*lines, json.dumps(row), *lines_of(0)]))
    node, said = said_by(Text(source=str(tmp_path / "c.jsonl")), tmp_path / "left")
    assert node.lineage["metrics"]["documents"]["value"] == 20 and "1 row left out" in said[0]
    with pytest.raises(JourneyError, match=rf'c\.jsonl, line 21: .*"text".* it has {columns}'):
        text(None, Text(source=str(tmp_path / "c.jsonl"), strict=True), Run(tmp_path / "strict"))
