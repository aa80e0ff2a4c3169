"""Checkpoints that others wrote, read without running anything in them; one module a format."""

import dataclasses
import math
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from journey.errors import JourneyError, nearest
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.families import FAMILIES
from journey.model.foreign import elsewhere, folder, gpt2, llama, llmc
from journey.model.foreign.pickles import Record
from journey.model.foreign.source import Source
from journey.model.foreign.torchfile import TorchFile
from journey.model.gpt import GPT
from journey.model.huggingface import tensors as model_tensors
from journey.model.sizes import RANDOM_LLAMA, llama_31_8b
from journey.model.weights import check_weights, read_safetensors

_LONGEST_TEXT = 200  # characters of a training fact that is carried along


def read(
    path: Path, family: str = "", n_head: int | None = None, n_ctx: int | None = None, rope_theta: float | None = None
) -> Source:
    """A checkpoint: a Hugging Face folder, nanoGPT's or build-nanogpt's file, llm.c's, or a bare state dict.

    `family` and what follows it are for a bare state dict, which does not say what it is; where a checkpoint says
    otherwise, that is an error. Raises JourneyError for whatever cannot be read or computed.
    """
    if family and family not in FAMILIES:
        raise JourneyError(f'--family "{family}" is none of {", ".join(FAMILIES)}{nearest(family, FAMILIES)}')
    if not path.exists():
        raise JourneyError(f"{path} does not exist: give a checkpoint's file or a Hugging Face folder")
    source = _read(path, family, n_head, n_ctx, rope_theta)
    for name, given, found in (("family", family, source.config.family), ("n-head", n_head, source.config.n_head)):
        if given and given != found:
            raise JourneyError(f"{path}: it is a {source.format} with {name} {found}, not {given}: leave --{name} out")
    return _cut(source, n_ctx, path)


def _cut(source: Source, n_ctx: int | None, path: object) -> Source:
    """With no more than n_ctx positions: of learned ones the first rows; rotary ones have nothing to cut."""
    longest = source.config.n_ctx
    if n_ctx is not None and not 1 <= n_ctx <= longest:
        raise JourneyError(f"{path}: n_ctx {n_ctx:,} is not from 1 to the {longest:,} positions that it was made for")
    if n_ctx is None or n_ctx == longest:
        return source
    source.config = dataclasses.replace(source.config, n_ctx=n_ctx)
    if positions := families.get(source.config.family).positions:
        source.tensors[f"{positions}.weight"] = source.tensors[f"{positions}.weight"][:n_ctx]
    source.notes.append(f"{n_ctx:,} of its {longest:,} positions kept, as asked")
    return source


def random(name: str, seed: int, n_ctx: int | None = None) -> Source:
    """One of `sizes.RANDOM` with GPT-2's vocabulary: GPT-2's 124M shape, or all that makes a Llama 3.1 in small (heads
    that share keys, a head that is not tied, scaled positions)."""
    if name == RANDOM_LLAMA:
        small = dataclasses.replace(llama_31_8b(), vocab_size=50257, n_layer=2, n_embd=64, n_inner=224)
        config = dataclasses.replace(small, n_head=4, n_kv_head=2, head_dim=16)
    else:
        config = GPTConfig.make(gpt2.FAMILY, 50257, 1024, 12, 768)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = model_tensors(GPT(config))
    source = Source(name, config, made, ["random weights: it knows nothing"], unchecked="the weights are random")
    return _cut(source, n_ctx, name)


def _read(path: Path, family: str, n_head: int | None, n_ctx: int | None, rope_theta: float | None) -> Source:
    if path.is_dir():
        if (path / "config.json").exists():
            return folder.read(path)
        raise JourneyError(f"{path} {elsewhere.instead_of_folder(path)}")
    check_weights(path)
    with open(path, "rb") as file:
        head = file.read(4)
    if what := elsewhere.instead_of_file(head):
        raise JourneyError(f"{path} is {what}")
    if len(head) == 4 and struct.unpack("<i", head)[0] in (llmc.MAGIC, llmc.LLAMA_MAGIC):
        return llmc.read(path)
    if path.suffix == ".safetensors":
        return _bare(read_safetensors(path), path, family, n_head, n_ctx, rope_theta)
    saved = TorchFile(path)
    tensors, beside = folder.state_dict(saved)
    # nanoGPT keeps the shape as a dict, build-nanogpt as an instance of a class of its script.
    if isinstance(args := beside.get("model_args"), dict):
        source = gpt2.read(tensors, str(path), "nanoGPT", _named(args))
    elif isinstance(own := beside.get("config"), Record) and isinstance(own.state, dict) and "n_head" in own.state:
        source = gpt2.read(tensors, str(path), "build-nanogpt", _named(own.state))
    else:
        source = _bare(tensors, path, family, n_head, n_ctx, rope_theta)
    source.facts |= _facts(saved, beside)
    return source


def _named(values: dict[Any, Any]) -> dict[str, Any]:
    """Those that go by a text: what else a pickle can have as a key may take for ever to be written out."""
    return {name: value for name, value in values.items() if isinstance(name, str)}


def _bare(
    tensors: dict[str, Tensor],
    path: Path,
    family: str,
    n_head: int | None,
    n_ctx: int | None,
    rope_theta: float | None,
) -> Source:
    if not family:
        like = next((f for end, f in _SIGNS.items() if any(name.endswith(end) for name in tensors)), "")
        hint = f"--family {like} by its names" if like else f"--family, one of {', '.join(FAMILIES)}"
        hint = "the folder, whose config.json does" if (path.parent / "config.json").exists() else hint
        raise JourneyError(f"{path}: a bare state dict does not say what it is: give {hint}")
    if family == gpt2.FAMILY:
        return gpt2.read(tensors, str(path), "gpt2 state dict", n_head=n_head)
    return llama.read(tensors, str(path), family, n_head, n_ctx, rope_theta)


_SIGNS = {
    "wte.weight": "gpt2",
    "q_norm.weight": "qwen3",
    "self_attn.q_proj.bias": "qwen2",
    "self_attn.q_proj.weight": "llama",
}


def _facts(file: TorchFile, beside: dict[str, Any]) -> dict[str, Any]:
    """The plain numbers and short texts that stand beside the weights: how far it was trained, and how."""
    facts: dict[str, Any] = {}
    for name, value in beside.items():
        scalar = _plain(value, file)
        if scalar is not None:
            facts[name] = scalar
        elif name == "config" and isinstance(value, dict):
            inside = {key: _plain(one, file) for key, one in _named(value).items()}
            facts[name] = {key: one for key, one in inside.items() if one is not None}
    return facts


def _plain(value: Any, file: TorchFile) -> Any:
    """A number or a short text that JSON can hold (a tensor of one number too), None for all else."""
    if isinstance(value, Record):
        try:
            tensor = file.tensor(value)
        except JourneyError:  # of a kind that is not read: beside the weights, no harm
            return None
        value = tensor.item() if tensor is not None and tensor.numel() == 1 else None
    if isinstance(value, str):
        return str(value) if len(value) <= _LONGEST_TEXT and value.isprintable() else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 1 << 63) else None
