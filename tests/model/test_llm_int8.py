"""LLM.int8() against bitsandbytes on the CPU: a layer, and every layer of a folder as transformers runs it.

bitsandbytes' CPU code multiplies by 6.200124e-05 where 1/127² is 6.2000124e-05, so what it computes is 2e-5 too large;
and as small a difference flips a rounding of the next layer's inputs now and then. So whole models are compared layer
by layer, each given the same inputs.
"""

import shutil

import bitsandbytes as bnb
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM

from journey.errors import JourneyError
from journey.files import read_json, write_json
from journey.model import compressed, families, huggingface, quantized
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.quantized import OutlierLinear, rounded
from journey.model.quiet import quiet
from tests.altered import altered

FAMILIES = ("gpt2", "llama", "qwen2", "qwen3")
IDS = torch.arange(40).view(2, 20) * 7 % 90
TOO_LARGE = 6.200124e-05 * 127**2  # what theirs computes of 8 bits


def make(threshold=6.0, bias=True):
    """A layer and the weight that it was made of, a row of which is zero."""
    torch.manual_seed(0)
    weight, bias = torch.randn(40, 64), nn.Parameter(torch.randn(40)) if bias else None
    weight[3] = 0
    return OutlierLinear(8, *rounded(weight, 8, 0, "w"), bias, threshold), weight


def theirs(layer):
    """The same numbers in bitsandbytes' layer."""
    made = bnb.nn.Linear8bitLt(64, 40, layer.bias is not None, has_fp16_weights=False, threshold=layer.threshold)
    numbers = {"CB": layer.q.clone(), "SCB": 127 * layer.scale[:, 0]}
    made.weight = bnb.nn.Int8Params(layer.q.clone(), requires_grad=False, has_fp16_weights=False, **numbers)
    made.bias = layer.bias
    return made.eval()


def inputs(T):
    """Two texts of T rows: three large inputs, one that is always zero, and where there is room a row of zeros."""
    torch.manual_seed(T)
    x = torch.randn(2, T, 64)
    x[0, 0, 5], x[1, -1, 9], x[0, 0, 60], x[..., 11] = 9, -70_000, 6, 0  # the second is no number of fp16
    if T > 1:
        x[1, 0] = 0
    return x


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("T", [1, 5])
@pytest.mark.parametrize("threshold", [6.0, 1.0])
def test_a_layer_computes_what_bitsandbytes_does(threshold, T, bias):
    layer, _ = make(threshold, bias)
    x = inputs(T)
    ours, found = layer(x), theirs(layer)(x.clone())
    assert ours.isfinite().all() and ours.shape == (2, T, 40)
    rounded_part = ours - exact_part(layer, x)
    torch.testing.assert_close(found, ours + rounded_part * (TOO_LARGE - 1), rtol=1e-5, atol=1e-4)


def exact_part(layer, x):
    """Of the output, what is not computed in 8 bits: the columns of outliers, and the bias."""
    whole = (x.half().abs() >= layer.threshold).flatten(0, -2).any(0)
    return F.linear(x * whole, layer.weight, layer.bias)


@torch.inference_mode()
def test_a_threshold_of_zero_has_no_outliers():
    layer, _ = make(threshold=0.0)
    x = torch.randn(4, 64) * 5
    torch.testing.assert_close(theirs(layer)(x.clone()), layer(x), rtol=1e-4, atol=1e-3)


@torch.inference_mode()
def test_outliers_are_what_makes_it_close():
    """One large input and none of its kind: in 8 bits alone it would leave the others no steps."""
    x = torch.randn(1, 64)
    x[0, 7] = 60
    layers = [make(threshold)[0] for threshold in (6.0, 0.0)]
    off = [(layer(x) - F.linear(x, layer.weight, layer.bias)).abs().mean().item() for layer in layers]
    assert 0 < off[0] < off[1] / 5


@torch.inference_mode()
def test_a_text_depends_a_little_on_what_is_computed_with_it():
    """As its words say: an outlier in one row takes that input out of the 8 bits of all."""
    layer, _ = make()
    x = torch.randn(2, 64)
    x[1, 7] = 20
    alone, together = layer(x[:1]), layer(x)[:1]
    assert 0 < (alone - together).abs().max() < 0.3


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_opened_by_us_and_by_transformers(family, tmp_path):
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, 90, 32, 2, 64, 4, 4 if family == "gpt2" else 2)).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    model.blocks[1].mlp_norm.weight[5] = 20  # an outlier
    plain = huggingface.tensors(model)
    quantized.quantize(model, 8, head=False, kind=OutlierLinear)
    huggingface.save(model, tmp_path, bos=0, eos=1, pad=2)
    again = huggingface.load(tmp_path).eval()
    assert again.config == model.config and again.head.weight is again.embed.weight
    ours, found = model.state_dict(), again.state_dict()
    assert ours.keys() == found.keys() and all(torch.equal(ours[n], t) for n, t in found.items() if ".scale" not in n)
    torch.testing.assert_close(again(IDS), model(IDS), rtol=0, atol=0.05 * model(IDS).abs().max().item())
    with quiet():
        found = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    seen = {}
    for name, layer in found.named_modules():
        if isinstance(layer, bnb.nn.Linear8bitLt):
            layer.register_forward_hook(lambda m, x, y, name=name: seen.update({name: (x[0].clone(), y.clone())}))
    logits = found(IDS).logits
    assert len(seen) == 2 * (4 if family == "gpt2" else 7), "all layers of the blocks, and not the head"
    assert any((x.abs() >= 6).any() for x, _ in seen.values()), "there are outliers"
    for stored in families.get(family).layout(model.config):
        if (name := stored.huggingface.removesuffix(".weight")) in seen:
            layers = [again.get_submodule(ours.removesuffix(".weight")) for ours in stored.ours]
            x, y = seen[name]
            torch.testing.assert_close(torch.cat([layer(x) for layer in layers], -1), y, rtol=1e-4, atol=1e-3)
    assert (logits.argmax(-1) == again(IDS).argmax(-1)).float().mean() > 0.9
    made = huggingface.tensors(again)
    assert all(quantized.relative(made[name], plain[name]) < 0.02 for name in plain), "every weight is in its place"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model = GPT(GPTConfig.make("llama", 90, 32, 1, 64, 2))
    quantized.quantize(model, 8, head=False, kind=OutlierLinear)
    huggingface.save(model, folder, bos=0, eos=1, pad=2)
    return folder


NAME = "model.layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{NAME}.SCB": torch.ones(3)}, f"{NAME} is no matrix of int8 with a number a row in its SCB"),
        ({f"{NAME}.SCB": torch.full((192,), float("inf"))}, f"{NAME}.SCB holds what is no number"),
        ({f"{NAME}.weight": torch.ones(192, 64)}, "is no matrix of int8"),
        ({f"{NAME}.weight_format": torch.tensor(2, dtype=torch.uint8)}, "is laid out for a GPU"),
        ({f"{NAME}.SCB": None}, "up_proj.weight_format is no part of a llama|holds int8"),
    ],
)
def test_a_damaged_folder_is_named(saved, change, message, tmp_path):
    with pytest.raises(JourneyError, match=message) as caught:
        huggingface.load(altered(saved, tmp_path, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"load_in_8bit": False, "load_in_4bit": True}, "of bitsandbytes' formats we read LLM.int8"),
        ({"llm_int8_has_fp16_weight": True}, "llm_int8_has_fp16_weight is set"),
        ({"llm_int8_threshold": "6"}, "llm_int8_threshold is '6', where a number belongs"),
        ({"llm_int8_threshold": -1.0}, "llm_int8_threshold is -1.0"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(saved, change, message, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    said = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", said | {compressed.KEY: said[compressed.KEY] | change})
    with pytest.raises(JourneyError, match=message):
        huggingface.load(tmp_path)


def test_a_folder_that_is_not_quantized_yet_is_not_taken_for_one(saved, tmp_path):
    """config.json may ask transformers to quantize while it loads: nothing in the file is."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    plain = {name: t.contiguous() for name, t in huggingface.tensors(huggingface.load(saved)).items()}
    save_file(plain, tmp_path / "model.safetensors")
    with pytest.raises(JourneyError, match=r"config\.json says that its weights are quantized, and none is"):
        huggingface.load(tmp_path)
