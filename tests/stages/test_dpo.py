"""DPO against the formula written out, TRL itself, and one test for each way in which it goes wrong without a word."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from journey.checkpoint import Node
from journey.data.preferences import Pair, encode, save, saved
from journey.errors import JourneyError
from journey.fields import check_config
from journey.stages import dpo as stage
from journey.stages.dpo import (
    DPO,
    PreferenceTrainer,
    Row,
    answer_logps,
    check_start,
    encode_pairs,
    pair_margins,
    weights_hash,
)
from journey.stages.run import Run, Stopped
from journey.tokenizer.formats import Tokenizer
from journey.train import saver
from journey.train.trl import make_trainer

from ..conftest import Silent, new_run
from .conftest import FAMILIES, Killed, history

N_CTX = 96
DROPOUT = 0.1  # what a checkpoint from elsewhere has
FAST = {"lr": 1e-2, "batch_size": 8}


def pair(i, asked="What is function {}?"):
    """Answers of very different lengths; the chosen ones have something in common."""
    chosen, rejected = "It is " + "the number " * (i % 4) + f"{i}.", "word " * (i % 5) + "no"
    return Pair(
        f"pair {i}",
        [{"role": "user", "content": asked.format(i) + " x" * (i % 7)}],
        [{"role": "assistant", "content": chosen}],
        [{"role": "assistant", "content": rejected}],
    )


PAIRS = [pair(i) for i in range(40)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A pairs node."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, part in (("train", PAIRS[:24]), ("dev", PAIRS[24:32]), ("test", PAIRS[32:])):
        save(part, folder / f"pairs-{name}.jsonl")
    return folder


def rows_of(tokenizer, pairs=PAIRS):
    return [Row(*encode(pair, tokenizer)) for pair in pairs]


def trainer_for(parents, tokenizer, folder, family="qwen3", rows=None, **settings):
    rows, run = rows or rows_of(tokenizer)[:24], new_run(folder)
    config, _ = DPO(**settings).fitting(10_000)
    kind, own = PreferenceTrainer, {"beta": config.beta, "max_length": None}
    return make_trainer(kind, parents[family], rows, rows[:5], config, run, **own)


def train(parents, data, folder, family="qwen3", seed=0, when=lambda step: None, run=None, **settings):
    """The stage's body on a pairs node, in a run that is fresh or given."""
    run = run or new_run(folder, seed, when)
    run.given = {"data": Node(data)}
    return run, stage.dpo.body(Node(parents[family]), DPO(data="pairs", **FAST | settings), run)


def batch_of(trainer, rows):
    return trainer.data_collator([row._asdict() for row in rows])


def moved(model):
    """Away from the reference, so that no difference is zero."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


# The oracles


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_the_formula(parents, tokenizer, tmp_path, family):
    trainer = trainer_for(parents, tokenizer, tmp_path, family, beta=0.3)
    model, rows = moved(trainer.model), rows_of(tokenizer)[:7]
    trainer.state.global_step = 1
    loss = trainer.compute_loss(model, batch_of(trainer, rows))
    loss.backward()
    ours = [parameter.grad.clone() for parameter in model.parameters()]

    def log_probability(scored, prompt, answer):
        logits = scored(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        return sum(logits[len(prompt) + i - 1, token] for i, token in enumerate(answer))

    reference = AutoModelForCausalLM.from_pretrained(parents[family]).eval()
    model.zero_grad()
    model.eval()
    losses = []
    for prompt, chosen, rejected in rows:
        with torch.no_grad():
            before = log_probability(reference, prompt, chosen) - log_probability(reference, prompt, rejected)
        after = log_probability(model, prompt, chosen) - log_probability(model, prompt, rejected)
        losses.append(-torch.log(1 / (1 + torch.exp(-0.3 * (after - before)))))
    expected = sum(losses) / len(losses)
    expected.backward()
    assert abs(expected.item() - math.log(2)) > 1e-2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours, [parameter.grad for parameter in model.parameters()], rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # TRL's own
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_trl(parents, tokenizer, tmp_path, family):
    trainer = trainer_for(parents, tokenizer, tmp_path, family)
    model, batch = moved(trainer.model).train(), batch_of(trainer, rows_of(tokenizer)[:7])
    trainer.state.global_step = 1
    results = []
    for compute in (trainer.compute_loss, super(PreferenceTrainer, trainer).compute_loss):
        model.zero_grad()
        loss = compute(model, dict(batch))
        loss.backward()
        results.append((loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


def test_dev_numbers(parents, tokenizer, tmp_path):
    trainer = trainer_for(parents, tokenizer, tmp_path)
    moved(trainer.model)
    rows = rows_of(tokenizer)[:5]
    batch = batch_of(trainer, rows)
    with torch.no_grad():
        expected = pair_margins(answer_logps(trainer.model, batch), answer_logps(trainer.ref_model, batch)).numpy()
    margins = trainer.dev_margins()
    np.testing.assert_allclose(margins, expected, rtol=1e-4, atol=1e-4)
    assert trainer.model.training
    numbers = stage.margin_numbers(np.array([1.0, 0.0, -2.0]), beta=0.5)
    assert numbers["dev_accuracy"] == 0.5 and numbers["dev_margin"] == pytest.approx(-1 / 3)
    assert numbers["dev_loss"] == pytest.approx(np.mean([np.log1p(np.exp(-0.5 * m)) for m in (1, 0, -2)]))


# The silent bugs


def test_rows_reach_the_model_as_they_are(parents, tokenizer, tmp_path):
    special = Pair(
        "s",
        [{"role": "user", "content": "Say <|end|>"}],
        [{"role": "assistant", "content": "<|end|>"}],
        [{"role": "assistant", "content": ""}],
    )
    rows = rows_of(tokenizer, [*PAIRS[:10], special])
    trainer = trainer_for(parents, tokenizer, tmp_path, rows=rows, batch_size=4)
    delivered = []
    for batch in trainer.get_train_dataloader():
        n = len(batch["input_ids"]) // 2
        for i in range(n):
            row = []
            for ids, answer, known in zip(*(batch[k][[i, n + i]] for k in (
                "input_ids", "completion_mask", "attention_mask")), strict=True):  # fmt: skip
                length = int(known.sum())
                assert known[:length].all() and (ids[length:] == tokenizer.pad).all() and not answer[length:].any()
                start = int(answer.argmax())
                assert answer[start:length].all() and ids[length - 1] == tokenizer.eos
                row += [ids[:start].tolist(), ids[start:length].tolist()]
            assert row[0] == row[2]
            delivered.append((row[0], row[1], row[3]))
    assert sorted(delivered) == sorted(rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_neighbours_do_not_leak(parents, tokenizer, tmp_path, family):
    trainer = trainer_for(parents, tokenizer, tmp_path, family)
    rows = rows_of(tokenizer)[:7]
    batch = batch_of(trainer, rows)
    together = answer_logps(trainer.model, batch)
    alone = torch.stack([answer_logps(trainer.model, batch_of(trainer, [row])) for row in rows])  # (7, 2)
    torch.testing.assert_close(together, alone.T.flatten(), rtol=1e-4, atol=1e-4)
    batch["input_ids"][batch["attention_mask"] == 0] = 7
    torch.testing.assert_close(answer_logps(trainer.model, batch), together)


def test_the_first_loss_is_ln_2_even_with_dropout_in_the_config(parents, data, tmp_path):
    run, facts = train(parents, data, tmp_path, "gpt2")
    first = history(run)[1]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4) and first["margin"] == pytest.approx(0, abs=1e-4)
    assert facts["metrics"]["first_loss"]["value"] == first["loss"]


def test_a_reference_that_is_not_the_start_is_refused(parents, data, tmp_path, monkeypatch):
    whole, loaded = PreferenceTrainer.load, []

    def load(folder):
        loaded.append(folder)  # the model that is trained, then the reference
        return whole(folder) if len(loaded) == 1 else moved(whole(folder))

    monkeypatch.setattr(PreferenceTrainer, "load", staticmethod(load))
    with pytest.raises(
        JourneyError, match=r"before the first step the loss is .* not 0.6931 and 0: the reference is n"
    ):
        train(parents, data, tmp_path)


@pytest.mark.parametrize(("loss", "margin"), [(0.6951, 0.0), (0.6931, 0.002), (math.nan, 0.0), (0.6931, -math.inf)])
def test_check_start(loss, margin):
    check_start(0.6931472, 0.0)
    with pytest.raises(JourneyError, match="the reference is not the model that training starts from"):
        check_start(loss, margin)


def test_the_reference_stays_as_it_is(parents, data, tmp_path):
    before = (parents["qwen3"] / "model.safetensors").read_bytes()
    run, _ = train(parents, data, tmp_path)
    assert (parents["qwen3"] / "model.safetensors").read_bytes() == before
    facts = json.loads((run.folder / "dpo.json").read_text())
    reference = weights_hash(AutoModelForCausalLM.from_pretrained(parents["qwen3"]))
    assert facts["reference"]["sha256_before"] == facts["reference"]["sha256_after"] == reference
    assert weights_hash(AutoModelForCausalLM.from_pretrained(run.folder)) != reference


def test_a_reference_that_changes_is_noticed(parents, data, tmp_path):
    run = new_run(tmp_path)
    found = []
    whole = stage.make_trainer

    def listen(*args, **own):
        found.append(whole(*args, **own))
        return found[0]

    def touch(step):
        if step == 2:
            with torch.no_grad():
                next(found[0].ref_model.parameters())[0, 0] += 1e-6

    run.console.when = touch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "make_trainer", listen)
        with pytest.raises(JourneyError, match="the reference model changed"):
            train(parents, data, tmp_path, run=run)


# Going on


@pytest.fixture(scope="module")
def uninterrupted(parents, data, tmp_path_factory):
    return train(parents, data, tmp_path_factory.mktemp("whole"), epochs=2)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_killed_run_goes_on_exactly(parents, data, uninterrupted, tmp_path, monkeypatch, steps):
    monkeypatch.setattr(saver, "_SAVE_EVERY", -1.0)
    monkeypatch.setattr(saver, "_SAVE_SHARE", 0)

    def kill(step):
        if step == steps:
            raise Killed

    with pytest.raises(Killed):
        train(parents, data, tmp_path, when=kill, epochs=2)
    half_written = tmp_path / ".work-000000000000/state/unfinished/checkpoint-2"
    half_written.mkdir(parents=True, exist_ok=True)
    (half_written / "model.safetensors").write_bytes(b"torn")

    run, facts = train(parents, data, tmp_path, epochs=2)
    assert len(run.console.shown) == 6 - max(0, steps - 1)
    assert history(run) == history(uninterrupted[0])
    assert facts == uninterrupted[1]
    for path in uninterrupted[0].folder.iterdir():
        if path.name != "log.jsonl":  # has what the clock said
            assert (run.folder / path.name).read_bytes() == path.read_bytes()


def test_ctrl_c_saves_and_stops(parents, data, uninterrupted, tmp_path):
    run = new_run(tmp_path)
    run.console.when = lambda step: setattr(run.console, "stopping", step == 3)
    with pytest.raises(Stopped):
        train(parents, data, tmp_path, run=run, epochs=2)
    assert not (run.folder / "model.safetensors").exists()
    again, _ = train(parents, data, tmp_path, epochs=2)
    assert len(again.console.shown) == 2
    assert history(again) == history(uninterrupted[0])


# What comes out


def test_history_and_progress(uninterrupted, tokenizer):
    run, facts = uninterrupted
    lines = history(run)
    dev = {"dev_loss", "dev_accuracy", "dev_margin"}
    assert [line["step"] for line in lines] == list(range(7))
    assert lines[0] == {"step": 0, "tokens": 0, "dev_loss": math.log(2), "dev_accuracy": 0.5, "dev_margin": 0.0}
    for line in lines[1:]:
        assert set(line) - dev == {"step", "tokens", "loss", "margin", "accuracy", "lr", "grad_norm"}
    assert dev < set(lines[-1]) and lines[-1]["dev_loss"] < math.log(2) and lines[-1]["dev_accuracy"] > 0.7
    assert lines[1]["accuracy"] == 0.5 and lines[-1]["margin"] > 0.5
    rows = rows_of(tokenizer, PAIRS[:24])
    assert facts["tokens"] == lines[-1]["tokens"] == 2 * sum(2 * len(p) + len(c) + len(r) for p, c, r in rows)
    done, total, _, numbers = run.console.shown[-1]
    assert done == total == facts["tokens"] and set(numbers) == {"loss", "accuracy"}
    metrics = facts["metrics"]
    assert metrics["dev_loss"]["value"] == pytest.approx(lines[-1]["dev_loss"])
    assert metrics["dev_accuracy"]["low"] < metrics["dev_accuracy"]["value"] <= metrics["dev_accuracy"]["high"]
    assert (metrics["pairs"]["value"], metrics["steps"]["value"], metrics["dev_margin"]["n"]) == (24, 6, 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_is_a_whole_checkpoint(parents, data, tokenizer, tmp_path, family):
    run, _ = train(parents, data, tmp_path, family)
    assert {path.name for path in run.folder.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "history.json", "log.jsonl", "dpo.json", "pairs-test.jsonl",
    }  # fmt: skip
    assert saved(run.folder / "pairs-test.jsonl") == PAIRS[32:]
    config = json.loads((run.folder / "config.json").read_text())
    assert config.get("use_cache", True) is True and config["dtype"] == "float32"
    assert Tokenizer.load(run.folder).hash == tokenizer.hash
    new, old = (load_file(folder / "model.safetensors") for folder in (run.folder, parents[family]))
    assert new.keys() == old.keys() and any(not torch.equal(new[name], old[name]) for name in new)


def test_nothing_is_printed_and_nobody_is_told(parents, data, tmp_path, capfd, recwarn, monkeypatch):
    def telemetry(*args, **kwargs):
        raise AssertionError("telemetry")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", telemetry)
    train(parents, data, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_a_file_of_preferences(parents, tmp_path):
    equal = '{"prompt": "Q", "chosen": "x", "rejected": "x"}'
    lines = [json.dumps({"prompt": f"What is {i}?", "chosen": f"{i}.", "rejected": "no"}) for i in range(60)]
    (tmp_path / "likes.jsonl").write_text("\n".join([*lines, equal]))
    run = new_run(tmp_path)
    path = str(tmp_path / "likes.jsonl")
    facts = stage.dpo.body(Node(parents["qwen3"]), DPO(data=path, max_pairs=20), run)
    assert facts["metrics"]["pairs"]["value"] == 20
    assert run.console.lines[:3] == [
        f"{path}: prompt -> chosen, rejected (UltraFeedback, TRL): 60 preferences",
        f"{path}: 1 of 61 rows left out (equal answers: 1)",
        f"  left out: {path}, line 61: the two answers are equal",
    ]
    assert json.loads((run.folder / "dpo.json").read_text())["left_out"] == {"equal answers": 1}
    assert facts["metrics"]["rows_left_out"]["value"] == 1
    assert len(saved(run.folder / "pairs-test.jsonl")) == 3
    with pytest.raises(JourneyError, match="line 61: the two answers are equal"):
        stage.dpo.body(Node(parents["qwen3"]), DPO(data=path, strict=True), new_run(tmp_path))


# Bad input


def test_pairs_that_do_not_fit_are_left_out_and_said(tokenizer):
    run = Run("unused", console=Silent())
    long = pair(0, asked="long " * 40)
    rows = encode_pairs([long, *PAIRS[:3]], tokenizer, N_CTX, run, "train")
    assert rows == rows_of(tokenizer, PAIRS[:3])
    assert run.console.lines == ["1 train pairs left out: longer than 96 tokens"]
    with pytest.raises(JourneyError, match="0 train pairs of 2 fit in 96 tokens, 2 are needed"):
        encode_pairs([long, long], tokenizer, N_CTX, run, "train")


def test_bad_settings(parents, data, tmp_path):
    with pytest.raises(JourneyError, match="dpo needs preferences: set data to"):
        stage.dpo.body(Node(parents["qwen3"]), DPO(), new_run(tmp_path))
    with pytest.raises(JourneyError, match=r"beta: must be above 0, not 0\.0"):
        check_config(DPO(beta=0.0))
    with pytest.raises(JourneyError, match="max_length 97 is more than the model's context of 96"):
        train(parents, data, tmp_path, max_length=97)
    with pytest.raises(JourneyError, match=r"the .* is not a number at step \d: choose a smaller lr than 1e\+30"):
        train(parents, data, tmp_path, lr=1e30, clip=0.0)


def test_a_parent_with_weights_that_are_no_numbers(parents, data, tmp_path, tokenizer):
    tensors = {name: tensor * math.nan for name, tensor in load_file(parents["qwen3"] / "model.safetensors").items()}
    (tmp_path / "broken").mkdir()
    save_file(tensors, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "broken" / "config.json").write_bytes((parents["qwen3"] / "config.json").read_bytes())
    tokenizer.save(tmp_path / "broken")
    with pytest.raises(JourneyError, match="before the first step the loss is nan"):
        train({"qwen3": tmp_path / "broken"}, data, tmp_path)
