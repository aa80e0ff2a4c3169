"""The loop of the encoder–decoder: a step against torch's own, and a resumed run against the uninterrupted one."""

from unittest.mock import Mock

import pytest
import torch

from journey.errors import JourneyError
from journey.model.seq2seq import Seq2Seq, Seq2SeqConfig
from journey.train import seq2seq as loop
from journey.train.schedule import noam
from journey.train.seq2seq import Lesson, Order, loss_of, tensors, train

V, PAD, BOS, EOS = 20, 17, 18, 19
LESSON = Lesson(
    steps=12, batch_size=8, factor=1.0, warmup=6, smoothing=0.1, clip=1.0, eval_every=5, start=BOS, eos=EOS, seed=4
)


def pairs(n=30):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, PAD, (int(k),), generator=generator).tolist() for k in torch.arange(n) % 6 + 1]
    return [(row, row[::-1]) for row in rows]


def model(dropout=0.2):
    torch.manual_seed(1)
    return Seq2Seq(Seq2SeqConfig(V, 10, 1, 1, 2, 16, 32, PAD, dropout))


def run(made, state, lesson=LESSON, stop_at=None, data=None):
    shown = []
    history = train(
        made,
        data or pairs(),
        lesson,
        state=state,
        evaluate=lambda m: {"dev_loss": loss_of(m, pairs()[:4], BOS, EOS)},
        progress=lambda *a, **k: shown.append(a),
        stopping=lambda: stop_at is not None and len(shown) == stop_at,
        log=Mock(),
    )
    return history


def test_a_step_is_adams_of_the_big_batch(tmp_path):
    ours, theirs = model(dropout=0.0), model(dropout=0.0)
    lesson = Lesson(**{**vars(LESSON), "steps": 2, "clip": 0.0})
    history = run(ours, tmp_path, lesson)
    adam = torch.optim.Adam(theirs.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    order = Order(30, 4)
    for step in range(2):
        source, written, targets = tensors([pairs()[i] for i in order.rows(8 * step, 8)], PAD, BOS, EOS)
        logits = theirs(source, written)
        loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits.transpose(1, 2), targets)
        adam.param_groups[0]["lr"] = noam(step, 6, 16)
        adam.zero_grad(), loss.backward(), adam.step()
        assert history[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert history[step]["lr"] == pytest.approx(noam(step, 6, 16))
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if name.endswith(".k.bias"):  # a softmax does not see it: its gradient is rounding, which Adam makes large
            continue
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("stop_at", [0, 4, 5, 11])
def test_a_stopped_run_goes_on_to_the_same_numbers(tmp_path, stop_at):
    """Dropout included: what it drops depends on seed and step alone."""
    whole, parted = model(), model()
    expected = run(whole, tmp_path / "whole")
    assert run(parted, tmp_path / "parted", stop_at=stop_at) is None
    again = model()
    torch.manual_seed(99)  # another process, another state of the generator
    assert run(again, tmp_path / "parted") == expected
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [("dev_loss" in line) for line in expected] == [i in (4, 9, 11) for i in range(12)]


def test_every_pair_comes_once_an_epoch_in_another_order():
    order = Order(30, 4)
    epochs = [order.rows(30 * e, 30) for e in range(3)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs) and epochs[0] != epochs[1]
    assert Order(30, 4).rows(25, 10) == epochs[0][25:] + epochs[1][:5]
    assert Order(30, 5).rows(0, 30) != epochs[0]


def test_tokens_are_those_of_both_sides_and_no_padding(tmp_path):
    history = run(model(), tmp_path, Lesson(**{**vars(LESSON), "steps": 4}))
    order = Order(30, 4)
    said = [sum(len(pairs()[i][0]) + len(pairs()[i][1]) + 1 for i in order.rows(0, 8 * n)) for n in (1, 2, 3, 4)]
    assert [line["tokens"] for line in history] == said


def test_the_loss_of_dev_does_not_depend_on_the_batches():
    made = model().eval()
    whole = loss_of(made, pairs(), BOS, EOS)
    assert loss_of(made, pairs(), BOS, EOS, batch_size=7) == pytest.approx(whole, rel=1e-5)
    source, written, targets = tensors(pairs()[:1], PAD, BOS, EOS)
    assert loss_of(made, pairs()[:1], BOS, EOS) == pytest.approx(made(source, written, targets).item(), rel=1e-6)


def test_a_loss_that_is_none_says_what_to_choose(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "noam", lambda *a: float("nan"))
    with pytest.raises(JourneyError, match="not a number at step 2: choose a smaller factor or more warmup"):
        run(model(), tmp_path)


def test_it_learns(tmp_path):
    lesson = Lesson(**{**vars(LESSON), "steps": 50, "warmup": 12, "eval_every": 50})
    history = run(model(dropout=0.0), tmp_path, lesson)
    assert history[-1]["loss"] < 0.85 * history[0]["loss"]
