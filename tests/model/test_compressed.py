"""Quantized folders against compressed-tensors' own packing and transformers' own logits."""

import json
import shutil

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from journey.errors import JourneyError
from journey.files import read_json, write_json
from journey.model import compressed, huggingface, quantized
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.quiet import quiet
from tests.altered import altered

IDS = torch.arange(40).view(2, 20) * 7 % 90
FAMILIES = ("gpt2", "llama", "qwen2", "qwen3")


def make(family, bits, head=True, tied=True, group=32):
    """A quantized model, no number of which is zero or one by default; keys are shared where the family can."""
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, 90, 32, 2, 64, 4, 4 if family == "gpt2" else 2, tied=tied)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    quantized.quantize(model, bits, group, head)
    return model


@quiet()
def by_transformers(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@given(st.integers(1, 5), st.integers(1, 70), st.sampled_from([4, 8]), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_numbers_are_packed_as_compressed_tensors_packs_them(rows, columns, bits, random):
    most = 1 << bits - 1
    values = torch.tensor([[random.randrange(-most, most) for _ in range(columns)] for _ in range(rows)])
    values = values.to(torch.int8)
    packed = compressed.pack(values, bits)
    assert torch.equal(packed, pack_to_int32(values, bits))
    assert torch.equal(compressed.unpack(packed, bits, columns), values)
    assert torch.equal(unpack_from_int32(packed, bits, values.shape), values)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("bits", "head"), [(8, True), (8, False), (4, True), (4, False)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_opened_by_us_and_by_transformers(family, bits, head, tied, tmp_path):
    head = head and not (family == "gpt2" and bits == 4)
    model = make(family, bits, head, tied)
    huggingface.save(model, tmp_path, bos=0, eos=1, pad=2)
    again, theirs = huggingface.load(tmp_path).eval(), by_transformers(tmp_path)
    assert again.config == model.config and again.config.tied == (tied and not head)
    ours, found = model.state_dict(), again.state_dict()
    assert ours.keys() == found.keys() and all(torch.equal(ours[name], found[name]) for name in ours)
    assert all(t.is_contiguous() for t in found.values())
    with torch.inference_mode():
        logits = model(IDS)
        assert torch.equal(again(IDS), logits)
        torch.testing.assert_close(theirs(IDS).logits, logits, rtol=0, atol=1e-4 * logits.abs().max().item())
        exact = huggingface.in_transformers(tmp_path).eval()(IDS).logits
        torch.testing.assert_close(exact, logits, rtol=0, atol=1e-4 * logits.abs().max().item())


def test_transformers_really_reads_our_numbers(tmp_path):
    """A scale changed in the folder changes its logits: it did not fall back to anything else."""
    huggingface.save(make("llama", 4), tmp_path, bos=0, eos=1, pad=2)
    with torch.inference_mode():
        before = by_transformers(tmp_path)(IDS).logits
        tensors = load_file(tmp_path / "model.safetensors")
        tensors["model.layers.1.mlp.up_proj.weight_scale"] *= 2
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        after, ours = by_transformers(tmp_path)(IDS).logits, huggingface.load(tmp_path).eval()(IDS)
    assert (after - before).abs().max() > 1e-2
    torch.testing.assert_close(ours, after, rtol=0, atol=1e-4 * after.abs().max().item())


def test_what_compressed_tensors_itself_quantizes_is_opened(tmp_path):
    """A folder of a foreign tool: its own rounding and its own words in config.json."""
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme

    model = GPT(GPTConfig.make("llama", 90, 32, 2, 64, 4, 2)).eval()
    plain = huggingface.tensors(model)
    huggingface.save(model, tmp_path, bos=0, eos=1, pad=2)
    args = QuantizationArgs(num_bits=4, strategy="group", group_size=32)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    tensors = {}
    for name, weight in plain.items():
        if "_proj" not in name:
            tensors[name] = weight.contiguous()
            continue
        scale = weight.unflatten(1, (-1, 32)).abs().amax(-1) / 7.5
        made = PackedQuantizationCompressor.compress({"weight": weight, "weight_scale": scale.bfloat16()}, scheme)
        tensors |= {f"{name.removesuffix('weight')}{key}": value.contiguous() for key, value in made.items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    said = QuantizationConfig(
        config_groups={"group_0": scheme}, format="pack-quantized", quantization_status="compressed", ignore=["lm_head"]
    )
    write_json(
        tmp_path / "config.json",
        read_json(tmp_path / "config.json") | {compressed.KEY: json.loads(said.model_dump_json())},
    )
    with torch.inference_mode():
        ours, theirs = huggingface.load(tmp_path).eval()(IDS), by_transformers(tmp_path)(IDS).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    huggingface.save(make("llama", 4), folder, bos=0, eos=1, pad=2)
    return folder


NAME = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{NAME}.weight_scale": None}, f"{NAME}.weight_scale is missing: copy or make it again"),
        ({f"{NAME}.weight_shape": None}, f"{NAME}.weight_shape is missing"),
        ({f"{NAME}.weight_packed": None}, f"the tensor {NAME}.weight is missing|no part of a llama"),
        ({f"{NAME}.weight_shape": torch.tensor([64, 640])}, "is no matrix of 64 x 640 numbers of 4 or 8 bits"),
        ({f"{NAME}.weight_shape": torch.tensor([63, 64])}, "has 64 rows, and its shape says 63 x 64"),
        ({f"{NAME}.weight_shape": torch.tensor([1])}, "is no packed matrix: it is damaged"),
        ({f"{NAME}.weight_packed": torch.zeros(64, 8)}, "is no packed matrix: it is damaged"),
        ({f"{NAME}.weight_scale": torch.full((64, 2), float("nan"))}, "weight_scale holds NaN or infinity"),
        ({f"{NAME}.weight_scale": torch.ones(64, 4)}, "with 4 bits a group must be a multiple of 32 inputs"),
        ({f"{NAME}.weight_scale": torch.ones(32, 2)}, r"has scales of \(32, 2\) for a matrix of \(64, 64\)"),
        ({f"{NAME}.weight_scale": torch.ones(64)}, "is no matrix of 64 x 64"),
        ({f"{NAME}.weight_zero_point": torch.zeros(64, 2, dtype=torch.int8)}, "zero_point is no part of a llama"),
        ({f"{NAME}.weight": torch.zeros(64, 64)}, f"two of its tensors are {NAME}.weight"),
        (
            {"model.norm.weight_packed": torch.zeros(1, 8, dtype=torch.int32), "model.norm.weight": None,
             "model.norm.weight_scale": torch.ones(1, 1), "model.norm.weight_shape": torch.tensor([1, 64])},
            r"model.norm.weight is \(1, 64\), where \(64,\) is needed",
        ),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_named(saved, change, message, tmp_path):
    with pytest.raises(JourneyError, match=message) as caught:
        huggingface.load(altered(saved, tmp_path, change))
    assert "\n" not in str(caught.value)


def test_an_embedding_is_not_taken_for_a_layer(saved, tmp_path):
    table = "model.embed_tokens"
    values, scale = quantized.rounded(load_file(saved / "model.safetensors")[f"{table}.weight"], 8, 32, "table")
    packed = compressed._packed(table, 8, values, scale, False)
    with pytest.raises(JourneyError, match="embed_tokens is quantized: of quantized weights we compute with those of"):
        huggingface.load(altered(saved, tmp_path, {f"{table}.weight": None, **packed}))


GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 32}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"quant_method": "gptq"},
            "its weights are quantized as gptq, pack-quantized: we read compressed-tensors' pack-quantized and LLM",
        ),
        ({"quant_method": None}, "its weights are quantized as None"),
        ({"format": "float-quantized"}, "compressed-tensors, float-quantized"),
        ({"config_groups": {}}, "has no config_groups"),
        ({"config_groups": [1]}, "has no config_groups"),
        ({"config_groups": {"a": None}}, "a quantizes no weights"),
        ({"config_groups": {"a": {"weights": {"num_bits": 3}}}}, "symmetric numbers of 4 or 8 bits"),
        (
            {"config_groups": {"a": {"weights": {"num_bits": 4, "symmetric": False}}}},
            "symmetric numbers of 4 or 8 bits",
        ),
        (
            {"config_groups": {"a": {"weights": {"num_bits": 8, "type": "float"}}}},
            "a has type 'float', we compute 'int'",
        ),
        (
            {"config_groups": {"a": {"weights": {"num_bits": 4, "actorder": "group"}}}},
            "a has actorder 'group', we comp",
        ),
        ({"config_groups": {"a": GROUP | {"input_activations": {"num_bits": 8}}}}, "a has input_activations: we quant"),
        ({"kv_cache_scheme": {"num_bits": 8}}, "has a kv_cache_scheme, which we do not compute"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(saved, change, message, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    said = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", said | {compressed.KEY: said[compressed.KEY] | change})
    with pytest.raises(JourneyError, match=message) as caught:
        huggingface.load(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value) and "\n" not in str(caught.value)
