"""Going on: from the parent's weights, with some of the old text against forgetting."""

import dataclasses
import inspect
import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.model import adapter, huggingface
from journey.pair import open_pair
from journey.stages.continue_ import Continue, continue_
from journey.stages.run import Run
from journey.tokenizer import bpe
from journey.tokenizer.formats import BOS, Tokenizer

SMALL = Continue(tokens=1_024, evaluations=1, optimizer="muon")


def run(life, folder):
    return Run(folder, seed=3, given={"data": life.node("code"), "replay_data": life.node("prose")})


def test_the_new_text_is_learned_and_the_old_one_watched(life):
    history = life.history("coder")
    code = [line["dev_bits_per_byte"] for line in history if "dev_bits_per_byte" in line]
    assert code[-1] < code[0]
    assert {"dev_bits_per_byte_replay", "dev_perplexity_replay"} <= history[-1].keys()
    metrics = life.node("coder").lineage["metrics"]
    assert metrics["dev_bits_per_byte"]["value"] == history[-1]["dev_bits_per_byte"]


def test_it_begins_with_the_parents_weights(life, tmp_path):
    """With a rate of nothing, the child is its parent."""
    still = dataclasses.replace(SMALL, lr=0.0, muon_lr=0.0)
    child = continue_(life.node("base"), still, run(life, tmp_path / "coder"))
    a, b = (huggingface.load(node.path).state_dict() for node in (life.node("base"), child))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_replay_keeps_the_old_text_better(life, tmp_path):
    def forgotten(replay, name):
        config = dataclasses.replace(SMALL, tokens=4_096, replay=replay)
        node = continue_(life.node("base"), config, run(life, tmp_path / name))
        model = huggingface.load(node.path).eval()
        from journey.data.corpus import Corpus
        from journey.evaluate import perplexity

        scores = perplexity.score(model, Tokenizer.load(node.path), Corpus(life.node("prose").path).documents("dev"))
        return sum(score["nats"] for score in scores)

    assert forgotten(0.5, "with") < forgotten(0.0, "without")


def test_without_replay_the_old_text_is_not_needed(life, tmp_path):
    config = dataclasses.replace(SMALL, replay=0.0, replay_data="")
    node = continue_(life.node("base"), config, Run(tmp_path / "coder", given={"data": life.node("code")}))
    assert "dev_bits_per_byte_replay" not in node.lineage["metrics"]
    assert node.lineage["data"].keys() == {"data"}


@pytest.mark.parametrize("replay", [-0.1, 1.0, 1.5])
def test_a_share_that_is_none_is_told(life, tmp_path, replay):
    with pytest.raises(JourneyError, match="replay: must be at least 0 and below 1"):
        continue_(life.node("base"), dataclasses.replace(SMALL, replay=replay), run(life, tmp_path / "coder"))


def test_replay_needs_its_text():
    with pytest.raises(JourneyError, match="replay needs replay_data"):
        dataclasses.replace(SMALL, replay_data="")


@pytest.fixture
def gpt2(tmp_path):
    """A GPT-2 as the Hub has them: no chat format, and more rows than tokens."""
    merges = bpe.train(bpe.count_words([inspect.getsource(dataclasses)], "gpt2"), 300, 1)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=320, n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()
    model.save_pretrained(tmp_path / "gpt2")
    Tokenizer.from_merges(merges, "gpt2", [BOS]).backend.save(str(tmp_path / "gpt2/tokenizer.json"))
    return tmp_path / "gpt2"


def test_an_imported_model_goes_on(life, gpt2, tmp_path, journey):
    """From its own weights: with a rate of nothing they are what they were."""
    assert journey("import", gpt2, "--out", tmp_path / "mine").code == 0
    texts = ("--data", life.texts / "code.jsonl", "--replay-data", life.texts / "prose.jsonl")
    for name, more in (("still", ("--lr", 0, "--muon-lr", 0)), ("coder", ("--replay", 0.5))):
        size = ("--tokens", 2_048, "--evaluations", 2, *more)
        said = journey("continue", "--parent", tmp_path / "mine", *texts, *size, "--out", tmp_path / name)
        assert said.code == 0, said.err
    before, still, after = (huggingface.load(tmp_path / name).state_dict() for name in ("mine", "still", "coder"))
    assert all(torch.equal(before[key], still[key]) for key in before)
    assert not any(torch.equal(before[key], after[key]) for key in before if key.endswith("weight"))
    history = json.loads((tmp_path / "coder/history.json").read_text())
    first, last = (line["dev_bits_per_byte"] for line in history if "dev_bits_per_byte" in line)
    assert last < first


def test_without_chat_tokens_it_is_told_before_the_training(life, gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr("journey.stages.continue_.stream", lambda *_: pytest.fail("the text was read"))
    with pytest.raises(JourneyError, match=r"no <\|end\|> token.*`journey import` adds it"):
        continue_(str(gpt2), SMALL, run(life, tmp_path / "coder"))


def test_a_parent_from_elsewhere_is_as_good(life, tmp_path):
    """A Hugging Face folder without a lineage: the id of its files stands for it."""
    import shutil

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(life.node("base").path, elsewhere)
    (elsewhere / "lineage.json").unlink()
    child = continue_(str(elsewhere), SMALL, run(life, tmp_path / "coder"))
    ours = continue_(life.node("base"), SMALL, run(life, tmp_path / "ours"))
    assert child.parents == [Node(elsewhere).id] != ours.parents
    assert child.lineage["weights_sha256"] == ours.lineage["weights_sha256"]


# An adapter in the place of the model

ADAPTING = dataclasses.replace(SMALL, optimizer=None, adapter="{rank: 4}", tokens=2_048, batch_size=4, dev_rows=8)


@pytest.fixture(scope="module")
def adapted(life, tmp_path_factory):
    return continue_(life.node("base"), ADAPTING, run(life, tmp_path_factory.mktemp("adapted") / "coder"))


def test_an_adapter_learns_the_text_and_its_base_stays(life, adapted):
    history = json.loads((adapted.path / "history.json").read_text())
    assert history[-1]["dev_loss"] < history[0]["dev_loss"] and "dev_loss_replay" in history[-1]
    metrics = adapted.lineage["metrics"]
    assert metrics["dev_loss"]["value"] == history[-1]["dev_loss"] and metrics["trained_parameters"]["value"] > 0
    assert adapter.base(adapted.path) == life.node("base").path.resolve()
    assert not (adapted.path / "model.safetensors").exists() and adapted.lineage["chosen"]["optimizer"] == "adamw"


def test_its_loss_is_that_of_our_model_on_the_same_rows(life, adapted):
    """Before the training, on the base; after it, on the base with the adapter merged in."""
    from journey.data.corpus import Corpus
    from journey.evaluate import perplexity
    from journey.stages.training import pack

    history = json.loads((adapted.path / "history.json").read_text())
    for node, line in ((life.node("base"), history[0]), (adapted, history[-1])):
        model, tokenizer = open_pair(node.path)
        for suffix, text in (("", "code"), ("_replay", "prose")):
            rows = pack(tokenizer, Corpus(life.node(text).path), model.config.n_ctx - 1, 8)
            ours = perplexity.packed_loss(model.eval(), rows, tokenizer.bos)
            assert line[f"dev_loss{suffix}"] == pytest.approx(ours, rel=1e-5)


def test_accumulation_of_an_adapter_is_one_big_batch(life, adapted, tmp_path):
    node = continue_(life.node("base"), dataclasses.replace(ADAPTING, accumulate=2), run(life, tmp_path / "coder"))
    ours, theirs = (json.loads((each.path / "history.json").read_text()) for each in (node, adapted))
    assert [line.get("loss") for line in ours[1:]] == pytest.approx([line["loss"] for line in theirs[1:]], rel=1e-4)
    assert ours[-1]["dev_loss"] == pytest.approx(theirs[-1]["dev_loss"], rel=1e-3)


def test_an_adapter_is_trained_by_adamw_alone():
    with pytest.raises(JourneyError, match="an adapter is trained by AdamW: leave optimizer out"):
        dataclasses.replace(ADAPTING, optimizer="muon")


def test_what_holds_of_every_training_holds_of_this_one():
    """Also where batch and parts are chosen for it."""
    with pytest.raises(JourneyError, match="target is held against dev_loss"):
        Continue(target=3.0)
    with pytest.raises(JourneyError, match="batch_size 8 is not a multiple of accumulate 3"):
        Continue(batch_size=8, accumulate=3)
