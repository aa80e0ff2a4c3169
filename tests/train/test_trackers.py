"""TensorBoard and trackio are shown what the log is told, and can neither end a training nor enter an id."""

import dataclasses
import os
import sys
import types
from types import SimpleNamespace

import pytest
import torch

from journey.errors import JourneyError
from journey.train import trackers
from journey.train.log import Log
from journey.train.trackers import VARIABLE, scalars, tracking


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


@pytest.fixture
def told(monkeypatch):
    """A trackio that notes what it is told."""
    calls = []
    fake = types.ModuleType("trackio")
    fake.init = lambda **more: calls.append(("init", more))
    fake.log = lambda numbers, step: calls.append(("log", step, numbers))
    fake.finish = lambda: calls.append(("finish",))
    monkeypatch.setitem(sys.modules, "trackio", fake)
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None if name == "tensorboard" else fake)
    monkeypatch.delenv(VARIABLE, raising=False)
    return calls


def train(folder, steps=3, say=print):
    (folder / ".work-0123456789ab" / "state").mkdir(parents=True, exist_ok=True)
    run = SimpleNamespace(name="base", out=folder / "x", scratch=folder / ".work-0123456789ab" / "state", say=say)
    log = Log(run, Settings(), torch.nn.Linear(3, 2), steps=steps, tokens=steps, flops_per_token=1.0)
    log.resume([])
    for step in range(1, steps + 1):
        log.begin(step)
        log.after()
        log.write({"step": step, "tokens": step, "loss": 1 / step, "grad_norm": 1.0}, {"muon": 0.5})
    log.close()


def test_it_is_told_the_header_and_each_step(told, tmp_path):
    with tracking("trackio"):
        train(tmp_path)
    assert [call[0] for call in told] == ["init", "log", "log", "log", "finish"]
    assert told[0][1]["name"] == "base-0123456789" and told[0][1]["config"]["stage"] == "settings"
    _, step, numbers = told[2]
    assert step == 2 and numbers["loss"] == 0.5 and numbers["lr/muon"] == 0.5 and numbers["tokens_per_second"] > 0


def test_without_a_word_nobody_is_told(told, tmp_path):
    with tracking(None):
        train(tmp_path)
    assert told == []


def test_the_variable_chooses_too_and_is_left_as_it_was(told, tmp_path, monkeypatch):
    with tracking("trackio"):
        assert os.environ[VARIABLE] == "trackio"
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, " Trackio ")
    with tracking(None):
        train(tmp_path)
    assert len(told) == 5 and os.environ[VARIABLE] == " Trackio "


def test_a_missing_extra_is_said_before_anything_runs(told, journey, tmp_path):
    with (
        pytest.raises(JourneyError, match="tensorboard is not installed: pip install"),
        tracking("tensorboard"),
    ):
        pass
    assert VARIABLE not in os.environ


def test_an_unknown_one_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "tensorbord")
    with pytest.raises(JourneyError, match="no tracker tensorbord"), tracking(None):
        pass


def test_a_tracker_that_fails_is_left_and_the_training_goes_on(told, tmp_path):
    def fail(numbers, step):
        raise ConnectionError("no server")

    sys.modules["trackio"].log = fail
    said = []
    with tracking("trackio"):
        train(tmp_path, say=said.append)
    assert len(said) == 1 and "trackio failed" in said[0] and "no server" in said[0]
    assert len((tmp_path / ".work-0123456789ab/state/log.jsonl").read_text().splitlines()) == 4


def test_numbers_alone_are_shown_and_their_place_is_in_their_name():
    line = {
        "step": 3,
        "loss": 1.0,
        "mfu": None,
        "said": "x",
        "ok": True,
        "update_norms": {"block 0": 0.5, "head": None},
    }
    assert scalars(line) == {"loss": 1.0, "update_norms/block 0": 0.5}


def test_tensorboard_writes_what_tensorboard_reads(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    with tracking("tensorboard"):
        train(tmp_path)
    events = EventAccumulator(str(tmp_path / "runs" / "base-0123456789"))
    events.Reload()
    assert [(each.step, each.value) for each in events.Scalars("loss")] == [
        (1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3)),
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["run", "pretrain", "continue", "sft", "dpo"])
def test_what_trains_can_be_tracked(journey, verb):
    assert "--track" in journey(verb, "--help").out


@pytest.mark.parametrize("verb", ["text", "quantize", "index"])
def test_what_trains_nothing_cannot(journey, verb):
    assert "--track" not in journey(verb, "--help").out


def test_tracking_is_no_part_of_an_id(told, journey, life, monkeypatch):
    plans = []
    for name in ("", "trackio"):
        monkeypatch.setenv(VARIABLE, name)
        output = journey("run", life.recipe, "--workspace", life.workspace, "--dry-run", "--json")
        plans.append(output.json["nodes"])
    assert plans[0] == plans[1] and all(node["done"] for node in plans[0])
