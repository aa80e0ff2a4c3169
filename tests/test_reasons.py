"""Why a stage has to be made, said in the plan."""

import json
import shutil

import pytest

from journey import recipe, runner
from journey.checkpoint import open_node
from journey.errors import JourneyError
from journey.stages import load


def plan(life, *settings, **arguments):
    return runner.plan(recipe.read(life.recipe, list(settings)), life.workspace, **arguments)


def reasons(life, *settings, **arguments):
    return {item.step.name: item.reason for item in plan(life, *settings, **arguments) if item.waits}


@pytest.mark.parametrize(
    ("settings", "stage", "reason"),
    [
        (["stages.base.tokens=2_000_000"], "base", "tokens 16,000 → 2,000,000"),
        (["stages.base.tokens=2_000_000"], "coder", "its parent is new"),
        (["stages.base.lr=3e-4", "stages.base.n_head=4"], "base", "lr 0.02 → 0.0003, n_head none → 4"),
        (
            [f"stages.base.{key}" for key in ("lr=1", "clip=2", "tokens=9000", "warmup=0", "decay=1")],
            "base",
            "tokens 16,000 → 9,000, lr 0.02 → 1, warmup 0.02 → 0 and 2 more",
        ),
        (["stages.gguf.types=[q8_0]"], "gguf", "types f16 q8_0 → q8_0"),
        (["stages.index.whole=yes"], "index", "whole false → true"),
        (["stages.index.embedder=none"], "index", "embedder node → none"),
        (["stages.pairs.margin=0.05"], "preferred", 'its data "pairs" is new'),
        (["stages.code.test=0.2"], "coder", 'its data "code" is new'),
        (["stages.coder.data=prose"], "coder", "data code → prose"),
        (["stages.gguf.parents=chat"], "gguf", "parent preferred → chat"),
        (["stages.chat.seed=4"], "chat", "seed 3 → 4"),
        (["stages.chat.data=prose"], "chat", "DATA"),
    ],
)
def test_what_was_changed_is_the_reason(life, settings, stage, reason):
    reason = reason.replace("DATA", f"data {life.texts}/asked.jsonl → prose")
    assert reasons(life, *settings)[stage] == reason


def test_a_new_seed_is_the_reason_of_all(life):
    found = reasons(life, "seed=4")
    assert found["prose"] == "seed 3 → 4" and found["coder"] == (
        'its data "code" is new, its replay_data "prose" is new, its parent is new and 1 more'
    )


def test_what_stands_has_no_reason(life):
    assert {item.reason for item in plan(life)} == {""}


def test_the_first_time_all_is_new(unlived):
    assert set(reasons(unlived).values()) == {"new"} and len(reasons(unlived)) == 10


def test_a_step_that_was_not_there_is_new(life, tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text(life.recipe.read_text() + "  - {name: again, stage: quantize, parents: [chat]}\n")
    found = runner.plan(recipe.read(more), life.workspace)
    assert {item.step.name: item.reason for item in found if item.waits} == {"again": "new"}


def test_a_step_that_is_now_another_stage(life, tmp_path):
    other = tmp_path / "other.yaml"
    text = life.recipe.read_text()
    other.write_text(text[: text.index("  - name: index")] + "  - {name: index, stage: quantize, parents: [chat]}\n")
    found = runner.plan(recipe.read(other), life.workspace)
    assert {item.step.name: item.reason for item in found if item.waits} == {"index": "stage index → quantize"}


def test_another_text_is_the_reason_and_one_that_only_moved_is_none(life, tmp_path):
    shutil.copytree(life.texts, tmp_path / "texts")
    moved = tmp_path / "moved.yaml"
    moved.write_text(life.recipe.read_text().replace(str(life.texts), str(tmp_path / "texts")))
    with open(tmp_path / "texts" / "code.jsonl", "a") as file:
        file.write('{"text": "one more"}\n')
    found = {item.step.name: item.reason for item in runner.plan(recipe.read(moved), life.workspace) if item.waits}
    assert found["code"] == f"source {life.texts}/code.jsonl → {tmp_path}/texts/code.jsonl"
    assert found.keys() == {"code", "coder", "chat", "pairs", "preferred", "gguf", "index"}


def test_files_that_changed_where_they_are(copy, tmp_path):
    source = copy.texts / "code.jsonl"
    before = source.read_text()
    try:
        source.write_text(before + '{"text": "one more"}\n')
        found = reasons(copy)
    finally:
        source.write_text(before)
    assert found["code"] == "its files have changed" and found["coder"] == 'its data "code" is new'


def test_what_a_setting_stands_for_has_changed(copy, monkeypatch):
    """`auto` is another embedder once one is installed."""
    monkeypatch.setattr(load("index").config, "inputs", lambda self: {"embedder": "another"})
    assert reasons(copy) == {"index": "what embedder node stands for has changed"}


def test_from_is_asked_for_and_what_follows_has_its_reason(life):
    assert reasons(life, from_="chat") == {
        "chat": "asked for",
        "pairs": "its parent is new",
        "preferred": "its parent is new",
        "gguf": "its parent is new",
        "index": "its parent is new",
    }
    assert reasons(life, from_="pairs")["preferred"] == 'its data "pairs" is new'


def test_what_was_planned_and_not_made(copy):
    for name in ("gguf", "index"):
        shutil.rmtree(copy.node(name).path)
    index = next(item for item in plan(copy) if item.step.name == "index")
    (copy.workspace / "nodes" / f".work-{index.id[:12]}").mkdir()
    assert reasons(copy) == {"gguf": "not made yet", "index": "goes on where it was stopped"}
    # Planned with one setting, never made, and planned with another: nothing stood that could be compared.
    assert reasons(copy, "stages.gguf.types=[f16]")["gguf"] == "new"


def test_a_new_version_is_the_reason(copy, monkeypatch):
    monkeypatch.setattr(load("sft"), "version", 9)
    found = reasons(copy, "stages.chat.epochs=1")
    assert found["chat"] == "new version (4 → 9), epochs 2 → 1" and found["pairs"] == "its parent is new"


def test_a_setting_that_there_is_no_more(copy):
    path = copy.node("gguf").path / "lineage.json"
    lineage = json.loads(path.read_text())
    path.write_text(json.dumps(lineage | {"config": lineage["config"] | {"old": 1}}))
    assert reasons(copy, "stages.gguf.types=[f16]")["gguf"] == "types f16 q8_0 → f16, old no more a setting"


def test_older_code_is_kept_and_told_in_one_line(copy, journey):
    run = ("run", copy.recipe, "--workspace", copy.workspace, "--dry-run", "--json")
    assert "older code" not in journey(*run).err

    def age(name):
        path = copy.node(name).path / "lineage.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"source": "0" * 64}))

    age("gguf")
    output = journey(*run)
    assert "gguf: made by older code, kept; `--from gguf` makes it anew\n" in output.err
    assert [node["name"] for node in output.json["nodes"] if node["older"]] == ["gguf"]
    assert all(node["done"] for node in output.json["nodes"])
    assert "older code" not in journey(*run, "--from", "gguf").err
    age("index")
    assert "gguf, index: made by older code, kept; `--from NAME` makes one anew, and what follows" in journey(*run).err


def test_a_run_and_a_dry_run_say_the_reasons(copy, journey):
    run = ("run", copy.recipe, "--workspace", copy.workspace, "--set", "stages.gguf.types=[f16]", "--json")
    for arguments in ((*run, "--dry-run"), run):
        output = journey(*arguments)
        assert output.code == 0 and "types f16 q8_0 → f16\n" in output.err
    dry = journey(*run[:-3], "--set", "stages.gguf.types=[q8_0]", "--json", "--dry-run")
    assert {n["name"]: n["reason"] for n in dry.json["nodes"] if n["reason"]} == {"gguf": "types f16 → q8_0"}


def test_a_workspace_of_an_older_journey_is_told_in_one_line(copy, journey):
    path = copy.workspace / "plan.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "format"}))
    for arguments in (["run", copy.recipe], ["tree"], ["generate", "base", "The"]):
        output = journey(*arguments, "--workspace", copy.workspace)
        assert output.code == 2 and len(output.err.splitlines()) == 1
        assert "was made by an older Journey: give --workspace elsewhere, or delete it" in output.err
    with pytest.raises(JourneyError, match="older Journey"):
        plan(copy)
    assert open_node(copy.node("base").path).name == "base"  # a folder still opens
