"""Linear layers with weights of 8 and of 4 bits, and the rounding that makes them.

A weight is a whole number times a scale: a row has one scale where the numbers have 8 bits, and one for each group of
its inputs where they have 4. The layout in memory is the one that a kernel reads, row after row:

    8 bits   q int8 (out, in)        scale float32 (out, 1)
    4 bits   q uint8 (out, in / 2)   scale float32 (out, in / group): of 32 consecutive inputs 16 bytes, byte i has
                                     input i in its low half and input i + 16 in its high half, each plus 8
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model.gpt import GPT

Bits = Literal[4, 8]
OUTLIER = 6.0  # from which an input is one (Dettmers et al. 2022)
BLOCK = 32  # inputs whose halves share bytes: a group is a multiple of it
HEAD = "head"  # our name of the output head
# Where a group's largest number may land, in steps: that of the three with the smallest squared error is taken. There
# is no +8, so it may be cut to 7; numbers that are steps already are found again.
_TOPS = (7.0, 7.5, 8.0)


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is `q` times `scale`, computed in fp32 exactly as the two say: what a kernel that
    reads them is held against."""

    q: Tensor
    scale: Tensor

    def __init__(self, bits: Bits, values: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        """Of whole numbers (out, in), int8 and with 4 bits from -8 to 7, and their scales (out, in / group)."""
        super().__init__()
        self.bits: Bits = bits
        self.out_features, self.in_features = values.shape
        self.group = self.in_features // scale.size(1)
        self.register_buffer("q", (values if bits == 8 else pack(values)).contiguous())
        self.register_buffer("scale", scale.float().contiguous())
        self.bias = bias

    def values(self) -> Tensor:
        """The whole numbers, (out, in) int8."""
        return self.q if self.bits == 8 else unpack(self.q)

    def weight_dequantized(self) -> Tensor:
        """The weight that is computed with, (out, in) fp32."""
        return (self.values().unflatten(1, (-1, self.group)) * self.scale[..., None]).flatten(1)

    @property
    def weight(self) -> Tensor:
        """The same under the name that an nn.Linear has it by."""
        return self.weight_dequantized()

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        return F.linear(x, self.weight_dequantized(), self.bias)

    def extra_repr(self) -> str:
        """In a printed model."""
        return f"in={self.in_features}, out={self.out_features}, bits={self.bits}, group={self.group}"


class OutlierLinear(QuantizedLinear):
    """A layer of LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339): 8-bit weights times inputs of 8 bits, but for the
    few inputs of which one is large, which are multiplied in fp32.

    As bitsandbytes computes it: inputs are looked at in fp16, and all rows of a call together say which inputs have an
    outlier. So what comes out for one text depends a little on what else is computed with it.
    """

    def __init__(
        self, bits: Bits, values: Tensor, scale: Tensor, bias: Tensor | None = None, threshold: float = OUTLIER
    ) -> None:
        super().__init__(bits, values, scale, bias)
        self.threshold = threshold  # 0: nothing is an outlier

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        rows = x.flatten(0, -2)  # (N, in)
        seen = rows.half()
        large = (seen.abs() >= self.threshold) & (self.threshold > 0)  # (N, in)
        whole = large.any(0)  # (in,)
        top = seen.masked_fill(large, 0).abs().amax(1, keepdim=True).float()  # (N, 1)
        steps = (seen * (127 / torch.where(top > 0, top, 1))).masked_fill(whole, 0).round()  # (N, in), at most ±127
        # Sums of whole numbers, which fp32 knows exactly to 1,040 inputs, and far beyond at their usual size.
        y = steps @ self.q.float().T * (top / 127) * self.scale.T
        if whole.any():
            y = y + rows[:, whole] @ self.weight_dequantized()[:, whole].T
        if self.bias is not None:
            y = y + self.bias
        return y.unflatten(0, x.shape[:-1])


def pack(values: Tensor) -> Tensor:
    """Whole numbers from -8 to 7, (out, in) int8, two a byte: (out, in / 2) uint8, in the order said above."""
    low, high = (values + 8).to(torch.uint8).unflatten(1, (-1, 2, BLOCK // 2)).unbind(2)  # (out, in / 32, 16) each
    return (low | high << 4).flatten(1)


def unpack(q: Tensor) -> Tensor:
    """The way back, (out, in / 2) uint8 -> (out, in) int8."""
    halves = q.unflatten(1, (-1, BLOCK // 2))  # (out, in / 32, 16)
    return torch.stack([halves & 15, halves >> 4], 2).flatten(1).to(torch.int8) - 8


def rounded(weight: Tensor, bits: Bits, group: int, name: str) -> tuple[Tensor, Tensor]:
    """A weight (out, in) as whole numbers (out, in) int8 and scales: of 8 bits one a row, by its largest number; of 4
    one for each `group` inputs, the best of `_TOPS`.

    Errors: JourneyError naming the weight, where it holds NaN or infinity or its inputs are no multiple of the group.
    """
    weight = weight.detach().float()
    if not weight.isfinite().all():
        raise JourneyError(f"{name} holds NaN or infinity: take a checkpoint from before training broke")
    if bits == 8:
        values, scale = _to_steps(weight[:, None], 127.0, -127, 127)
        return values.flatten(1), scale
    if weight.size(1) % group:
        raise JourneyError(
            f"{name} has {weight.size(1):,} inputs, no multiple of a group of {group}: {_groups(weight)}"
        )
    grouped = weight.unflatten(1, (-1, group))  # (out, in / group, group)
    values, scale = _to_steps(grouped, _TOPS[0], -8, 7)
    error = _off(grouped, values, scale)
    for top in _TOPS[1:]:
        others, its_scale = _to_steps(grouped, top, -8, 7)
        better = (its_error := _off(grouped, others, its_scale)) < error  # (out, in / group)
        values, scale = torch.where(better[..., None], others, values), torch.where(better, its_scale, scale)
        error = torch.where(better, its_error, error)
    return values.flatten(1), scale


def _to_steps(weight: Tensor, top: float, low: int, high: int) -> tuple[Tensor, Tensor]:
    """The nearest whole numbers of steps with which each group's largest is `top` steps: (out, groups, group) int8 and
    the step of each group (out, groups). A group of zeros, or of numbers too small to divide, has the step 1."""
    scale = weight.abs().amax(-1) / top
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
    return (weight / scale[..., None]).round().clamp(low, high).to(torch.int8), scale


def _off(weight: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """The length of each group's error, (out, groups); squared in steps, for fp32 has no square of 1e20."""
    return (weight / scale[..., None] - values).norm(dim=-1) * scale


def _groups(weight: Tensor) -> str:
    possible = [n for n in (32, 64, 128) if weight.size(1) % n == 0]
    return f"possible are {', '.join(map(str, possible))}" if possible else "take 8 bits"


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer of a model is."""
    return any(isinstance(module, QuantizedLinear) for module in model.modules())


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters by name, quantized weights as what they are computed with."""
    plain = {name: parameter.detach() for name, parameter in model.named_parameters()}
    made = {f"{n}.weight": m.weight for n, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    return plain | made


def linears(model: GPT, head: bool) -> Iterator[tuple[str, nn.Linear]]:
    """The layers that can be quantized, by name: those of the blocks, then, if asked for, the output head."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and (head or name != HEAD):
            yield name, module


def quantize(
    model: GPT, bits: Bits, group: int = 64, head: bool = True, kind: type[QuantizedLinear] = QuantizedLinear
) -> dict[str, float]:
    """Put quantized layers in the place of a model's linear ones; by name the relative error of each weight, the length
    of the difference over that of the weight (Frobenius norms).

    The head has 8 bits whatever the blocks have, as llama.cpp's files do: it decides every prediction directly. Where
    it was tied to the embedding, that stays as it was, and the two are from then on two matrices.
    """
    errors = {}
    for name, linear in list(linears(model, head)):
        width: Bits = 8 if name == HEAD else bits
        made = kind(width, *rounded(linear.weight, width, group, name), linear.bias)
        errors[name] = relative(made.weight_dequantized(), linear.weight.detach().float())
        model.set_submodule(name, made)
    if head:
        model.config = replace(model.config, tied=False)
    return errors


def relative(made: Tensor, weight: Tensor) -> float:
    """‖made - weight‖ / ‖weight‖, 0 where both are 0."""
    size, off = weight.double().norm(), (made.double() - weight.double()).norm()
    return float(off / size) if size > 0 else 0.0
