"""The folder on disk: a standard Hugging Face checkpoint, written and read without transformers."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from journey.errors import JourneyError
from journey.files import read_json, write_json
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

# What old files carry along and no one trained: GPT-2's causal masks, Llama's frequencies.
CONSTANTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


def tensors(model: GPT) -> dict[str, Tensor]:
    """The model's weights under Hugging Face's names and in its shapes (to read: some share our memory)."""
    ours = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return families.get(model.config.family).to_huggingface(model.config, ours)


def config_json(config: GPTConfig, bos: int | None, eos: int | None, pad: int | None) -> dict[str, Any]:
    """Hugging Face's config.json for our shape."""
    family = families.get(config.family)
    common = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "initializer_range": 0.02,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "dtype": "float32",
    }
    return common | family.config_json(config)


def save(model: GPT, folder: Path, *, bos: int | None = None, eos: int | None = None, pad: int | None = None) -> None:
    """Write config.json and model.safetensors for AutoModelForCausalLM to open; the ids are the tokenizer's."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_json(model.config, bos, eos, pad))
    weights = {name: tensor.contiguous().cpu() for name, tensor in tensors(model).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path) -> GPT:
    """The GPT in a Hugging Face folder, in fp32 on the CPU.

    Raises JourneyError for a model that we would compute differently, and for weights that are missing, cut off or
    of another shape than config.json says.
    """
    config = load_config(folder)
    family = families.get(config.family)
    with torch.device("meta"):  # shapes alone: no time spent on random weights, none of the caller's seed used up
        model = GPT(config)
    wanted, saved = tensors(model), prefixed(load_tensors(folder), config)
    for name in saved.keys() - wanted.keys():
        tied_head = config.tied and name == "lm_head.weight"
        if not tied_head and not name.endswith(CONSTANTS):
            raise JourneyError(f"{folder}: the tensor {name} is not part of a {config.family} model as we compute it")
    for name, tensor in wanted.items():
        if name not in saved:
            raise JourneyError(f"{folder}: the tensor {name} is missing from the weights")
        if saved[name].shape != tensor.shape:
            found, shape = tuple(saved[name].shape), tuple(tensor.shape)
            raise JourneyError(f"{folder}: {name} is {found}, config.json says {shape}")
    ours = family.from_huggingface(config, saved, dict(model.named_parameters()))
    state = {
        name: tensor.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        for name, tensor in ours.items()
    }
    if config.tied:
        state["head.weight"] = state["embed.weight"]
    model.load_state_dict(state, assign=True)
    if config.tied:  # assigning has made two parameters of one
        model.head.weight = model.embed.weight
    return model


def prefixed(saved: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """A folder's tensors by their full names: a model saved without its head (AutoModel) has no prefix."""
    base = families.get(config.family).base
    return {name if name.startswith((base, "lm_head.")) else base + name: saved[name] for name in saved}


def architectures() -> str:
    """Hugging Face's names of all that we compute."""
    return ", ".join(family.architecture for family in families.table().values())


def load_config(folder: Path) -> GPTConfig:
    """The shape that a folder's config.json describes; what we do not compute is refused by name."""
    path = folder / "config.json"
    if not path.is_file():
        raise JourneyError(f"{folder} is no checkpoint: it has no config.json")
    saved = read_json(path)
    family = families.find(model_type := saved.get("model_type"))
    named = (saved.get("architectures") or [family and family.architecture])[0]  # old files name none
    if family is None or named != family.architecture:
        raise JourneyError(f"{path}: unknown architecture {named}, model_type {model_type}; known: {architectures()}")
    for key, allowed in family.computed.items():
        if key in saved and saved[key] not in allowed:
            raise JourneyError(f"{path}: {key} is {saved[key]!r}, we compute {allowed[0]!r} alone")
    try:
        return family.read_config(saved, path)
    except KeyError as error:
        raise JourneyError(f"{path}: the key {error} is missing") from error


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor by its saved name, from model.safetensors or from the shards that its index names."""
    index, shards = folder / "model.safetensors.index.json", ["model.safetensors"]
    if index.is_file():
        shards = sorted(set(read_json(index)["weight_map"].values()))
    result: dict[str, Tensor] = {}
    for path in (folder / shard for shard in shards):
        if not path.is_file():
            raise JourneyError(f"{path} is missing")
        try:
            with safe_open(path, framework="pt") as file:
                result |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise JourneyError(f"{path} is damaged or cut off ({error}): copy or make it again") from error
    return result
