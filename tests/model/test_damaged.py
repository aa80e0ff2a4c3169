"""Damaged and hostile model files: one line that names the file, at once, in little memory; never a wait or a crash."""

import json
import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from journey.errors import JourneyError
from journey.model import foreign, gpt, huggingface
from journey.model.config import GPTConfig
from journey.model.families import FAMILIES
from journey.model.gpt import GPT
from tests.pieces import in_pieces

GPT2_SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner")
LLAMA_SIZES = ("vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers")
LLAMA_SIZES += ("num_attention_heads", "num_key_value_heads", "head_dim")
NO_SIZE = ("2", "two", [2], {"a": 2}, True, 2.0, 2.5, -1, 0, 10**9, 10**30, float("nan"), float("inf"))
NO_NUMBER = ("1e-6", [1e-6], {}, True, None, -1, float("nan"), float("inf"), 10**400)
NO_FLAG = ("true", 1, 0, None, [True], {})
OPTIONAL = ("n_inner", "num_key_value_heads", "head_dim")  # null is their default


@pytest.fixture(scope="module")
def folders(tmp_path_factory, theirs):
    made = {}
    for family in FAMILIES:
        made[family] = tmp_path_factory.mktemp(family)
        theirs(family).save_pretrained(made[family])
    return made


@pytest.fixture(params=FAMILIES)
def folder(request, folders, tmp_path):
    """A small model of each family, to be damaged."""
    for file in folders[request.param].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture
def gpt2(folders, tmp_path):
    for file in folders["gpt2"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def refused(folder, said=r"config\.json"):
    """By whoever opens it, in one line that names the file."""
    for read in (huggingface.load, foreign.read):
        start = time.monotonic()
        with pytest.raises(JourneyError, match=said) as error:
            read(folder)
        assert time.monotonic() - start < 5
        line = str(error.value)
        assert "\n" not in line and len(line) < 400 and str(folder) in line, line


def configured(folder, **values):
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | values))
    return said


# config.json


def test_a_size_in_config_json_that_is_none(folder):
    family = json.loads((folder / "config.json").read_text())["model_type"]
    for key in GPT2_SIZES if family == "gpt2" else LLAMA_SIZES:
        for value in (*NO_SIZE, *(() if key in OPTIONAL else (None,))):
            said = configured(folder, **{key: value})
            refused(folder)
            (folder / "config.json").write_text(json.dumps(said))
        said = configured(folder, **{key: 2**23})  # possible, and nothing is built before it is seen to be wrong
        if key != "max_position_embeddings":
            refused(folder, "is needed|are needed|odd|multiple|at most|from 1 to|n_head x head_dim")
        (folder / "config.json").write_text(json.dumps(said))
    huggingface.load(folder)


def test_another_value_in_config_json_that_is_none(folder):
    family = json.loads((folder / "config.json").read_text())["model_type"]
    numbers = ("layer_norm_epsilon",) if family == "gpt2" else ("rms_norm_eps", "rope_theta")
    if family != "gpt2":
        said = json.loads((folder / "config.json").read_text())
        said.pop("rope_parameters", None)
        (folder / "config.json").write_text(json.dumps(said))
    odd = dict.fromkeys(numbers, NO_NUMBER) | {"tie_word_embeddings": NO_FLAG}
    odd |= {"architectures": ("GPT2LMHeadModel", {"a": 1}, 3, [["a"]], [None], [3]), "model_type": ([], {}, 3, None)}
    if family != "gpt2":
        odd["rope_parameters"] = (["default"], "default", 3, {"rope_type": []}, {"rope_theta": "x"}, {"rope_theta": []})
        odd["layer_types"] = ("full", 3, ["sliding_attention", "full_attention"])
        odd["partial_rotary_factor"] = (0.5, "x", [])
    odd["quantization_config"] = ({"quant_method": "gptq"}, "gptq")
    for key, values in odd.items():
        for value in values:
            said = configured(folder, **{key: value})
            refused(folder)
            (folder / "config.json").write_text(json.dumps(said))
    huggingface.load(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is no object"),
        ("3", "is no object"),
        ('"gpt2"', "is no object"),
        ("null", "is no object"),
        ("", "not JSON"),
        ('{"a":', "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"n_layer": ' + "9" * 5000 + "}", "an integer of thousands of digits"),
        ("\ud8ff".encode("utf-8", "surrogatepass"), "is not UTF-8"),
        (b"\x00" * 100, "not JSON"),
        (b" " * (5 << 20), "no more|are not read"),
        ("{}", "unknown architecture None"),
    ],
    ids=range(13),
)
def test_a_config_json_that_is_no_config(gpt2, text, said):
    (gpt2 / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(gpt2, said)


def test_transformers_takes_no_value_for_another_either(gpt2):
    """Why "2" and 2.0 are refused: the oracle."""
    for value in ("2", 2.0, True, [2], None):
        said = configured(gpt2, n_layer=value)
        with pytest.raises(Exception, match="n_layer"):
            AutoConfig.from_pretrained(gpt2)
        (gpt2 / "config.json").write_text(json.dumps(said))


@torch.inference_mode()
def test_gpt2s_second_names_are_read_as_transformers_reads_them(gpt2):
    expected = huggingface.load(gpt2)(torch.arange(9)[None])
    said = json.loads((gpt2 / "config.json").read_text())
    names = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
    names |= {"n_positions": "max_position_embeddings"}
    (gpt2 / "config.json").write_text(json.dumps({names.get(key, key): value for key, value in said.items()}))
    theirs = AutoModelForCausalLM.from_pretrained(gpt2).eval()(torch.arange(9)[None]).logits
    for logits in (huggingface.load(gpt2)(torch.arange(9)[None]), theirs):
        assert (logits - expected).abs().max() < 1e-4


HUGE = """
import sys
from pathlib import Path
from journey.errors import JourneyError
from journey.lineage import peak_memory
from journey.model import foreign, huggingface
for folder in sys.argv[1:]:
    for read in (huggingface.load, foreign.read):
        try:
            read(Path(folder))
            print("read")
        except JourneyError as error:
            print("refused")
print(peak_memory() >> 20)
"""


def test_a_huge_shape_beside_small_weights_costs_nothing(folders, tmp_path):
    cases = {
        "read": [("qwen3", {"max_position_embeddings": n}) for n in (10**6, 10**7)],
        "refused": [
            ("gpt2", {"n_layer": 10**6}), ("gpt2", {"n_inner": 2**24}), ("qwen3", {"num_hidden_layers": 10**6}),
            ("gpt2", {"vocab_size": 10**9}),
            ("llama", {"max_position_embeddings": 10**9}), ("gpt2", {"n_positions": 10**7}),
            ("llama", {"hidden_size": 2**24, "intermediate_size": 2**24, "head_dim": 2}), ("gpt2", {"n_embd": 2**24}),
        ],
    }  # fmt: skip
    made = []
    for family, values in (case for some in cases.values() for case in some):
        made.append(tmp_path / str(len(made)))
        made[-1].mkdir()
        for file in folders[family].iterdir():
            (made[-1] / file.name).write_bytes(file.read_bytes())
        configured(made[-1], **values)
    start = time.monotonic()
    said = subprocess.run(
        [sys.executable, "-c", HUGE, *made], capture_output=True, text=True, check=True
    ).stdout.split()
    assert said[:-1] == ["read"] * 4 + ["refused"] * 16
    assert int(said[-1]) < 600 and time.monotonic() - start < 20  # MiB, most of them torch's own


# Rotary positions, as far as they are used.


def long(monkeypatch, at_first, n_ctx=256):
    monkeypatch.setattr(gpt, "_ROPE_AT_FIRST", at_first)
    torch.manual_seed(0)
    return GPT(GPTConfig.make("qwen3", 97, n_ctx, 2, 32, 4, 2))


def test_a_context_of_a_million_keeps_no_table_of_a_million(monkeypatch):
    model = GPT(GPTConfig.make("qwen3", 97, 1_010_000, 1, 32, 1))
    assert model.rope.shape == (2, 4096, 32)
    assert "rope" not in model.state_dict()


@pytest.mark.parametrize("how", ["plain", "cache", "documents"])
def test_positions_beyond_the_first_are_the_same(monkeypatch, how):
    ids = torch.randint(97, (2, 200), generator=torch.Generator().manual_seed(1))
    outputs = []
    for at_first in (256, 7):
        model = long(monkeypatch, at_first)
        with torch.inference_mode():
            if how == "cache":
                outputs.append(in_pieces(model, ids, [5, 60, 1, 134]))
            else:
                numbers = torch.arange(200).expand(2, -1) // 90 if how == "documents" else None
                outputs.append(model(ids, documents=numbers))
        assert model.rope.size(1) >= (200 if how != "documents" else 90) or at_first == 256
    assert torch.equal(*outputs)
    model(ids, ids).backward()  # what was made in inference mode can be trained with


def test_the_table_never_grows_beyond_the_context(monkeypatch):
    model = long(monkeypatch, 100, n_ctx=130)
    with torch.inference_mode():
        model(torch.zeros(1, 130, dtype=torch.int64))
    assert model.rope.shape == (2, 130, 32 // 4)


@torch.inference_mode()
def test_late_positions_are_transformers_too(folders, tmp_path):
    for file in folders["qwen3"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    configured(tmp_path, max_position_embeddings=1_010_000)
    ids = torch.arange(4200)[None] * 7 % 97
    expected = AutoModelForCausalLM.from_pretrained(tmp_path).eval()(ids).logits[:, -50:]
    assert (huggingface.load(tmp_path)(ids)[:, -50:] - expected).abs().max() < 1e-3


# Pipes, devices, folders.


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nowhere"])
def test_a_pipe_a_device_or_a_folder_in_the_place_of_a_file(gpt2, name, kind):
    for gone in {name, "model.safetensors"} if "index" in name else {name}:
        (gpt2 / gone).unlink(missing_ok=True)
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}
    make.get(kind, lambda path: path.symlink_to("nothing"))(gpt2 / name)
    said = {"config.json": "is no ordinary file|has no config.json", "model.safetensors": "ordinary|missing|no weights"}
    refused(gpt2, said.get(name, "ordinary|missing|no weights"))


@pytest.mark.parametrize("name", ["pipe", "pipe.safetensors", "pipe.pt"])
def test_a_pipe_as_a_checkpoint(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for path in (tmp_path / name, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(JourneyError, match=f"{path} is no ordinary file"):
            foreign.read(path, "gpt2")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_pipe_as_pytorchs_file(gpt2, name):
    (gpt2 / "model.safetensors").unlink()
    os.mkfifo(gpt2 / name)
    with pytest.raises(JourneyError, match=f"{name} is no ordinary file"):
        foreign.read(gpt2)


# Weights.


def header(text, data=b""):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text + data


def tensor(offsets, shape="[2]", dtype="F32"):
    return f'{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}'


SAFETENSORS = {
    "empty": b"",
    "seven bytes": b"1234567",
    "garbage": os.urandom(999),
    "text": b"hello world, this is no model\n" * 9,
    "a header of 10^9 bytes": struct.pack("<Q", 10**9) + b"{}",
    "a header of 2^64 - 1 bytes": b"\xff" * 8 + b"{}",
    "a header of no JSON": header("x" * 50),
    "a list": header("[]"),
    "a number": header("3"),
    "not UTF-8": header(b"\xff\xfe"),
    "deep": header("[" * 100_000),
    "deep objects": header('{"a":' * 100_000 + "1" + "}" * 100_000),
    "out of range": header(tensor("[0,8]"), b"1234"),
    "negative": header(tensor("[-8,0]"), b"12345678"),
    "the end before the beginning": header(tensor("[8,0]"), b"12345678"),
    "a hole": header(tensor("[8,16]"), b"x" * 16),
    "overlapping": header(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        b"x" * 12,
    ),
    "a shape of NaN": header(tensor("[0,8]", "[NaN]"), b"12345678"),
    "a shape of texts": header(tensor("[0,8]", '["2"]'), b"12345678"),
    "a negative shape": header(tensor("[0,8]", "[-2]"), b"12345678"),
    "a shape that overflows": header(tensor("[0,8]", "[4294967296,4294967296,4294967296]"), b"12345678"),
    "another shape": header(tensor("[0,8]", "[3]"), b"12345678"),
    "no such type": header(tensor("[0,8]", dtype="F31"), b"12345678"),
    "longer than its tensors": header(tensor("[0,8]"), b"x" * 99),
    "twice a name": header(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b"x" * 8,
    ),
    "metadata alone": header('{"__metadata__":{"format":"pt"}}'),
    "metadata of numbers": header('{"__metadata__":{"format":3}}'),
    "nothing": header("{}"),
    "a name with line ends": header(tensor("[0,8]").replace('"a"', '"a\\nb\\r"'), b"12345678"),
    "line ends out of range": header(tensor("[0,99]").replace('"a"', '"a\\nb\\r"'), b"12345678"),
    "too many": header(
        "{" + ",".join(f'"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(140_000)) + "}"
    ),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_file_that_is_damaged(gpt2, name):
    path = gpt2 / "model.safetensors"
    path.write_bytes(SAFETENSORS[name])
    refused(gpt2, "damaged|cannot read|0 are there|are missing|no more than|is no part")
    with pytest.raises(JourneyError) as error:
        foreign.read(path, "gpt2", 4)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("of", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "U16", "U64", "BOOL", "C64", "I8"])
def test_a_type_that_no_weight_has(gpt2, of):
    """Read where torch has it, then refused as no weight; else refused."""
    weights = load_file(gpt2 / "model.safetensors")
    bits = {"F4": 4, "F6_E2M3": 6, "U16": 16, "U64": 64, "C64": 64}.get(of, 8)
    entries, data = {}, b""
    for name, value in weights.items():
        kind, raw = ("F32", value.numpy().tobytes()) if "ln_1" not in name else (of, bytes(value.numel() * bits // 8))
        entries[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    (gpt2 / "model.safetensors").write_bytes(header(json.dumps(entries), data))
    if of in ("F8_E4M3", "F8_E5M2", "F8_E8M0"):  # floating point, and so read as any other
        huggingface.load(gpt2)
    else:
        refused(gpt2, "quantized weights are not read|cannot read|damaged|is needed")  # of F4 torch has pairs


def misshapen(value):
    """Of another shape, another number of dimensions, or another type."""
    return value[None], value[:-1], value[:0], value.flatten()[0], value.new_zeros(0), value.to(torch.int32)


def test_weights_of_another_shape_or_number_of_dimensions(folder):
    weights = load_file(folder / "model.safetensors")
    for name, value in weights.items():
        for other in misshapen(value):
            save_file(weights | {name: other.clone()}, folder / "model.safetensors")
            refused(folder, "is needed|quantized weights")


@pytest.mark.parametrize("family", FAMILIES)
def test_bare_weights_of_another_shape(folders, tmp_path, family):
    weights = load_file(folders[family] / "model.safetensors")
    given = {"n_head": 4} if family == "gpt2" else {"n_ctx": 32, "rope_theta": 1e4}
    given |= {"n_head": 4} if family == "llama" else {}
    for name, value in weights.items():
        for other in misshapen(value):
            save_file(weights | {name: other.clone()}, tmp_path / "w.safetensors")
            table = name.endswith(("wpe.weight", "wte.weight", "embed_tokens.weight"))
            if table and other.is_floating_point() and other.shape[1:] == value.shape[1:]:
                continue  # with fewer rows it is a smaller model's
            with pytest.raises(JourneyError) as error:
                foreign.read(tmp_path / "w.safetensors", family, **given)
            assert "w.safetensors" in str(error.value) and "\n" not in str(error.value), name


# torch's files.


def legacy(root, keys=()):
    """A file of torch before 1.6 whose value is this pickle."""
    first = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in first) + root + pickle.dumps(list(keys), 2)


TWOFOLD = b"K\x01" + b"2\x86" * 60  # a pair of pairs of pairs …: 2^60 numbers, were it written out
PICKLES = {
    "a key without end": b"\x80\x02}" + TWOFOLD + b"K\x05s.",
    "a key without end beside": b"\x80\x02}X\x05\x00\x00\x00model}" + TWOFOLD + b"K\x05ss.",
    "arguments without end": b"\x80\x02}(X\x05\x00\x00\x00model}X\x01\x00\x00\x00aK\x01s"
    b"X\x0a\x00\x00\x00model_args}" + TWOFOLD + b"K\x05su.",
    "a value without end": b"\x80\x02}X\x05\x00\x00\x00model" + TWOFOLD + b"s.",
    "itself": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "lists in lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "tuples in tuples": b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "calls in calls": b"\x80\x02N" + b"\x85q\x010cos\nsystem\nh\x01R" * 30_000 + b".",
    "more steps than any": b"\x80\x02" + b"N0" * 1_100_000 + b".",
    "a number of many digits as many keys": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b"q\x000}"
    + b"h\x00Ns" * 100_000 + b".",
    "a name put together a thousand times": b"\x80\x04\x8d" + struct.pack("<Q", 9 << 20) + b"x" * (9 << 20) + b"q\x000"
    + b"h\x00h\x00\x93" * 1000 + b".",
    "a text that is not there": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "a number of 5,000 digits": b"\x80\x02I" + b"9" * 5000 + b"\n.",
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_would_take_for_ever(tmp_path, name):
    path = tmp_path / "x.pt"
    path.write_bytes(legacy(PICKLES[name]))
    start = time.monotonic()
    with pytest.raises(JourneyError) as error:
        foreign.read(path, "gpt2")
    assert time.monotonic() - start < 8
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_legacy_file_of_ten_gigabytes_of_nothing(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(legacy(b"\x80\x04\x8d" + struct.pack("<Q", 9 << 30)))
    os.truncate(path, 10 << 30)
    start = time.monotonic()
    with pytest.raises(JourneyError, match="damaged or cut off pickle"):
        foreign.read(path, "gpt2")
    assert time.monotonic() - start < 5


def test_tensors_of_impossible_sizes(tmp_path):
    """Sizes, strides and offsets are Python's numbers, and can be any."""
    storage = pickle.dumps(None, 2)[2:-1]
    del storage
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value  # noqa: E731
    for sizes in (
        b"(" + (b"\x8b" + struct.pack("<i", 10**5) + b"\x01" * 10**5) * 300 + b"t",
        b"(K\x02J\xff\xff\xff\xfft",
    ):
        pid = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\x04tQ"
        made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"K\x00" + sizes + sizes + b"\x89NtR"
        root = b"\x80\x02}" + text(b"wte.weight") + made + b"s."
        (tmp_path / "x.pt").write_bytes(legacy(root, ["0"]) + struct.pack("<q", 4) + b"x" * 16)
        with pytest.raises(JourneyError, match="does not fit in its storage"):
            foreign.read(tmp_path / "x.pt", "gpt2")


def test_one_storage_as_the_weights_of_thousands_of_blocks(tmp_path, theirs):
    """A small file must not become a large model."""
    state = theirs("gpt2").state_dict()
    block = {name[16:]: tensor for name, tensor in state.items() if name.startswith("transformer.h.0.")}
    many = {f"transformer.h.{i}.{name}": tensor for i in range(2000) for name, tensor in block.items()}
    torch.save(state | many, tmp_path / "x.pt")
    with pytest.raises(JourneyError, match="they share memory"):
        foreign.read(tmp_path / "x.pt", "gpt2", 4)
