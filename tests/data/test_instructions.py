"""Names of public sets, and data in one language."""

import json
from pathlib import Path

import pytest

from journey.data import conversations, hub, preferences
from journey.data.instructions import SETS, Named, fingerprint, named
from journey.errors import JourneyError
from journey.files import sha256_file
from journey.stages.inputs import Input, conversations_hash, resolve
from journey.stages.inputs import Named as Input_Named

DOLLY = "hub:databricks/databricks-dolly-15k/databricks-dolly-15k.jsonl"


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """The Hub's files, with a few rows each, by what their repository holds."""
    rows = {
        "databricks-dolly-15k.jsonl": {"instruction": "Q{}", "context": "", "response": "A", "category": "x"},
        "jsonl.gz": {"chosen": "\n\nHuman: Q{}\n\nAssistant: A", "rejected": "\n\nHuman: Q{}\n\nAssistant: B"},
    }
    made = {}

    def download(repository, file, kind):
        row = json.dumps(next(row for ending, row in rows.items() if file.endswith(ending)))
        path = made.setdefault(file, tmp_path / f"{len(made)}-{Path(file).name.removesuffix('.gz')}")
        path.write_text("".join(row.replace("{}", f"{len(made)}-{i}") + "\n" for i in range(4)))
        return path

    monkeypatch.setattr(hub, "download", download)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("dolly-15k", Named((DOLLY,), "")),
        ("dolly-15k:en", Named((DOLLY,), "en")),
        ("a.jsonl", Named(("a.jsonl",), "")),
        ("my/A.CSV.GZ:pt_BR", Named(("my/A.CSV.GZ",), "pt-br")),
        ("hub:o/n/f.parquet:de", Named(("hub:o/n/f.parquet",), "de")),
        *(
            (name, None)
            for name in ("docs", "docs:en", "hub:o/n", "hub:fineweb", "dolly-15k:", "dolly-15k:e", "a:b:en")
        ),
    ],
)
def test_what_a_name_stands_for(tmp_path, monkeypatch, data, expected):
    monkeypatch.chdir(tmp_path)
    assert named(data) == expected


def test_a_file_or_folder_here_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("alpaca").mkdir()
    Path("odd.jsonl:en").touch()
    assert named("alpaca") is None and named("alpaca:en") is None and named("odd.jsonl:en") is None
    Path("alpaca").rmdir()
    assert len(named("hh-rlhf").paths) == 4 and all(path.startswith("hub:") for path in named("alpaca").paths)


def test_stages_read_a_name_as_files_and_a_step_comes_first(downloaded):
    takes = Input(("text",), files="conversations")
    assert all(takes.reads(name) for name in SETS) and takes.reads("oasst1:en") and not takes.reads("docs")
    assert resolve("alpaca", takes, {}) == Input_Named("files", "alpaca")
    assert resolve("alpaca", takes, {"alpaca": "text"}) == Input_Named("step", "alpaca", "text")


def test_the_fingerprint_is_of_the_files_and_of_the_language(downloaded, tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    one = fingerprint("a.jsonl")
    assert one == sha256_file(tmp_path / "a.jsonl")  # as ever, so that ids stay
    found = {
        fingerprint(data) for data in ("a.jsonl", "a.jsonl:en", "a.jsonl:de", "dolly-15k", "hh-rlhf", "hh-rlhf:en")
    }
    assert len(found) == 6 and fingerprint("a.jsonl:EN") == fingerprint("a.jsonl:en")
    assert fingerprint("dolly-15k") == sha256_file(downloaded["databricks-dolly-15k.jsonl"])
    with pytest.raises(
        JourneyError, match=r"gone.jsonl does not exist: give the path of a file of conversations, or a"
    ):
        conversations_hash("gone.jsonl")


def test_a_set_is_read_by_its_name_with_each_of_its_files_told(downloaded):
    said = []
    found, _ = conversations.load("dolly-15k", say=said.append)
    assert len(found) == 4 and said == [f"{DOLLY}: instruction, context -> response (Dolly-15k): 4 conversations"]
    said.clear()
    pairs, _ = preferences.load("hh-rlhf", say=said.append)
    assert len(pairs) == 16 and len(said) == 4 and all("transcripts -> chosen, rejected (HH-RLHF)" in s for s in said)
    assert len(conversations.load("hh-rlhf")[0]) == 16


@pytest.mark.parametrize("name", SETS)
def test_without_the_hub_a_name_is_an_error_of_one_line(name, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(JourneyError, match="is not on this machine and the Hub cannot be reached") as error:
        conversations.load(name)
    assert "\n" not in str(error.value)


def test_the_language_of_a_files_rows(tmp_path):
    rows = [
        {"question": f"Q{i}", "answer": "A", "Language": said} for i, said in enumerate(["en", "EN-us", "de", None])
    ]
    path, said = tmp_path / "a.jsonl", []
    path.write_text("\n".join([*map(json.dumps, rows), "[]"]))
    found, left_out = conversations.load(f"{path}:en", say=said.append)
    assert [messages[0]["content"] for messages in found] == ["Q0", "Q1"] and not left_out
    assert said[-1] == f"{path}:en: 3 rows in another language than en are not read (not said: 2, de: 1)"
    with pytest.raises(JourneyError, match=r"a.jsonl:fr: no rows in fr \(there are"):
        conversations.load(f"{path}:fr")


def test_sft_trains_on_one_language_of_a_csv_and_its_lineage_knows_which(life, journey, tmp_path):
    path = tmp_path / "asked.csv"
    rows = [f"What is {i}?,It is {i}.,{'de' if i % 3 else 'en'}" for i in range(60)]
    path.write_text("\n".join(["question,answer,lang", *rows]))
    output = journey("sft", life.node("base").path, "--data", f"{path}:en", "--out", tmp_path / "chat", "--json")
    assert output.code == 0, output.err
    assert f"{path}: question -> answer: 20 conversations" in output.err
    assert "40 rows in another language than en are not read (de: 40)" in output.err
    lineage = json.loads((tmp_path / "chat" / "lineage.json").read_text())
    assert lineage["data"]["data"]["fingerprint"] == fingerprint(f"{path}:en") != fingerprint(str(path))
    assert lineage["metrics"]["conversations"]["value"] == 18
