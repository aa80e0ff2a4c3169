"""A checkpoint from elsewhere, once it is understood: its shape, its tensors under standard names, and how to check."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from journey.errors import JourneyError
from journey.model.config import GPTConfig
from journey.model.weights import HEAD, put, tie, type_of, without_wrappers


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


def shape(where: str, **sizes: Any) -> GPTConfig:
    """The shape of these sizes. Raises JourneyError, with the file, for one that cannot be."""
    try:
        return GPTConfig(**sizes)
    except JourneyError as error:
        raise JourneyError(f"{where}: {error}") from None


def type_notes(tensors: Iterable[Tensor]) -> list[str]:
    """Say so where weights are not in float32 already."""
    others = sorted({type_of(tensor) for tensor in tensors} - {"float32"})
    return [f"weights in {' and '.join(others)}: converted to float32"] if others else []


def unwrapped(tensors: dict[str, Tensor], embedding: str, always: str, base: str, where: str) -> dict[str, Tensor]:
    """A bare state dict's tensors as `base` + their plain name, without what wrappers put into it or in front
    (`model.` of Lightning); the head alone is the token embedding too.

    The tensor whose name ends in `embedding` tells what stands in front or, where a tied pair was saved as the head
    alone, the one that ends in `always`.
    """
    tensors = without_wrappers(tensors, where)
    ends = {end: [name for name in tensors if f".{name}".endswith(f".{end}")] for end in (embedding, always, HEAD)}
    anchor = always if not ends[embedding] and len(ends[HEAD]) == len(ends[always]) == 1 else embedding
    if len(found := ends[anchor]) != 1:
        raise JourneyError(f"{where}: {len(found)} tensors named {anchor}: is it another family, or not one model?")
    prefix = found[0].removesuffix(anchor)
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        known = base + name.removeprefix(prefix) if name.startswith(prefix) else name
        put(plain, HEAD if name in ends[HEAD] else known, tensor, where)
    return tie(plain, base + embedding)
