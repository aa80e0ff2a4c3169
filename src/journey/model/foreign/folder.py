"""A Hugging Face folder of an architecture that we compute, with safetensors or with torch's own weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.files import check_file
from journey.model import families, huggingface
from journey.model.foreign import elsewhere
from journey.model.foreign.pickles import Record
from journey.model.foreign.source import Source, type_notes
from journey.model.foreign.torchfile import TorchFile, is_tensor
from journey.model.opening import read_config
from journey.model.quiet import quiet
from journey.model.weights import SAFETENSORS, load_tensors, together

PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_DEEPEST = 3  # state dicts inside dicts inside dicts
_SHARED = 16  # times as much as a file holds: that many blocks may share their weights
_PLAIN = ("int", "float", "str", "bool", "NoneType")
_HELD_BY = ("model", "state_dict", "model_state_dict", "module")  # nanoGPT, Lightning, many a script, DeepSpeed


def read(folder: Path) -> Source:
    """The model of a folder; what we would compute differently is refused by name."""
    if (folder / elsewhere.ADAPTER).exists():
        raise JourneyError(f"{folder} {elsewhere.A_PEFT_ADAPTER}")
    saved = read_config(folder)
    said = huggingface.load_config(folder)
    config, tensors = huggingface.named(said, weights(folder), str(folder))
    notes = type_notes(tensors.values())
    if said.tied and not config.tied:
        notes.append("config.json ties the head to the embedding, but lm_head.weight is another: untied")
    bos = saved.get("bos_token_id")
    version = saved.get("transformers_version")
    return Source(
        format="Hugging Face folder",
        config=config,
        tensors=huggingface.fit(config, tensors, str(folder)),
        notes=notes,
        facts={"transformers": version} if isinstance(version, str) else {},
        logits=lambda ids: logits(folder, config.family, ids),
        bos=bos if type(bos) is int else None,
    )


def weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder, from safetensors or, where there are none, from torch's files."""
    if any((folder / name).exists() for name in SAFETENSORS):
        return load_tensors(folder)
    whole, index = (folder / name for name in PICKLED)
    if not whole.exists() and not index.exists():
        raise JourneyError(f"{folder} has no weights: {elsewhere.instead_of_weights(folder)}")
    return _pickled(whole) if whole.exists() else together(index, _pickled)


def _pickled(path: Path) -> dict[str, Tensor]:
    check_file(path)
    return state_dict(TorchFile(path))[0]


def state_dict(file: TorchFile) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The model's tensors in a file of torch.save, and what else it holds beside them, by name."""
    held, beside = _inside(file)
    tensors = {name: file.tensor(value) for name, value in held.items() if isinstance(name, str)}
    found = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if not found:
        kinds = {_kind(value) for value in held.values()}
        but = f" (but {min(kinds)})" if kinds and kinds.isdisjoint(_PLAIN) else ""
        raise JourneyError(f"{file.path} holds no tensors by name{but}: save the model's state_dict()")
    numbers = sum(tensor.numel() for tensor in found.values())
    if not numbers:
        raise JourneyError(
            f"{file.path}: its tensors are empty, as DeepSpeed's ZeRO-3 leaves them: run zero_to_fp32.py"
        )
    if numbers * 4 > _SHARED * len(file.bytes):
        raise JourneyError(
            f"{file.path} has {len(file.bytes):,} bytes, its tensors would take {numbers * 4:,}: they share memory"
        )
    return found, beside


def _inside(file: TorchFile) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The dict that holds the tensors, and what stands beside it and around it."""
    held, beside = file.root, dict[str, Any]()
    for _ in range(_DEEPEST):
        if not isinstance(held, dict):
            break
        named = {key: value for key, value in held.items() if isinstance(key, str)}
        known = [name for name in _HELD_BY if isinstance(named.get(name), dict | Record)]
        full = [
            name for name, value in named.items() if isinstance(value, dict) and any(map(is_tensor, value.values()))
        ]
        inside = next((name for name in known if name in full), next(iter(known), None))
        if inside is None and not any(map(is_tensor, named.values())):
            if len(full) > 1:
                raise JourneyError(
                    f"{file.path} holds several state dicts ({', '.join(full)[:80]}): save the one that you mean"
                )
            inside = next(iter(full), None)
        if inside is None:
            break
        held = named.pop(inside)
        beside |= named
    if not isinstance(held, dict):
        raise JourneyError(f"{file.path} holds a {_kind(held):.80}, not a state dict: save the model's state_dict()")
    return held, beside


def _kind(value: Any) -> str:
    return value.name if isinstance(value, Record) else type(value).__name__


def logits(folder: Path, family: str, ids: Tensor) -> Tensor:
    """What transformers computes, in fp32 and by its own classes alone. JourneyError where it opens no such folder."""
    import transformers

    kind = getattr(transformers, families.get(family).architecture)
    try:
        with quiet():
            model = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except Exception as error:  # a fault of the folder that we do not mind: each has another class
        said = " ".join(str(error).split())
        raise JourneyError(f"{folder}: transformers cannot open it ({type(error).__name__}: {said:.150})") from None
    with torch.inference_mode():
        return model.eval()(ids, use_cache=False).logits
