"""A sweep as a person runs it: processes, kills, failures, and numbers that are those of the nodes."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from journey import measuring
from journey.checkpoint import open_node
from journey.console import Console
from journey.data.corpus import Corpus
from journey.evaluate import perplexity, statistics
from journey.model import huggingface
from journey.scores import Items, Score, Taken, estimates
from journey.sweep import numbers
from journey.sweep.page import page
from journey.sweep.result import _compare
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
    assert {each["name"] for each in found["trails"]} == {"loss", "lr"} and found["before"] is found["between"] is None
    losses = [
        [line["loss"] for line in json.loads((workspace / run["path"] / "history.json").read_text())]
        for run in short["runs"]
    ]
    assert short["trails"]["loss"]["mean"] == pytest.approx(np.mean(losses, axis=0), rel=1e-5)
    assert "training loss; lower is better" in (workspace / "sweep.html").read_text()


def test_where_nothing_was_recorded_the_page_says_nothing_of_it(swept):
    """A training by TRL keeps no curves that a sweep could show."""
    content = json.loads((swept[1] / "sweep.json").read_text())
    assert "How the trainings went" in page(content)
    assert "How the trainings went" not in page(content | {"trails": []})


def test_of_several_metrics_each_point_is_compared_with_the_model_before(copy, journey):
    """The nodes are those of the life: nothing is trained. What the model before has is what a sweep of it says."""
    found = {}
    for of in ("coder", "base"):
        what = ["--of", of, "--vary", f"stages.{of}.accumulate=1", "--set", "sweep.seeds=[3]"]
        output = journey("sweep", copy.recipe, *what, "--jobs", 1, "--workspace", copy.workspace, "--json")
        assert output.code == 0, output.err
        found[of] = output.json["sweep"]
    coder, base = (found[of]["points"][0] for of in ("coder", "base"))
    before = found["coder"]["before"]
    assert before["name"] == "base" and found["base"]["before"] is None
    assert coder["runs"][0]["node"] == copy.node("coder").id and base["runs"][0]["node"] == copy.node("base").id
    assert before["metrics"].keys() == {"bits_per_byte.prose", "bits_per_byte.code"}
    for name, metric in before["metrics"].items():
        assert metric == base["metrics"][name]["test"]
        away = coder["metrics"][name]["against_before"]
        assert away["value"] == pytest.approx(coder["metrics"][name]["test"]["value"] - metric["value"])
        alone = [number["high"] - number["low"] for number in (metric, coder["metrics"][name]["test"])]
        assert away["high"] - away["low"] < math.hypot(*alone)  # paired, on the same documents


def test_what_was_measured_stands_where_a_run_keeps_it(swept):
    """Of both splits, one file a measure; no n-gram models, which no sweep asks for."""
    _, workspace, output = swept
    runs = [run for point in output.json["sweep"]["points"] for run in point["runs"]]
    for run in runs:
        folder = workspace / "measurements" / run["node"]
        names = {f"{name}{end}.json" for name in ("bits_per_byte", "costs") for end in ("", "-dev")}
        assert {path.name for path in folder.iterdir()} == names
        for split, end in (("test", ""), ("dev", "-dev")):
            taken = Taken.read(json.loads((folder / f"bits_per_byte{end}.json").read_text()))
            (e,) = estimates(taken).values()
            assert run["metrics"]["bits_per_byte.docs"][split] == pytest.approx(e.value, rel=1e-12)
        assert len(taken.items["docs"]) <= 30
    facts = output.json["sweep"]["points"][0]["facts"]
    assert facts["parameters"] > facts["body_parameters"] > 0 and facts["tokens"] == 2048
    assert json.loads((workspace / "sweep.json").read_text())["metrics"][0]["better"] == "lower"


@pytest.fixture
def copied(swept, tmp_path):
    """The finished sweep in a workspace of the test's own."""
    shutil.copytree(swept[1], tmp_path / "copied")
    return swept[0], tmp_path / "copied"


def test_any_score_that_is_better_or_worse_can_be_swept(copied, journey):
    """A second one is shown beside the first."""
    recipe, workspace = copied
    metrics = ["--set", "sweep.metrics=[repeat.second, bits_per_byte]", "--seeds", 1]
    output = journey("sweep", recipe, "--workspace", workspace, *metrics, "--json")
    assert output.code == 0, output.err
    found = output.json["sweep"]
    assert [metric["name"] for metric in found["metrics"]] == ["repeat.second", "bits_per_byte.docs"]
    assert found["metrics"][0]["label"] == "loss of the second copy" and found["metrics"][0]["unit"] == "nats/token"
    for point in found["points"]:
        (run,) = point["runs"]
        path = workspace / "measurements" / run["node"] / "repeats.json"
        e = estimates(Taken.read(json.loads(path.read_text())))["repeat.second"]
        assert run["metrics"]["repeat.second"]["test"] == pytest.approx(e.value)
    dev = [point["metrics"]["repeat.second"]["dev"]["value"] for point in found["points"]]
    assert found["groups"][0]["best"] == dev.index(min(dev))


def test_what_is_neither_better_nor_worse_chooses_nothing(copied, journey):
    """The second time too, when it is measured and nothing is left to do."""
    recipe, workspace = copied
    for _ in range(2):
        output = journey("sweep", recipe, "--workspace", workspace, "--set", "sweep.metrics=[repeat.first]", "--json")
        errors = {point["error"] for point in output.json["sweep"]["points"]}
        assert output.code == 1 and all("repeat.first" in e and "neither better nor worse" in e for e in errors)


@pytest.mark.parametrize(("better", "best"), [("lower", 0), ("higher", 2)])
def test_the_best_has_the_lowest_or_the_highest_number_on_dev(better, best):
    score = Score("right", "answered right", "right", share=True, unit="%", better=better)
    points = []
    for dev, test in ((10.0, 99.0), (20.0, 50.0), (30.0, 1.0)):  # on test they stand the other way round
        items = {"right": {"dev": ([dev] * 4, [1.0] * 4), "test": ([test] * 4, [1.0] * 4)}}
        metrics = {"right": {split: {"value": value} for split, value in (("dev", dev), ("test", test))}}
        points.append({"runs": [{"items": items}], "metrics": metrics, "best": False, "level": False})
    group = {"values": {}, "points": [0, 1, 2], "best": None}
    _compare(points, group, {"right": score}, SimpleNamespace(metrics=("right",)))
    assert group["best"] == best and [point["best"] for point in points] == [i == best for i in range(3)]
    assert points[1]["metrics"]["right"]["against_best"]["value"] == 50.0 - (99.0 if best == 0 else 1.0)


def test_a_share_is_swept_in_percent(life, tmp_path, monkeypatch):
    """As everywhere else it is shown."""
    score = Score("right", "", "right", share=True, unit="%", better="higher")
    taken = {
        "toy": Taken({"items": Items(["a", "b"], {"right": [True, False]})}, [score]),
        "costs": Taken(facts={"parameters": 7, "note": "no number"}),
    }
    monkeypatch.setattr(measuring, "take", lambda *given, **more: SimpleNamespace(taken=taken))
    asked = numbers.Asked(("right",), {}, measuring.Measuring(), 0, tmp_path)
    found = numbers.measure(life.node("base"), asked, Console())
    assert found.sums == {"right": {split: ([100.0, 0.0], [1.0, 1.0]) for split in ("dev", "test")}}
    assert found.facts == {"parameters": 7.0}


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
    assert "base lr=1e+30: the gradient is not a number" in output.err


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
    _wait(lambda: _in_training(workspace) >= 2, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "all work is saved" in said and not _workers(workspace)
    assert any(workspace.glob("nodes/.work-*/state/training/step-*/state.safetensors"))


def _in_training(workspace):
    """How many nodes have shown progress since their text was encoded."""
    begun = [(path / "clock.json", path / "tokens/data/shards.json") for path in workspace.glob("nodes/.work-*/state")]
    return sum(
        clock.exists() and index.exists() and clock.stat().st_mtime > index.stat().st_mtime for clock, index in begun
    )


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
        (["--set", "sweep.metrics=[recall_at_5]"], "recall_at_5 is measured of an index, a sweep compares models"),
        (["--set", "sweep.metrics=[bits_per_byte.f16]"], "bits_per_byte.f16 is measured of a gguf, a sweep compares"),
        (["--jobs", "0"], "jobs: must be at least 1, not 0"),
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
    error = output.json["sweep"]["points"][0]["error"]
    assert output.code == 1 and error.startswith("answer_loss.none cannot be measured on dev")
    assert "needs questions, which only documentation has" in error
