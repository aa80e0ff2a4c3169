"""`journey watch`: what runs, what has ended, and what is no log at all; nothing of it touches a run."""

import dataclasses
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console as Terminal

from journey.console import Console
from journey.stages.pretrain import Pretrain, pretrain
from journey.stages.run import Run, Stopped
from journey.train.log import LOG, Log
from journey.verbs import watch as verb
from journey.watching import found, words
from journey.watching.picture import bar, chart_lines, picture
from journey.watching.training import Training


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


class Running:
    """A training at work in a folder of nodes, as far as it has come."""

    def __init__(self, home, name="base", id="0123456789ab", steps=40):
        self.scratch = home / f".work-{id}" / "state"
        self.scratch.mkdir(parents=True)
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
        run = SimpleNamespace(name=name, out=home / f"{name}-{id[:10]}", scratch=self.scratch, say=print)
        self.log = Log(run, Settings(), model, steps=steps, tokens=100 * steps, flops_per_token=1e6)
        self.log.resume([])
        self.step = 0

    def go(self, n=1):
        for _ in range(n):
            self.step += 1
            line = {"step": self.step, "tokens": 100 * self.step, "loss": 8 / self.step, "lr": 0.1, "grad_norm": 2.0}
            if self.step % 5 == 0:
                line["dev_bits_per_byte"] = 3 / self.step
            self.log.begin(self.step)
            self.log.after()
            self.log.write(line, {"muon": 0.006, "adamw": 0.02})

    def become(self, home, name="base-0123456789"):
        """A finished node."""
        (home / name).mkdir()
        self.log.finish(home / name)
        (home / name / "lineage.json").write_text("{}")
        shutil.rmtree(self.scratch.parent)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "nodes").mkdir()
    return tmp_path / "nodes"


@pytest.fixture
def running(home):
    made = Running(home)
    yield made
    made.log.close()


def test_once_says_how_a_running_training_stands(journey, home, running):
    running.go(12)
    output = journey("watch", "--workspace", home.parent, "--once")
    assert output.code == 0 and output.err == ""
    assert output.out.startswith("base (settings) runs: step 12 of 40\n")
    for said in ("30 %  1,200 of 4,000 tokens", "adamw 0.02", "muon 0.006", "dev bits per byte", "0.3 at 1,000 tokens",
                 "tokens/s × 1.00 MFLOP a token /", "measured here: fp32 product", "at most"):  # fmt: skip
        assert said in output.out
    running.go(2)
    assert "step 14 of 40" in journey("watch", "--workspace", home.parent, "--once").out


def test_json_is_for_programs_and_waits_for_nothing(journey, home, running):
    running.go(10)
    output = journey("watch", "--workspace", home.parent, "--json")
    (training,) = output.json["trainings"]
    assert output.code == 0 and training["state"] == "running" and training["step"] == 10
    assert training["lr"] == {"muon": 0.006, "adamw": 0.02} and training["dev"] == {"dev_bits_per_byte": 0.3}
    assert training["mfu"] == pytest.approx(training["tokens_per_second"] * 1e6 / training["peak_flops"])
    assert output.json["metrics"]["loss"]["value"] == pytest.approx(sum(8 / i for i in range(1, 11)) / 10)


@pytest.mark.parametrize("name", ["base", "0123456", "OUT"])
def test_a_training_is_named_by_its_node(journey, home, running, name):
    other = Running(home, "other", "ffffffffffff")
    other.go(1)
    running.go(3)
    name = str(home / "base-0123456789") if name == "OUT" else name
    output = journey("watch", name, "--workspace", home.parent, "--json")
    other.log.close()
    assert [training["name"] for training in output.json["trainings"]] == ["base"]


def test_a_whole_sweep_is_watched_at_once(journey, home, running):
    running.go(3)
    others = [Running(home, "base", f"{i}" * 12) for i in range(3)]
    output = journey("watch", "--workspace", home.parent, "--json")
    for other in others:
        other.log.close()
    assert len(output.json["trainings"]) == 4


def test_a_folder_is_watched_wherever_it_is_and_however_many_journeys_there_are(journey, home, monkeypatch):
    monkeypatch.chdir(home.parent)
    for name in ("one", "other"):
        nodes = home.parent / "journeys" / name / "nodes"
        nodes.mkdir(parents=True)
        (nodes.parent / "plan.json").write_text("{}")
        made = Running(nodes, name)
        made.go(2)
        made.log.close()
    for folder in ("journeys/one", "journeys/one/nodes"):
        assert journey("watch", folder, "--json").json["trainings"][0]["name"] == "one"
    assert "several journeys" in journey("watch", "elsewhere").err
    assert journey("watch", "--json").json["trainings"][0]["name"] == "other"  # the last


def test_where_nothing_runs_the_last_one_is_shown(journey, home, running):
    running.go(4)
    running.log.close()
    output = journey("watch", "--workspace", home.parent)
    assert output.code == 0 and "nothing trains here now" in output.err
    assert output.out.startswith("base (settings) is not running: step 4 of 40; the command that began it goes on\n")


def test_a_finished_node_of_a_real_life(journey, life):
    for stage in ("base", "coder", "chat", "preferred"):
        output = journey("watch", stage, "--workspace", life.workspace, "--json")
        (training,) = output.json["trainings"]
        history = life.history(stage)
        assert output.code == 0 and training["state"] == "finished"
        assert (training["step"], training["tokens"]) == (history[-1]["step"], history[-1]["tokens"])
        assert training["planned_tokens"] == training["tokens"] and training["steps"] == training["step"]
        flops = training["flops_per_token"] * training["tokens"]
        assert flops == pytest.approx(life.node(stage).lineage["flops"])
        assert {"embedding", "block 0", "block 1", "head"} == training["update_norms"].keys()
        assert all(0 < moved < 1 for moved in training["update_norms"].values())
        total = sum(norm**2 for norm in training["grad_norms"].values()) ** 0.5
        assert total == pytest.approx(history[-1]["grad_norm"], rel=1e-4)  # the last step is looked at
    output = journey("watch", "tokenizer", "--workspace", life.workspace)
    assert output.code == 2 and "is no training" in output.err


def test_the_log_says_of_each_step_what_the_history_says(life):
    for stage in ("base", "coder", "chat", "preferred"):
        header, *lines = map(json.loads, (life.node(stage).path / LOG).read_text().splitlines())
        history = [line for line in life.history(stage) if line["step"]]
        assert header["name"] == stage and header["parameters"] > 1000
        for line, was in zip(lines, history, strict=True):
            assert {key: line[key] for key in was if key != "lr"} == {key: was[key] for key in was if key != "lr"}
            assert was["lr"] in line["lr"].values()
            assert line["tokens_per_second"] > 0 and line["memory"] > 0


def test_watching_ends_with_the_training_and_says_how(home, running, capsys, monkeypatch):
    monkeypatch.setattr(verb, "_PLAIN_EVERY", 0.0)
    monkeypatch.setattr(verb, "_DRAW_EVERY", 0.01)

    def train():
        for _ in range(20):
            running.go(2)
            time.sleep(0.01)
        running.become(home)

    thread = threading.Thread(target=train)
    thread.start()
    result = verb.watch(workspace=home.parent)
    thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("base: ") for line in lines) > 1
    assert "base (settings) is finished: step 40 of 40" in lines
    assert result.ok and result.path == home / "base-0123456789" / LOG


def test_a_training_that_dies_is_not_waited_for(home, running, capsys, monkeypatch):
    monkeypatch.setattr(verb, "_DRAW_EVERY", 0.01)
    running.go(3)
    threading.Timer(0.1, running.log.close).start()
    assert verb.watch("base", workspace=home.parent).ok
    assert "base (settings) is not running: step 3 of 40" in capsys.readouterr().out


def test_the_run_of_a_workspace_is_waited_for_between_two_trainings(home):
    """Its lock is not touched where its holder is dead, and never while it is held."""
    lock = home.parent / ".lock"
    assert not found.is_busy(home)
    for damaged in ("", "{", "[]", '{"pid": "x"}', '{"pid": 1e400}', '{"pid": 99999999999999}'):
        lock.write_text(damaged)
        assert not found.is_busy(home)
    from journey import runner

    with runner.alone(home.parent):
        assert found.is_busy(home)
    assert not found.is_busy(home)


class Watching(Console):
    """Looks at the training from inside it, as another process would."""

    def __init__(self, workspace):
        super().__init__()
        self.workspace, self.states = workspace, []

    def progress(self, name, done, total, unit, numbers):
        if unit == "tokens" and "loss" in numbers:
            self.states += [found.at_work([self.workspace])]


def test_a_stage_that_trains_is_seen_while_it_does(life, tmp_path):
    console = Watching(tmp_path)
    config = Pretrain(n_layer=1, n_embd=32, n_ctx=64, tokens=2_048, evaluations=2)
    node = pretrain(life.node("tokenizer"), config, Run(tmp_path / "mine", given={"data": life.node("prose")},
                    console=console))  # fmt: skip
    assert all(len(seen) == 1 for seen in console.states) and len(console.states) == 8
    assert found.at_work([tmp_path]) == [] and found.latest([tmp_path]).path == node.path / LOG


class Stopping(Console):
    """Presses Ctrl-C in the third step."""

    def progress(self, name, done, total, unit, numbers):
        self.stopping = self.stopping or (unit == "tokens" and done >= 2 * 256)


def test_a_stopped_training_is_shown_as_one_and_goes_on_in_its_log(journey, life, tmp_path):
    config, given = Pretrain(n_layer=1, n_embd=32, n_ctx=64, tokens=2_048, evaluations=2), {"data": life.node("prose")}
    with pytest.raises(Stopped):
        pretrain(life.node("tokenizer"), config, Run(tmp_path / "mine", given=given, console=Stopping()))
    (stopped,) = journey("watch", tmp_path, "--json").json["trainings"]
    assert stopped["state"] == "stopped" and 2 <= stopped["step"] <= 4
    node = pretrain(life.node("tokenizer"), config, Run(tmp_path / "mine", given=given))
    lines = [json.loads(line) for line in (node.path / LOG).read_text().splitlines()][1:]
    assert [line["step"] for line in lines] == list(range(1, 9)) and all("memory" in line for line in lines)
    assert lines[stopped["step"]]["seconds"] > lines[stopped["step"] - 1]["seconds"] == stopped["seconds"]
    (done,) = journey("watch", tmp_path, "--json").json["trainings"]
    assert done["state"] == "finished" and done["step"] == 8


# Files that are anything


BAD = {
    "empty": b"",
    "noise": bytes(range(256)) * 50,
    "another": b'{"event": 1}\n{"step": null}\n{"step": "1", "tokens": []}\n',
    "deep": b"[" * 100_000,
    "torn": b'{"log": 1, "name',
}


@pytest.mark.parametrize("bad", BAD)
def test_a_file_without_a_line_of_ours_is_said_in_a_line(journey, home, bad):
    (home / "base").mkdir()
    (home / "base" / LOG).write_bytes(BAD[bad])
    for words_ in (["watch", home / "base"], ["watch", "--workspace", home.parent]):
        output = journey(*words_)
        assert output.code == 2 and "holds no line of a training" in output.err


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=4), inside, max_size=3),
    max_leaves=6,
)
KEYS = [
    "log", "name", "stage", "out", "parameters", "flops_per_token", "flops_formula", "device", "peak_flops",
    "peak_source", "precision", "tokens", "steps", "step", "loss", "lr", "grad_norm", "seconds", "tokens_per_second",
    "mfu", "memory", "grad_norms", "update_norms", "dev_x",
]  # fmt: skip
GOOD = st.fixed_dictionaries({"step": st.integers(0, 50), "tokens": st.integers(0, 10**6)})


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=8) | GOOD, max_size=12))
def test_whatever_stands_in_a_log_it_can_be_shown(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = Training(path)
    training.read()
    text = "\n".join(words.report(training, words.RUNNING))
    assert not any(ord(c) < 32 and c != "\n" for c in text)
    json.dumps(verb._as_json(training, words.RUNNING), allow_nan=False)
    shown = [(training, words.RUNNING)] * (1 + len(lines) % 2)
    Terminal(file=io.StringIO(), force_terminal=True, width=60).print(picture(shown, "q leaves", 60, 30))


def test_what_a_log_says_is_neither_markup_nor_a_command_for_the_terminal(home):
    path = home / "x.jsonl"
    header = {"log": 1, "name": "[red]a\x1b[2J", "stage": "s\n", "tokens": 10, "steps": 2}
    path.write_text(json.dumps(header) + '\n{"step": 1, "tokens": 5, "loss": 2.0, "dev_[bold]\\u001b": 1}\n')
    training = Training(path)
    training.read()
    terminal = Terminal(file=io.StringIO(), force_terminal=True, color_system=None, width=100)
    terminal.print(picture([(training, words.RUNNING)], "[q]", 100, 40))
    shown = terminal.file.getvalue()
    assert "[red]a\ufffd[2J" in shown and "dev [bold]\ufffd" in shown and "[q]" in shown and "\x1b" not in shown


# The picture


def test_a_picture_fits_its_window(home, running):
    running.go(30)
    training = Training(running.scratch / LOG)
    training.read()
    training.norms = {"step": 30, "grad_norms": {f"block {i}": i + 1.0 for i in range(48)}, "update_norms": {}}
    for width, height in ((120, 40), (80, 24), (60, 14)):
        terminal = Terminal(file=io.StringIO(), force_terminal=True, color_system=None, width=width, height=height)
        terminal.print(picture([(training, words.RUNNING)], "note", width, height))
        lines = terminal.file.getvalue().splitlines()
        assert all(len(line) <= width for line in lines) and len(lines) <= max(height, 17)
    assert "one in 4 layers" in picture_text(training, 120, 40)


def picture_text(training, width, height):
    terminal = Terminal(file=io.StringIO(), force_terminal=True, color_system=None, width=width, height=height)
    terminal.print(picture([(training, words.RUNNING)], "note", width, height))
    return terminal.file.getvalue()


def test_the_curve_falls_from_left_to_right():
    lines = chart_lines([(float(i), 10.0 - i / 10) for i in range(100)], 20, 4)
    assert len(lines) == 5 and all(len(line) <= 31 for line in lines)
    dots = [{column for column, c in enumerate(line[10:]) if ord(c) > 0x2800} for line in lines[:4]]
    assert min(dots[0]) == 0 and max(dots[3]) == 19
    assert all(min(a) <= min(b) and max(a) <= max(b) for a, b in pairwise(dots))
    assert set().union(*dots) == set(range(20))  # no gap
    assert chart_lines([(1.0, 2.0)], 20, 4) == [] == chart_lines([], 20, 4)
    assert len(chart_lines([(0.0, 1.0), (1.0, 1.0)], 20, 4)) == 5


@given(value=st.floats(0, 1), columns=st.integers(1, 30))
def test_a_bar_is_as_long_as_its_number(value, columns):
    drawn = bar(value, 1.0, columns)
    assert len(drawn) <= columns
    if len(drawn) > 1:
        assert abs(len(drawn) - value * columns) <= 1


@pytest.mark.slow
def test_a_terminal_shows_it_live_and_q_leaves(home, running):
    """The real command in a terminal of its own."""
    running.go(20)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "journey", "watch", "--workspace", str(home.parent)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
    )
    os.close(theirs)
    text = b""
    while b"q leaves" not in text:
        text += os.read(ours, 65536)
    running.go(1)
    os.write(ours, b"q")
    while True:
        try:
            if not (more := os.read(ours, 65536)):
                break
        except OSError:
            break
        text += more
    assert process.wait(20) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode())
    assert "base (settings) runs: step 20 of 40" in plain and "loss" in plain
    assert found.is_running(running.scratch / LOG)


def test_the_page_tells_how_each_training_went(life):
    page = (life.workspace / "report.html").read_text()
    assert page.count("How the training went") == 4
    for stage in ("base", "coder", "chat", "preferred"):
        for title in ("Learning rate of", "Gradient norm of", "Speed of", "Update of the layers of"):
            assert f"{title} {stage}" in page
