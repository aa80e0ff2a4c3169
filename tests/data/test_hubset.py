"""Data sets of the Hub as texts, against a little server: which files, which documents, and a Hub that is not well."""

import email.utils
import gzip
import io
import json
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from journey.data import corpus, hub, hubset, remote, sources, textfile
from journey.data.corpus import Corpus
from journey.data.cutting import Cut
from journey.data.source import Notes, silent
from journey.errors import JourneyError
from journey.stages import text as stage

from .hub_server import COMMIT, serving

FINEWEB = [
    {"config_name": "default", "default": True, "data_files": [{"split": "train", "path": "data/*/*"}]},
    {"config_name": "sample-10BT", "data_files": [{"split": "train", "path": "sample/10BT/*"}]},
]


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


@pytest.fixture
def hubs(server, monkeypatch, tmp_path):
    """The server instead of the Hub, empty, and no time lost by waiting."""
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server.waited = []
    monkeypatch.setattr(remote, "_sleep", server.waited.append)
    server.sets, server.asked, server.commit, server.says = {}, [], COMMIT, lambda path, number: None
    hubset.find.cache_clear()
    close_session()
    yield server
    hubset.find.cache_clear()
    close_session()


def rows(n, name="doc", **more):
    return [{"text": f"{name} {i} tells of {i * 7919} things and {i * 31} more.", **more} for i in range(n)]


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def zst(data):
    return pyarrow.compress(data, codec="zstd", asbytes=True)


def parquet(records, size=50):
    data = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), data, row_group_size=size)
    return data.getvalue()


def texts(source, max_bytes=None, strict=False):
    return [d.text for d in hubset.find(source).documents(max_bytes, silent, Notes(), Cut(), strict)]


def refusal(function, *arguments):
    with pytest.raises(JourneyError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_known_sets_are_read_as_they_lie_there(hubs):
    """FineWeb-Edu's parquet by its card, The Pile's folder of .jsonl.zst beside its held-out files, RedPajama's files
    without a card: the names and layouts are those of the Hub."""
    hubs.sets["HuggingFaceFW/fineweb-edu"] = FINEWEB, {
        "README.md": b"# FineWeb-Edu", ".gitattributes": b"x", "data/CC-MAIN-2013-20/train-00000.parquet": b"not read",
        "sample/10BT/001_00000.parquet": parquet(rows(3, "b", id="y", url="v", score=2.5)),
        "sample/10BT/000_00000.parquet": parquet(rows(2, "a", id="x", url="u", score=3.5)),
    }  # fmt: skip
    pile = {"meta": {"pile_set_name": "Pile-CC"}}
    hubs.sets["monology/pile-uncopyrighted"] = [], {
        "README.md": b"# Pile", "test.jsonl.zst": b"", "val.jsonl.zst": zst(lines(rows(1, "v", **pile))),
        "train/00.jsonl.zst": zst(lines(rows(2, "p", **pile))), "train/01.jsonl.zst": zst(lines(rows(1, "q", **pile))),
    }  # fmt: skip
    hubs.sets["togethercomputer/RedPajama-Data-1T-Sample"] = [], {
        "RedPajama-Data-1T-Sample.py": b"x", "arxiv_sample.jsonl": lines(rows(2, "arxiv", meta={"url": "u"})),
        "wikipedia_sample.jsonl": lines(rows(1, "wiki", meta={"url": "u"})),
    }  # fmt: skip
    said = [text.split(" tells")[0] for name in hub.SETS for text in texts(name)]
    assert said == ["a 0", "a 1", "b 0", "b 1", "b 2", "p 0", "p 1", "q 0", "arxiv 0", "arxiv 1", "wiki 0"]
    assert texts("hub:monology/pile-uncopyrighted::validation") == [row["text"] for row in rows(1, "v")]
    assert [sources.name_of(name) for name in (*hub.SETS, "hub:o/set-b@v1:x:test")] == [*hub.SETS, "set-b"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hub:o/two", "has several configs: choose one, as in hub:o/two:en (there are: en, de)"),
        ("hub:o/two:e", 'has no config "e", did you mean "en"? (there are: en, de)'),
        ("hub:o/two:en:test", 'config en, has no files of text of the split "test" (there are: train, valid)'),
        ("hub:o/none", 'has no files of text of the split "train" (it has a.arrow, b.csv)'),
        ("hub:o/empty", 'has no files of text of the split "train" (it is empty)'),
        ("hub:o/none:en", 'has no configs: leave "en" out'),
        ("hub:o/two/es", "file at es (it has en/a.jsonl"),
        ("hub:o/two@v9:en", 'has no revision "v9"'),
        ("hub:o/other", "the Hub has no public dataset o/other: check the spelling"),
        ("hub:o", "write hub:OWNER/NAME"),
        ("hub:o/two:en:test:more", "write hub:OWNER/NAME"),
        ("hub:o/two/en:de", "write hub:OWNER/NAME"),
        ("hub:o/na me", '"o/na me" is not a name on the Hub'),
    ],
)
def test_what_is_not_there_is_told_with_what_is(hubs, source, said):
    two = [
        {
            "config_name": c,
            "data_files": [{"split": "train", "path": f"{c}/*.jsonl"}, {"split": "valid", "path": [f"{c}/v/**"]}],
        }
        for c in ("en", "de")
    ]
    files = {f"{c}/{name}": lines(rows(1)) for c in ("en", "de") for name in ("a.jsonl", "v/w/b.jsonl")}
    hubs.sets |= {"o/two": (two, files), "o/none": ([], {"a.arrow": b"", "b.csv": b""}), "o/empty": ([], {})}
    assert said in refusal(hubset.find, source)


def test_a_path_is_a_file_a_folder_or_a_pattern(hubs):
    names = ("de/a.jsonl", "en/a.jsonl", "en/b.jsonl.gz", "en/deep/c.txt", "README.md")
    hubs.sets["o/set"] = [], dict.fromkeys(names, b"")
    for path, wanted in {
        "en": names[1:4], "en/": names[1:4], "en/a.jsonl": names[1:2], "*/a.jsonl": names[:2], "en/*": names[1:3],
        "**/*.jsonl": names[:2], "e?/b*": names[2:3], "en/**": names[1:4], "**/en/**/c.txt": names[3:4],
        "en/**/*.txt": names[3:4], "[de][de]/*": names[:1],
    }.items():  # fmt: skip
        hubset.find.cache_clear()
        assert hubset.find(f"hub:o/set/{path}").files == wanted, path
    assert not hubset._matches("a" * 60, "*a" * 40 + "b") and not hubset._matches("a/" * 60, "**/*/" * 40 + "b")
    assert hubset.find("hub:o/set").files == names[:3]  # the commonest kind


def test_max_bytes_takes_the_beginning_of_each_file_and_no_more_is_asked_for(hubs, monkeypatch):
    """The same documents every time; of files much larger than that only the first parts are fetched."""
    monkeypatch.setattr(hubset, "LEAST", 1000)
    monkeypatch.setattr(hubset, "BLOCK", 4096)
    monkeypatch.setattr(textfile, "CHUNK", 4096)
    files = {f"{name}.jsonl": lines(rows(4000, name)) for name in "abcd"} | {"e.jsonl": lines(rows(2, "e"))}
    hubs.sets["o/set"] = [], files
    found = texts("hub:o/set", 10_000)
    assert found == texts("hub:o/set", 10_000)
    size = {name: sum(len(text) for text in found if text.startswith(name)) for name in "abcde"}
    assert 8_000 < sum(size.values()) <= 10_000
    assert all(1_900 < size[name] < 2_600 for name in "abcd") and size["e"] == sum(len(r["text"]) for r in rows(2, "e"))
    assert max(int(wanted.rpartition("-")[2]) for _, wanted in hubs.parts()) < 3 * 4096
    few = hubset.find("hub:o/set").spread(2_000)
    assert few == ("a.jsonl", "c.jsonl") and len({d.split()[0] for d in texts("hub:o/set", 2_000)}) == 2


def test_a_parquet_file_is_read_by_its_footer_and_its_column(hubs, monkeypatch):
    """Ten megabytes of another column beside the text stay where they are."""
    monkeypatch.setattr(hubset, "BLOCK", 1 << 16)
    noise = [bytes([i % 256]) * 20_000 + str(i).encode() for i in range(500)]
    table = pyarrow.table({"text": [row["text"] for row in rows(500)], "image": noise})
    data = io.BytesIO()
    pyarrow.parquet.write_table(table, data, row_group_size=100, compression="none", use_dictionary=False)
    hubs.sets["o/set"] = [], {"train-0.parquet": data.getvalue()}
    assert texts("hub:o/set") == [row["text"] for row in rows(500)]
    assert sum(1 for _ in hubs.parts()) * (1 << 16) < len(data.getvalue()) / 5


def test_every_kind_of_file_gives_what_the_local_one_gives(hubs, tmp_path):
    data = lines(rows(30))
    frames = zst(data[:500]) + zst(data[500:])
    prose = "\n\n".join(row["text"] for row in rows(30)).encode()
    kinds = {"a.jsonl": data, "a.jsonl.gz": gzip.compress(data), "a.jsonl.zst": frames, "a.txt": prose,
             "a.json": json.dumps(rows(30)).encode(), "a.parquet": parquet(rows(30)), "empty.jsonl": b""}  # fmt: skip
    hubs.sets["o/set"] = [], kinds
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
        assert texts(f"hub:o/set/{name}") == [d.text for d in sources.read(str(tmp_path / name))], name


@pytest.mark.parametrize("column", ["content", "raw_content"])
def test_the_column_of_text_may_have_another_name(hubs, tmp_path, column):
    records = [{"id": row["text"][:5], column: row["text"]} for row in rows(12)]
    hubs.sets["o/set"] = [], {"a.jsonl": lines(records), "b.parquet": parquet(records)}
    for name in ("a.jsonl", "b.parquet"):
        assert texts(f"hub:o/set/{name}") == [row["text"] for row in rows(12)]
    (tmp_path / "b.parquet").write_bytes(parquet(records))
    assert [d.text for d in sources.read(str(tmp_path))] == [row["text"] for row in rows(12)]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("b.jsonl", lines([*rows(20), {"body": "x", "url": "u"}]), 'b.jsonl, line 21: no "text"; it has body, url'),
        ("b.jsonl", lines([*rows(20), {"text": 7, "id": "u"}]), 'line 21: "text" is int, not a string; it has text'),
        ("b.jsonl", lines([*rows(20), {"text": {"en": "x"}}]), 'line 21: "text" is dict, not a string; it has text'),
        ("b.parquet", parquet([{"body": "x", "url": "u"}]), 'b.parquet: no "text" column; it has body, url'),
        ("b.parquet", parquet([{"id": "x", "text": 7}]), 'row 1: "text" is int, not a string; it has id, text'),
        ("b.parquet", b"not parquet", "b.parquet: not a parquet file"),
        ("b.jsonl.zst", zst(lines(rows(9)))[:-9], "b.jsonl.zst: damaged zstd file"),
    ],
)  # fmt: skip
def test_a_file_with_another_schema_names_the_column_and_those_there_are(hubs, name, data, said):
    hubs.sets["o/set"] = [], {"a" + name[1:]: zst(lines(rows(9))) if "zst" in name else parquet(rows(9))
                              if "parquet" in name else lines(rows(9)), name: data}  # fmt: skip
    assert said in refusal(texts, "hub:o/set")


def test_an_empty_row_is_no_other_schema(hubs):
    hubs.sets["o/set"] = [], {"a.jsonl": lines([*rows(3), {"text": None}, *rows(2)])}
    assert len(texts("hub:o/set")) == 5
    assert '"text" is null' in refusal(texts, "hub:o/set", None, True)


def test_a_text_is_made_of_it_and_what_it_was_made_of_recorded(hubs, tmp_path, capsys):
    """Through the stage: the id without reading a file, the commit in corpus.json, the node as any other text's."""
    from journey.stages.inputs import inputs_of
    from journey.stages.run import Run

    hubs.sets["o/set"] = [], {"train/0.jsonl": lines(rows(200)), "train/1.jsonl": lines(rows(200, "other"))}
    config = stage.Text(source="hub:o/set", max_bytes=9_000)
    ids = inputs_of(config, {})
    assert not hubs.parts()
    node = stage.text(None, config, Run(tmp_path / "made"))
    assert node.lineage["data"]["source"] == {"fingerprint": ids["source"]}
    facts = json.loads((node.path / "corpus.json").read_text())
    assert facts["hub"] == {
        "repository": "o/set",
        "commit": COMMIT,
        "max_bytes": 9_000,
        "files": ["train/0.jsonl"],
        "files_there": 2,
    }
    assert 8_800 < facts["bytes"] <= 9_000 and facts["name"] == "set"
    assert "of the Hub's o/set at commit 0123456" in capsys.readouterr().err
    made = {text for split in corpus.SPLITS for text in Corpus(node.path).texts(split)}
    assert made == {row["text"] for row in rows(200)[: len(made)]}

    hubset.find.cache_clear()
    assert inputs_of(config, {}) == ids
    hubset.find.cache_clear()
    hubs.commit = "f" * 40
    assert inputs_of(config, {}) == ids  # asked once on a machine: a card that is mended trains nothing anew
    for kept in Path(constants.HF_HOME, "journey").glob("*.json"):
        kept.unlink()
    hubset.find.cache_clear()
    assert inputs_of(config, {}) != ids  # another commit is another text
    pinned = stage.Text(source=f"hub:o/set@{hubs.commit}")
    now = inputs_of(pinned, {})
    hubset.find.cache_clear()
    hubs.says = lambda path, number: (500, {})
    assert inputs_of(pinned, {}) == now and not hubs.waited  # a commit that is known needs no Hub


def test_a_large_set_streams_by_once(hubs, tmp_path, monkeypatch):
    """Above what is held in memory: no second reading to draw from, as of local files."""
    monkeypatch.setattr(corpus, "LIMIT", 20_000)
    hubs.sets["o/set"] = [], {"a.jsonl": lines(rows(2000))}
    facts = corpus.build("hub:o/set", tmp_path, max_bytes=60_000)
    assert 59_000 < facts["bytes"] <= 60_000
    assert sum(wanted != "bytes=0-0" for _, wanted in hubs.parts()) == 1


def test_a_busy_hub_is_waited_for(hubs, capsys):
    """Each of its ways to say so, once each, while it lists and while it gives: the text is the same."""
    hubs.sets["o/set"] = [], {"a.jsonl": lines(rows(20))}
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    moods = [
        (429, {"Retry-After": "7"}), (503, {}), (429, {"Retry-After": date}), "hang up", (200, {}), (502, {}),
        (429, {"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}), (200, {}),
    ]  # fmt: skip
    moods[4] = moods[7] = None
    hubs.says = lambda path, number: moods[number - 1] if number <= len(moods) else None
    assert texts("hub:o/set") == [row["text"] for row in rows(20)]
    assert [round(seconds) for seconds in hubs.waited] == [7, 2, pytest.approx(30, abs=2), 8, 1, 55]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "the dataset o/set: the Hub answers 429, waits 7 s (try 1 of 6)"
    assert len(said) == 6 and said[-1].startswith("a.jsonl of the dataset o/set: the Hub answers 429, waits 55 s")


@pytest.mark.parametrize("mood", [("cut off",), ("a part",)])
def test_a_part_that_broke_off_is_asked_for_again(hubs, mood):
    """Nothing of the text is lost, and no cut file passes for a short one."""
    hubs.sets["o/set"] = [], {"a.jsonl": lines(rows(50)), "b.jsonl.gz": gzip.compress(lines(rows(50)))}
    hubs.says = lambda path, number: mood if "resolve" in path and number % 2 else None
    assert texts("hub:o/set") == [row["text"] for row in rows(50)] * 2
    assert hubs.waited == [1] * len(hubs.waited) and len(hubs.waited) >= 2


@pytest.mark.parametrize("mood", [(429, {}), (503, {}), "hang up"])
def test_a_hub_that_stays_away_is_one_line_after_waits_that_double(hubs, mood):
    hubs.says = lambda path, number: mood
    said = refusal(hubset.find, "hub:o/set")
    assert said.startswith("the dataset o/set: the Hub ") and "in 6 tries: run it again later" in said
    assert hubs.waited == [1, 2, 4, 8, 16] and len(hubs.asked) == 6


def test_a_hub_that_asks_for_hours_is_not_waited_for(hubs):
    hubs.says = lambda path, number: (429, {"Retry-After": "7200"})
    assert "answers 429 and asks to wait for 7,200 s" in refusal(hubset.find, "hub:o/set")
    assert hubs.waited == []


def test_what_a_wait_does_not_mend_is_told_at_once(hubs):
    hubs.sets["o/set"] = [], {"a.jsonl": lines(rows(20))}
    for mood, said in (
        ((403, {"X-Error-Code": "GatedRepo"}), "dataset o/set asks for your consent"),
        ((418, {}), "the Hub did not give the dataset o/set (status 418)"),
        ((200, {}), "what the Hub answers is no listing"),
    ):
        hubs.says = lambda path, number, mood=mood: mood
        assert said in refusal(hubset.find, "hub:o/set")
    hubs.says = lambda path, number: (200, {}) if "resolve" in path else None
    assert "a.jsonl of the dataset o/set: the Hub gives no parts of it" in refusal(texts, "hub:o/set")
    hubs.says = lambda path, number: (404, {"X-Error-Code": "EntryNotFound"}) if "resolve" in path else None
    assert "the dataset o/set has no file a.jsonl" in refusal(texts, "hub:o/set")
    assert hubs.waited == []


def test_without_a_network_a_plan_is_of_the_commit_first_seen(hubs, monkeypatch):
    """As on a machine with a GPU and no internet: the text was made before, the plan must find it."""
    hubs.sets["o/set"] = [], {"a.jsonl": lines(rows(20))}
    before = hubset.find("hub:o/set")
    hubset.find.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert hubset.find("hub:o/set") == before and hubs.waited == []
    assert "HF_HUB_OFFLINE is set" in refusal(hubset.find, "hub:o/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hubs.says = lambda path, number: (503, {})
    hubset.find.cache_clear()
    assert hubset.find("hub:o/set") == before and hubs.waited == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    (kept,) = Path(constants.HF_HOME).rglob("*.json")
    kept.write_text("{")
    hubset.find.cache_clear()
    assert "HF_HUB_OFFLINE is set" in refusal(hubset.find, "hub:o/set")


def test_a_hub_source_is_no_folder_to_read(hubs):
    assert "make a text of it first" in refusal(lambda: list(sources.read("fineweb-edu")))
    assert 'did you mean "redpajama"?' in refusal(sources.files, "redpyjama")


def test_a_folder_here_comes_before_a_name_of_the_hub(hubs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "the-pile").mkdir()
    (tmp_path / "the-pile" / "00.jsonl.zst").write_bytes(zst(lines(rows(3))))
    assert len(list(sources.read("the-pile"))) == 3 and not hubs.asked
