"""What pre-training and continuing share: what is scored through training, shapes by name, and trainings that go on."""

import dataclasses
import json
import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from journey import measuring
from journey.cli import main
from journey.console import Console, seconds_of
from journey.data.corpus import Corpus
from journey.errors import JourneyError
from journey.model import huggingface
from journey.model.families import FAMILIES
from journey.model.sizes import SIZES
from journey.stages.continue_ import Continue, continue_
from journey.stages.pretrain import Pretrain, pretrain
from journey.stages.run import Run, Stopped
from journey.stages.training import pack
from journey.tokenizer.formats import Tokenizer

SMALL = Pretrain(n_layer=1, n_embd=32, n_ctx=64, tokens=2_048, evaluations=2)


class Heard(Console):
    def __init__(self):
        super().__init__()
        self.said = []

    def say(self, line):
        if " tokens read the text " not in line:  # every training says that
            self.said.append(line)


def make(life, folder, config=SMALL, seed=3, **run):
    given = {"data": life.node("prose")} | run.pop("given", {})
    return pretrain(life.node("tokenizer"), config, Run(folder, seed=seed, given=given, **run))


def history(node):
    return json.loads((node.path / "history.json").read_text())


@pytest.fixture(scope="module")
def scored(life, tmp_path_factory):
    """A training of eight steps, scored every third, with packed rows and measures."""
    config = dataclasses.replace(SMALL, evaluate_every=3, dev_rows=5, target=3.3, measures="repeats, samples")
    return make(life, tmp_path_factory.mktemp("scored") / "base", config, take=measuring.through)


def test_it_is_scored_every_so_many_steps_and_at_the_end(scored):
    assert [line["step"] for line in history(scored) if "dev_bits_per_byte" in line] == [3, 6, 8]
    assert [line["step"] for line in history(scored) if "dev_loss" in line] == [3, 6, 8]


def test_the_packed_loss_is_that_of_transformers_on_each_document_alone(life, scored):
    tokenizer = Tokenizer.load(scored.path)
    rows = pack(tokenizer, Corpus(life.node("prose").path), 64, 5)
    theirs = AutoModelForCausalLM.from_pretrained(scored.path, dtype=torch.float32)
    nats = []
    for row in rows:
        assert len(row) == 65
        starts = [0, *(i for i in range(1, 64) if row[i] == tokenizer.bos), 64]
        for start, end in pairwise(starts):
            ids = torch.tensor([row[start : end + 1]])
            with torch.inference_mode():
                nats += F.cross_entropy(theirs(ids[:, :-1]).logits[0], ids[0, 1:], reduction="none").tolist()
    assert len(nats) == 5 * 64
    assert scored.lineage["metrics"]["dev_loss"]["value"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    texts = Corpus(life.node("prose").path).texts("dev")
    stream = [token for text in texts for token in [tokenizer.bos, *tokenizer.encode(text)]]
    assert rows == [stream[i * 64 : (i + 1) * 64 + 1] for i in range(5)]


def test_measures_are_taken_through_training_on_the_dev_split(scored):
    lines = [line for line in history(scored) if "dev_bits_per_byte" in line]
    for line in lines:
        assert line["dev_repeat.first"] > 0 and line["dev_repeat.second"] > 0
        assert line["samples"] and {sample["kind"] for sample in line["samples"]} <= {"text", "chat"}
    assert lines[0]["samples"][0]["prompt"] == lines[-1]["samples"][0]["prompt"]


def test_scoring_changes_nothing_of_the_training(life, scored, tmp_path):
    plain = make(life, tmp_path / "base")
    assert plain.lineage["weights_sha256"] == scored.lineage["weights_sha256"]


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        ("multiple_choise", 'measures: no measure "multiple_choise", did you mean "multiple_choice"'),
        ("against_parent", "against_parent cannot be taken of a model that is in training"),
        ("quantized", "quantized cannot be taken of a model that is in training"),
    ],
)
def test_a_measure_that_cannot_be_taken_is_told_with_its_line(tmp_path, measures, said):
    from journey import recipe

    stages = "- {name: docs, stage: text}\n- {name: t, stage: tokenizer, with: {data: docs}}"
    life = tmp_path / "life.yaml"
    life.write_text(
        f"stages:\n{stages}\n- {{name: b, stage: pretrain, parents: t, with: {{data: docs, measures: {measures}}}}}\n"
    )
    with pytest.raises(JourneyError, match=said) as told:
        recipe.read(life)
    assert str(told.value).startswith(f"{life}:4: ")


def test_a_target_needs_what_is_held_against_it():
    with pytest.raises(JourneyError, match="say on how many dev_rows"):
        Pretrain(target=3.29)


def test_the_best_weights_by_dev_are_the_nodes(life, tmp_path):
    """At a rate that is far too high the last weights are not the best."""
    config = dataclasses.replace(SMALL, lr=1.0, muon_lr=0.5, schedule="constant", tokens=1_280, evaluations=5)
    last = make(life, tmp_path / "last", config)
    best = make(life, tmp_path / "best", dataclasses.replace(config, keep="best"))
    numbers = [line["dev_bits_per_byte"] for line in history(last)]
    assert numbers == [line["dev_bits_per_byte"] for line in history(best)] and min(numbers) < numbers[-1]
    assert best.lineage["metrics"]["dev_bits_per_byte"]["value"] == min(numbers)
    assert best.lineage["metrics"]["best_step"]["value"] == 1 + numbers.index(min(numbers))
    assert best.lineage["weights_sha256"] != last.lineage["weights_sha256"]


# Shapes


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("gpt2-124m", 124_439_808), ("gpt2-355m", 354_823_168), ("gpt2-774m", 774_030_080), ("gpt2-1.5b", 1_557_611_200)],
)
def test_a_size_by_name_has_the_released_models_parameters(size, parameters):
    assert Pretrain(size=size).shape(50_257).n_params == parameters


def test_llama_1b_is_llama_3_2_1b():
    shape = Pretrain(size="llama-1b").shape(128_256)
    assert shape.n_params == 1_235_814_400  # its safetensors', the tied head counted once
    assert (shape.head_dim, shape.n_inner, shape.rope_theta) == (64, 8192, 500_000.0)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_a_shape_of_its_family(size):
    shape = Pretrain(size=size).shape(4096)
    assert shape.family in FAMILIES and shape.n_embd % shape.n_head == 0


def test_a_size_is_nothing_else_than_its_settings():
    assert Pretrain(size="pocket-1m") == Pretrain(family="qwen3", n_layer=4, n_embd=128, n_head=4, n_ctx=256)
    assert Pretrain(depth=3) == Pretrain(n_layer=3, n_embd=192, n_head=3)
    assert Pretrain(size="gpt2-124m", n_ctx=512).n_ctx == 512
    config = Pretrain(size="gpt2-124m")
    assert dataclasses.replace(config, tokens=5).n_layer == 12 and Pretrain(**dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": "gpt2-124m", "n_layer": 6}, "size and n_layer both say the shape"),
        ({"depth": 3, "n_embd": 256}, "depth and n_embd both say the shape"),
        ({"size": "gpt2-124m", "depth": 3}, "size and depth both say the shape"),
    ],
)
def test_two_ways_to_say_a_shape_are_refused(settings, said):
    with pytest.raises(JourneyError, match=said):
        Pretrain(**settings)


def test_an_embedding_filled_up_is_never_drawn_from(life, tmp_path):
    node = make(life, tmp_path / "base", dataclasses.replace(SMALL, vocab_multiple=128))
    model, tokenizer = huggingface.load(node.path), Tokenizer.load(node.path)
    assert model.config.vocab_size % 128 == 0 and model.config.vocab_size > tokenizer.n_ids
    assert main(["generate", str(node.path), "the", "--max-new-tokens", "8"]) == 0


# Trainings that go on

LEVEL = dataclasses.replace(SMALL, schedule="constant", warmup=2.0, keep_state=True, evaluations=1, dev_documents=4)


@pytest.fixture(scope="module")
def begun(life, tmp_path_factory):
    return make(life, tmp_path_factory.mktemp("begun") / "base", LEVEL)


def go_on(life, begun, folder, console=None, **changes):
    config = dataclasses.replace(LEVEL, tokens=4_096, **changes)
    return make(life, folder, config, given={"resume_from": begun}, console=console or Heard())


def test_a_training_that_goes_on_is_the_longer_one_bit_for_bit(life, begun, tmp_path):
    whole = make(life, tmp_path / "whole", dataclasses.replace(LEVEL, tokens=4_096))
    console = Heard()
    later = go_on(life, begun, tmp_path / "later", console, resume_from=str(begun.path))
    assert later.lineage["weights_sha256"] == whole.lineage["weights_sha256"]
    strip = [{k: v for k, v in line.items() if not k.startswith("dev_")} for line in history(later)]
    assert strip == [{k: v for k, v in line.items() if not k.startswith("dev_")} for line in history(whole)]
    assert later.lineage["tokens"] == 2_048  # its own
    assert console.said == []


def test_the_best_of_a_training_that_goes_on_is_of_its_own_steps(life, tmp_path):
    """The ones before may have been better: their weights are not there any more."""
    first = make(life, tmp_path / "first", LEVEL)
    wild = {"lr": 1.0, "muon_lr": 0.5, "keep": "best", "evaluations": 4}
    config = dataclasses.replace(LEVEL, tokens=4_096, resume_from=str(first.path), **wild)
    node = make(life, tmp_path / "more", config, given={"resume_from": first}, fork=True, console=Heard())
    assert node.lineage["metrics"]["best_step"]["value"] > 8


def test_a_longer_run_with_other_rates_is_told(life, begun, tmp_path):
    first = make(life, tmp_path / "first", dataclasses.replace(LEVEL, schedule="cosine"))
    console = Heard()
    go_on(life, first, tmp_path / "later", console, schedule="cosine", resume_from=str(first.path))
    assert any("a run of 16 steps would have had other learning rates in its first 8" in line for line in console.said)


def test_other_settings_are_told_and_can_be_meant(life, begun, tmp_path):
    with pytest.raises(JourneyError, match=r"base was trained with lr 0\.02, now 0\.01: give its own .*--fork"):
        go_on(life, begun, tmp_path / "later", lr=0.01, resume_from=str(begun.path))
    with pytest.raises(JourneyError, match="seed 3, now 4"):
        make(
            life,
            tmp_path / "later",
            dataclasses.replace(LEVEL, tokens=4_096, resume_from=str(begun.path)),
            seed=4,
            given={"resume_from": begun},
        )
    config = dataclasses.replace(LEVEL, tokens=4_096, lr=0.01, resume_from=str(begun.path))
    node = make(life, tmp_path / "fork", config, given={"resume_from": begun}, fork=True, console=Heard())
    assert len(history(node)) == 16 and history(node)[:7] == history(begun)[:7]


def test_other_shares_of_a_mixture_are_other_data(life, tmp_path):
    texts = (life.node("prose"), life.node("code"))

    def mixed(shares):
        return ",".join(f"{text.path}={share}" for text, share in zip(texts, shares, strict=True))

    def started(folder, shares, **more):
        config = dataclasses.replace(LEVEL, data=mixed(shares), **more)
        return pretrain(life.node("tokenizer"), config, Run(folder, seed=3, console=Heard()))

    first = started(tmp_path / "first", (3, 1), tokens=1_024)
    with pytest.raises(JourneyError, match=r"the text prose 0\.75, code 0\.25, now prose 0\.5, code 0\.5"):
        started(tmp_path / "other", (1, 1), resume_from=str(first.path))
    assert started(tmp_path / "more", (6, 2), resume_from=str(first.path)).lineage["tokens"] == 1_024


def test_a_model_without_a_state_goes_on_with_a_fresh_optimizer(life, tmp_path):
    """An imported one, say; its shape is its own."""
    console, base = Heard(), life.node("base")
    config = Pretrain(tokens=1_024, evaluations=1, resume_from=str(base.path))
    node = make(life, tmp_path / "more", config, given={"resume_from": base}, console=console)
    assert console.said == ["more: base holds no training state: its weights go on with a fresh optimizer"]
    assert huggingface.load(node.path).config == huggingface.load(base.path).config
    assert history(node)[0]["loss"] < history(base)[0]["loss"] - 1
    with pytest.raises(JourneyError, match="the shape is that of base, whose training goes on: leave n_layer out"):
        make(life, tmp_path / "other", dataclasses.replace(config, n_layer=7), given={"resume_from": base})


def test_a_training_that_is_done_is_told(life, begun, tmp_path):
    config = dataclasses.replace(LEVEL, resume_from=str(begun.path))
    with pytest.raises(JourneyError, match="8 steps are done, and tokens 2,048 is 8: ask for more"):
        make(life, tmp_path / "later", config, given={"resume_from": begun})


def test_the_command_takes_the_models_own_tokenizer(life, begun, tmp_path, capsys):
    settings = ["--schedule", "constant", "--warmup", "2", "--keep-state", "--evaluations", "1", "--dev-documents", "4"]
    command = ["pretrain", "--resume-from", str(begun.path), "--data", str(life.node("prose").path), "--seed", "3"]
    assert main([*command, *settings, "--tokens", "3072", "--out", str(tmp_path / "later")]) == 0
    assert len(json.loads((tmp_path / "later" / "history.json").read_text())) == 12


class Stopping(Console):
    """Presses Ctrl-C when the training has begun."""

    def progress(self, name, done, total, unit, numbers):
        self.stopping = unit == "tokens"


def test_what_was_begun_with_other_settings_is_told(life, tmp_path):
    with pytest.raises(Stopped):
        make(life, tmp_path / "base", console=Stopping())
    other = dataclasses.replace(SMALL, lr=0.01)
    with pytest.raises(JourneyError, match=r"base was begun with other settings \(lr 0\.02, now 0\.01\): .*--fork"):
        make(life, tmp_path / "base", other)
    node = make(life, tmp_path / "base", other, fork=True)
    assert node.lineage["config"]["lr"] == 0.01
    assert len([*tmp_path.glob(".work-*/state/training/step-*")]) == 1  # what was begun first is still there


def test_a_training_that_has_diverged_is_told_and_not_a_fault(life, tmp_path):
    config = dataclasses.replace(SMALL, lr=1000.0, muon_lr=100.0, clip=0.0, schedule="constant", spike=0.0)
    with pytest.raises(JourneyError, match="choose a smaller lr or muon_lr"):
        make(life, tmp_path / "base", dataclasses.replace(config, optimizer="adamw", family="gpt2"))


def test_continue_keeps_its_best_and_any_schedule(life, tmp_path):
    config = Continue(
        tokens=1_024, schedule="inverse-sqrt", warmup=2.0, floor=0.1, keep="best", evaluations=2, batch_size=4, lr=3e-3
    )
    given = {"data": life.node("prose"), "replay_data": life.node("prose")}
    node = continue_(life.node("base"), config, Run(tmp_path / "more", given=given))
    rates = [line["lr"] / 3e-3 for line in history(node)]
    assert rates == pytest.approx([0.5, 1, *(math.sqrt(2 / n) for n in range(3, len(rates) + 1))])


# Time


def test_a_time_limit_ends_a_run_as_ctrl_c_does_and_it_goes_on(life, tmp_path, capsys):
    base = ["pretrain", str(life.node("tokenizer").path), "--data", str(life.node("prose").path), "--seed", "3"]
    command = [*base, "--n-layer", "1", "--n-embd", "32", "--n-ctx", "64", "--out", str(tmp_path / "base")]
    assert main([*command, "--tokens", "50_000_000", "--time-limit", "1s"]) == 1
    assert "the time limit of 0:01 is reached" in (said := capsys.readouterr().err) and "goes on from here" in said
    assert len([*tmp_path.glob(".work-*/state/training/step-*")]) == 1
    assert main([*command, "--tokens", "2048", "--time-limit", "5m", "--fork"]) == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("45s", 45), ("30m", 1800), ("1.5h", 5400), ("2d", 172800), ("1:30:00", 5400), ("2:05", 125)],
)
def test_times_as_people_write_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:90", "5 weeks", "0", "1e99", "9999999999999999999d"])
def test_what_is_no_time_is_told(text):
    with pytest.raises(JourneyError, match="is no time: give 45s"):
        seconds_of(text)


# How it is computed


def test_a_small_model_on_a_cpu_is_trained_in_fp32_and_the_lineage_says_so(begun):
    assert begun.lineage["computed"] == {
        "device": "cpu",
        "precision": "fp32",
        "why": "below 5 M parameters, for the same numbers on every CPU",
        "compiled": False,
    }


def test_a_larger_one_in_what_is_measured_to_be_faster_and_a_resumed_one_as_it_began(life, tmp_path, monkeypatch):
    monkeypatch.setattr("journey.stages.training.SMALL", 0)
    monkeypatch.setattr("journey.model.precision.fastest", lambda device: ("bf16", "measured so"))
    console = Heard()
    whole = make(life, tmp_path / "whole", console=console)
    assert whole.lineage["computed"]["precision"] == "bf16" and console.said == [
        "whole: in bf16, the weights in fp32: measured so"
    ]
    with pytest.raises(Stopped):
        make(life, tmp_path / "stopped", console=Stopping())
    monkeypatch.setattr("journey.model.precision.fastest", lambda device: ("fp32", "the machine is busy now"))
    node = make(life, tmp_path / "stopped")
    assert node.lineage["computed"] == whole.lineage["computed"]
    assert node.lineage["weights_sha256"] == whole.lineage["weights_sha256"]


def test_bf16_trains_as_fp32_does_and_recomputing_to_the_same_bits(life, begun, tmp_path):
    half = make(life, tmp_path / "half", dataclasses.replace(LEVEL, precision="bf16"))
    losses = [[line["loss"] for line in history(node)] for node in (begun, half)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.01)
    assert {p.dtype for p in huggingface.load(half.path).parameters()} == {torch.float32}
    again = make(life, tmp_path / "again", dataclasses.replace(LEVEL, recompute=True))
    assert again.lineage["weights_sha256"] == begun.lineage["weights_sha256"]


@pytest.fixture
def piqa(tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    rows = [{"goal": f"window {i}", "sol1": "a reader", "sol2": "sorts", "label": i % 2} for i in range(30)]
    (folder / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_benchmark_is_taken_every_so_many_steps_and_at_the_end(life, tmp_path, piqa, scored):
    asked = json.dumps({"piqa": {"items": 10, "every": 4, "data": str(piqa)}, "repeats": {}})
    config = dataclasses.replace(SMALL, evaluate_every=3, evaluate_with=asked)
    made = make(life, tmp_path / "base", config, take=measuring.through, timed=measuring.evaluated_with)
    lines = history(made)
    steps = [line["step"] for line in lines if "dev_piqa.acc_norm" in line]
    assert steps == [4, 8] and len(lines) == 8
    scored_at = [line["step"] for line in lines if "dev_bits_per_byte" in line]
    assert [line["step"] for line in lines if "dev_repeat.first" in line] == scored_at
    assert made.lineage["weights_sha256"] == scored.lineage["weights_sha256"]  # it changes nothing of the training


def test_a_benchmark_that_is_not_there_is_told_before_the_first_step(life, tmp_path):
    asked = json.dumps({"piqa": {"items": 10, "data": str(tmp_path / "nowhere")}})
    config = dataclasses.replace(SMALL, evaluate_with=asked)
    with pytest.raises(JourneyError, match="nowhere: no such folder"):
        make(life, tmp_path / "base", config, take=measuring.through, timed=measuring.evaluated_with)
    assert not list(tmp_path.rglob("log.jsonl"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{piqq: {items: 5}}", 'evaluate_with: no measure "piqq", did you mean "piqa"'),
        ("{piqa: {item: 5}}", 'evaluate_with: piqa has no "item", did you mean "items"'),
        ("{piqa: {items: -5}}", "evaluate_with: piqa: must be at least 0"),
        ("{piqa: {every: few}}", "evaluate_with: piqa: must be a whole number"),
        ("{piqa: 5}", "evaluate_with: piqa wants a mapping"),
        ("{quantized: {}}", "quantized cannot be taken of a model that is in training"),
        ("piqa", "evaluate_with: give measures and settings"),
        ("{'piqa,hellaswag': {}}", "evaluate_with: 'piqa,hellaswag' is no measure's name"),
        ("{piqa: {engine: lm-eval}}", "leave out engine, chat and helm"),
        ("{humaneval: {samples: 3}}", "several samples at temperature 0"),
    ],
)
def test_what_evaluate_with_cannot_mean_is_told_with_its_line(tmp_path, given, said):
    from journey import recipe

    stages = "- {name: docs, stage: text}\n- {name: t, stage: tokenizer, with: {data: docs}}"
    own = f"- name: b\n  stage: pretrain\n  parents: t\n  with:\n    data: docs\n    evaluate_with: {given}\n"
    (tmp_path / "life.yaml").write_text(f"stages:\n{stages}\n{own}")
    with pytest.raises(JourneyError, match=said) as told:
        recipe.read(tmp_path / "life.yaml")
    assert "life.yaml:9: " in str(told.value)
