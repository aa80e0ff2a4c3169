"""A sweep as a person runs it: processes, kills, failures, and numbers that are those of the nodes."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from journey.checkpoint import open_node
from journey.data.corpus import Corpus
from journey.evaluate import perplexity, statistics
from journey.model import huggingface
from journey.tokenizer.formats import Tokenizer

from .conftest import write

pytestmark = pytest.mark.slow  # a process a node, and each imports torch

SWEEP = """\
measure: {documents: 30}
sweep:
  seeds: 2
  vary: {stages.base.tokens: [2_048, 8_192]}
"""


@pytest.fixture(scope="module")
def swept(life, journey, tmp_path_factory):
    """A finished sweep: the recipe, its workspace and what the command said."""
    folder = tmp_path_factory.mktemp("sweep")
    recipe = write(folder, life.texts, SWEEP)
    output = journey("sweep", recipe, "--workspace", folder / "w", "--json")
    assert output.code == 0, output.err
    return recipe, folder / "w", output


def test_the_numbers_are_those_of_the_nodes(swept):
    _, workspace, output = swept
    found = json.loads((workspace / "sweep.json").read_text())
    assert output.json["sweep"] == found and output.json["path"] == str(workspace / "sweep.html")
    assert [point["values"] for point in found["points"]] == [{"tokens": 2048}, {"tokens": 8192}]
    short, long = found["points"]
    for point in (short, long):
        assert [run["seed"] for run in point["runs"]] == [0, 1]
        sums = []
        for run in point["runs"]:
            node = open_node(workspace / run["path"])
            assert node.id == run["node"] and node.lineage["tokens"] == point["values"]["tokens"]
            assert node.lineage["seed"] == run["seed"]
            scores = perplexity.score(
                huggingface.load(node.path).eval(),
                Tokenizer.load(node.path),
                _drawn(Corpus(next(workspace.glob("nodes/docs-*"))).documents("test")),
            )
            nats, n_bytes = [s["nats"] for s in scores], [s["bytes"] for s in scores]
            assert run["metrics"]["bits_per_byte.docs"]["test"] == pytest.approx(
                sum(nats) / math.log(2) / sum(n_bytes), rel=1e-6
            )
            sums.append(([n / math.log(2) for n in nats], n_bytes))
        expected = statistics.over_trainings(sums)
        got = point["metrics"]["bits_per_byte.docs"]["test"]
        assert (got["value"], got["low"]) == pytest.approx((expected.value, expected.low), rel=1e-6)
    assert long["best"] and long["level"] and not short["best"] and not short["level"]
    assert found["groups"] == [{"values": {}, "points": [0, 1], "best": 1}] and found["x"] == "tokens"
    assert short["metrics"]["bits_per_byte.docs"]["against_best"]["low"] > 0
    assert output.json["metrics"]["tokens=8192.bits_per_byte.docs"] == long["metrics"]["bits_per_byte.docs"]["test"]


def _drawn(documents):
    places = np.sort(np.random.default_rng(5).permutation(len(documents))[:30])
    return [documents[i] for i in places]


def test_a_node_is_what_journey_run_makes(swept, journey, tmp_path):
    recipe, workspace, _ = swept
    settings = ["--set", "stages.base.tokens=2_048", "--set", "stages.base.seed=1"]
    assert journey("run", recipe, "--workspace", tmp_path / "w", *settings).code == 0
    alone = open_node(next(tmp_path.glob("w/nodes/base-*")))
    beside = open_node(workspace / "nodes" / alone.path.name)
    assert beside.lineage["weights_sha256"] == alone.lineage["weights_sha256"]


def test_again_nothing_is_to_do(swept, journey):
    recipe, workspace, _ = swept
    before = {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file() and path.name != ".lock"}
    output = journey("sweep", recipe, "--workspace", workspace)
    assert output.code == 0 and "nothing to do" in output.err
    after = {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file() and path.name != ".lock"}
    assert before == after


def test_another_value_makes_only_what_is_new(swept, journey):
    recipe, workspace, _ = swept
    output = journey("sweep", recipe, "--workspace", workspace, "--dry-run", "--vary", "stages.base.tokens=2_048,4_096")
    assert output.code == 0 and "2 of 6 nodes to make" in output.err


def test_one_point_fails_and_the_others_go_on(swept, life, journey, tmp_path):
    """A learning rate that breaks the training: told at its point, exit code 1, the good point is whole."""
    recipe = write(tmp_path, life.texts, SWEEP)
    output = journey(
        *("sweep", recipe, "--workspace", tmp_path / "w", "--seeds", 1, "--jobs", 1, "--json"),
        *("--set", "sweep.vary={stages.base.lr: [1e+30, 0.01]}", "--set", "stages.base.optimizer=adamw"),
        *("--set", "stages.base.tokens=2_048"),
    )
    assert output.code == 1 and "1 of 4 nodes failed" in output.json["error"]
    bad, good = output.json["sweep"]["points"]
    assert "not a number" in bad["error"] and good["best"]
    assert "base lr=1e+30: the loss is not a number" in output.err


def test_killed_in_the_middle_it_goes_on_to_the_same_result(swept, tmp_path):
    """kill -9 of the sweep alone: its processes end by themselves, and the same command ends as if nothing happened."""
    recipe, reference, _ = swept
    workspace = tmp_path / "w"
    command = [sys.executable, "-m", "journey", "sweep", str(recipe), "--workspace", str(workspace), "--seeds", "1"]
    for part in ("docs-*", "base-*"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait(lambda part=part: any(workspace.glob(f"nodes/{part}")), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _wait(lambda: not _workers(workspace))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((place / "sweep.json").read_text()) for place in (workspace, reference))
    assert [p["runs"] for p in ours["points"]] == [p["runs"][:1] for p in theirs["points"]]


def test_ctrl_c_saves_and_leaves_no_process(swept, tmp_path):
    recipe, _, _ = swept
    workspace = tmp_path / "w"
    command = [sys.executable, "-m", "journey", "sweep", str(recipe), "--workspace", str(workspace)]
    slow = ["--set", "sweep.vary.stages.base.tokens=[30_000_000, 40_000_000]", "--seeds", "1"]
    process = subprocess.Popen([*command, *slow], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    _wait(lambda: len(list(workspace.glob("nodes/.work-*/state/clock.json"))) >= 2, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "all work is saved" in said and not _workers(workspace)
    assert any(workspace.glob("nodes/.work-*/state/training/step-*/state.safetensors"))


def _wait(condition, process=None, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        assert process is None or process.poll() is None, "the sweep ended early"
        time.sleep(0.05)


def _workers(workspace: Path) -> list[int]:
    """Processes that have a file of this workspace open, or were begun for it: those of a sweep write nowhere else."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"journey.sweep.worker" in (entry / "cmdline").read_bytes():
                environment = (entry / "environ").read_bytes()
                if f"PYTEST_CURRENT_TEST={os.environ['PYTEST_CURRENT_TEST']}".encode() in environment:
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "sweep.metrics=[bits]"], 'sweep: no score "bits"'),
        (["--set", "sweep.metrics=[bits_per_byte.dosc]"], 'did you mean "bits_per_byte.docs"'),
        (["--jobs", "0"], "--jobs 0: at least 1"),
        (["--vary", "stages.docs.dev=0.1,0.2"], 'the text "docs" differs between points'),
    ],
)
def test_what_cannot_be_is_one_line(swept, journey, tmp_path, arguments, said):
    output = journey("sweep", swept[0], "--workspace", tmp_path / "w", *arguments)
    assert output.code == 2 and said in output.err.splitlines()[-1]


def test_answers_need_questions(swept, journey, tmp_path):
    recipe, workspace, _ = swept
    asked = ["--set", "sweep.metrics=[answer_loss.none]", "--vary", "stages.base.tokens=2_048", "--seeds", 1]
    output = journey("sweep", recipe, "--workspace", workspace, *asked, "--json")
    assert output.code == 1 and "hold no questions" in output.json["sweep"]["points"][0]["error"]
