"""The same model in fewer bits, in memory: what the same weights cost to read, and what rounding does to them."""

import copy
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model.gpt import GPT

Precision = Literal["fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class HalfLinear(nn.Module):
    """A linear layer whose weight is kept in fp16 and computed with in fp32."""

    weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(x, self.weight.float(), self.bias)


@torch.no_grad()
def convert(model: GPT, precision: Precision) -> GPT:
    """A copy whose matrices, the head among them, have fewer bits; embeddings, norms and biases are the model's own.

    Raises JourneyError for weights that fp16 cannot hold.
    """
    made = copy.copy(model)
    made._modules = dict(model._modules)
    made.blocks = copy.deepcopy(model.blocks)
    for name, layer in [("head", model.head), *made.blocks.named_modules()]:
        if isinstance(layer, nn.Linear):
            half = layer.weight.half()
            if not half.isfinite().all():
                raise JourneyError(f"{name} holds weights that are no numbers, or too large for fp16")
            _put(made if name == "head" else made.blocks, name, HalfLinear(half, layer.bias))
    return made


def _put(into: nn.Module, name: str, layer: nn.Module) -> None:
    place, _, last = name.rpartition(".")
    setattr(into.get_submodule(place), last, layer)
