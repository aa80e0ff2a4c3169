"""A Hugging Face folder of an architecture that we compute, with safetensors or with torch's own weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.files import read_json
from journey.model import families, huggingface
from journey.model.foreign.source import Source, fit, is_tied, type_notes
from journey.model.foreign.torchfile import TorchFile

PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def read(folder: Path) -> Source:
    """The model of a folder; what we would compute differently is refused by name."""
    saved = read_json(folder / "config.json")
    if not isinstance(saved, dict):
        raise JourneyError(f"{folder / 'config.json'} is no object: it is damaged")
    if saved.get("model_type") == "qwen2":
        raise JourneyError(
            f"{folder} is a Qwen2, with biases on q, k and v that we do not compute; "
            f"possible: {huggingface.architectures()}"
        )
    config = huggingface.load_config(folder)
    tensors = huggingface.prefixed(weights(folder), config)
    embedding = f"{families.get(config.family).embedding}.weight"
    if config.tied and embedding in tensors and not is_tied(tensors, embedding):
        raise JourneyError(f"{folder}: config.json ties the head to the embedding, but lm_head.weight is another")
    bos = saved.get("bos_token_id")
    return Source(
        format="Hugging Face folder",
        config=config,
        tensors=fit(config, tensors, str(folder)),
        notes=type_notes(tensors.values()),
        facts={"transformers": saved["transformers_version"]} if "transformers_version" in saved else {},
        logits=lambda ids: logits(folder, config.family, ids),
        bos=bos if type(bos) is int else None,
    )


def weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder, from safetensors or, where there are none, from torch's files."""
    if any((folder / name).exists() for name in ("model.safetensors", "model.safetensors.index.json")):
        return huggingface.load_tensors(folder)
    whole, index = (folder / name for name in PICKLED)
    if not whole.exists() and not index.exists():
        raise JourneyError(f"{folder} has no weights: model.safetensors or pytorch_model.bin")
    shards = (
        [whole] if whole.exists() else [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    )
    found: dict[str, Tensor] = {}
    for shard in shards:
        if not shard.is_file():
            raise JourneyError(f"{shard} is missing")
        found |= state_dict(TorchFile(shard))[0]
    return found


def state_dict(file: TorchFile) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The model's tensors in a file of torch.save, and what else it holds beside them, by name."""
    root = file.root
    if not isinstance(root, dict):
        what = getattr(root, "name", type(root).__name__)
        raise JourneyError(f"{file.path} holds a {what:.80}, not a state dict: save the model's state_dict()")
    inside = next((k for k in ("model", "state_dict", "model_state_dict") if isinstance(root.get(k), dict)), None)
    held = root[inside] if inside else root
    tensors = {str(name): file.tensor(value) for name, value in held.items()}
    found = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if not found:
        raise JourneyError(f"{file.path} holds no tensors by name: save the model's state_dict()")
    return found, {str(name): value for name, value in root.items() if name != inside} if inside else {}


def logits(folder: Path, family: str, ids: Tensor) -> Tensor:
    """What transformers computes, in fp32 and by its own classes alone."""
    import transformers
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        kind = getattr(transformers, families.get(family).architecture)
        model = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    with torch.inference_mode():
        return model.eval()(ids, use_cache=False).logits
