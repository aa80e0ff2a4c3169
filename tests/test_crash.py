"""Killed at any instant, a life goes on where it was and ends as if nothing had happened.

The lives run in processes forked from one that has imported everything, each the leader of a group that is killed
whole: what is killed is then work, and not ten times the import of torch.
"""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from journey.checkpoint import COMPARED
from journey.files import sha256_file
from journey.stages.run import Stopped

from .conftest import Life

STAGES = ("prose", "code", "tokenizer", "base", "coder", "chat", "pairs", "preferred", "gguf", "index")
MODELS = ("base", "coder", "chat", "preferred")
HEAVY = ["torch", "trl", "transformers", "datasets", "pyarrow.parquet", "journey.train.loop", "journey.stages.dpo"]

# Every step is saved, so that a kill finds the training between two saved states, and in the middle of saving one.
CODE = """
import os, sys
os.setsid()
os.dup2(os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
import journey.train.saver as saver
saver._SAVE_EVERY, saver._SAVE_SHARE = 0.0, 0
sys.argv = ["journey", *{arguments!r}]
from journey.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def server():
    """Forks a ready process for each life."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    return context


class Running:
    """A life at work in a process of its own."""

    def __init__(self, server, life, workspace):
        self.workspace = workspace
        self.log = workspace.parent / f"{workspace.name}.log"
        arguments = ["run", str(life.recipe), "--workspace", str(workspace)]
        code = CODE.format(log=str(self.log), arguments=arguments)
        self.process = server.Process(target=exec, args=(code, {"__name__": "life"}))
        self.process.start()

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # not yet the leader of its group, or just finished
            self.process.kill()
        self.process.join()

    def wait_for_training(self, node, steps):
        """Until so many steps of this node's training are saved."""
        while max(map(step, saved(self.state(node))), default=0) < steps:
            assert self.process.is_alive(), self.log.read_text()
            time.sleep(0.002)

    def finish(self):
        self.process.join()
        return self.process.exitcode

    def finish_watching(self, node):
        """The exit code, and which saved steps of this node's training were seen until then."""
        seen = set()
        while self.process.is_alive():
            seen |= {step(path) for path in saved(self.state(node))}
            time.sleep(0.002)
        return self.process.exitcode, seen

    def state(self, node):
        return self.workspace / "nodes" / f".work-{node.id[:12]}" / "state"


def saved(state):
    """The states that a training has saved: TRL's, or our loop's."""
    return [Path(root) / name for root, names, _ in os.walk(state) for name in names if re.fullmatch(r"step-\d+", name)]


def step(path):
    return int(path.name.removeprefix("step-"))


def assert_whole(workspace):
    """Nothing half-written stands under a name that anyone reads."""
    for folder in (workspace / "nodes").glob("[!.]*"):
        lineage = json.loads((folder / "lineage.json").read_text())
        files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        files.pop("lineage.json")
        files.pop(COMPARED, None)
        assert {name: sha256_file(path) for name, path in files.items()} == lineage["files"]
    for name in ("plan.json", "measurements/*/*.json"):
        for path in workspace.glob(name):
            json.loads(path.read_text())
    # Only the newest state is read, and none of a node that stands: its folder may be half deleted.
    made = [folder.name.rpartition("-")[2] for folder in (workspace / "nodes").glob("[!.]*")]
    states = [path for path in sorted(saved(workspace / "nodes")) if not any(f".work-{id}" in str(path) for id in made)]
    for state in states[-1:]:
        names = {path.name for path in state.iterdir()}
        assert names & {"state.safetensors", "model.safetensors", "adapter_model.safetensors"}
        assert names & {"history.json", "trainer_state.json"}


def untimed(measured):
    """A measurement without what the clock said."""
    if not isinstance(measured, dict):
        return measured
    return {k: untimed(v) for k, v in measured.items() if k not in ("seconds", "tokens_per_second")}


def assert_same_life(workspace, life):
    """The ids, the weights and the losses of the uninterrupted life, and nothing left over."""
    found = {name: next((workspace / "nodes").glob(f"{name}-*")) for name in STAGES}
    assert {path.name for path in (workspace / "nodes").iterdir()} == {path.name for path in found.values()}
    for name in STAGES:
        ours, theirs = (json.loads((p / "lineage.json").read_text()) for p in (found[name], life.node(name).path))
        assert ours["id"] == theirs["id"] and ours["metrics"] == theirs["metrics"]
        assert ours["weights_sha256"] == theirs["weights_sha256"]
        if name in ("pairs", "gguf"):
            assert ours["files"] == theirs["files"]
    for name in MODELS:
        ours, theirs = json.loads((found[name] / "history.json").read_text()), life.history(name)
        assert [line.keys() for line in ours] == [line.keys() for line in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a == pytest.approx(b, abs=1e-6)
    for name in ("tokenizer", *MODELS, "gguf", "index"):
        folder = Path("measurements", life.node(name).id)
        ours, theirs = (
            {
                path.name: untimed(json.loads(path.read_text()))
                for path in (place / folder).glob("*.json")
                if path.name != "timeline.json"  # all of it is by the clock
            }
            for place in (workspace, life.workspace)
        )
        assert ours == theirs and ours
    assert not list(workspace.rglob("*.tmp"))
    assert (workspace / "report.html").exists()


@pytest.mark.slow
def test_kill_9_at_ten_random_moments_then_the_same_life(life, server, tmp_path):
    rng = random.Random(11)
    start = time.monotonic()
    whole = Running(server, life, tmp_path / "whole")
    assert whole.finish() == 0, whole.log.read_text()
    seconds = time.monotonic() - start
    assert_same_life(whole.workspace, life)

    kills, lives = 0, 1
    while kills < 10:
        running = Running(server, life, tmp_path / f"killed-{lives}")
        running.process.join(timeout=rng.uniform(0.02, 0.25) * seconds)
        if running.process.is_alive():
            running.kill()
            kills += 1
            assert_whole(running.workspace)
        else:  # it came through: the rest of the kills is for another one
            assert running.finish() == 0, running.log.read_text()
            assert_same_life(running.workspace, life)
            lives += 1
    last = Running(server, life, tmp_path / f"killed-{lives}")
    assert last.finish() == 0, last.log.read_text()
    assert_same_life(last.workspace, life)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_each_training(life, server, tmp_path):
    """What chance may miss: each of the four models is killed with some of its steps saved."""
    workspace = tmp_path / "workspace"
    for name in MODELS:
        running = Running(server, life, workspace)
        running.wait_for_training(life.node(name), 4)
        running.kill()
        made = {path.name.split("-")[0] for path in (workspace / "nodes").glob("[!.]*")}
        assert made == set(STAGES[: STAGES.index(name)]), f"killed in {made}, not in {name}"
        assert_whole(workspace)
    last = Running(server, life, workspace)
    assert last.finish() == 0, last.log.read_text()
    assert_same_life(workspace, life)


ADAPTED = """\
  - name: adapted
    stage: lora
    parents: [coder]
    with: {{data: {texts}/asked.jsonl, epochs: 2, rank: 4, dropout: 0.1, quantize: nf4}}
"""


@pytest.mark.slow
def test_kill_9_in_the_training_of_an_adapter(life, server, tmp_path):
    recipe = tmp_path / "adapted.yaml"
    before, _, _ = life.recipe.read_text().partition("  - name: chat\n")
    recipe.write_text(before + ADAPTED.format(texts=life.texts))
    lives = [Life(life.texts, recipe, tmp_path / name) for name in ("whole", "killed")]
    for each in lives:
        shutil.copytree(life.workspace, each.workspace)
    whole = Running(server, lives[0], lives[0].workspace)
    assert whole.finish() == 0, whole.log.read_text()
    node = lives[0].node("adapted")
    running = Running(server, lives[1], lives[1].workspace)
    running.wait_for_training(node, 20)
    running.kill()
    assert_whole(lives[1].workspace)
    again = Running(server, lives[1], lives[1].workspace)
    code, seen = again.finish_watching(node)
    assert code == 0 and min(seen) >= 19, again.log.read_text()  # it went on
    found = lives[1].node("adapted")
    assert found.id == node.id and found.lineage["weights_sha256"] == node.lineage["weights_sha256"]
    assert found.lineage["metrics"] == node.lineage["metrics"]
    assert lives[1].history("adapted") == lives[0].history("adapted")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coder", "chat", "preferred"])
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(copy, life, server, name):
    """Also: while it runs, a second run is refused, by the name and number of the first."""
    shutil.rmtree(copy.node(name).path)  # what was made of it stays: it comes back with the same weights
    running = Running(server, copy, copy.workspace)
    running.wait_for_training(life.node(name), 1)
    os.kill(running.process.pid, signal.SIGSTOP)  # it is slow to go on, and holds the workspace
    assert Running(server, copy, copy.workspace).finish() == 2
    os.kill(running.process.pid, signal.SIGCONT)
    assert f"is in use by `journey run {copy.recipe}" in running.log.read_text()
    assert f"(process {running.process.pid}, since" in running.log.read_text()
    os.kill(running.process.pid, signal.SIGINT)
    assert running.finish() == 1
    said = running.log.read_text()
    assert "stopping at the next safe point" in said and "stopped, and all work is saved" in said
    assert f"`journey run {copy.recipe} --workspace {copy.workspace}` goes on from here" in said
    assert "Traceback" not in said
    assert_whole(copy.workspace)
    stopped = max(map(step, saved(running.state(life.node(name)))))
    again = Running(server, copy, copy.workspace)
    code, seen = again.finish_watching(life.node(name))
    assert code == 0, again.log.read_text()
    assert min(seen) >= stopped - 1  # it went on; from the beginning it would have saved step 1 again
    assert_same_life(copy.workspace, life)


@pytest.mark.parametrize("again", [False, True])
def test_a_stage_killed_between_its_renames_is_made_again(copy, journey, monkeypatch, life, again):
    """`--from` puts a new node where an old one stands: for an instant there is none, and a kill then loses nothing."""
    from journey import files

    if not again:
        shutil.rmtree(copy.node("coder").path)
    replace = os.replace

    def killed(a, b):
        if "coder-" in str(b) and str(a).endswith("node"):
            raise Stopped
        replace(a, b)

    monkeypatch.setattr(files.os, "replace", killed)
    arguments = ["run", copy.recipe, "--workspace", copy.workspace, "--until", "coder"]
    assert journey(*arguments, *(["--from", "coder"] if again else [])).code == 1
    monkeypatch.undo()
    assert not list((copy.workspace / "nodes").glob("coder-*"))
    assert journey(*arguments).code == 0
    assert copy.node("coder").lineage["weights_sha256"] == life.node("coder").lineage["weights_sha256"]
