"""What every stage says of itself."""

import re

import pytest

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.stages import STAGES, cost, kind_of, load
from journey.stages.inputs import Input, Named, resolve
from journey.stages.run import Run


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_is(name):
    stage = load(name)
    assert stage.name == name and stage.__doc__ == stage.body.__doc__
    assert stage.makes and stage.version >= 1
    assert len(stage.why) > 80 and stage.why.count("*") % 2 == 0 and "<" not in stage.why and "  " not in stage.why
    assert all(re.match(r"journey \w", line) for line in stage.example.splitlines())


def test_a_stage_takes_what_another_makes():
    made = {load(name).makes for name in STAGES}
    assert {load(name).takes for name in STAGES} - {None} <= made


def test_a_stage_keeps_the_function_that_tells_it():
    stage = load("pretrain")
    before = stage.tell

    def tell():
        return "told"

    assert stage.tells(tell) is tell and stage.tell is tell
    stage.tell = before


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_should_cost(name, monkeypatch):
    monkeypatch.setattr(cost, "matrix_rate", lambda: 1e11)
    config, shape = load(name).config(), load("pretrain").config(n_layer=2, n_embd=64)
    assert 0 < config.cost([shape]).seconds < 300 and config.cost([]).bytes > 0


def test_the_cost_of_training_is_arithmetic_by_the_rate_of_the_machine(monkeypatch):
    monkeypatch.setattr(cost, "matrix_rate", lambda: 1e11)
    pretrain, tokenizer = load("pretrain").config(n_layer=2, n_embd=64, tokens=500_000), load("tokenizer").config()
    n = 12 * 2 * 64**2 + 4096 * 64
    assert pretrain.cost([tokenizer]).seconds == pytest.approx(10 + 6 * n * 500_000 / 0.3e11)
    assert load("sft").config().cost([pretrain, tokenizer]).seconds == pytest.approx(10 + 6 * n * 400_000 / 0.3e11)
    by_flops = load("pretrain").config(n_layer=2, n_embd=64, flops=3e11)
    assert by_flops.cost([tokenizer]).seconds == pytest.approx(20)
    assert load("quantize").config().cost([pretrain, tokenizer]).bytes == 4 * n
    assert load("continue").config().cost([load("import").config()]) == cost.ELSEWHERE


def test_the_rate_is_that_of_the_device_that_will_train(monkeypatch):
    """torch is asked only where there is a GPU: its import takes seconds."""
    import numpy as np
    import torch

    made = []

    def ones(*shape, device):
        made.append(device)
        return np.ones(4, dtype=np.float32)

    monkeypatch.setattr(torch, "ones", ones)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: made.append("waited"))
    for gpus, cuda, expected in (
        ([], True, []),
        (["0"], False, []),
        (["0"], True, ["cuda", "waited", "waited"]),
    ):
        made.clear()
        cost.matrix_rate.cache_clear()
        monkeypatch.setattr(cost.machine, "gpus", lambda gpus=gpus: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert cost.matrix_rate() > 1e6 and made == expected
    cost.matrix_rate.cache_clear()


def test_a_parent_of_another_kind_is_told(life, tmp_path):
    for name, parent, said in (
        ("sft", life.node("tokenizer"), "is a tokenizer node: sft goes on from a model"),
        ("quantize", life.node("prose").path, "is a text node: quantize goes on from a model"),
        ("pretrain", life.node("index"), "is a index node: pretrain goes on from a tokenizer"),
        ("sft", None, "the stage sft needs a parent: a model"),
        ("tokenizer", life.node("base"), "the stage tokenizer has no parent, it reads data"),
    ):
        stage = load(name)
        with pytest.raises(JourneyError, match=said):
            stage(parent, stage.config(), Run(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_folder_from_elsewhere_is_a_model_or_a_tokenizer(life, tmp_path):
    assert [kind_of(life.node(name)) for name in ("prose", "base", "pairs", "gguf", "index")] == [
        "text", "model", "pairs", "gguf", "index",
    ]  # fmt: skip
    (tmp_path / "tokenizer.json").write_text("{}")
    assert kind_of(Node(tmp_path)) == "tokenizer"
    (tmp_path / "config.json").write_text("{}")
    assert kind_of(Node(tmp_path)) == "model"


def test_what_a_value_names(life, tmp_path):
    """A step comes first, then files that are read as they are, a node's folder, a source of text."""
    steps = {"docs": "text", "chat": "model", "asked.jsonl": "pairs"}
    text, asked, pairs = (
        Input(("text", "tokens")),
        Input(("text",), files="conversations"),
        Input(("pairs",), files="conversations"),
    )
    prose = str(life.node("prose").path)
    for value, wanted, found in (
        ("docs", text, Named("step", "docs", "text")),
        ("chat", text, Named("step", "chat", "model")),  # of another kind: the caller says so
        ("docs/", text, Named("source", "docs/", "text")),
        ("installed-docs-qa", text, Named("source", "installed-docs", "text")),
        (prose, text, Named("node", prose, "text")),
        (prose, pairs, Named("node", prose, "text")),
        ("asked.jsonl", pairs, Named("step", "asked.jsonl", "pairs")),
        ("more.jsonl", pairs, Named("files", "more.jsonl")),
        ("more.jsonl", asked, Named("files", "more.jsonl")),
        ("more.jsonl", text, Named("source", "more.jsonl", "text")),
        ("nowhere", pairs, None),
        ("docs", Input(files="text"), Named("files", "docs")),  # the source of a text named as its folder
    ):
        assert resolve(value, wanted, steps) == found
