"""An adapter trained through the real stages, held against PEFT and against the base that it stands on."""

import functools
import json
import math

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from journey import chat
from journey.checkpoint import Node
from journey.data.corpus import Corpus
from journey.data.preferences import Pair, save
from journey.data.questions import Question
from journey.errors import JourneyError
from journey.files import sha256_file
from journey.infer.engine import stream as stream_of
from journey.model import adapter, huggingface
from journey.report.format import bytes_
from journey.stages.dpo import DPO, answer_logps, dpo
from journey.stages.lora import LoRA, lora
from journey.stages.sft import SFT, sft
from journey.stages.story import Told, facts
from journey.tokenizer.formats import Tokenizer
from journey.train import saver

from ..conftest import new_run
from .conftest import CLASSES, FakeText, Killed, history, small_model

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own

N_CTX = 96
DROPOUT = 0.1  # what a checkpoint from elsewhere has
FAMILIES = (*CLASSES, "gpt2")
IDS = torch.arange(60).reshape(2, 30) * 37 % 260
QUESTIONS = [
    Question(str(i), f"What does f{i} do?", f"Adds {i} to x.", f"f{i}(x)\n\nAdds {i} to x.", True) for i in range(20)
]
VARIANTS = {
    "as it is": {},
    "dora": {"dora": True},
    "rslora": {"rslora": True, "rank": 3, "alpha": 5.0},
    "dropout": {"dropout": 0.3},
    "attention": {"targets": "attention"},
    "mlp": {"targets": "mlp"},
}
# GPT-2 stores its matrices the other way round; of the others one stands for all.
CASES = [
    (family, name) for family in FAMILIES for name in VARIANTS if family in ("gpt2", "qwen3") or name == "as it is"
]


def train(parent, folder, when=lambda step: None, run=None, **settings):
    """The stage's body on questions, in a run that is fresh or given: sft's where it is told of an adapter."""
    run = run or new_run(folder, when=when)
    run.corpora = {"data": FakeText(QUESTIONS)}
    if "adapter" in settings:
        return run, sft.body(Node(parent), SFT(batch_size=8, **settings), run)
    return run, lora.body(Node(parent), LoRA(batch_size=8, **settings), run)


def whole(folder):
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def apart(base, folder):
    """Base and adapter as PEFT has them, unmerged."""
    return PeftModel.from_pretrained(whole(base), str(folder)).eval()


def logits(model):
    with torch.inference_mode():
        return model(IDS, use_cache=False).logits


def ours(folder):
    with torch.inference_mode():
        return huggingface.load(folder).eval()(IDS)


@pytest.fixture(scope="module")
def taught(parents, tmp_path_factory):
    """(family, variant) -> run and facts of its training, made once."""

    @functools.cache
    def make(family, variant):
        settings = {"rank": 4, "lr": 5e-3} | VARIANTS[variant]
        return train(parents[family], tmp_path_factory.mktemp("taught"), **settings)

    return make


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_the_loss_falls_and_the_base_stays(parents, taught, family, variant):
    before = {path.name: sha256_file(path) for path in parents[family].iterdir()}
    run, made = taught(family, variant)
    assert {path.name: sha256_file(path) for path in parents[family].iterdir()} == before
    lines = history(run)
    assert lines[-1]["dev_loss"] < lines[0]["dev_loss"] - 0.02 and lines[-1]["loss"] < lines[1]["loss"]
    assert {path.name for path in run.folder.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "base.json", "generation_config.json", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja", "history.json", "log.jsonl",
    }  # fmt: skip
    assert made["metrics"]["dev_loss"]["value"] == lines[-1]["dev_loss"]


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_off_it_is_the_base_bit_for_bit_and_merged_what_it_is_unmerged(parents, taught, family, variant):
    run, _ = taught(family, variant)
    model = apart(parents[family], run.folder)
    base, unmerged = logits(whole(parents[family])), logits(model)
    assert (unmerged - base).abs().max() > 0.1, "an adapter that does nothing would prove nothing"
    with model.disable_adapter():
        assert torch.equal(logits(model), base)
    assert (ours(run.folder) - unmerged).abs().max() <= 1e-5


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_what_is_trained_is_what_was_asked_for_and_nothing_else_moves(parents, taught, tokenizer, family, variant):
    run, made = taught(family, variant)
    said = {"rank": 4, "targets": "all-linear", "dora": False} | VARIANTS[variant]
    roles = {"attention": "attn", "mlp": "mlp", "all-linear": "attn.,mlp."}[said["targets"]].split(",")
    _, before = huggingface.read(parents[family])
    config, after = huggingface.read(run.folder)
    marks = sorted(tokenizer.special.values())
    assert config.tied and before.keys() == after.keys()
    trained = len(marks) * config.n_embd
    for name, tensor in before.items():
        changed = (after[name] != tensor).float()
        if "embed_tokens" in name or "wte" in name:
            assert changed.any(1).nonzero().flatten().tolist() == marks
        elif tensor.dim() == 2 and any(role in name for role in roles) and "wpe" not in name:
            assert changed.mean() > 0.9, name
            n_in, n_out = tensor.shape if family == "gpt2" else tensor.shape[::-1]
            trained += said["rank"] * (n_in + n_out) + said["dora"] * n_out
        else:
            assert not changed.any(), name
    assert made["metrics"]["trained_parameters"]["value"] == trained
    wrote = json.loads((run.folder / "adapter_config.json").read_text())
    assert (wrote["r"], wrote["lora_alpha"]) == (said["rank"], said.get("alpha", 2 * said["rank"]))
    assert (wrote["use_dora"], wrote["use_rslora"]) == (said["dora"], "rslora" in said)
    assert wrote["lora_dropout"] == said.get("dropout", 0)


def test_the_marks_are_learned_and_both_write_the_same(life, tmp_path):
    """The rows of new tokens, those of the tied head too: it ends its answers by itself, through our engine as by
    PEFT's own. (A random model, its embedding frozen, learns no answer.)"""
    base = life.node("base").path
    tokenizer = Tokenizer.load(base)
    run, _ = train(base, tmp_path, epochs=20, lr=1e-2, max_length=64)
    model, read = apart(base, run.folder), huggingface.load(run.folder).eval()
    rows = read.embed.weight.detach()
    assert torch.equal(rows, read.head.weight)
    old = whole(base).get_input_embeddings().weight
    for name in ("<|user|>", "<|assistant|>", "<|end|>"):
        assert (rows - old)[tokenizer.special[name]].norm() > 0.01
    written = []
    for i in range(6):
        prompt = chat.encode_prompt([{"role": "user", "content": f"What does f{i} do?"}], tokenizer)
        written.append([*stream_of(read, prompt, max_new_tokens=24, stop=tokenizer.stop)])
        theirs = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=tokenizer.eos)
        assert written[-1] == theirs[0, len(prompt) :].tolist()
    assert all(ids[-1] == tokenizer.eos and len(ids) > 2 for ids in written)


def test_of_a_head_that_is_not_tied_the_marks_rows_are_trained_too(tokenizer, tmp_path):
    base = tmp_path / "untied"
    small_model("llama", tokenizer.vocab_size, N_CTX, 0, tied=False).save_pretrained(base)
    tokenizer.save(base)
    run, _ = train(base, tmp_path)
    marks = sorted(tokenizer.special.values())
    asked = [tokenizer.special[name] for name in ("<|user|>", "<|assistant|>")]  # no token comes after others
    _, before = huggingface.read(base)
    config, after = huggingface.read(run.folder)
    assert not config.tied
    for name, trained in (("model.embed_tokens.weight", asked), ("lm_head.weight", marks)):
        assert (after[name] != before[name]).any(1).nonzero().flatten().tolist() == trained
    assert (ours(run.folder) - logits(apart(base, run.folder))).abs().max() <= 1e-5


def test_sft_told_of_an_adapter_does_what_the_stage_lora_does(parents, taught, tmp_path):
    of_lora, made = taught("qwen3", "as it is")
    of_sft, same = train(parents["qwen3"], tmp_path, adapter="{rank: 4}", lr=5e-3)
    assert same == made and history(of_sft) == history(of_lora)
    for name in ("adapter_model.safetensors", "base.json"):
        assert (of_sft.folder / name).read_bytes() == (of_lora.folder / name).read_bytes()


def test_a_chain_of_adapters(parents, taught, tmp_path):
    """Trained on an adapter it stands on that; the whole model is trained on what both give."""
    first, _ = taught("gpt2", "as it is")
    for name, settings in (("second", {"rank": 2}), ("whole", {"adapter": ""})):
        run, made = train(first.folder, tmp_path / name, **settings)
        if name == "second":
            assert adapter.chain(run.folder) == [run.folder, first.folder.resolve(), parents["gpt2"]]
            on = huggingface.in_transformers(first.folder)
            assert (ours(run.folder) - logits(PeftModel.from_pretrained(on, str(run.folder)).eval())).abs().max() < 1e-5
        else:
            assert not adapter.is_adapter(run.folder) and "trained_parameters" not in made["metrics"]
            assert (ours(run.folder) - logits(whole(run.folder))).abs().max() < 1e-5
        assert history(run)[0]["dev_loss"] == pytest.approx(history(first)[-1]["dev_loss"], abs=1e-5)


def test_parts_packed_and_beside_a_text_it_is_the_same_training(parents, life, tmp_path):
    """Accumulated and packed: as in one part, padded. Beside a replayed text too."""
    lines = []
    prose = life.node("prose")
    for name, settings in (("whole", {}), ("parts", {"accumulate": 4}), ("packed", {"packing": True, "accumulate": 2})):
        run = new_run(tmp_path / name)
        run.given, run.corpora = (
            {"replay_data": prose},
            {"data": FakeText(QUESTIONS), "replay_data": Corpus(prose.path)},
        )
        config = LoRA(batch_size=8, replay_data="prose", lr=5e-3, **settings)
        made = lora.body(Node(parents["qwen3"]), config, run)
        lines.append(history(run))
        assert made["metrics"]["replayed_tokens"]["value"] > 0 and "replay_loss" in lines[-1][1]
    for other in lines[1:]:
        for line, expected in zip(other, lines[0], strict=True):
            assert line == pytest.approx(expected, rel=2e-3)


# By the command line


def test_commands(life, tmp_path, journey):
    """What is made, what a page tells of it, and what is refused, in one line."""
    where, data = ("--workspace", life.workspace), ("--data", life.texts / "asked.jsonl")
    output = journey("lora", "base", *data, "--rank", "4", "--dora", "--out", tmp_path / "made", *where, "--json")
    assert output.code == 0, output.err
    node = Node(tmp_path / "made")
    n = output.json["metrics"]["trained_parameters"]["value"]
    assert node.stage == "lora" and node.parents == [life.node("base").id] and n > 1000
    ours, whole = (bytes_(size_of(path)) for path in (node.path, life.node("base").path))
    assert facts(Told(node, None)).rows[-1] == ("trained", f"{n:,} parameters, {ours} beside a model of {whole}")
    output = journey("sft", "base", *data, "--adapter", "{quantize: nf4}", "--out", tmp_path / "four", *where, "--json")
    assert output.code == 0 and "kernels" not in output.err, output.err
    said = dict(facts(Told(Node(tmp_path / "four"), None)).rows)["four bits"]
    merged = output.json["metrics"]["dev_loss_merged"]["value"]
    assert said.endswith(f"nats/token in them, {merged:.2f} merged into fp32")
    for stage, arguments, error in (
        ("lora", ("--adapter", "{}"), "adapter: a lora stage says rank, targets and the rest as settings of its own"),
        ("lora", ("--rank", "0"), "rank: must be at least 1, not 0"),
        ("sft", ("--adapter", "{rnak: 8}"), 'adapter: unknown setting "rnak", did you mean "rank"?'),
        ("dpo", ("--adapter", "8"), "adapter: give its settings, as in {rank: 16"),
    ):
        output = journey(stage, "base", *data, *arguments, "--out", tmp_path / "no", *where)
        assert output.code == 2 and error in output.err and output.err.count("\n") == 1, output.err
        assert not (tmp_path / "no").exists()


def size_of(folder):
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


# Going on


def killed_at(steps):
    def kill(step):
        if step == steps:
            raise Killed

    return kill


@pytest.fixture
def every_step(monkeypatch):
    """Is saved."""
    monkeypatch.setattr(saver, "_SAVE_EVERY", -1.0)
    monkeypatch.setattr(saver, "_SAVE_SHARE", 0)


def same(again, expected):
    assert history(again) == history(expected)
    for path in expected.folder.iterdir():
        if path.name != "log.jsonl":  # has what the clock said
            assert (again.folder / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("settings", [{"dropout": 0.3, "accumulate": 2, "dora": True}, {"quantize": "nf4"}])
def test_a_killed_run_goes_on_exactly(parents, tmp_path, every_step, settings):
    expected, made = train(parents["gpt2"], tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        train(parents["gpt2"], tmp_path / "killed", when=killed_at(3), **settings)
    again, found = train(parents["gpt2"], tmp_path / "killed", **settings)
    assert len(again.console.shown) == 3 and found == made
    same(again, expected)


# DPO


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A pairs node."""
    folder = tmp_path_factory.mktemp("pairs")
    made = [
        Pair(
            f"pair {i}",
            [{"role": "user", "content": f"What is function {i}?"}],
            [{"role": "assistant", "content": "It is " + "the number " * (i % 4) + f"{i}."}],
            [{"role": "assistant", "content": "word " * (i % 5) + "no"}],
        )
        for i in range(40)
    ]
    for name, part in (("train", made[:24]), ("dev", made[24:32]), ("test", made[32:])):
        save(part, folder / f"pairs-{name}.jsonl")
    return folder


def prefer(parent, pairs, folder, when=lambda step: None, **settings):
    """The body of dpo, in a run that is fresh or goes on."""
    run = new_run(folder, when=when)
    run.given = {"data": Node(pairs)}
    return run, dpo.body(Node(parent), DPO(data="pairs", batch_size=8, **{"lr": 1e-2, "adapter": "{}"} | settings), run)


def listening(monkeypatch):
    """What `make_trainer` gives to dpo."""
    from journey.stages import dpo as module

    found, make = [], module.make_trainer
    monkeypatch.setattr(module, "make_trainer", lambda *args, **own: found.append(make(*args, **own)) or found[-1])
    return found


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, "{}") for family in FAMILIES),
        *((family, said) for family in ("gpt2", "qwen3") for said in ("{dora: true}", "{quantize: nf4}")),
    ],
)
def test_the_reference_of_dpo_is_the_base(parents, pairs, tmp_path, monkeypatch, family, settings):
    before, trainers = sha256_file(parents[family] / "model.safetensors"), listening(monkeypatch)
    run, made = prefer(parents[family], pairs, tmp_path, adapter=settings)
    assert sha256_file(parents[family] / "model.safetensors") == before
    first, last = history(run)[1], history(run)[-1]
    assert first["margin"] == 0 and first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert last["dev_loss"] < math.log(2) - 0.01 and last["dev_accuracy"] > 0.6
    assert made["metrics"]["trained_parameters"]["value"] < 20_000
    (trainer,) = trainers
    assert trainer.ref_model is None
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    with torch.inference_mode():
        reference, after = trainer.reference_logps(batch), answer_logps(trainer.model, batch)
        model = whole(parents[family])
        if "nf4" not in settings:
            assert torch.equal(reference, answer_logps(model, batch))
        assert (reference - answer_logps(model, batch)).abs().max() < 1 < (after - reference).abs().max()
    if "nf4" not in settings:
        assert (ours(run.folder) - logits(apart(parents[family], run.folder))).abs().max() <= 1e-5


def test_dpo_on_an_adapter(parents, pairs, taught, tmp_path, monkeypatch):
    """The reference is the adapter with its base, whether an adapter is trained on it or the whole of it."""
    trainers = listening(monkeypatch)
    first, _ = taught("qwen3", "as it is")
    for settings in ("{rank: 2}", ""):
        run, _ = prefer(first.folder, pairs, tmp_path / f"of {settings}", adapter=settings)
        line = history(run)[1]
        assert line["margin"] == pytest.approx(0, abs=1e-5) and line["loss"] == pytest.approx(math.log(2), abs=1e-6)
        batch = trainers[-1].data_collator([trainers[-1].train_dataset[i] for i in range(4)])
        with torch.inference_mode():
            expected = answer_logps(apart(parents["qwen3"], first.folder), batch)
            assert (trainers[-1].reference_logps(batch) - expected).abs().max() < 1e-4
        assert adapter.is_adapter(run.folder) == bool(settings)
        assert len(adapter.chain(run.folder)) == (3 if settings else 1)


def test_a_killed_dpo_goes_on_exactly(parents, pairs, tmp_path, every_step):
    settings = {"adapter": "{quantize: nf4}", "epochs": 2}
    expected, made = prefer(parents["qwen3"], pairs, tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        prefer(parents["qwen3"], pairs, tmp_path / "killed", killed_at(3), **settings)
    again, found = prefer(parents["qwen3"], pairs, tmp_path / "killed", **settings)
    assert len(again.console.shown) == 4 and found == made
    same(again, expected)


def test_dropout_of_an_adapter_is_refused_by_dpo():
    with pytest.raises(JourneyError, match="adapter: dropout"):
        DPO(adapter="{dropout: 0.1}")
