"""A training's state on the disk, from which it goes on exactly: weights, the optimizers' state and the history."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from journey.files import read_json
from journey.train.history import HISTORY
from journey.train.optimizers import Optimizers

_TENSORS = "state.safetensors"


def save(
    model: nn.Module,
    optimizers: Optimizers,
    history: list[dict[str, Any]],
    folder: Path,
    best: Mapping[str, Tensor] | None = None,
) -> None:
    """Everything that `resume` puts back; `best`: the best weights so far, where they are wanted."""
    parts = {"model": {name: p.detach() for name, p in model.named_parameters()}, "best": best or {}}
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizers.tensors().items()}
    save_file(tensors, folder / _TENSORS)
    (folder / HISTORY).write_text(json.dumps(history))


def resume(
    model: nn.Module, optimizers: Optimizers, folder: Path | None
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Put a saved state back; the history so far, empty when there is none, and the best weights so far."""
    if folder is None:
        return [], {}
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
    for name, tensor in load_file(folder / _TENSORS).items():
        part, _, own = name.partition(".")
        parts[part][own] = tensor
    put(model, parts["model"])
    optimizers.load_tensors(parts["optimizer"])
    return read_json(folder / HISTORY), parts["best"]


def put(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into a model's parameters of the same names."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(weights[name])
