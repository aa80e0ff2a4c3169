"""The stage as Python calls it: a folder in, a node out."""

import dataclasses
import json
import math
import re

import pytest

from journey.checkpoint import open_node
from journey.console import Console
from journey.data.corpus import Corpus
from journey.errors import JourneyError
from journey.evaluate import perplexity
from journey.model import huggingface
from journey.stages.pretrain import Pretrain, pretrain
from journey.stages.run import Run, Stopped
from journey.tokenizer.formats import Tokenizer

SMALL = Pretrain(n_layer=1, n_embd=32, n_ctx=64, tokens=2_048, evaluations=2)


def run(life, folder, console=None, seed=3):
    return Run(folder, seed=seed, given={"data": life.node("prose")}, console=console or Console())


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
def test_one_word_chooses_the_architecture(life, tmp_path, family):
    config = dataclasses.replace(SMALL, family=family, tokens=512)
    node = pretrain(life.node("tokenizer"), config, run(life, tmp_path / "base"))
    assert json.loads((node.path / "config.json").read_text())["model_type"] == family
    assert huggingface.load(node.path).config.family == family


def test_a_stage_called_on_a_folder_is_the_stage_of_the_recipe(life, tmp_path):
    """The same inputs, the same id and the same weights, whoever calls."""
    config = Pretrain(**life.node("base").lineage["config"])
    node = pretrain(str(life.node("tokenizer").path), config, run(life, tmp_path / "mine"))
    assert node.id == life.node("base").id and node.name == "mine"
    assert node.lineage["weights_sha256"] == life.node("base").lineage["weights_sha256"]


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ({"epochs": 1.0}, lambda epoch, flops: epoch),
        ({"epochs": 0.25}, lambda epoch, flops: epoch / 4),
        ({"flops": 2e9}, lambda epoch, flops: 2e9 / flops),
    ],
)
def test_how_long_is_also_said_in_epochs_and_in_arithmetic(life, tmp_path, asked, tokens):
    """To a step: 4 rows of 64 tokens."""
    node = pretrain(life.node("tokenizer"), dataclasses.replace(SMALL, **asked), run(life, tmp_path / "base"))
    tokenizer, text = Tokenizer.load(node.path), Corpus(life.node("prose").path).texts("train")
    epoch = sum(len(ids) + 1 for ids in tokenizer.encode_batch(text))
    wanted = tokens(epoch, huggingface.load(node.path).config.flops_per_token(64))
    assert 0 <= wanted - node.lineage["tokens"] < 4 * 64
    if "flops" in asked:
        assert node.lineage["flops"] == pytest.approx(2e9, rel=0.1)


def test_two_ways_to_say_how_long_are_refused():
    with pytest.raises(JourneyError, match="epochs and flops both say how long"):
        dataclasses.replace(SMALL, epochs=1.0, flops=1e9)


def test_another_seed_is_another_model(life, tmp_path):
    nodes = [pretrain(life.node("tokenizer"), SMALL, run(life, tmp_path / str(seed), seed=seed)) for seed in (0, 1)]
    assert nodes[0].id != nodes[1].id
    assert nodes[0].lineage["weights_sha256"] != nodes[1].lineage["weights_sha256"]


def test_what_stands_is_returned_and_what_is_different_is_refused(life, tmp_path):
    first = pretrain(life.node("tokenizer"), SMALL, run(life, tmp_path / "base"))
    stamp = first.path.stat().st_ino
    again = pretrain(life.node("tokenizer"), SMALL, run(life, tmp_path / "base"))
    assert again.id == first.id and again.path.stat().st_ino == stamp
    with pytest.raises(JourneyError, match="already holds another node"):
        pretrain(life.node("tokenizer"), dataclasses.replace(SMALL, lr=0.1), run(life, tmp_path / "base"))
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_text_that_no_one_made_is_made_beside_the_node(life, tmp_path):
    config = dataclasses.replace(SMALL, data=str(life.texts / "prose.jsonl"))
    node = pretrain(life.node("tokenizer"), config, Run(tmp_path / "base", seed=3))
    (text,) = tmp_path.glob("prose-*")
    assert open_node(text).id == life.node("prose").id
    assert node.lineage["data"]["data"]["id"] == life.node("prose").id


def test_the_loss_falls_and_the_curve_says_so(life):
    history = life.history("base")
    assert [line["step"] for line in history] == list(range(1, 16_000 // 256 + 1))
    assert history[0]["loss"] == pytest.approx(math.log(400), abs=0.3)  # it begins by knowing nothing
    assert history[-1]["loss"] < history[0]["loss"] - 2
    scored = [line["dev_bits_per_byte"] for line in history if "dev_bits_per_byte" in line]
    assert len(scored) >= 3 and scored == sorted(scored, reverse=True)


def test_the_metrics_are_those_of_the_saved_weights(life):
    """Loaded from the folder, the model scores on the dev split what its lineage says."""
    node = life.node("base")
    model, tokenizer = huggingface.load(node.path).eval(), Tokenizer.load(node.path)
    scores = perplexity.score(model, tokenizer, Corpus(life.node("prose").path).documents("dev")[:96])
    nats, n_bytes, tokens = (sum(score[key] for score in scores) for key in ("nats", "bytes", "tokens"))
    metrics = node.lineage["metrics"]
    assert metrics["dev_bits_per_byte"]["value"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
    assert metrics["dev_perplexity"]["value"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert metrics["parameters"]["value"] == sum(p.numel() for p in model.parameters())
    assert metrics["steps"]["value"] == len(life.history("base"))
    assert node.lineage["flops"] == node.lineage["tokens"] * model.config.flops_per_token(64)


def test_accumulation_gives_the_same_model(life, tmp_path):
    first, second = (
        pretrain(life.node("tokenizer"), dataclasses.replace(SMALL, accumulate=n), run(life, tmp_path / str(n)))
        for n in (1, 4)
    )
    losses = [[line["loss"] for line in json.loads((n.path / "history.json").read_text())] for n in (first, second)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


class Stopping(Console):
    """Presses Ctrl-C when the training has begun."""

    def progress(self, name, done, total, unit, numbers):
        self.stopping = unit == "tokens"


def test_a_stopped_stage_leaves_no_node_and_goes_on_to_the_same_one(life, tmp_path):
    whole = pretrain(life.node("tokenizer"), SMALL, run(life, tmp_path / "whole"))
    with pytest.raises(Stopped):
        pretrain(life.node("tokenizer"), SMALL, run(life, tmp_path / "stopped", Stopping()))
    assert not (tmp_path / "stopped").exists()
    node = pretrain(life.node("tokenizer"), SMALL, run(life, tmp_path / "stopped"))
    assert node.lineage["weights_sha256"] == whole.lineage["weights_sha256"]
    assert (node.path / "history.json").read_text() == (whole.path / "history.json").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "stopped"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokens": 255}, "tokens 255 is less than one step of 256"),
        ({"batch_size": 4, "accumulate": 3}, "batch_size 4 is not a multiple of accumulate 3"),
        ({"batch_size": 0}, "batch_size: must be at least 1, not 0"),
        ({"evaluations": 0}, "evaluations: must be at least 1, not 0"),
        ({"n_layer": 0}, "n_layer: must be at least 1, not 0"),
        ({"n_ctx": 100_000}, "too few for one row of 100000"),
        ({"n_head": 5}, "n_embd 32 is not a multiple of n_head 5"),
        ({"n_embd": 1_000_000, "n_layer": 1000}, "takes 192,001,062 GB to train, this machine has"),
    ],
)
def test_settings_that_cannot_work_are_told(life, tmp_path, change, said):
    with pytest.raises(JourneyError, match=said):
        pretrain(life.node("tokenizer"), dataclasses.replace(SMALL, **change), run(life, tmp_path / "base"))
    assert not (tmp_path / "base").exists()


def test_a_model_is_no_text(life, tmp_path):
    config = Pretrain(data=str(life.node("base").path), tokens=2_000)
    with pytest.raises(JourneyError, match="is a pretrain node: data must be a text"):
        pretrain(life.node("tokenizer"), config, Run(tmp_path / "base"))


def test_the_card_says_what_it_was_made_from_and_its_numbers(life):
    card = (life.node("coder").path / "README.md").read_text()
    assert "base_model: base\nbase_model_relation: finetune\n" in card
    assert re.search(r"^- dev bits per byte: \d\.\d+ \(dev split", card, re.MULTILINE)
