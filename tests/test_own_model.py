"""The whole life of one's own GPT-2, at the full width and depth of 124M: `journey run my-gpt2 --smoke`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from journey import measuring, recipe
from journey.checkpoint import open_node
from journey.model.huggingface import load_config
from journey.tokenizer.formats import SPECIALS, Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))
DOLLY = DATA / "instruct" / "dolly-15k.jsonl.gz"
MODELS = ("mine", "knows", "chat", "preferred")


def journey(*arguments):
    """A command line in a process of its own, so that its gigabytes go with it."""
    command = [sys.executable, "-m", "journey", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_recipe_is_one():
    """Without running it: every key is known, and the smoke settings are settings."""
    for smoke in (False, True):
        read = recipe.read(recipe.find("my-gpt2"), [], smoke)
        assert [step.name for step in read.steps] == [
            "docs",
            "mine",
            "knows",
            "chat",
            "pairs",
            "preferred",
            "gguf",
            "index",
        ]
    assert read.step("mine").config.path == "random-gpt2"


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("own") / "journey"
    run = ["run", "my-gpt2", "--smoke", "--workspace", workspace]
    run += ["--set", f"stages.chat.data={DOLLY}", "--set", f"stages.pairs.data={DOLLY}"]
    first = journey(*run, "--json")
    assert first.returncode == 0, first.stderr[-4000:]
    return workspace, json.loads(first.stdout.splitlines()[-1]), run


@pytest.mark.slow
@pytest.mark.skipif(not DOLLY.is_file(), reason="JOURNEY_DATA is not set")
def test_everything_is_made_measured_and_reported(life):
    workspace, result, run = life
    assert result["ok"] and result["made"] == ["docs", "mine", "knows", "chat", "pairs", "preferred", "gguf", "index"]
    stages = json.loads((workspace / "plan.json").read_text())["stages"]
    nodes = {entry["name"]: open_node(workspace / entry["path"]) for entry in stages}
    for name in MODELS:
        shape = load_config(nodes[name].path)
        assert (shape.family, shape.n_layer, shape.n_embd, shape.n_head) == ("gpt2", 12, 768, 12)
        assert shape.vocab_size == 50257 + len(SPECIALS) - 1
    assert Tokenizer.load(nodes["preferred"].path).encode("Hello, world!") == [15496, 11, 995, 0]
    assert json.loads((nodes["mine"].path / "import.json").read_text())["format"] == "random-gpt2"
    assert nodes["preferred"].lineage["metrics"]["first_loss"]["value"] == pytest.approx(0.6931, abs=1e-3)
    assert nodes["preferred"].lineage["metrics"]["first_margin"]["value"] == pytest.approx(0, abs=1e-3)
    for split in ("train", "dev", "test"):
        assert (nodes["pairs"].path / f"pairs-{split}.jsonl").stat().st_size
    files = sorted(path.name for path in nodes["gguf"].path.glob("*.gguf"))
    assert files == ["gguf-f16.gguf", "gguf-q4_0.gguf", "gguf-q8_0.gguf"]
    assert (nodes["index"].path / "index.sqlite").exists()
    # random weights: no better than guessing (ln 50263 = 10.8 nats a token), and measured all the same
    measured = {name: measuring.read(nodes[name], workspace) for name in (*MODELS, "gguf", "index")}
    assert all("bits_per_byte" in measured[name] for name in MODELS)
    assert len(measured["preferred"]["preferences"].items["pairs"])
    assert measured["gguf"]["quantized"].items.keys() >= {"fp32", "f16", "q8_0", "q4_0"}
    assert len(measured["index"]["retrieval"].items["items"]) and measured["index"]["timeline"].facts
    assert "<html" in (workspace / "report.html").read_text()[:1000]

    again = journey(*run, "--json")
    assert again.returncode == 0 and json.loads(again.stdout.splitlines()[-1])["made"] == []


@pytest.mark.slow
@pytest.mark.skipif(not DOLLY.is_file(), reason="JOURNEY_DATA is not set")
def test_it_can_be_asked(life):
    workspace, _, _ = life
    asked = journey("ask", "What does numpy.mean do?", "--workspace", workspace, "--json")
    assert asked.returncode == 0, asked.stderr[-2000:]
    assert json.loads(asked.stdout.splitlines()[-1])["ok"]
