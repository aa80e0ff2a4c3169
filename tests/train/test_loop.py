"""The loop's silent bugs, each with its test: accumulation that is no big batch, documents that see each other, a
resumed run that is not the same run."""

import copy
import dataclasses
import errno
import json
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from journey.data.stream import TokenStream
from journey.errors import JourneyError
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.train import loop as module
from journey.train import saver
from journey.train import state as train_state
from journey.train.guard import Guard
from journey.train.loop import Loop, accumulate_gradients, train
from journey.train.optimizers import Optimizers

V, T, MARK = 50, 16, 0
LOOP = Loop(
    steps=12,
    batch_size=4,
    accumulate=1,
    optimizer="muon",
    lr=1e-2,
    muon_lr=0.02,
    weight_decay=0.1,
    warmup=0.1,
    decay=0.5,
    clip=1.0,
    eval_every=4,
    mark=MARK,
)


@pytest.fixture(params=["qwen3", "gpt2"])
def model(request):
    torch.manual_seed(0)
    made = GPT(GPTConfig.make(request.param, V, T, 2, 32, n_head=2))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)  # far from uniform, so that a wrong mean or mask shows
    return made


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    documents = [np.array([MARK, *rng.integers(1, V, rng.integers(2, 12))]) for _ in range(60)]
    return TokenStream([(ids, [len(ids)]) for ids in documents], T, seed=1)


def batch(rows, n):
    return torch.from_numpy(np.stack([rows.row(i) for i in range(n)]).astype(np.int64))  # (n, T + 1)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_is_one_big_batch(model, rows, parts):
    tokens = batch(rows, 8)
    big = accumulate_gradients(model, tokens, 1, MARK)
    expected = gradients(model)
    model.zero_grad()
    assert accumulate_gradients(model, tokens, parts, MARK) == pytest.approx(big, abs=1e-6)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-5)


def test_the_loss_is_the_mean_over_all_targets_by_hand(model, rows):
    tokens = batch(rows, 4)
    losses = []
    for row in tokens:
        starts = [i for i in range(T) if row[i] == MARK or i == 0]
        for start, end in zip(starts, [*starts[1:], T], strict=True):
            logits = model(row[None, start:end])[0].log_softmax(-1)  # each document alone
            losses += [-logits[i, row[start + i + 1]].item() for i in range(end - start)]
    assert len(losses) == 4 * T
    assert accumulate_gradients(model, tokens, 1, MARK) == pytest.approx(np.mean(losses), abs=1e-5)


def test_a_packed_document_never_sees_another(model):
    """Change the first document, and nothing of the second changes: not its logits, not where its gradient goes."""
    first, other, second = [MARK, 5, 6, 7], [MARK, 9, 8, 20], [MARK, 11, 12, 13, 14]
    a, b = (torch.tensor([doc + second]) for doc in (first, other))
    seen = [(ids == MARK).cumsum(1) for ids in (a, b)]
    here, there = (
        model(ids, documents=documents)[0, len(first) :] for ids, documents in zip((a, b), seen, strict=True)
    )
    alone = model(torch.tensor([second]))[0]
    torch.testing.assert_close(here, there, atol=0, rtol=0)
    torch.testing.assert_close(here, alone, atol=1e-5, rtol=1e-5)
    # and the test can fail: without the document numbers the second one does change
    assert (model(a)[0, len(first) :] - model(b)[0, len(first) :]).abs().max() > 1e-3


def test_the_loop_keeps_packed_documents_apart(model):
    """The same through the loop's own door: the loss of the second document sends no gradient to the first's tokens."""
    first, second = [MARK, 5, 6, 7], [MARK, *range(11, 24)]
    tokens = torch.tensor([[*first, *second]])[:, : T + 1]
    losses = []
    for start in (first, [MARK, 9, 8, 20]):
        model.zero_grad()
        tokens[0, : len(first)] = torch.tensor(start)
        losses.append(accumulate_gradients(model, tokens, 1, MARK) * T)
    # Both losses hold the second document's; the first document's own losses are computed alone.
    own = [model(torch.tensor([d]), torch.tensor([[*d[1:], MARK]])).item() * 4 for d in (first, [MARK, 9, 8, 20])]
    assert losses[0] - own[0] == pytest.approx(losses[1] - own[1], abs=1e-4)


def run(model, rows, loop, state, stop_after=None):
    shown = []
    history = train(
        model,
        rows,
        loop,
        state=state,
        evaluate=lambda model: {"dev_loss": 0.5},
        progress=lambda done, total, **numbers: shown.append((done, total, numbers)),
        stopping=lambda: stop_after is not None and len(shown) >= stop_after - 1,
        log=Mock(),
    )
    return history, shown


def test_the_history_has_a_line_for_each_step(model, rows, tmp_path):
    history, shown = run(model, rows, LOOP, tmp_path / "state")
    assert [line["step"] for line in history] == list(range(1, 13))
    assert [line["tokens"] for line in history] == [4 * T * step for step in range(1, 13)]
    assert [line["step"] for line in history if "dev_loss" in line] == [4, 8, 12]
    assert all({"loss", "lr", "grad_norm"} <= line.keys() for line in history)
    assert history[0]["loss"] > history[-1]["loss"]
    assert shown[-1][:2] == (12 * 4 * T, 12 * 4 * T)


def test_the_last_step_is_scored_even_where_it_falls_between(model, rows, tmp_path):
    history, _ = run(model, rows, dataclasses.replace(LOOP, eval_every=5), tmp_path / "state")
    assert [line["step"] for line in history if "dev_loss" in line] == [5, 10, 12]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("stops", [[5], [1, 2, 3], [11]])
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(model, rows, tmp_path, optimizer, stops):
    loop = dataclasses.replace(LOOP, optimizer=optimizer, accumulate=2)
    again = copy.deepcopy(model)
    expected, _ = run(model, rows, loop, tmp_path / "whole")
    for stop in stops:
        history, _ = run(copy.deepcopy(again), rows, loop, tmp_path / "state", stop_after=stop)
        assert history is None
    resumed = copy.deepcopy(again)
    with torch.no_grad():  # what was in memory is lost: all of it must come from the disk
        for p in resumed.parameters():
            p.add_(1)
    history, shown = run(resumed, rows, loop, tmp_path / "state")
    assert history == expected
    assert len(shown) == 12 - sum(stops)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_a_kill_while_saving_leaves_the_state_before(model, rows, tmp_path, monkeypatch):
    """Half a state stands only under a name that nobody reads."""
    monkeypatch.setattr(saver, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(saver, "_SAVE_SHARE", 0)
    start, state = copy.deepcopy(model), tmp_path / "state"
    expected, _ = run(copy.deepcopy(start), rows, LOOP, tmp_path / "whole")
    publish, calls = saver.publish, []

    def killed(folder, final):
        calls.append(final)
        if len(calls) == 6:
            (folder / "history.json").write_text("[{")
            raise KeyboardInterrupt
        publish(folder, final)

    monkeypatch.setattr(saver, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        run(copy.deepcopy(start), rows, LOOP, state)
    assert sorted(path.name for path in state.iterdir()) == [
        "step-000000001",
        "step-000000002",
        "step-000000005",
        "unfinished",
    ]
    monkeypatch.setattr(saver, "publish", publish)
    assert run(start, rows, LOOP, state)[0] == expected


def test_three_states_are_kept(model, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(saver, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(saver, "_SAVE_SHARE", 0)
    run(model, rows, LOOP, tmp_path / "state")
    kept = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert kept == ["step-000000002", "step-000000011", "step-000000012"]  # one is ten steps old
    assert len(json.loads((tmp_path / "state" / "step-000000012" / "history.json").read_text())) == 12


def test_gradients_are_clipped_to_the_norm(model, rows, tmp_path, monkeypatch):
    norms = []

    def step(self):
        norms.append(
            torch.cat([p.grad.flatten() for o in self.all for g in o.param_groups for p in g["params"]]).norm()
        )
        for p in (p for o in self.all for g in o.param_groups for p in g["params"]):
            p.grad = None

    monkeypatch.setattr(Optimizers, "step", step)
    history, _ = run(model, rows, dataclasses.replace(LOOP, clip=0.1, steps=3), tmp_path / "state")
    assert all(line["grad_norm"] > 0.2 for line in history)
    assert all(norm == pytest.approx(0.1, rel=1e-3) for norm in norms)


def test_a_loss_that_is_no_number_stops_the_run_in_one_line(model, rows, tmp_path):
    loop = dataclasses.replace(LOOP, lr=1e30, muon_lr=1e30)
    with pytest.raises(JourneyError, match="not a number") as error:
        run(model, rows, loop, tmp_path / "state")
    assert "\n" not in str(error.value)


def test_clip_0_clips_nothing(model, rows, tmp_path):
    """As in TRL and nanoGPT; it is not the norm 0, with which nothing would be learned."""
    losses = {}
    for clip in (0.0, 1e9):
        history, _ = run(copy.deepcopy(model), rows, dataclasses.replace(LOOP, clip=clip), tmp_path / str(clip))
        losses[clip] = [line["loss"] for line in history]
    assert losses[0.0] == losses[1e9] and losses[0.0][-1] < losses[0.0][0]


@pytest.fixture
def always_saved(monkeypatch):
    """A state after every step."""
    monkeypatch.setattr(saver, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(saver, "_SAVE_SHARE", 0)


class Poisoned:
    """Rows of which one batch breaks the training: its loss is what `bad` makes of it."""

    def __init__(self, rows, monkeypatch, batch, bad):
        self.rows, self.seen, self.batch = rows, [], batch
        real = module.accumulate_gradients

        def gradients(*arguments):
            loss = real(*arguments)
            return bad(loss) if self.seen[-1] == batch else loss

        monkeypatch.setattr(module, "accumulate_gradients", gradients)

    def row(self, i):
        if i % LOOP.batch_size == 0:
            self.seen.append(i // LOOP.batch_size)
        return self.rows.row(i)


@pytest.mark.parametrize("bad", [lambda loss: float("nan"), lambda loss: loss + 50])
def test_a_spike_is_taken_back_and_its_batches_left_out(model, rows, tmp_path, monkeypatch, always_saved, bad):
    """Batch 7 breaks at step 8: back to a state two steps before, on without batches 6 and 7; the history says so, and
    equals that of rows which never held them."""
    monkeypatch.setattr("journey.train.guard.WINDOW", 4)
    monkeypatch.setattr(module, "APART", 1)
    start, said = copy.deepcopy(model), []
    loop = dataclasses.replace(LOOP, spike=10.0)
    poisoned = Poisoned(rows, monkeypatch, 7, bad)
    history = train(
        model,
        poisoned,
        loop,
        state=tmp_path / "state",
        evaluate=lambda model: {},
        progress=lambda *_, **__: None,
        stopping=lambda: False,
        log=Mock(),
        say=said.append,
    )
    assert poisoned.seen[1:] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert [line.get("left_out") for line in history] == [None] * 6 + [[6, 7]] + [None] * 5
    assert len(said) == 1 and said[0].startswith("step 8: the loss is ") and "back to step 6" in said[0]

    class Without:
        def row(self, i):
            return rows.row(i if i < 6 * 4 else i + 8)

    plain, _ = run(start, Without(), dataclasses.replace(LOOP, spike=0.0), tmp_path / "plain")
    assert [line["loss"] for line in history] == [line["loss"] for line in plain]


def test_what_is_left_out_stays_so_after_a_kill(tmp_path):
    first = Guard(tmp_path, 10.0)
    first.leave_out([3, 4])
    first.leave_out([6, 9])
    again = Guard(tmp_path, 10.0)
    assert again.times == 2
    assert [again.batch(step) for step in range(8)] == [0, 1, 2, 5, 7, 8, 10, 11]
    assert [again.before(step) for step in range(8)] == [[], [], [], [3, 4], [6], [], [9], []]


def test_an_ordinary_loss_is_no_spike(tmp_path):
    rng = np.random.default_rng(0)
    history = [{"loss": 4 + 0.2 * noise} for noise in rng.standard_normal(500)]
    guard = Guard(tmp_path, 10.0)
    assert not any(guard.trouble(history[i]["loss"], 1.0, history[:i]) for i in range(500))
    assert not guard.trouble(4.9, 1.0, [{"loss": 4.0}] * 100)  # however even it was before
    assert guard.trouble(9.0, 1.0, history) and not guard.trouble(9.0, 1.0, history[:10])
    assert guard.trouble(4.0, float("inf"), history) == "the gradient is not a number"


def test_a_loss_that_is_no_number_with_no_state_to_go_back_to_is_told(model, rows, tmp_path, monkeypatch):
    poisoned = Poisoned(rows, monkeypatch, 3, lambda loss: float("nan"))
    with pytest.raises(JourneyError, match="the loss is not a number at step 4: choose a smaller lr"):
        run(model, poisoned, LOOP, tmp_path / "state")


def test_the_best_weights_are_kept_also_over_a_kill(model, rows, tmp_path):
    """Dev is best at the second of three scorings: those weights come back."""
    scores = [0.5, 0.2, 0.4]
    loop, start, kept = dataclasses.replace(LOOP, best="dev"), copy.deepcopy(model), {}

    def trained(model, state, stop):
        steps = [0]

        def evaluate(model):
            kept[len(kept)] = [p.detach().clone() for p in model.parameters()]
            return {"dev": scores[(len(kept) - 1) % 3]}

        def progress(*_, **__):
            steps[0] += 1

        return train(
            model,
            rows,
            loop,
            state=state,
            evaluate=evaluate,
            progress=progress,
            stopping=lambda: steps[0] >= stop,
            log=Mock(),
        )

    assert trained(model, tmp_path / "whole", 99)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept[1], strict=True))
    resumed = copy.deepcopy(start)
    assert trained(resumed, tmp_path / "state", 9) is None
    assert trained(resumed, tmp_path / "state", 99)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def best_of(model, rows, loop, state, scores, monkeypatch, bad=None):
    """Train with these dev scores, one a scoring; the weights that were kept, and those at each scoring."""
    kept = []

    def evaluate(model):
        kept.append([p.detach().clone() for p in model.parameters()])
        return {"dev": scores[len(kept) - 1]}

    history = train(
        model,
        Poisoned(rows, monkeypatch, bad, lambda loss: float("nan")) if bad else rows,
        loop,
        state=state,
        evaluate=evaluate,
        progress=lambda *_, **__: None,
        stopping=lambda: False,
        log=Mock(),
    )
    return history, kept


def test_the_best_weights_of_a_stretch_that_was_taken_back_are_not_the_best(
    model, rows, tmp_path, monkeypatch, always_saved
):
    """The scoring at step 8 is the best, and is taken back with its steps: step 4's comes next."""
    monkeypatch.setattr(module, "APART", 3)
    loop = dataclasses.replace(LOOP, best="dev", eval_every=4, steps=12)
    scores = [0.3, 0.1, 0.5, 0.4]  # at 4 and 8, again at 8, at 12
    history, kept = best_of(model, rows, loop, tmp_path / "state", scores, monkeypatch, bad=9)
    assert [line["dev"] for line in history if "dev" in line] == [0.3, 0.5, 0.4]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept[0], strict=True))


def test_a_training_that_goes_on_leaves_out_what_its_beginning_left_out(
    model, rows, tmp_path, monkeypatch, always_saved
):
    """With a state that was kept at the end: the batches go on where they were, not where the steps are."""
    monkeypatch.setattr(module, "APART", 1)
    poisoned = Poisoned(rows, monkeypatch, 7, lambda loss: float("nan"))
    quiet = {"evaluate": lambda model: {}, "progress": lambda *_, **__: None, "stopping": lambda: False, "log": Mock()}
    train(model, poisoned, LOOP, state=tmp_path / "first", end=tmp_path / "kept", **quiet)
    longer = dataclasses.replace(LOOP, steps=15)
    train(model, poisoned, longer, state=tmp_path / "more", start=tmp_path / "kept", **quiet)
    assert poisoned.seen[-4:] == [0, 14, 15, 16]  # the row that tells the length, and then the next three batches


def test_a_spike_with_nothing_to_go_back_to_is_trained_on_and_said(model, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("journey.train.guard.WINDOW", 4)
    said = []
    history = train(
        model,
        Poisoned(rows, monkeypatch, 7, lambda loss: loss + 50),
        dataclasses.replace(LOOP, spike=10.0),
        state=tmp_path / "state",
        evaluate=lambda model: {},
        progress=lambda *_, **__: None,
        stopping=lambda: False,
        log=Mock(),
        say=said.append,
    )
    assert len(history) == 12 and len(said) == 1 and "trained on, for no state is there" in said[0]


def test_out_of_memory_is_caught_once_and_the_result_is_the_same(model, rows, tmp_path, monkeypatch):
    """A machine that holds one row at a time: said once, and the losses are those of accumulation."""
    start, said = copy.deepcopy(model), []
    expected, _ = run(start, rows, dataclasses.replace(LOOP, accumulate=4), tmp_path / "parts")
    forward = GPT.forward

    def small(self, ids, *arguments, **named):
        if len(ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, ids, *arguments, **named)

    monkeypatch.setattr(GPT, "forward", small)
    history = train(
        model,
        rows,
        LOOP,
        state=tmp_path / "state",
        evaluate=lambda model: {"dev_loss": 0.5},
        progress=lambda *_, **__: None,
        stopping=lambda: False,
        log=Mock(),
        say=said.append,
    )
    assert history == expected
    assert said == [
        "out of memory with more rows at a time: going on with 2, to the same result",
        "out of memory with more rows at a time: going on with 1, to the same result",
    ]


def test_a_row_that_fits_nowhere_is_told(model, rows, tmp_path, monkeypatch):
    def none(self, *arguments, **named):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(GPT, "forward", none)
    with pytest.raises(JourneyError, match="out of memory with one row at a time"):
        run(model, rows, LOOP, tmp_path / "state")
    monkeypatch.setattr(GPT, "forward", lambda *_, **__: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent"):  # any other error stays what it is
        run(model, rows, LOOP, tmp_path / "state")


def test_a_full_disk_while_saving_loses_nothing(model, rows, tmp_path, monkeypatch, always_saved):
    """The state before stands whole, and with room again the training goes on to the same losses."""
    start, state, calls = copy.deepcopy(model), tmp_path / "state", []
    expected, _ = run(copy.deepcopy(start), rows, LOOP, tmp_path / "whole")
    save_file = train_state.save_file

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 6:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(train_state, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        run(copy.deepcopy(start), rows, LOOP, state)
    assert max(path.name for path in state.glob("step-*")) == "step-000000005"
    assert run(start, rows, LOOP, state)[0] == expected
