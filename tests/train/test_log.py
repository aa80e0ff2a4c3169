"""The log of a training: whole lines while it is written, each step once whatever happened, and nothing that costs."""

import copy
import dataclasses
import json
import multiprocessing
import os
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from journey.errors import JourneyError
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.train import peak, tail
from journey.train.layers import Update, layer_of
from journey.train.log import LOG, Log
from journey.train.tail import Tail
from journey.watching.found import is_running


@dataclasses.dataclass
class Settings:
    lr: float = 0.1


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(GPTConfig.make("qwen3", 50, 16, 2, 32, n_head=2))


def log(folder, model, steps=40, flops=1e6):
    (folder / "state").mkdir(exist_ok=True)
    run = SimpleNamespace(name="base", out=folder / "base-1", scratch=folder / "state", say=print)
    return Log(run, Settings(), model, steps=steps, tokens=10 * steps, flops_per_token=flops)


def history(n):
    return [{"step": i, "tokens": 10 * i, "loss": 5 / i, "lr": 0.1, "grad_norm": 2.0} for i in range(1, n + 1)]


def train(made, model, first, last):
    """Steps as a loop makes them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for line in history(last)[first - 1 :]:
        made.begin(line["step"])
        model(torch.arange(8)[None], torch.arange(8)[None]).backward()
        made.before(model)
        optimizer.step()
        made.after()
        optimizer.zero_grad()
        made.write(line, {"sgd": 0.1})


def steps(path):
    return [line["step"] for line in Tail(path).new()[1:]]


def test_a_line_says_what_people_look_at(model, tmp_path):
    made = log(tmp_path, model)
    made.resume([])
    train(made, model, 1, 12)
    header, *lines = Tail(tmp_path / "state" / LOG).new()
    assert header["parameters"] == sum(p.numel() for p in model.parameters())
    assert header["stage"] == "settings" and header["settings"] == {"lr": 0.1} and header["out"] == "base-1"
    assert header["peak_flops"] > 1e8 and "measured here" in header["peak_source"]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert all(line["lr"] == {"sgd": 0.1} and line["memory"] > 1e6 for line in lines)
    assert all(a["seconds"] <= b["seconds"] for a, b in pairwise(lines))
    for line in lines:
        assert line["mfu"] == pytest.approx(line["tokens_per_second"] * 1e6 / header["peak_flops"], rel=0.01, abs=1e-5)
    assert [line["step"] for line in lines if "update_norms" in line] == [1, 10]
    assert list(lines[0]["update_norms"]) == ["embedding", "block 0", "block 1", "head"]


def test_where_the_peak_is_unknown_mfu_is_null(model, tmp_path, monkeypatch):
    monkeypatch.setattr("journey.train.log.peak", lambda device, precision: peak.Peak(None, "nobody knows"))
    made = log(tmp_path, model)
    made.resume([])
    train(made, model, 1, 1)
    made.close()
    assert Tail(tmp_path / "state" / LOG).new()[-1]["mfu"] is None


def test_speed_is_of_the_step_and_the_clock_of_everything(model, tmp_path):
    """What stands between two steps, evaluating and saving, slows no step down."""
    made = log(tmp_path, model)
    made.resume([])
    for line in history(2):
        made.begin(line["step"])
        time.sleep(0.02)
        made.after()
        time.sleep(0.2)
        made.write(line, {})
    lines = Tail(tmp_path / "state" / LOG).new()[1:]
    assert all(10 / 0.1 < line["tokens_per_second"] <= 10 / 0.02 for line in lines)
    assert lines[-1]["seconds"] >= 0.44


@pytest.mark.parametrize("torn", [b"", b'{"step": 8, "tok', b"\x00\xff" * 30, b'{"step": 8'])
def test_a_kill_and_a_resume_leave_each_step_once(model, tmp_path, torn):
    made, path = log(tmp_path, model), tmp_path / "state" / LOG
    made.resume([])
    train(made, model, 1, 7)
    made.close()
    with open(path, "ab") as file:
        file.write(torn)
    before = Tail(path).new()[-1]["seconds"]
    assert steps(path) == list(range(1, 8))

    made = log(tmp_path, model)
    made.resume(history(5))  # the state that was saved last
    assert steps(path) == list(range(1, 6))
    train(made, model, 6, 9)
    assert steps(path) == list(range(1, 10))
    lines = Tail(path).new()[1:]
    assert all("memory" in line for line in lines)
    assert lines[4]["seconds"] <= before and lines[5]["seconds"] >= lines[4]["seconds"]
    assert not list(path.parent.glob("*.tmp"))


def test_steps_that_did_not_reach_the_disk_are_taken_from_the_history(model, tmp_path):
    path = tmp_path / "state" / LOG
    made = log(tmp_path, model)
    made.resume([])
    train(made, model, 1, 3)
    made.close()
    log(tmp_path, model).resume(history(6))
    lines = Tail(path).new()[1:]
    assert [line["step"] for line in lines] == list(range(1, 7))
    assert ["memory" in line for line in lines] == [True] * 3 + [False] * 3


def test_the_lock_says_whether_anybody_is_at_work(model, tmp_path):
    made, path = log(tmp_path, model), tmp_path / "state" / LOG
    made.resume([])
    assert is_running(path) and is_running(path)
    made.close()
    assert not is_running(path) and not is_running(tmp_path) and not is_running(tmp_path / "nothing")


def _hold(path, model, ready):
    made = log(path, model)
    made.resume([])
    ready.set()
    time.sleep(60)


def test_a_kill_lets_go_of_the_lock(model, tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_hold, args=(tmp_path, None or model, ready))
    child.start()
    ready.wait(20)
    assert is_running(tmp_path / "state" / LOG)
    child.kill()
    child.join()
    assert not is_running(tmp_path / "state" / LOG)


def test_finish_leaves_it_in_the_node(model, tmp_path):
    made = log(tmp_path, model)
    made.resume([])
    train(made, model, 1, 2)
    (tmp_path / "node").mkdir()
    made.finish(tmp_path / "node")
    assert steps(tmp_path / "node" / LOG) == [1, 2]


def test_what_is_no_number_is_null(model, tmp_path):
    made = log(tmp_path, model)
    made.resume([])
    made.begin(2)
    made.after()
    made.write({**history(2)[1], "grad_norm": float("inf")}, {"sgd": float("nan")})
    line = json.loads((tmp_path / "state" / LOG).read_text().splitlines()[-1], parse_constant=pytest.fail)
    assert line["grad_norm"] is None and line["lr"] == {"sgd": None}


# The reader


def test_a_reader_beside_a_writer_sees_each_line_once(tmp_path):
    """Written in pieces that end anywhere, and read after each."""
    path = tmp_path / LOG
    whole = "".join(
        json.dumps({"step": i, "said": "é" * (i % 7)}, ensure_ascii=False) + "\n" for i in range(60)
    ).encode()
    path.write_bytes(b"")
    reader, found = Tail(path), []
    reader.new()
    for start in range(0, len(whole), 11):
        with open(path, "ab") as file:
            file.write(whole[start : start + 11])
        found += [line["step"] for line in reader.new()]
        assert not reader.restarted
    assert found == list(range(60))


def test_a_reader_begins_again_when_a_resumed_run_has_written_anew(tmp_path):
    path = tmp_path / LOG
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    reader = Tail(path)
    assert len(reader.new()) == 3 and reader.restarted
    (tmp_path / "beside").write_text('{"step": 1}\n{"step": 2}\n{"step": 20}\n{"step": 21}\n')  # and longer by now
    os.replace(tmp_path / "beside", path)
    assert [line["step"] for line in reader.new()] == [1, 2, 20, 21] and reader.restarted


def test_of_a_huge_file_the_header_and_the_end_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "MOST", 2000)
    path = tmp_path / LOG
    path.write_text('{"log": 1}\n' + "".join(f'{{"step": {i}}}\n' for i in range(1000)))
    header, *lines = Tail(path).new()
    assert header == {"log": 1} and lines[-1] == {"step": 999} and 100 < len(lines) < 200
    path.write_bytes(b"x" * 10_000)  # not one line
    reader = Tail(path)
    assert [reader.new() for _ in range(3)] == [[], [], []]


@pytest.mark.parametrize(
    "bad", [b"[1]\n", b"null\n", b"nonsense\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"1" * 5000 + b"\n", b"\n\n\r\n"]
)
def test_a_line_that_is_none_is_passed_over(tmp_path, bad):
    path = tmp_path / LOG
    path.write_bytes(b'{"step": 1}\n' + bad + b'{"step": 2}\n')
    assert [line["step"] for line in Tail(path).new()] == [1, 2]


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / LOG)
    with pytest.raises(JourneyError, match="no ordinary file"):
        Tail(tmp_path / LOG).new()


# Norms by layer


@pytest.mark.parametrize("clip", [1e9, 0.01])
def test_norms_by_layer_are_those_by_hand(model, clip):
    """And the gradient's are those before clipping."""
    model(torch.arange(8)[None], torch.arange(8)[None]).backward()
    groups = {}
    for name, p in model.named_parameters():
        groups.setdefault(layer_of(name), []).append(p)
    gradients = {layer: torch.cat([p.grad.flatten() for p in ps]).norm().item() for layer, ps in groups.items()}
    before = {layer: torch.cat([p.detach().flatten() for p in ps]) for layer, ps in groups.items()}
    total = float(torch.nn.utils.clip_grad_norm_(model.parameters(), clip))
    update = Update(model)
    torch.optim.AdamW(model.parameters(), lr=0.01).step()
    weights = copy.deepcopy(model.state_dict())
    found = update.norms(total)
    assert list(found["grad_norms"]) == list(groups) == ["embedding", "block 0", "block 1", "head"]
    assert found["grad_norms"] == pytest.approx(gradients, rel=1e-4)
    moved = {
        layer: ((torch.cat([p.detach().flatten() for p in ps]) - before[layer]).norm() / before[layer].norm()).item()
        for layer, ps in groups.items()
    }
    assert found["update_norms"] == pytest.approx(moved, rel=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), model.state_dict().values(), strict=True))


def test_weights_of_zero_have_no_relative_update():
    layer = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    layer(torch.ones(1, 3)).sum().backward()
    update = Update(layer)
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    assert update.norms(1.0)["update_norms"] == {"head": None}


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("blocks.11.attention.query.weight", "block 11"),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "block 3"),
        ("transformer.h.0.ln_1.weight", "block 0"),
        ("transformer.wte.weight", "embedding"),
        ("model.embed_tokens.weight", "embedding"),
        ("positions.weight", "embedding"),
        ("lm_head.weight", "head"),
        ("model.norm.weight", "head"),
    ],
)
def test_the_layer_of_a_parameter(name, layer):
    assert layer_of(name) == layer


# The peak


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA L40", None),
        ("Tesla T4", None),
    ],
)
def test_the_peak_of_a_gpu_is_that_of_its_data_sheet(name, flops):
    assert peak.listed(name) == flops


def test_measuring_the_peak_draws_no_number():
    peak._measured.cache_clear()
    before = torch.get_rng_state()
    assert peak.peak(torch.device("cpu"), "fp32").flops > 1e8
    assert torch.equal(before, torch.get_rng_state())
