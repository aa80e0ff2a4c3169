"""The order of rows, and that another kind of training has only its own to write."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.stages.sft import SFT
from journey.tokenizer.formats import Tokenizer
from journey.train import trl
from journey.train.log import LOG
from journey.train.lora import Adapter, peft_config
from journey.train.tail import Tail
from journey.train.trl import Shell, make_trainer, order


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 400), batch_size=st.sampled_from([1, 2, 3, 8]), epochs=st.integers(1, 3), seed=st.integers(0, 9)
)
def test_order_shows_every_row_once_an_epoch(n, batch_size, epochs, seed):
    lengths = np.random.default_rng(n).integers(5, 200, n).tolist()
    found = order(lengths, batch_size, epochs, seed)
    assert np.bincount(found, minlength=n).tolist() == [epochs] * n
    assert found == order(lengths, batch_size, epochs, seed)


def test_order_puts_like_lengths_together_and_shuffles_the_batches():
    lengths = np.random.default_rng(0).integers(20, 200, 1000)
    batches = lengths[order(lengths.tolist(), 8, 1, seed=0)].reshape(-1, 8)
    padded = (batches.max(1) * 8).sum() / lengths.sum()
    assert padded < 1.05  # unsorted: 1.6
    assert order(lengths.tolist(), 8, 1, seed=0) != order(lengths.tolist(), 8, 1, seed=1)
    assert abs(np.corrcoef(np.arange(len(batches)), batches.mean(1))[0, 1]) < 0.3


def test_order_puts_the_batch_that_is_not_full_last():
    batches = np.split(np.array(order(list(range(20)), 8, 1, seed=0)), [8, 16])
    assert sorted(sorted(batch) for batch in batches[:2]) == [list(range(8)), list(range(8, 16))]
    assert sorted(batches[2]) == [16, 17, 18, 19]


# A third kind: a reward model, by TRL's RewardTrainer and TRL's own loss


class Judged(NamedTuple):
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def tokens(self):
        return len(self.chosen_ids) + len(self.rejected_ids)


class RewardTrainer(Shell):
    method = "Reward"
    line = ("step", "tokens", "loss", "accuracy", "lr", "grad_norm", "dev_accuracy")
    shown = ("loss", "accuracy")

    @staticmethod
    def load(folder):
        torch.manual_seed(0)  # the head is new
        return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)

    def dev_numbers(self):
        better = np.zeros(len(self.dev))
        for places, rewards in self.over_dev(lambda inputs: self.model(**inputs).logits.view(2, -1)):
            better[places] = rewards[0] > rewards[1]
        return {"dev_accuracy": float(better.mean())}


class Run:
    seed, stopping = 0, False

    def __init__(self, scratch):
        self.scratch, self.shown = scratch, []
        self.name, self.out, self.say = scratch.name, scratch.parent / "out", print
        scratch.mkdir(exist_ok=True)

    def progress(self, done, total, unit, **numbers):
        self.shown.append((done, total, numbers))


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent")
    tokenizer = Tokenizer.from_merges([])
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("qwen3", tokenizer.vocab_size, 32, n_layer=1, n_embd=32, n_head=2))
    huggingface.save(model, folder, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    tokenizer.save(folder)
    return folder


def test_scoring_says_nothing(parent, tmp_path):
    rows = [Judged([1, 2, 3], [4, 5])] * 20
    trainer = make_trainer(
        RewardTrainer, parent, rows, rows, SFT(batch_size=8, lr=2e-3), Run(tmp_path / "run"), max_length=None
    )
    assert logging.get_verbosity() == logging.WARNING
    found = trainer.over_dev(lambda inputs: logging.get_verbosity())
    assert [verbosity for _, verbosity in found] == [logging.ERROR] * 2 and trainer.model.training


def test_a_reward_model_writes_its_own_alone(parent, tmp_path):
    rng = np.random.default_rng(0)
    rows = [Judged(*(rng.integers(low, low + 20, rng.integers(3, 9)).tolist() for low in (30, 60))) for _ in range(44)]
    config = SFT(batch_size=4, lr=1e-2, evaluations=2)

    def trainer(name):
        return make_trainer(RewardTrainer, parent, rows[:36], rows[36:], config, Run(tmp_path / name), max_length=None)

    whole = trainer("whole")
    history = whole.fit()
    assert [line["step"] for line in history] == list(range(1, 10)) and len(whole.run.shown) == 9
    assert all(tuple(line) == RewardTrainer.line for line in history if "dev_accuracy" in line)
    assert [line["step"] for line in history if "dev_accuracy" in line] == [4, 8, 9]
    assert history[-1]["tokens"] == sum(row.tokens for row in rows[:36])
    assert history[-1]["loss"] < 0.2 < history[0]["loss"] and history[-1]["dev_accuracy"] == 1

    stopped = trainer("stopped")
    stopped.run.progress = lambda done, total, unit, **numbers: setattr(stopped.run, "stopping", True)
    assert stopped.fit() is None
    again = trainer("stopped")
    assert again.fit() == history and len(again.run.shown) == 7
    logged = Tail(tmp_path / "stopped" / LOG).new()[1:]
    assert [line["step"] for line in logged] == list(range(1, 10)) and all("memory" in line for line in logged)
    weights = zip(whole.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in weights)


# An adapter of a model with marks that are new to it


def adapted(folder, marks, tied):
    """A small llama whose rows of the marks are nearly the mean of the others, as import makes them; and an adapter."""
    torch.manual_seed(0)
    model = GPT(GPTConfig("llama", 300, 64, 2, 4, 2, 16, 64, 128, tied=tied))
    with torch.no_grad():
        for matrix in {model.embed.weight, model.head.weight}:
            matrix.normal_()
            matrix[marks] = matrix.mean(0) + 0.01 * matrix[marks]
    huggingface.save(model, folder, bos=1, eos=2, pad=3)
    made = get_peft_model(huggingface.in_transformers(folder), peft_config(Adapter(rank=4), folder, marks))
    return made.train()


@pytest.mark.parametrize("tied", [False, True])
def test_trained_rows_of_the_head_have_pefts_loss_and_gradients_without_its_copy(tmp_path, monkeypatch, tied):
    model = adapted(tmp_path, marks := [5, 9, 299], tied)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) if parameter.requires_grad else 0)
    ids, answer = torch.randint(300, (2, 20)), torch.rand(2, 19) < 0.5
    ids[:, 3:6] = torch.tensor(marks)

    def found():
        model.zero_grad()
        loss = trl.answer_nats(model, ids, answer, "sum")
        loss.backward()
        return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    ours, gradients = found()
    with model.disable_adapter():
        assert trl.answer_nats(model, ids, answer, "sum").item() == pytest.approx(
            trl.answer_nats(huggingface.in_transformers(tmp_path), ids, answer, "sum").item()
        )
    monkeypatch.setattr(trl, "_logits", lambda head, hidden: head(hidden))
    theirs, expected = found()
    assert ours == pytest.approx(theirs) and gradients.keys() == expected.keys()
    for name in expected:
        assert (gradients[name] - expected[name]).abs().max() <= 1e-5 * expected[name].abs().max() + 1e-6, name


@pytest.mark.parametrize("tied", [False, True])
def test_a_mark_whose_row_is_the_mean_of_all_becomes_the_likeliest(tmp_path, tied):
    """A head that stays as it was could never say it: its logit would stay near the mean of all logits."""
    model = adapted(tmp_path, marks := [299], tied)
    ids = torch.randint(290, (4, 12))
    ids[:, -1] = marks[0]
    answer = torch.zeros(4, 11, dtype=torch.bool)
    answer[:, -1] = True
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(40):
        trl.answer_nats(model, ids, answer, "mean").backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "adapter")
    assert (huggingface.load(tmp_path / "adapter")(ids)[:, -2].argmax(-1) == marks[0]).all()
