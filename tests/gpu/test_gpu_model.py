"""The model on a CUDA device against transformers, fp32 and bf16; compiled against not. Without a device the same on
a CPU. Needs torch, safetensors and transformers, and nothing of tests/conftest.py."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from journey.infer import engine
from journey.model import families, huggingface
from journey.model.compiled import compiled, missing
from journey.model.config import GPTConfig
from journey.model.families import FAMILIES
from journey.model.gpt import GPT
from journey.model.precision import precision
from journey.train.optimizers import make_optimizers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
V = 128
# As a share of the size. On a GPU fp32 is summed up in another order, and the bf16 of two programs is rounded at
# other places.
FAR = {"fp32": 1e-4, "bf16": 0.05}
pytestmark = pytest.mark.gpu


def build(family, tied=True, n_embd=64, T=64):
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, V, T, 2, n_embd, tied=tied))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1 + name.endswith("norm.weight"))
    return model.to(DEVICE)


def rows(B=4, T=64):
    ids = torch.randint(97, (B, T + 1), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    return ids[:, :-1], ids[:, 1:], (ids[:, :-1] % 19 == 0).cumsum(1)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def far(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm().clamp(min=1e-6)).item()


@pytest.mark.parametrize("how", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_loss_and_every_gradient_are_transformers(family, tied, how, tmp_path):
    """transformers in fp32, so that bf16 is held against what it stands for."""
    model, (ids, targets, _) = build(family, tied), rows()
    huggingface.save(model.cpu(), tmp_path)
    model.to(DEVICE)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).to(DEVICE)
    theirs = torch.nn.functional.cross_entropy(reference(ids).logits.flatten(0, 1), targets.flatten())
    with precision(model, how):
        logits, loss = model(ids), model(ids, targets)
    assert far(logits.float(), reference(ids).logits) < FAR[how]
    assert abs(loss.item() - theirs.item()) < FAR[how]
    ours, expected = gradients(model, loss), gradients(reference, theirs)
    converted = families.get(family).to_huggingface(model.config, ours)
    assert converted.keys() == expected.keys()
    for name, gradient in converted.items():
        assert far(gradient, expected[name]) < FAR[how], name


@pytest.mark.parametrize("how", ["fp32", "bf16"])
def test_documents_are_computed_as_if_alone(how):
    model, (ids, targets, documents) = build("qwen3"), rows(B=2)
    with precision(model, how):
        packed = model(ids, documents=documents)
        for row in range(len(ids)):
            for number in documents[row].unique():
                inside = documents[row] == number
                assert far(packed[row, inside].float(), model(ids[row, inside][None])[0].float()) < FAR[how]
    with precision(model, how):
        loss = model(ids, targets, documents=documents)
    expected = torch.nn.functional.cross_entropy(packed.float().flatten(0, 1), targets.flatten())
    assert abs(loss.item() - expected.item()) < FAR[how]


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "cpu", reason="tests/model/test_compiled.py does it on a CPU")
@pytest.mark.skipif(missing(DEVICE) is not None, reason=f"not compiled: {missing(DEVICE)}")
@pytest.mark.parametrize("how", ["fp32", "bf16"])
def test_compiled_is_what_is_not_compiled(how):
    model, (ids, targets, documents), said = build("qwen3"), rows(), []
    fast, results = compiled(model, said.append), []
    for function in (model, fast):
        with precision(model, how):
            loss = function(ids, targets, documents=documents)
        results.append((loss.item(), gradients(model, loss)))
    assert said == []  # it did compile
    (expected, theirs), (loss, ours) = results
    assert abs(loss - expected) < (1e-5 if how == "fp32" else 0.02)
    for name, gradient in ours.items():
        assert far(gradient, theirs[name]) < FAR[how], name


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_is_greedy_over_the_full_forward(family):
    """A GPU generates in bf16: what it writes is the likeliest of the full forward in fp32, or as good as that."""
    model = build(family).eval()
    prompts = [[1, 2, 3], [5], [7, 8, 9, 10, 11], [*range(30)], [*range(29)]]
    made = engine.generate(model, prompts, max_new_tokens=12, stop=set())
    assert [engine.generate(model, [prompt], max_new_tokens=12, stop=set())[0].ids for prompt in prompts[:2]] == [
        completion.ids for completion in made[:2]
    ] or DEVICE == "cuda"
    for prompt, completion in zip(prompts, made, strict=True):
        ids = torch.tensor([[*prompt, *completion.ids]], device=DEVICE)
        with torch.inference_mode():
            logits = model(ids)[0, len(prompt) - 1 : -1]  # (12, V)
        chosen = logits.gather(1, ids[0, len(prompt) :, None])[:, 0]
        far = 0.05 * logits.std() if DEVICE == "cuda" else 1e-4
        assert (logits.amax(1) - chosen).max() <= far


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("recompute", [False, True])
def test_some_steps_in_bf16_learn_a_row_by_heart(optimizer, recompute):
    model, (ids, targets, documents) = build("gpt2"), rows(B=1)
    model.recompute = recompute
    optimizers = make_optimizers(model, optimizer, 3e-3, 0.01, 0.0)
    losses = []
    for _ in range(25):
        with precision(model, "bf16"):
            loss = model(ids, targets, documents=documents)
        loss.backward()
        optimizers.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
