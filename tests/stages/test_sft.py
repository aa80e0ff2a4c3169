"""SFT against transformers and TRL themselves, and one test for each way in which it goes wrong without a word."""

import itertools
import json
import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from journey import chat
from journey.checkpoint import Node
from journey.data.conversations import fit, load, question_messages
from journey.data.corpus import Corpus
from journey.data.questions import Question
from journey.errors import JourneyError
from journey.infer.engine import stream as stream_of
from journey.model import huggingface
from journey.stages import sft as stage
from journey.stages.rows import stream
from journey.stages.run import Run, Stopped
from journey.stages.sft import SFT, AnswerTrainer, Row, encode, summed_nats, trainer_of
from journey.tokenizer.formats import Tokenizer
from journey.train import saver
from journey.train.replay import Replay, shares
from journey.train.trl import order

from ..conftest import Silent, new_run
from .conftest import FAMILIES, FakeText, Killed, history

N_CTX = 96
DROPOUT = 0.0


def asked(question, answer, passage=""):
    return [
        {"role": "user", "content": f"{passage}\n\n{question}" if passage else question},
        {"role": "assistant", "content": answer},
    ]


# Answers of very different lengths: where tokens are averaged wrongly, it shows.
CONVERSATIONS = [
    asked(f"What does function {i} do?", "It returns " + "the number " * (i % 5) + str(i) + ".", "x " * (i % 7))
    for i in range(24)
]


def rows_of(tokenizer, conversations=CONVERSATIONS, limit=N_CTX):
    return encode(conversations, tokenizer, limit, Run("unused", console=Silent()))


def trainer_for(parents, tokenizer, folder, family="qwen3", rows=None, **settings):
    rows, run = rows or rows_of(tokenizer), new_run(folder)
    config, _ = SFT(**settings).fitting(10_000, len(rows), N_CTX)
    return trainer_of(parents[family], rows, rows[:5], config, tokenizer, N_CTX, run)


def by_hand(model, rows):
    """Summed nats of the trained tokens, one row at a time, from transformers' logits."""
    total = 0.0
    for ids, labels in rows:
        logits = model(torch.tensor([ids])).logits[0, :-1]
        total = total + F.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum", ignore_index=-100)
    return total


QUESTIONS = [
    Question(str(i), f"What does f{i} do?", f"Adds {i} to x.", f"f{i}(x)\n\nAdds {i} to x.", True) for i in range(20)
]


def train(parents, folder, family="qwen3", seed=0, when=lambda step: None, run=None, **settings):
    """The stage's body on questions, in a run that is fresh or given."""
    run = run or new_run(folder, seed, when)
    run.corpora = {"data": FakeText(QUESTIONS)}
    facts = stage.sft.body(Node(parents[family]), SFT(batch_size=8, **settings), run)
    return run, facts


# The silent bugs


def test_dropped_loss_mask(parents, tokenizer, tmp_path):
    rows = rows_of(tokenizer)
    trainer = trainer_for(parents, tokenizer, tmp_path, rows=rows, batch_size=4)
    delivered = []
    for batch in trainer.get_train_dataloader():
        for ids, labels, n in zip(batch["input_ids"], batch["labels"], batch["attention_mask"].sum(1), strict=True):
            delivered.append((ids[:n].tolist(), labels[:n].tolist()))
            assert (labels[n:] == -100).all() and (ids[n:] == tokenizer.pad).all()
    assert sorted(delivered) == sorted(rows)
    for ids, labels in delivered:
        trained = [token for token in labels if token != -100]
        answer = tokenizer.decode(ids).split("<|assistant|>")[1]
        assert tokenizer.decode(trained) == answer


def test_first_logged_loss_is_the_mean_over_the_answers_tokens(parents, tokenizer, tmp_path):
    rows = rows_of(tokenizer)
    trainer = trainer_for(parents, tokenizer, tmp_path, rows=rows, batch_size=6)
    first = [rows[i] for i in order([len(ids) for ids, _ in rows], 6, 1, seed=0)[:6]]
    model = AutoModelForCausalLM.from_pretrained(parents["qwen3"])
    expected = by_hand(model, first) / sum(token != -100 for _, labels in first for token in labels)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_stop_token_inside_the_mask(parents, tokenizer, tmp_path):
    trainer = trainer_for(parents, tokenizer, tmp_path)
    for batch in trainer.get_train_dataloader():
        ends = batch["input_ids"] == tokenizer.eos
        assert (ends.sum(1) == 1).all()
        assert (batch["labels"][ends] == tokenizer.eos).all()


@settings(max_examples=40, deadline=None)
@given(
    passage=st.text(st.characters(codec="utf-8"), max_size=400),
    question=st.text("abc the?", min_size=1, max_size=40),
    answer=st.text("xyz in er", min_size=1, max_size=40),
    limit=st.integers(125, 200),
)
def test_truncation_never_cuts_the_stop_token(tokenizer, passage, question, answer, limit):
    messages = asked(question, answer, passage)
    (ids, mask), whole = fit(messages, tokenizer, limit)
    assert len(ids) == len(mask) <= limit
    ending = [tokenizer.special["<|assistant|>"], *tokenizer.encode(answer), tokenizer.eos]
    assert ids[-len(ending) :] == ending and all(mask[-len(ending) + 1 :])
    assert tokenizer.decode(ids).split("<|assistant|>")[0].endswith(question)
    assert whole == (ids == chat.render(messages, tokenizer)[0])


def test_a_long_input_is_cut_not_its_instruction(tokenizer):
    (ids, _), whole = fit(asked("a very long text " * 30, "Yes.", "Is this long?"), tokenizer, N_CTX)
    text = tokenizer.decode(ids)
    assert not whole and text.startswith("<|user|>Is this long?\n\na very long text a very")
    assert text.endswith("<|assistant|>Yes.<|end|>")


def test_what_cannot_be_shortened_is_left_out(tokenizer):
    assert fit(asked("word " * 40, "Yes."), tokenizer, N_CTX) is None
    assert fit(asked("q", "word " * 40, "passage"), tokenizer, N_CTX) is None


def test_a_long_history_loses_its_oldest_exchange_first(tokenizer):
    system = [{"role": "system", "content": "Be short."}]
    turns = [turn for i in range(6) for turn in asked(f"question {i}", f"answer {i}")]
    (ids, _), whole = fit(system + turns, tokenizer, 80)
    text = tokenizer.decode(ids)
    assert not whole and len(ids) <= 80
    assert text.startswith("<|system|>Be short.<|user|>question ") and "question 0" not in text
    assert text.endswith("<|user|>question 5<|assistant|>answer 5<|end|>")


def test_rows_that_vanish_are_counted_and_said(tokenizer):
    run = Run("unused", console=Silent())
    conversations = [
        asked("q", "answer"),
        [{"role": "user", "content": "nobody answers"}],
        asked("q", "far too long " * 40),
        asked("q", "kept", "passage " * 60),
    ]
    rows = encode(conversations, tokenizer, N_CTX, run)
    assert len(rows) == 2
    assert [line.split(":")[0] for line in run.console.lines] == [
        "1 training conversations shortened to 96 tokens, their answers kept whole",
        "1 training conversations left out",
        "1 training conversations left out",
    ]
    with pytest.raises(JourneyError, match="no training conversation of 1 is left"):
        encode(conversations[1:2], tokenizer, N_CTX, run)


def test_an_answer_of_weight_0_is_read_and_not_trained_on(tokenizer):
    bad = [*asked("q", "wrong"), *asked("again", "right")]
    bad[1] |= {"weight": 0}
    (row,) = rows_of(tokenizer, [bad])
    assert tokenizer.decode(row.input_ids) == "<|user|>q<|assistant|>wrong<|end|><|user|>again<|assistant|>right<|end|>"
    assert tokenizer.decode([label for label in row.labels if label != -100]) == "right<|end|>"


def test_a_file_with_rows_that_cannot_be_used(parents, tmp_path):
    rows = [{"messages": asked(f"What is {i}?", f"{i}.")} for i in range(60)]
    rows[7]["messages"] += [{"role": "assistant", "content": "no", "weight": 0}]
    lines = [*map(json.dumps, rows), '{"instruction": "x", "output": ""}']
    path = str(tmp_path / "chats.jsonl")
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    run = new_run(tmp_path)
    run.corpora = {}
    facts = stage.sft.body(Node(parents["qwen3"]), SFT(data=path), run)
    assert facts["metrics"]["conversations"]["value"] == 60 - 3 - 3
    assert run.console.lines[:4] == [
        f"{path}: messages of role, content (OpenAI): 60 conversations",
        f"{path}: 1 of 61 rows left out (empty answer: 1)",
        f'  left out: {path}, line 61: "output" is empty',
        f"{path}: 1 answers are read and not trained on: their weight is 0",
    ]
    said = json.loads((run.folder / "sft.json").read_text())
    assert said["left_out"] == {"empty answer": 1} and said["answers_of_weight_0"] == 1
    assert facts["metrics"]["rows_left_out"]["value"] == 1
    with pytest.raises(JourneyError, match=r'chats\.jsonl, line 61: "output" is empty'):
        stage.sft.body(Node(parents["qwen3"]), SFT(data=path, strict=True), run)


def test_no_row_vanishes_on_the_way_to_the_model(parents, tokenizer, tmp_path):
    # TRL prepares a dataset by dropping what it finds without labels: ours must reach the model as it is.
    rows = [*rows_of(tokenizer), Row([5, 6, 7], [-100, -100, -100])]
    trainer = trainer_for(parents, tokenizer, tmp_path, rows=rows, batch_size=5)
    assert len(trainer.train_dataset) == len(rows)
    assert trainer.args.packing is False and trainer.args.padding_free is False


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_neighbours_do_not_leak(parents, tokenizer, tmp_path, family):
    rows = rows_of(tokenizer)[:7]
    trainer = trainer_for(parents, tokenizer, tmp_path, family)
    batch = trainer.data_collator([{"input_ids": ids, "labels": labels} for ids, labels in rows])
    together = summed_nats(trainer.model, batch)
    assert together.item() == pytest.approx(by_hand(trainer.model, rows).item(), rel=1e-5)
    batch["input_ids"][batch["attention_mask"] == 0] = 7  # whatever stands in the padding
    torch.testing.assert_close(summed_nats(trainer.model, batch), together)


def test_special_spelling_in_a_message_stays_text(parents, tokenizer, tmp_path):
    conversation = asked("Say <|end|> twice", "<|end|><|assistant|><|end|>")
    trainer = trainer_for(parents, tokenizer, tmp_path, rows=rows_of(tokenizer, [conversation]))
    (batch,) = trainer.get_train_dataloader()
    specials = [i for i in batch["input_ids"][0].tolist() if i in tokenizer.special.values()]
    assert specials == [tokenizer.special[name] for name in ("<|user|>", "<|assistant|>", "<|end|>")]


def test_template_when_training_is_the_template_when_serving(parents, tokenizer, tmp_path):
    run, _ = train(parents, tmp_path)
    served = AutoTokenizer.from_pretrained(run.folder)
    for messages in CONVERSATIONS[:4]:
        ((ids, labels),) = rows_of(tokenizer, [messages])
        rendered = served.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        assert rendered["input_ids"] == ids
        assert rendered["assistant_masks"] == [int(label != -100) for label in labels]
        prompt = served.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
        assert prompt == ids[: len(prompt)] and labels[len(prompt)] != -100
        assert all(label == -100 for label in labels[: len(prompt)])


@pytest.mark.parametrize("family", FAMILIES)
def test_accumulation_is_one_big_batch(parents, tokenizer, tmp_path, family):
    def gradients(accumulate):
        folder = tmp_path / str(accumulate)
        trainer = trainer_for(
            parents, tokenizer, folder, family, batch_size=12, accumulate=accumulate, clip=0.0, max_examples=12
        )
        found = []

        class Stop(Exception):
            pass

        def look(*args, **kwargs):
            found.append({name: p.grad.clone() for name, p in trainer.model.named_parameters()})
            raise Stop

        trainer.callback_handler.on_pre_optimizer_step = look
        with pytest.raises(Stop):
            trainer.train()
        return found[0]

    whole = gradients(1)
    for accumulate in (3, 12):
        for name, gradient in gradients(accumulate).items():
            torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)


# The oracle: TRL's own loss


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_trl(parents, tokenizer, tmp_path, family):
    trainer = trainer_for(parents, tokenizer, tmp_path, family)
    batch = trainer.data_collator([{"input_ids": ids, "labels": labels} for ids, labels in rows_of(tokenizer)[:7]])
    n = (batch["labels"] != -100).sum()
    results = []
    for compute in (trainer.compute_loss, super(AnswerTrainer, trainer).compute_loss):
        trainer.model.zero_grad()
        loss = compute(trainer.model, dict(batch), num_items_in_batch=n)
        loss.backward()
        results.append((loss.detach(), [p.grad.clone() for p in trainer.model.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


def test_dev_loss_weighs_every_token_alike(parents, tokenizer, tmp_path):
    trainer = trainer_for(parents, tokenizer, tmp_path)
    dev = rows_of(tokenizer)[:5]
    expected = by_hand(trainer.model, dev).item() / sum(token != -100 for _, labels in dev for token in labels)
    assert trainer.dev_numbers()["dev_loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.model.training


# Packing


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_row_does_not_depend_on_its_neighbours(parents, tokenizer, tmp_path, family):
    rows = rows_of(tokenizer)[:9]
    trainer = trainer_for(parents, tokenizer, tmp_path, family, packing=True)
    batch = trainer.data_collator([row._asdict() for row in rows])
    assert len(batch["input_ids"]) < len(rows)  # several in a row
    assert summed_nats(trainer.model, batch).item() == pytest.approx(by_hand(trainer.model, rows).item(), rel=1e-5)

    logits = trainer.model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    for b, places in enumerate(batch["position_ids"]):
        starts = [*(places == 0).nonzero().flatten().tolist(), len(places)]
        for start, end in itertools.pairwise(starts):
            alone = trainer.model(batch["input_ids"][b : b + 1, start:end]).logits[0]
            torch.testing.assert_close(logits[b, start:end], alone, rtol=1e-4, atol=1e-5)
            others = batch["input_ids"].clone()
            others[b, :start] = 9
            others[b, end:] = 9
            again = trainer.model(others, position_ids=batch["position_ids"], use_cache=False).logits[b, start:end]
            torch.testing.assert_close(again, logits[b, start:end])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_packing_changes_no_training(parents, tmp_path, accumulate):
    lines = []
    for packing in (True, False):
        run, _ = train(parents, tmp_path / str(packing), packing=packing, accumulate=accumulate)
        lines.append(history(run))
    for packed, padded in zip(*lines, strict=True):
        assert packed == pytest.approx(padded, rel=2e-4)


# Replay


@pytest.fixture(scope="module")
def prose(life):
    return life.node("prose")


def replaying(parents, prose, folder, run=None, when=lambda step: None, **settings):
    """The stage's body on questions, with a text replayed."""
    run = run or new_run(folder, when=when)
    run.given = {"replay_data": prose}
    run.corpora = {"data": FakeText(QUESTIONS), "replay_data": Corpus(prose.path)}
    config = SFT(batch_size=8, replay_data="prose", **settings)
    return run, stage.sft.body(Node(parents["qwen3"]), config, run)


def replay_of(tokenizer, prose, folder, share=0.25, rows=3, T=40):
    texts = Run(folder / "texts", given={"replay_data": prose})
    texts._begin("1" * 64)
    return Replay(stream("replay_data", tokenizer, T, texts), rows, tokenizer.bos, share)


@pytest.mark.parametrize("family", FAMILIES)
def test_replayed_documents_see_themselves_alone(parents, tokenizer, prose, tmp_path, family):
    trainer = trainer_for(parents, tokenizer, tmp_path, family)
    replay = replay_of(tokenizer, prose, tmp_path, rows=2, T=80)
    nats = 0.0
    for i in (6, 7):  # the rows of step 3
        row = torch.from_numpy(replay.stream.row(i).astype("int64"))
        marks = [0, *(n for n in (row == tokenizer.bos).nonzero().flatten().tolist() if n), len(row)]
        for start, end in itertools.pairwise(marks):
            logits = trainer.model(row[None, start:end]).logits[0]
            targets = row[start + 1 : end + 1]  # the next document's mark too
            nats += F.cross_entropy(logits[: len(targets)], targets, reduction="sum").item()
    found = replay.nats(trainer.model, 3, 1, "cpu")
    assert found.item() == pytest.approx(nats / 160, rel=1e-5)


def test_the_loss_is_the_mean_of_both_by_their_weights(parents, tokenizer, prose, tmp_path):
    rows = rows_of(tokenizer)
    trainer = trainer_for(parents, tokenizer, tmp_path, rows=rows, batch_size=6)
    trainer.replay = replay_of(tokenizer, prose, tmp_path)
    text = trainer.replay.nats(trainer.model, 0, 1, "cpu").item()
    trainer.replay.done = (-1, 0)
    first = [rows[i] for i in order([len(ids) for ids, _ in rows], 6, 1, seed=0)[:6]]
    answers = by_hand(trainer.model, first).item() / sum(row.trained for row in first)
    trainer.train()
    line = trainer._line(trainer.state.log_history[0])
    assert line["loss"] == pytest.approx(answers, rel=1e-4) and line["replay_loss"] == pytest.approx(text, rel=1e-4)


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_parts_of_a_step_replay_what_the_whole_would(parents, tokenizer, prose, tmp_path, parts):
    trainer = trainer_for(parents, tokenizer, tmp_path)
    replay = replay_of(tokenizer, prose, tmp_path)
    whole = [replay.nats(trainer.model, step, 1, "cpu").item() for step in (0, 1)]
    in_parts = [sum(replay.nats(trainer.model, step, parts, "cpu").item() for _ in range(parts)) for step in (2, 0, 1)]
    assert in_parts[1:] == pytest.approx(whole, rel=1e-5) and whole[0] != pytest.approx(whole[1], rel=1e-3)


@example(per_step=1.0, replay=0.94921875, limit=18)  # 18.7 tokens: one row, and not a token more than it may have
@given(per_step=st.floats(1, 1e5), replay=st.floats(0.01, 0.95), limit=st.integers(4, 2048))
def test_replay_is_the_share_that_was_asked_for(per_step, replay, limit):
    rows, T = shares(per_step, replay, limit)
    assert 1 <= T <= limit and rows >= 1
    wanted = per_step * replay / (1 - replay)
    assert abs(rows * T - wanted) <= rows / 2 + 1


def test_a_killed_run_with_replay_goes_on_exactly(parents, prose, tmp_path, monkeypatch):
    whole, facts = replaying(parents, prose, tmp_path / "whole", accumulate=2)
    assert facts["tokens"] == history(whole)[-1]["tokens"] > facts["metrics"]["replayed_tokens"]["value"] > 0
    assert {"loss", "replay_loss"} <= set(history(whole)[1])
    assert facts["metrics"]["replayed_tokens"]["value"] / facts["tokens"] == pytest.approx(0.25, abs=0.02)
    monkeypatch.setattr(saver, "_SAVE_EVERY", -1.0)
    monkeypatch.setattr(saver, "_SAVE_SHARE", 0)

    def kill(step):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        replaying(parents, prose, tmp_path / "killed", when=kill, accumulate=2)
    again, _ = replaying(parents, prose, tmp_path / "killed", accumulate=2)
    assert history(again) == history(whole)
    assert (again.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


# What has to be learned


def test_several_turns_after_a_system_message_are_all_trained_on(tokenizer):
    turns = [{"role": "system", "content": "Be short."}, *asked("a", "one"), *asked("b", "two"), *asked("c", "three")]
    (row,) = rows_of(tokenizer, [turns])
    trained = [tokenizer.decode([label]) if label != -100 else "\n" for label in row.labels]
    assert "".join(trained).split() == ["one<|end|>", "two<|end|>", "three<|end|>"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_marks_are_learned_the_stop_token_among_them(parents, tokenizer, tmp_path, family):
    """New tokens' embeddings move, and a model that has learned its answers by heart ends them by itself."""
    run, _ = train(parents, tmp_path, family, epochs=30, lr=1e-2, schedule="constant")
    old, new = (AutoModelForCausalLM.from_pretrained(path).get_input_embeddings().weight
                for path in (parents[family], run.folder))  # fmt: skip
    for name in ("<|user|>", "<|assistant|>", "<|end|>"):
        assert (new - old)[tokenizer.special[name]].norm() > 0.01
    model, prompt = (
        huggingface.load(run.folder).eval(),
        chat.encode_prompt(asked("What does f3 do?", "")[:1], tokenizer),
    )
    written = [*stream_of(model, prompt, max_new_tokens=24, stop=tokenizer.stop)]
    assert written[-1] == tokenizer.eos


@pytest.mark.skipif("JOURNEY_DATA" not in os.environ, reason="JOURNEY_DATA names no folder of real data")
def test_dolly_in_128_tokens_starves_no_step_and_makes_no_nan(parents, tokenizer, tmp_path):
    """Long contexts, short model: whatever is left ends with its stop token and has something to learn."""
    run = Run("unused", console=Silent())
    conversations, _ = load(Path(os.environ["JOURNEY_DATA"]) / "instruct/dolly-15k.jsonl.gz")
    rows = encode(conversations[:3000], tokenizer, 96, run)
    assert 0 < len(rows) < 3000 and any("left out" in line for line in run.console.lines)
    assert all(row.trained and row.labels[-1] == tokenizer.eos and row.tokens <= 96 for row in rows)
    trainer = trainer_for(parents, tokenizer, tmp_path, rows=rows[:64], packing=True)
    lines = trainer.fit()
    assert all(math.isfinite(line["loss"]) and line["loss"] > 0 for line in lines)


# Going on


@pytest.fixture(scope="module")
def uninterrupted(parents, tmp_path_factory):
    run, facts = train(parents, tmp_path_factory.mktemp("whole"), epochs=2)
    return run, facts


@pytest.mark.parametrize("steps", [1, 3, 6, 9])
def test_killed_run_goes_on_exactly(parents, uninterrupted, tmp_path, monkeypatch, steps):
    monkeypatch.setattr(saver, "_SAVE_EVERY", -1.0)
    monkeypatch.setattr(saver, "_SAVE_SHARE", 0)

    def kill(step):
        if step == steps:
            raise Killed

    with pytest.raises(Killed):
        train(parents, tmp_path, when=kill, epochs=2)
    half_written = tmp_path / ".work-000000000000/state/unfinished/checkpoint-2"
    half_written.mkdir(parents=True, exist_ok=True)
    (half_written / "model.safetensors").write_bytes(b"torn")

    run, facts = train(parents, tmp_path, epochs=2)
    assert len(run.console.shown) == 10 - max(0, steps - 1)
    assert history(run) == history(uninterrupted[0])
    assert facts == uninterrupted[1]
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert (run.folder / name).read_bytes() == (uninterrupted[0].folder / name).read_bytes()


def test_ctrl_c_saves_and_stops(parents, uninterrupted, tmp_path):
    run = new_run(tmp_path)
    run.console.when = lambda step: setattr(run.console, "stopping", step == 4)
    with pytest.raises(Stopped):
        train(parents, tmp_path, run=run, epochs=2)
    assert not (run.folder / "model.safetensors").exists()
    again, _ = train(parents, tmp_path, epochs=2)
    assert len(again.console.shown) == 5
    assert history(again) == history(uninterrupted[0])


def test_another_seed_is_another_order(parents, uninterrupted, tmp_path):
    run, _ = train(parents, tmp_path, seed=1, epochs=2)
    assert history(run)[1]["loss"] != history(uninterrupted[0])[1]["loss"]


# What comes out


def test_history_and_progress(uninterrupted, tokenizer):
    run, facts = uninterrupted
    lines = history(run)
    assert [line["step"] for line in lines] == list(range(11))
    assert set(lines[0]) == {"step", "tokens", "dev_loss"} and "dev_loss" in lines[-1]
    assert all(set(line) - {"dev_loss"} == {"step", "tokens", "loss", "lr", "grad_norm"} for line in lines[1:])
    assert lines[-1]["dev_loss"] < lines[0]["dev_loss"] and lines[-1]["loss"] < lines[1]["loss"]
    assert max(line["lr"] for line in lines[1:]) == 2e-3 and lines[-1]["lr"] < 4e-4
    conversations = [question_messages(q, with_passage) for q in QUESTIONS for with_passage in (True, False)]
    assert facts["tokens"] == lines[-1]["tokens"] == 2 * sum(len(ids) for ids, _ in rows_of(tokenizer, conversations))
    done, total, _, numbers = run.console.shown[-1]
    assert done == total == facts["tokens"] and set(numbers) == {"loss"}
    assert facts["flops"] > 0 and facts["metrics"]["dev_loss"]["value"] == lines[-1]["dev_loss"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_is_a_whole_checkpoint(parents, tokenizer, tmp_path, family):
    run, _ = train(parents, tmp_path, family)
    assert {path.name for path in run.folder.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "history.json", "log.jsonl",
    }  # fmt: skip
    config = json.loads((run.folder / "config.json").read_text())
    before = json.loads((parents[family] / "config.json").read_text())
    assert config.get("use_cache", True) is True
    assert config["dtype"] == "float32" and config["architectures"] == before["architectures"]
    assert (config["eos_token_id"], config["pad_token_id"]) == (tokenizer.eos, tokenizer.pad)
    assert config.get("n_ctx") == before.get("n_ctx") == (N_CTX if family == "gpt2" else None)
    generation = json.loads((run.folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [tokenizer.eos, tokenizer.bos]
    assert generation["pad_token_id"] == tokenizer.pad
    assert Tokenizer.load(run.folder).hash == tokenizer.hash
    model = AutoModelForCausalLM.from_pretrained(run.folder)
    old = AutoModelForCausalLM.from_pretrained(parents[family])
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), old.parameters(), strict=True))


def test_nothing_is_printed_and_nobody_is_told(parents, tmp_path, capfd, recwarn, monkeypatch):
    def telemetry(*args, **kwargs):
        raise AssertionError("telemetry")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", telemetry)
    train(parents, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_conversations_from_a_file(parents, tokenizer, tmp_path):
    lines = [json.dumps({"prompt": f"What is {i}?", "completion": f"The number {i}."}) for i in range(40)]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    run = new_run(tmp_path)
    run.corpora = {}
    config = SFT(data=str(tmp_path / "chats.jsonl"), max_examples=30)
    facts = stage.sft.body(Node(parents["qwen3"]), config, run)
    assert facts["metrics"]["conversations"]["value"] == 30
    assert "; 2 conversations of the dev split" in facts["metrics"]["dev_loss"]["convention"]


def test_the_longest_answers_are_chosen(parents, tmp_path):
    """By what is trained on: a long answer of weight 0 is none."""
    rows = [{"messages": asked(f"What is {i}?", f"{i} " * (1 + i % 7))} for i in range(60)]
    rows[3]["messages"] = [{"role": "assistant", "content": "x" * 200, "weight": 0}, *rows[3]["messages"]]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = SFT(data=str(tmp_path / "chats.jsonl"), max_examples=6, choose="longest")
    run = new_run(tmp_path)
    run.corpora = {}
    (_, chosen), _ = stage._read(config, run)[0]
    assert len(chosen) == 6 and all(len(messages[1]["content"].split()) == 7 for messages in chosen)


# Bad input


def test_bad_settings(parents, tokenizer, tmp_path):
    with pytest.raises(JourneyError, match="batch_size 8 is not a multiple of accumulate 3"):
        SFT(batch_size=8, accumulate=3)
    with pytest.raises(JourneyError, match="max_length 97 is more than the model's context of 96"):
        train(parents, tmp_path, max_length=97)


def test_a_loss_that_is_no_number_ends_the_run(parents, tmp_path):
    with pytest.raises(JourneyError, match=r"the .* is not a number at step \d+: choose a smaller lr than 1e\+30"):
        train(parents, tmp_path, lr=1e30, clip=0.0)
