"""An adapter trained on a model in four bits, held against the same model with its matrices spelled out."""

import sys

import bitsandbytes.functional
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import get_peft_model
from transformers.pytorch_utils import Conv1D

from journey.data.conversations import question_both_ways
from journey.errors import JourneyError
from journey.model import huggingface
from journey.stages import sft as module
from journey.stages.sft import SFT, encode, summed_nats, trainer_of
from journey.train.lora import load_nf4, parse, peft_config

from ..conftest import new_run
from .test_lora import FAMILIES, QUESTIONS, train, whole

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own

N_CTX = 96
DROPOUT = 0.0


def trainer_for(parents, tokenizer, folder, family, adapter):
    run = new_run(folder)
    rows = encode(question_both_ways(QUESTIONS), tokenizer, N_CTX, run)
    config, _ = SFT(adapter=adapter, batch_size=8).fitting(10_000, len(rows), N_CTX)
    return trainer_of(parents[family], rows, rows[:20], config, tokenizer, N_CTX, run)


def spelled_out(folder, quantized):
    """The model of a folder in fp32, its matrices those that the quantized model computes with."""
    model, matrices = whole(folder), dict(quantized.named_modules())
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(matrices[name], Linear4bit):
                stored = matrices[name].weight
                weight = bitsandbytes.functional.dequantize_4bit(stored.data, stored.quant_state)
                module.weight.copy_(weight.T if isinstance(module, Conv1D) else weight)
    return model


def gradients(model, batch):
    """Of what is trained."""
    model.zero_grad()
    summed_nats(model, batch).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("settings", ["{quantize: nf4}", "{quantize: nf4, dora: true}"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_dequantized_model(parents, tokenizer, tmp_path, family, settings):
    """After a scoring of the dev split too: that packed the matrices for a kernel that has no backward pass."""
    trainer = trainer_for(parents, tokenizer, tmp_path, family, settings)
    model = trainer.model
    packed = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(packed) == {"gpt2": 4}.get(family, 7) * 2, "all matrices of the blocks and no other"
    marks = sorted(tokenizer.special.values())
    base = spelled_out(parents[family], load_nf4(parents[family]))
    reference = get_peft_model(
        base, peft_config(parse(settings.replace("quantize: nf4", "quantize: ''")), parents[family], marks)
    )
    torch.manual_seed(3)
    theirs = dict(reference.named_parameters())
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                assert p.dtype == torch.float32
                p.add_(0.05 * torch.randn_like(p))
                theirs[name].copy_(p)
    batch = trainer.data_collator([row._asdict() for row in trainer.dev[:6]])
    expected = gradients(reference.train(), batch)
    for scored in (False, True):
        if scored:
            trainer.dev_numbers()
        found = gradients(model.train(), batch)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            scale = expected[name].abs().max()
            assert (gradient - expected[name]).abs().max() <= 1e-4 * scale and scale > 0, (name, scored)


def test_its_cost_is_measured_on_the_model_in_fp32(parents, tmp_path, monkeypatch):
    made, make = [], module.make_trainer
    monkeypatch.setattr(module, "make_trainer", lambda *args, **own: made.append(make(*args, **own)) or made[-1])
    run, facts = train(parents["qwen3"], tmp_path, quantize="nf4", epochs=2)
    values = {name: found["value"] for name, found in facts["metrics"].items()}
    trained, dev = 0, made[0].dev
    with torch.inference_mode():
        merged = huggingface.in_transformers(run.folder).eval()
        for row in dev:
            nats = torch.nn.functional.cross_entropy(
                merged(torch.tensor([row.input_ids])).logits[0, :-1], torch.tensor(row.labels[1:]), reduction="sum"
            )
            trained += nats.item()
    assert values["dev_loss_merged"] == pytest.approx(trained / sum(row.trained for row in dev), rel=1e-5)
    assert values["quantization_cost"] == values["dev_loss"] - values["dev_loss_merged"] != 0
    assert abs(values["quantization_cost"]) < 0.05
    assert values["dev_loss"] < values["dev_loss_before"] - 0.1


def test_without_bitsandbytes_it_says_what_to_install(parents, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)
    with pytest.raises(JourneyError, match=r'^nf4 needs bitsandbytes: pip install "journey-gpt\[qlora\]"$'):
        train(parents["qwen3"], tmp_path, quantize="nf4")


def test_an_adapter_is_not_quantized(parents, tmp_path):
    first, _ = train(parents["qwen3"], tmp_path / "first")
    with pytest.raises(JourneyError, match=r"is an adapter: `journey merge` makes a whole model of it") as error:
        train(first.folder, tmp_path / "second", quantize="nf4")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{}, {"quantize": "nf4"}])
def test_nothing_is_printed(parents, tmp_path, capfd, recwarn, settings):
    first, _ = train(parents["gpt2"], tmp_path / "first", **settings)
    train(first.folder, tmp_path / "second")
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
