"""A checkpoint from elsewhere, once it is understood: its shape, its tensors under standard names, and how to check."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.model import families, huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT


@dataclass
class Source:
    """What a checkpoint holds. Its tensors have Hugging Face's names and shapes, and their own type."""

    format: str
    config: GPTConfig
    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)  # what was found that a person should know
    facts: dict[str, Any] = field(default_factory=dict)  # how it was trained, as far as it says
    logits: Callable[[Tensor], Tensor] | None = None  # ids (1, T) -> (1, T, V), computed without our model
    unchecked: str = ""  # why there is no `logits`
    exact_gelu: Callable[[Tensor], Tensor] | None = None  # the same with GELU by the error function
    bos: int | None = None  # the id that began each of its documents, where it says so


def fit(config: GPTConfig, tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors that a model of this shape has, under Hugging Face's names; all of them there, and no other.

    Raises JourneyError for a tensor that is missing, left over, of another shape, or of no floating-point type.
    """
    # Before the shapes are made: a damaged config.json could ask for a billion blocks.
    if (found := layers(tensors, families.get(config.family).blocks)) < config.n_layer:
        raise JourneyError(f"{where}: {config.n_layer:,} blocks are needed, {found} are there: tensors are missing")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in huggingface.tensors(GPT(config)).items()}
    over = [n for n in tensors if n not in shapes and n != "lm_head.weight" and not n.endswith(huggingface.CONSTANTS)]
    if over:
        hint = "; biases on q, k and v are Qwen2's" if over[0].endswith(("q_proj.bias", "k_proj.bias")) else ""
        possible = huggingface.architectures()
        raise JourneyError(f"{where}: {over[0]} is no part of a {config.family} as we compute it{hint}: {possible}")
    for name, shape in shapes.items():
        if name not in tensors:
            raise JourneyError(f"{where}: the tensor {name} is missing")
        if tensors[name].shape != shape:
            raise JourneyError(f"{where}: {name} is {tuple(tensors[name].shape)}, where {tuple(shape)} is needed")
        if not tensors[name].is_floating_point():
            raise JourneyError(f"{where}: {name} holds {_type(tensors[name])}: quantized weights are not read")
    return {name: tensors[name] for name in shapes}


def type_notes(tensors: Iterable[Tensor]) -> list[str]:
    """Say so where weights are not in float32 already."""
    others = sorted({_type(tensor) for tensor in tensors} - {"float32"})
    return [f"weights in {' and '.join(others)}: converted to float32"] if others else []


def layers(names: Iterable[str], prefix: str) -> int:
    """How many blocks `prefix0.`, `prefix1.`, … there are."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)})


def unwrapped(tensors: dict[str, Tensor], anchor: str, base: str, where: str) -> dict[str, Tensor]:
    """The tensors as `base` + their plain name, without what wrappers put in front (`_orig_mod.` of torch.compile,
    `module.` of DDP, `model.` of Lightning). The tensor whose name ends in `anchor` tells what that is."""
    found = [name for name in tensors if f".{name}".endswith(f".{anchor}")]
    if len(found) != 1:
        raise JourneyError(f"{where}: {len(found)} tensors named {anchor}: is it another family, or not one model?")
    prefix = found[0].removesuffix(anchor)
    plain = {}
    for name, tensor in tensors.items():
        if f".{name}".endswith(".lm_head.weight"):
            plain["lm_head.weight"] = tensor
        else:
            plain[base + name.removeprefix(prefix) if name.startswith(prefix) else name] = tensor
    return plain


def is_tied(tensors: dict[str, Tensor], embedding: str) -> bool:
    """Whether the output head is the token embedding: there is none of its own, or it is the same."""
    head = tensors.get("lm_head.weight")
    return head is None or torch.equal(head, tensors[embedding])


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
