"""Stages on a CUDA device: a training that is stopped goes on to the same result; SFT, DPO and GGUF run through. On a
CPU other tests say so; JOURNEY_DRY=1 runs these there too, to test the tests."""

import json
import os

import pytest
import torch

from journey.stages.pretrain import Pretrain, pretrain
from journey.stages.run import Run, Stopped

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() and "JOURNEY_DRY" not in os.environ, reason="there is no CUDA device"
    ),
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory, journey):
    """A text and a tokenizer."""
    from tests.conftest import write_life

    made = write_life(tmp_path_factory.mktemp("gpu"))
    output = journey("run", made.recipe, "--workspace", made.workspace, "--until", "tokenizer", "--json")
    assert output.code == 0, output.err
    return made


class Stopping:
    """A console that asks to stop after some times that progress was shown."""

    def __init__(self, after):
        self.shown, self.after, self.stopping = 0, after, False

    def say(self, line):
        pass

    def progress(self, name, done, total, unit, numbers):
        if unit == "tokens" and "loss" in numbers:
            self.shown += 1
            self.stopping = self.shown == self.after


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stopped_training_goes_on_to_the_same_weights(begun, tmp_path, optimizer):
    """To the last bit on a CPU; a GPU adds up gradients of embeddings in any order, so there the losses are held."""
    config = Pretrain(data="prose", n_layer=2, n_embd=64, n_ctx=64, tokens=8_192, optimizer=optimizer, evaluations=2)
    histories, hashes = [], []
    for name, consoles in (("whole", [Stopping(-1)]), ("again", [Stopping(5), Stopping(-1)])):
        for console in consoles:
            run = Run(tmp_path / name, seed=3, given={"data": begun.node("prose")}, console=console)
            try:
                node = pretrain(begun.node("tokenizer"), config, run)
            except Stopped:
                assert console is not consoles[-1]
        histories.append([line["loss"] for line in json.loads((node.path / "history.json").read_text())])
        hashes.append(node.lineage["weights_sha256"])
    if not torch.cuda.is_available():
        assert histories[0] == histories[1] and hashes[0] == hashes[1]
    assert histories[0] == pytest.approx(histories[1], abs=2e-3)


def test_a_life_goes_through_sft_and_dpo_and_ends_as_gguf(begun, journey):
    """The stages of the small life up to DPO, on the device; then what llama.cpp reads."""
    pytest.importorskip("trl")
    for stage in ("chat", "preferred"):
        output = journey("run", begun.recipe, "--workspace", begun.workspace, "--until", stage, "--json")
        assert output.code == 0, output.err
        losses = [line["loss"] for line in begun.history(stage) if "loss" in line]
        assert all(0 < loss < 10 for loss in losses)
    if torch.cuda.is_available():
        assert torch.cuda.max_memory_allocated() > 0  # it was the device that worked
    pytest.importorskip("gguf")
    out = begun.workspace / "written"
    output = journey("quantize", str(begun.node("preferred").path), "--types", "f16", "--out", out, "--json")
    assert output.code == 0, output.err
    assert next(out.glob("*.gguf")).read_bytes()[:4] == b"GGUF"


def test_texts_that_begin_alike_are_as_likely_there_as_here():
    from journey.evaluate.likelihood import Continuation, likelihoods
    from journey.machine import device
    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT

    torch.manual_seed(0)
    model = GPT(GPTConfig.make("qwen3", 97, 64, 2, 64)).eval()
    generator = torch.Generator().manual_seed(2)
    some = [torch.randint(97, (n,), generator=generator).tolist() for n in range(4, 40)]
    asked = [Continuation(context, option) for context in some for option in ([3, 5], [3, 9, 1], context[:4])]
    here = [each.logprob for each in likelihoods(model, asked)]
    there = [each.logprob for each in likelihoods(model.to(device()), asked)]  # many rows at once
    assert there == pytest.approx(here, abs=1e-2)
