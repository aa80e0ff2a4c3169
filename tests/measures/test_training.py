"""What training took: counted from what the training left."""

import json

import pytest

from journey import measuring
from journey.measure import Drawn
from journey.measures.training import training
from journey.measuring import Measuring
from journey.scores import estimates

from ..conftest import Silent


def test_it_is_what_lineage_log_and_files_say(life, tmp_path):
    node = life.node("chat")
    taken = measuring.take(
        node, None, {}, tmp_path, Measuring(Drawn(), {"training": training.config()}), seed=0, console=Silent()
    ).taken["training"]
    found = estimates(taken)
    lines = [json.loads(line) for line in (node.path / "log.jsonl").read_text().splitlines()]
    speeds = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line]
    assert found["training.tokens_per_second"].value == pytest.approx(sum(speeds) / len(speeds), rel=0.05)
    assert found["training.tokens_per_second"].low < found["training.tokens_per_second"].high
    weights = (node.path / "model.safetensors").stat().st_size
    assert found["training.checkpoint"].value == pytest.approx(weights / 1e6)
    assert found["training.checkpoint"].low == pytest.approx(found["training.checkpoint"].high)
    assert found["training.peak_memory"].value == pytest.approx(node.lineage["peak_memory"] / 1e6)
    assert found["training.trained_parameters"].value == pytest.approx(weights / 4, rel=0.05)


def test_of_a_node_that_trained_nothing_it_says_nothing(life, tmp_path):
    settings = Measuring(Drawn(), {"training": training.config()})
    found = measuring.take(life.node("tokenizer"), None, {}, tmp_path, settings, seed=0, console=Silent()).taken
    assert not found.get("training")
