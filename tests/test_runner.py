"""What is made, what is skipped, and what is refused."""

import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections import namedtuple

import pytest

from journey import measuring, recipe, runner
from journey.checkpoint import open_node
from journey.errors import JourneyError
from journey.scores import estimates

NAMES = ["prose", "code", "tokenizer", "base", "coder", "chat", "pairs", "preferred", "gguf", "index"]
AFTER_CHAT = ["pairs", "preferred", "gguf", "index"]


def planned(life, workspace, *settings, **arguments):
    return runner.plan(recipe.read(life.recipe, list(settings)), workspace, **arguments)


def todo(plan):
    return [item.step.name for item in plan if not item.done]


def test_a_plan_names_what_the_run_then_makes(life):
    plan = planned(life, life.workspace)
    assert [item.step.name for item in plan] == NAMES and todo(plan) == []
    assert all(open_node(item.path).id == item.id for item in plan)
    assert {path.name for path in (life.workspace / "nodes").iterdir()} == {item.path.name for item in plan}


def test_in_an_empty_workspace_everything_is_to_be_made_and_planning_writes_nothing(life, tmp_path):
    plan = planned(life, tmp_path / "new")
    assert todo(plan) == NAMES and not (tmp_path / "new").exists()
    cost = runner.remaining(plan)
    assert cost.seconds > 60 and cost.bytes > 1e6


@pytest.mark.parametrize(
    ("setting", "again"),
    [
        ("stages.index.embedder=none", ["index"]),
        ("stages.gguf.types=[q8_0]", ["gguf"]),
        ("stages.preferred.beta=0.2", ["preferred", "gguf", "index"]),
        ("stages.pairs.margin=0.05", AFTER_CHAT),
        ("stages.chat.lr=0.00321", ["chat", *AFTER_CHAT]),
        ("stages.coder.tokens=3_000", ["coder", "chat", *AFTER_CHAT]),
        ("stages.base.lr=0.004", ["base", "coder", "chat", *AFTER_CHAT]),
        ("stages.tokenizer.vocab_size=401", [name for name in NAMES if name not in ("prose", "code")]),
        ("stages.code.test=0.2", ["code", "coder", "chat", *AFTER_CHAT]),
        ("stages.prose.dev=0.2", [name for name in NAMES if name != "code"]),
        ("seed=4", NAMES),
        ("name=other", []),
        ("measure.documents=9", []),
    ],
)
def test_a_changed_config_changes_its_stage_and_what_follows_and_nothing_else(life, setting, again):
    assert todo(planned(life, life.workspace, setting)) == again


def test_a_changed_text_changes_what_is_made_of_it(life, tmp_path):
    texts = tmp_path / "texts"
    shutil.copytree(life.texts, texts)
    moved = tmp_path / "moved.yaml"
    moved.write_text(life.recipe.read_text().replace(str(life.texts), str(texts)))
    plan = runner.plan(recipe.read(moved), life.workspace)
    assert todo(plan) == []  # elsewhere, and the same
    with open(texts / "code.jsonl", "a") as file:
        file.write(json.dumps({"text": "one more"}) + "\n")
    assert todo(runner.plan(recipe.read(moved), life.workspace)) == ["code", "coder", "chat", *AFTER_CHAT]


def test_until_ends_the_plan_with_that_stage(life, tmp_path):
    items = planned(life, tmp_path, until="base")
    assert [item.step.name for item in items if item.wanted] == ["prose", "code", "tokenizer", "base"]
    assert [item.step.name for item in items] == NAMES  # tree and report still know the rest
    with pytest.raises(JourneyError, match='no stage "bas" in the recipe, did you mean "base"'):
        planned(life, tmp_path, until="bas")


def test_from_makes_that_stage_and_what_follows_anew(life):
    assert todo(planned(life, life.workspace, from_="coder")) == ["coder", "chat", *AFTER_CHAT]
    assert todo(planned(life, life.workspace, from_="code")) == ["code", "coder", "chat", *AFTER_CHAT]
    assert todo(planned(life, life.workspace, from_="pairs")) == AFTER_CHAT
    with pytest.raises(JourneyError, match='no stage "codr"'):
        planned(life, life.workspace, from_="codr")


def stamps(workspace):
    """When each node was put in place: a stage that runs again makes a new folder."""
    return {path.name: path.stat().st_ino for path in (workspace / "nodes").iterdir()}


def test_a_second_run_does_nothing_and_says_so(copy, journey):
    before = stamps(copy.workspace)
    output = journey("run", copy.recipe, "--workspace", copy.workspace, "--json")
    assert output.code == 0 and "nothing to do" in output.err and output.json["made"] == []
    assert stamps(copy.workspace) == before


def test_a_changed_stage_runs_again_with_what_follows_and_the_rest_stays(copy, journey):
    before = stamps(copy.workspace)
    output = journey(
        "run", copy.recipe, "--workspace", copy.workspace, "--set", "stages.pairs.max_questions=50", "--json"
    )
    assert output.code == 0 and output.json["made"] == AFTER_CHAT
    after = stamps(copy.workspace)
    assert before.items() < after.items() and len(after) == len(before) + 4  # the old ones stay too
    # and back: nothing has to be made
    output = journey("run", copy.recipe, "--workspace", copy.workspace, "--json")
    assert output.json["made"] == [] and stamps(copy.workspace) == after


def test_until_a_stage_makes_what_its_settings_name_too(copy, life, journey):
    """`data: pairs` is as good a reason to make the pairs as `parents: [chat]` is to make the chat model."""
    for name in AFTER_CHAT:
        shutil.rmtree(copy.node(name).path)
    output = journey("run", copy.recipe, "--workspace", copy.workspace, "--until", "preferred", "--json")
    assert output.code == 0 and output.json["made"] == ["pairs", "preferred"]
    assert output.json["node"] == life.node("preferred").id
    assert copy.node("pairs").lineage["files"] == life.node("pairs").lineage["files"]
    assert copy.node("preferred").lineage["weights_sha256"] == life.node("preferred").lineage["weights_sha256"]


def without_pairs(life, path, data):
    """The small life's recipe, with the stage that makes pairs taken out and `data` for dpo to read."""
    text = life.recipe.read_text()
    start, end = text.index("  - name: pairs"), text.index("  - name: preferred")
    path.write_text(text[:start] + text[end:].replace("data: pairs", f"data: {data}"))
    return path


def test_pairs_named_by_their_folder_are_the_pairs_of_that_stage(copy, life, journey):
    mine = without_pairs(life, copy.workspace.parent / "mine.yaml", life.node("pairs").path)
    plan = runner.plan(recipe.read(mine), copy.workspace)
    assert [item.step.name for item in plan] == [name for name in NAMES if name != "pairs"] and todo(plan) == []
    shutil.rmtree(copy.node("preferred").path)
    output = journey("run", mine, "--workspace", copy.workspace, "--until", "preferred", "--json")
    assert output.code == 0 and output.json["made"] == ["preferred"], output.err
    made = copy.node("preferred").lineage
    assert made["id"] == life.node("preferred").id
    assert made["weights_sha256"] == life.node("preferred").lineage["weights_sha256"]
    assert made["data"]["data"]["id"] == life.node("pairs").id
    assert journey("tree", "--workspace", copy.workspace).code == 0


def test_a_folder_of_another_kind_is_told_before_anything_is_made(life, tmp_path):
    mine = without_pairs(life, tmp_path / "mine.yaml", life.node("prose").path)
    with pytest.raises(JourneyError, match=r"mine\.yaml:\d+: data: .*prose-.* is no pairs stage above and no file"):
        recipe.read(mine)


def test_a_report_that_a_kill_left_behind_is_written_by_the_next_run(copy, journey):
    arguments = ("run", copy.recipe, "--workspace", copy.workspace)
    page = copy.workspace / "report.html"
    os.utime(
        measuring.place(copy.node("chat"), copy.workspace, "greedy")
    )  # measured, and killed before the page was written
    before = page.stat().st_mtime_ns
    assert "nothing to do" not in journey(*arguments).err and page.stat().st_mtime_ns > before
    assert "nothing to do" in journey(*arguments).err


def test_from_gives_the_same_weights_again(copy, journey):
    before = stamps(copy.workspace)
    output = journey("run", copy.recipe, "--workspace", copy.workspace, "--from", "coder", "--until", "coder", "--json")
    assert output.code == 0 and output.json["made"] == ["coder"]
    after = stamps(copy.workspace)
    assert after.keys() == before.keys()
    assert {name.split("-")[0] for name in after if after[name] != before[name]} == {"coder"}
    old = open_node(next((copy.workspace / "nodes").glob("coder-*")))
    assert old.lineage["weights_sha256"] and old.id == output.json["node"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(life, journey, tmp_path):
    output = journey("run", life.recipe, "--workspace", tmp_path / "new", "--dry-run", "--json")
    assert output.code == 0 and not (tmp_path / "new").exists()
    assert [node["name"] for node in output.json["nodes"]] == NAMES
    assert all(not node["done"] and len(node["id"]) == 64 for node in output.json["nodes"])
    assert output.json["seconds"] > 0 and output.json["bytes"] > 0
    for name in NAMES:
        assert name in output.err
    assert "MB" in output.err and "10 of 10 stages to make" in output.err


def test_the_workspace_is_journeys_and_the_name_where_none_is_given(life, journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = journey("run", life.recipe, "--until", "prose", "--json")
    assert output.code == 0 and (tmp_path / "journeys" / "tiny" / "plan.json").exists()


def bits(life, name):
    """What was measured of a model's predictions."""
    return measuring.read(life.node(name), life.workspace)["bits_per_byte"]


def test_every_model_is_measured_on_every_text(life):
    for name in ("base", "coder", "chat", "preferred"):
        found = measuring.read(life.node(name), life.workspace)
        assert bits(life, name).items.keys() == {"prose", "code"}
        assert len(found["samples"].facts["samples"]) == 6
        assert ("against_parent" in found) == (name != "base") and ("preferences" in found) == (name == "preferred")
        for path in (life.workspace / "measurements" / life.node(name).id).glob("*.json"):
            about = json.loads(path.read_text())
            assert (about["split"], about["node"], about["measure"]) == ("test", life.node(name).id, path.stem)
    base, coder = (estimates(bits(life, name)) for name in ("base", "coder"))
    assert coder["bits_per_byte.code"].value < base["bits_per_byte.code"].value
    assert base["bits_per_byte.prose.bigram"].value > 0


def test_every_model_has_the_same_items(life):
    """So that any two nodes can be compared item by item."""
    items = [bits(life, name).items["code"] for name in ("base", "coder", "chat", "preferred")]
    assert len({tuple(each.ids) for each in items}) == 1 and len(items[0]) > 10
    assert len({tuple(each.columns["bytes"]) for each in items}) == 1


def test_a_measurement_that_is_lost_is_made_again_and_no_other_and_no_stage_is(copy, journey):
    before, measured = stamps(copy.workspace), files(copy.workspace)
    path = measuring.place(copy.node("base"), copy.workspace, "bits_per_byte")
    old = json.loads(path.read_text())
    path.unlink()
    output = journey("run", copy.recipe, "--workspace", copy.workspace, "--json")
    assert output.code == 0 and "base: measured" in output.err and "chat: measured" not in output.err
    new = json.loads(path.read_text())
    assert stamps(copy.workspace) == before
    assert {**old, "seconds": 0} == {**new, "seconds": 0}
    assert {name for name, stamp in files(copy.workspace).items() if measured[name] != stamp} == {path}


def files(workspace):
    """When each measurement was written."""
    return {path: path.stat().st_mtime_ns for path in workspace.glob("measurements/*/*.json")}


def test_a_measure_that_a_recipe_takes_or_leaves_is_all_that_changes(copy, journey):
    """And so are its settings."""
    before = files(copy.workspace)
    run = ("run", copy.recipe, "--workspace", copy.workspace, "--json")
    output = journey(*run, "--set", "measure.costs=true", "--set", "measure.repeats.sequences=4")
    assert output.code == 0 and output.json["made"] == []
    new = {path for path, written in files(copy.workspace).items() if before.get(path) != written}
    models = [copy.node(name) for name in ("base", "coder", "chat", "preferred")]
    assert new == {measuring.place(node, copy.workspace, name) for node in models for name in ("costs", "repeats")}
    assert len(measuring.read(models[0], copy.workspace)["repeats"].items["items"]) == 4
    assert "What it costs" in (copy.workspace / "report.html").read_text()
    before = files(copy.workspace)
    output = journey(*run, "--set", "measure.repeats=false", "--set", "measure.samples=false")
    assert output.json["made"] == [] and "measured" not in output.err and files(copy.workspace) == before


def test_a_new_text_measures_the_models_that_stand(copy, journey):
    with_more = copy.workspace.parent / "more.yaml"
    more = f"  - name: asked\n    stage: text\n    with: {{source: {copy.texts}/prose.jsonl, dev: 0.1}}\n"
    with_more.write_text(copy.recipe.read_text() + more)
    before = stamps(copy.workspace)
    output = journey("run", with_more, "--workspace", copy.workspace, "--json")
    assert output.code == 0 and output.json["made"] == ["asked"]
    assert before.items() < stamps(copy.workspace).items()
    assert "asked" in bits(copy, "chat").items


def test_two_runs_in_one_workspace_the_second_is_refused_by_the_firsts_name(copy, journey):
    code = f"""
        import sys, time
        from pathlib import Path
        from journey import runner
        sys.argv = ["journey", "run", "first.yaml"]
        with runner.alone(Path({str(copy.workspace)!r})):
            print("held", flush=True)
            time.sleep(60)
    """
    first = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        before = (copy.workspace / "plan.json").read_bytes()
        output = journey("run", copy.recipe, "--workspace", copy.workspace, "--from", "prose", "--json")
        assert output.code == 2
        assert f"is in use by `journey run first.yaml` (process {first.pid}, since " in output.json["error"]
        assert (copy.workspace / "plan.json").read_bytes() == before
        assert journey("tree", "--workspace", copy.workspace).code == 0  # looking is allowed
    finally:
        first.kill()
        first.wait()
    # Killed as it was, it holds nothing.
    assert journey("run", copy.recipe, "--workspace", copy.workspace).code == 0


def test_a_workspace_that_cannot_be_written_is_told(life, journey, tmp_path):
    (tmp_path / "file").write_text("")
    output = journey("run", life.recipe, "--workspace", tmp_path / "file" / "inside")
    assert output.code == 2 and "cannot write in" in output.err and "give --workspace elsewhere" in output.err
    if os.geteuid():  # root may write everywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        output = journey("run", life.recipe, "--workspace", tmp_path / "closed")
        assert output.code == 2 and "cannot write in" in output.err


def test_too_little_disk_is_told_before_anything_is_made(life, journey, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**6, 10**6))
    output = journey("run", life.recipe, "--workspace", tmp_path / "new", "--json")
    assert output.code == 2 and "too little disk: 1 MB free" in output.json["error"]
    assert "give --workspace on another disk" in output.json["error"]
    assert list((tmp_path / "new" / "nodes").iterdir()) == []


def test_too_little_disk_does_not_matter_where_nothing_is_to_be_made(copy, journey, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda path: usage(1, 1, 0))
    assert journey("run", copy.recipe, "--workspace", copy.workspace).code == 0


BRIEF = ("--set", "stages.base.tokens=512")


def run_limited(life, workspace, until, limit):
    """A run in a process of its own that may not make a file larger than `limit` bytes."""
    command = [
        sys.executable,
        "-c",
        "from journey.cli import entry; entry()",
        "run",
        life.recipe,
        "--workspace",
        workspace,
    ]
    return subprocess.run(
        [*map(str, command), "--until", until, *BRIEF, "--json"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("stage", "limit"), [("prose", 3_000), ("base", 60_000)])
def test_a_file_that_cannot_be_written_whole_is_one_line_and_nothing_is_lost(copy, journey, stage, limit):
    """A text's parquet file, and the weights: written by different libraries, each with errors of its own."""
    for path in (copy.workspace / "nodes").glob(f"{stage}-*"):
        shutil.rmtree(path)
    before = stamps(copy.workspace)
    cut = run_limited(copy, copy.workspace, stage, limit)
    assert cut.returncode == 2 and "Traceback" not in cut.stderr, cut.stderr
    assert "disk is full" in json.loads(cut.stdout.splitlines()[-1])["error"]
    assert {name: inode for name, inode in stamps(copy.workspace).items() if name[0] != "."} == before
    assert journey("run", copy.recipe, "--workspace", copy.workspace, "--until", stage, *BRIEF).code == 0


def test_a_really_full_disk_is_one_line_and_nothing_is_lost(life, tmp_path):
    """A file system of its own, which something else fills after the plan was found to fit."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    python = (
        "from collections import namedtuple; from journey import runner; from journey.cli import entry;"
        "runner.shutil.disk_usage = lambda path: namedtuple('usage', 'free')(10**12); entry()"
    )
    script = f"""
        mount -t tmpfs -o size=20m none {disk} && cp -r {life.workspace}/. {disk}/ || exit 9
        (cd {disk}/nodes && rm -r base-* coder-* chat-* pairs-* preferred-* gguf-* index-*)
        head -c 30m /dev/zero >{disk}/filler 2>/dev/null
        truncate -s -40k {disk}/filler
        {sys.executable} -c "{python}" run {life.recipe} --workspace {disk} --until base {" ".join(BRIEF)} --json
        code=$?
        ls {disk}/nodes
        exit $code
    """
    found = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    assert found.returncode == 2 and "Traceback" not in found.stderr, found.stderr
    answer, *nodes = found.stdout.splitlines()
    assert "disk is full" in json.loads(answer)["error"]
    assert sorted(name.split("-")[0] for name in nodes) == ["code", "prose", "tokenizer"]


def test_a_node_is_found_by_name_by_the_beginning_of_its_id_and_by_path(life):
    base = life.node("base")
    for name in ("base", base.id[:8], base.id, str(base.path)):
        assert runner.find_node(name, life.workspace).id == base.id


def test_a_node_that_is_not_there_is_told(life, copy, tmp_path):
    with pytest.raises(JourneyError, match=r'no node "bas" in .*, did you mean "base"'):
        runner.find_node("bas", life.workspace)
    with pytest.raises(JourneyError, match="no journey in"):
        runner.find_node("base", tmp_path)
    shutil.rmtree(copy.node("chat").path)
    with pytest.raises(JourneyError, match='"chat" has not been made yet: `journey run --until chat` makes it'):
        runner.find_node("chat", copy.workspace)


def test_a_beginning_of_several_ids_is_refused(copy):
    base = copy.node("base")
    twin = base.path.with_name("twin")
    shutil.copytree(base.path, twin)
    lineage = json.loads((twin / "lineage.json").read_text())
    (twin / "lineage.json").write_text(
        json.dumps(lineage | {"id": base.id[:10] + ("1" if base.id[10] == "0" else "0") + base.id[11:]})
    )
    with pytest.raises(JourneyError, match="the beginning of 2 ids: give more of it"):
        runner.find_node(base.id[:8], copy.workspace)
    assert runner.find_node(base.id[:12], copy.workspace).id == base.id


def test_what_a_kill_left_between_two_renames_is_no_node(copy):
    """`.old-…` holds the same lineage; it must not make an id ambiguous."""
    base = copy.node("base")
    shutil.copytree(base.path, base.path.with_name(f".old-{base.path.name}-12345678"))
    assert runner.find_node(base.id[:8], copy.workspace).path == base.path


def test_ancestors_are_what_a_node_was_made_from_nearest_first(life, copy):
    assert [node.name for node in runner.ancestors(life.node("gguf"))] == [
        "gguf", "preferred", "chat", "coder", "base", "tokenizer",
    ]  # fmt: skip
    assert [node.name for node in runner.ancestors(life.node("prose"))] == ["prose"]
    shutil.rmtree(copy.node("chat").path)  # as far as they stand
    assert [node.name for node in runner.ancestors(copy.node("index"))] == ["index", "preferred"]
    assert runner.parent_of(copy.node("index")) == copy.node("preferred").path
    assert runner.parent_of(copy.node("preferred")) is None


def test_the_last_stage_of_a_kind(life, tmp_path):
    assert runner.last("index", life.workspace) == "index" and runner.last("text", life.workspace) == "code"
    with pytest.raises(JourneyError, match="no import in "):
        runner.last("import", life.workspace)
    with pytest.raises(JourneyError, match="no journey in"):
        runner.last("index", tmp_path)


def test_half_a_file_of_a_run_that_was_killed_is_cleared_away(tmp_path):
    kept = tmp_path / "measurements" / "node" / "samples.json"
    halves = [kept.with_name(".samples.json.36870aa6.tmp"), tmp_path / ".plan.json.0123abcd.tmp"]
    kept.parent.mkdir(parents=True)
    for path in (kept, *halves):
        path.write_text("{")
    with runner.alone(tmp_path):
        assert not any(path.exists() for path in halves) and kept.exists()
