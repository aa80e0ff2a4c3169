"""Pairs from a model's own answers: the rule, what it leaves out, and going on after a kill."""

import json

import pytest
import torch

from journey import chat
from journey.checkpoint import Node
from journey.data import preferences
from journey.data.questions import Question
from journey.errors import JourneyError
from journey.evaluate.agreement import f1
from journey.infer import engine
from journey.infer.engine import Completion
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.stages import pairs as stage
from journey.stages.pairs import Pairs, Prompted, rank
from journey.stages.run import Run, Stopped
from journey.stages.sft import SFT, _read

from ..conftest import Silent, new_run
from .conftest import FakeText, Killed

WORDS = ("adds", "sorts", "reads", "list", "file", "two")
MERGES = [*dict.fromkeys((word[:i], word[i]) for word in WORDS for i in range(1, len(word)))]


@pytest.fixture(scope="module")
def parent(tokenizer, tmp_path_factory):
    """A model that, whatever it is asked, says some of six words and soon ends."""
    folder = tmp_path_factory.mktemp("parent")
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("gpt2", tokenizer.vocab_size, 64, 1, 16, n_head=2))
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.copy_(torch.eye(16)[0])
        model.embed.weight.mul_(0.1)
        model.embed.weight[:, 0] = -30.0
        said = [*(tokenizer.encode(word)[0] for word in WORDS), *tokenizer.encode(" ")]
        model.embed.weight[said, 0] = 1.0
        model.embed.weight[tokenizer.eos, 0] = 1.5
    huggingface.save(model, folder, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    tokenizer.save(folder)
    return folder


def question(split, i, passage="p"):
    answer = f"{WORDS[i % 6]} {WORDS[(i + 1) % 6]} {WORDS[(i + 2) % 6]}"
    return Question(f"{split}{i}", f"{split} {i}?", answer, passage, True)


QUESTIONS = {name: [question(name, i) for i in range(n)] for name, n in (("train", 40), ("dev", 12), ("test", 30))}


def make(parent, folder, when=lambda step: None, questions=QUESTIONS, run=None, seed=0, **settings):
    run = run or new_run(folder, seed, when)
    run.corpora = {"data": FakeText(questions)}
    settings = {"max_new_tokens": 12, "temperature": 1.0} | settings
    return run, stage.pairs.body(Node(parent), Pairs(**settings), run)


@pytest.fixture(scope="module")
def made(parent, tmp_path_factory):
    return make(parent, tmp_path_factory.mktemp("made"))


def lines(run, name):
    return [json.loads(line) for line in (run.folder / f"pairs-{name}.jsonl").read_text().splitlines()]


# What comes out


def test_each_split_comes_from_its_own_questions(made):
    run, facts = made
    for name in ("train", "dev", "test"):
        found = lines(run, name)
        assert len(found) == facts["metrics"][f"{name}_pairs"]["value"] > 5
        assert all(pair["id"].startswith(name) for pair in found)
        assert len(preferences.saved(run.folder / f"pairs-{name}.jsonl")) == len(found)  # an empty answer is one, too
        assert {*preferences.load(run.folder / f"pairs-{name}.jsonl")[1]} <= {"empty answer"}


def test_the_better_answer_is_chosen_by_f1(made):
    run, facts = made
    references = {q.id: q.answer for part in QUESTIONS.values() for q in part}
    margins = []
    for name in ("train", "dev", "test"):
        for pair in lines(run, name):
            reference = references[pair["id"].removesuffix("#passage")]
            scores = [f1(pair[kind][0]["content"], reference) for kind in ("chosen", "rejected")]
            assert scores == [pair["chosen_score"], pair["rejected_score"]]
            margins.append(scores[0] - scores[1])
    assert min(margins) >= 0.1 and len(set(margins)) > 3
    assert facts["metrics"]["chosen_f1"]["value"] > facts["metrics"]["rejected_f1"]["value"] + 0.1


def test_asked_with_and_without_the_passage(made):
    prompts = {pair["id"]: pair["prompt"] for pair in lines(made[0], "train")}
    assert any(id.endswith("#passage") for id in prompts) and any(not id.endswith("#passage") for id in prompts)
    for id, prompt in prompts.items():
        i = int(id.removesuffix("#passage").removeprefix("train"))
        asked = f"p\n\ntrain {i}?" if id.endswith("#passage") else f"train {i}?"
        assert prompt == [{"role": "user", "content": asked}]


def test_metrics_have_their_intervals(made, tokenizer):
    run, facts = made
    metrics = facts["metrics"]
    train = [preferences.Pair(**pair) for pair in lines(run, "train")]
    longer = [len(chosen) - len(rejected) for _, chosen, rejected in (preferences.encode(p, tokenizer) for p in train)]
    bias, share = metrics["length_bias"], metrics["longer_chosen"]
    assert bias["value"] == pytest.approx(sum(longer) / len(longer)) and bias["n"] == len(train)
    assert share["value"] == pytest.approx(sum((n > 0) + (n == 0) / 2 for n in longer) / len(longer))
    for name in ("length_bias", "longer_chosen", "not_ended", "near_ties", "chosen_f1"):
        assert metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"] and metrics[name]["convention"]
    written = json.loads((run.folder / "pairs.json").read_text())
    assert written["metrics"] == metrics and "word F1" in written["rule"]
    assert written["counts"]["questions"] == metrics["near_ties"]["n"] == 164
    assert written["counts"]["answers"] == metrics["not_ended"]["n"] == 4 * 164


def test_progress_says_how_fast(made):
    run, facts = made
    done, total, unit, numbers = run.console.shown[-1]
    assert (done, total, unit) == (656, 656, "answers") and numbers["tokens_per_second"] > 0
    assert facts["tokens"] > 656 * 4 and facts["flops"] > 0


# Going on


@pytest.mark.parametrize("chunks", [1, 3, 5])
def test_killed_run_goes_on_to_the_same_pairs(parent, made, tmp_path, chunks):
    def kill(shown):
        if shown == chunks:
            raise Killed

    with pytest.raises(Killed):
        make(parent, tmp_path, when=kill)
    calls = []

    def count(*args, **settings):
        calls.append(1)
        return generate(*args, **settings)

    generate = engine.generate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "generate", count)
        run, facts = make(parent, tmp_path)
    assert len(calls) == len(run.console.shown) - chunks  # what was answered is not asked again
    assert facts == made[1]
    for path in made[0].folder.iterdir():
        assert (run.folder / path.name).read_bytes() == path.read_bytes()


def test_ctrl_c_stops_and_keeps_what_is_answered(parent, made, tmp_path):
    run = Run(tmp_path / "pairs", console=Silent())
    run._begin("0" * 64)
    run.console.when = lambda shown: setattr(run.console, "stopping", shown == 2)
    with pytest.raises(Stopped):
        make(parent, tmp_path, run=run)
    assert len(list(run.scratch.glob("answers-*.json"))) == 3
    assert make(parent, tmp_path)[1] == made[1]


def test_another_seed_gives_other_answers(parent, made, tmp_path):
    run, _ = make(parent, tmp_path, seed=1)
    assert lines(run, "test") != lines(made[0], "test")


# The rule


def asked(tokenizer, reference="adds two"):
    prompt = [{"role": "user", "content": "q"}]
    return Prompted("q", prompt, reference, chat.encode_prompt(prompt, tokenizer))


def drawn(tokenizer, *texts, ended=True):
    return [([*tokenizer.encode(text), tokenizer.eos] if ended else tokenizer.encode(text), ended) for text in texts]


def ranked(tokenizer, answers, margin=0.1):
    return rank([asked(tokenizer)], [answers], tokenizer, margin)


def test_best_against_worst(tokenizer):
    (pair,), counts = ranked(tokenizer, drawn(tokenizer, "adds", "reads", "adds two", "adds list"))
    assert (pair.chosen, pair.rejected) == tuple([{"role": "assistant", "content": t}] for t in ("adds two", "reads"))
    assert (pair.chosen_score, pair.rejected_score) == (1, 0)
    assert counts == {"questions": 1, "answers": 4, "repeated": 0}


def test_a_near_tie_is_no_preference(tokenizer):
    answers = drawn(tokenizer, "adds", "adds list")  # F1 2/3 and 1/2
    assert len(ranked(tokenizer, answers, 0.16)[0]) == 1
    found, counts = ranked(tokenizer, answers, 0.17)
    assert found == [] and counts["near_ties"] == 1
    found, counts = ranked(tokenizer, drawn(tokenizer, "reads", "list"), 0)
    assert found == [] and counts["near_ties"] == 1  # a margin of 0 does not make an order of equals


def test_answers_that_are_not_whole_are_no_candidates(tokenizer):
    cut = drawn(tokenizer, "adds two", ended=False)
    marked = [([*tokenizer.encode("adds two"), tokenizer.special["<|user|>"], tokenizer.eos], True)]
    half = [([*tokenizer.encode("adds two "), tokenizer.encode("中")[0], tokenizer.eos], True)]
    found, counts = ranked(tokenizer, [*cut, *marked, *half, *drawn(tokenizer, "adds", "reads")])
    assert [pair.chosen[0]["content"] for pair in found] == ["adds"]
    assert (counts["not_ended"], counts["not_text"], counts["answers"]) == (1, 2, 5)


def test_answers_that_repeat_are_one(tokenizer):
    found, counts = ranked(tokenizer, drawn(tokenizer, "adds", "adds", "adds"))
    assert found == [] and (counts["repeated"], counts["one_answer"], counts["near_ties"]) == (2, 1, 0)


def test_the_documents_mark_ends_an_answer_too(tokenizer):
    answers = [([*tokenizer.encode("adds two"), tokenizer.bos], True), *drawn(tokenizer, "reads")]
    assert ranked(tokenizer, answers)[0][0].chosen[0]["content"] == "adds two"


def test_sft_was_not_trained_on_what_is_held_out(tmp_path):
    records = [{"prompt": f"q{i // 2}", "completion": f"a{i}"} for i in range(200)]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, records)))
    run = Run(tmp_path / "x", seed=3)
    run.corpora = {}
    (_, train), (_, dev) = _read(SFT(data=str(tmp_path / "chats.jsonl")), run)[0]
    asked = stage._read(Pairs(data=str(tmp_path / "chats.jsonl"), held_out=10**6), run)[0]
    trained = {messages[0]["content"] for messages in train}
    held_out = {name: {prompt[0]["content"] for _, prompt, _ in asked[name]} for name in asked}
    assert held_out["train"] == trained and not trained & (held_out["dev"] | held_out["test"])
    assert held_out["dev"] == {messages[0]["content"] for messages in dev}


def test_an_answer_of_weight_0_is_no_reference(tmp_path):
    said = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "good"}]
    bad = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "bad", "weight": 0}]
    assert stage._ask([*said, *bad]) == (said[:1], "good")
    assert stage._ask([*bad, *said]) == ([bad[0], {"role": "assistant", "content": "bad"}, said[0]], "good")


# Bad input


def test_a_rule_that_ranks_nothing_says_what_to_change(parent, tmp_path):
    nothing = {name: [Question(f"{name}0", f"{name}?", "zebra", "p", True)] for name in QUESTIONS}
    with pytest.raises(
        JourneyError, match=r"the rule ranks nothing in the train split: .*2 whose answers.*: lower marg"
    ):
        make(parent, tmp_path, questions=nothing)


def test_answers_that_never_end(parent, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "generate", lambda model, rows, **settings: [Completion([70, 71], False) for _ in rows])
    with pytest.raises(JourneyError, match=r"320 of 320 answers did not end.*raise max_new_tokens") as error:
        make(parent, tmp_path)
    assert "\n" not in str(error.value)


def test_questions_that_do_not_fit_are_left_out_and_said(parent, tmp_path):
    long = QUESTIONS | {"dev": [*QUESTIONS["dev"], question("dev", 99, "long " * 40)]}
    run, _ = make(parent, tmp_path, questions=long)
    assert run.console.lines == [
        "1 dev questions left out: longer than 52 tokens, there is no room for an answer",
    ]
    assert not any(pair["id"] == "dev99#passage" for pair in lines(run, "dev"))
    with pytest.raises(JourneyError, match="no dev question of 2 fits 52 tokens"):
        make(parent, tmp_path / "b", questions=QUESTIONS | {"dev": [Question("x", "q " * 60, "a", "p", True)]})


def test_bad_settings(parent, tmp_path):
    for settings, says in (({"max_new_tokens": 64}, "max_new_tokens 64 leaves no room in a context of 64"),):
        with pytest.raises(JourneyError, match=says):
            make(parent, tmp_path, **settings)
    with pytest.raises(JourneyError, match='"installed-docs" has no questions'):
        make(parent, tmp_path, questions={name: [] for name in QUESTIONS})


def test_conversations_from_a_file(parent, tmp_path):
    system = {"role": "system", "content": "S"}
    records = [{"messages": [system, *[
        {"role": role, "content": content} for role, content in (
            ("user", f"q{i}"), ("assistant", "reads"), ("user", "and?"), ("assistant", "adds two"), ("user", "bye"),
        )
    ]]} for i in range(80)]  # fmt: skip
    corrected = [{"role": "assistant", "content": "no", "weight": 0}, {"role": "assistant", "content": "unasked"}]
    records.append({"messages": [{"role": "user", "content": "q"}, *corrected]})
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, records)))
    run = Run(tmp_path / "pairs", console=Silent())
    run._begin("0" * 64)
    run.corpora = {}
    config = Pairs(data=str(tmp_path / "chats.jsonl"), max_new_tokens=12, samples=8, temperature=1.0)
    facts = stage.pairs.body(Node(parent), config, run)
    assert facts["metrics"]["train_pairs"]["value"] > 20
    (first, *_) = lines(run, "test")
    assert [message["content"] for message in first["prompt"][2:]] == ["reads", "and?"]
    assert first["prompt"][0] == system
    assert any("nothing is asked before the last answer" in line for line in run.console.lines)


def test_words_of_an_answer_are_counted_in_every_script():
    """The length bias of Chinese pairs: by white space every answer would be one word long."""

    def count(text):
        return stage._words([{"role": "assistant", "content": text}])

    assert (count("a short answer, no more"), count("很短的回答"), count("ทีมรับ")) == (5, 5, 4)
