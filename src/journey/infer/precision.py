"""The same model in fewer bits, in memory: what the same weights cost to read, and what rounding does to them."""

import copy
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model.gpt import GPT
from journey.model.quantized import is_quantized, linears, quantize

Precision = Literal["fp16", "int8", "int4"]
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
    Rounded to the nearest, as `journey ptq` does by itself.

    Raises JourneyError for a model that is quantized already, and for weights that fp16 cannot hold.
    """
    if is_quantized(model):
        raise JourneyError("the model's weights have few bits already: take the model that they were made of")
    made = copy.copy(model)
    made._modules = {**model._modules, "blocks": copy.deepcopy(model.blocks)}
    if precision != "fp16":
        quantize(made, 8 if precision == "int8" else 4)
        return made
    for name, layer in list(linears(made, head=True)):
        half = layer.weight.half()
        if not half.isfinite().all():
            raise JourneyError(f"{name} holds weights that are no numbers, or too large for fp16")
        made.set_submodule(name, HalfLinear(half, layer.bias))
    return made
