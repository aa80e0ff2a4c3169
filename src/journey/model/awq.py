"""Activation-aware scales before rounding (AWQ, Lin et al. 2023, arXiv:2306.00978).

An input of a layer that is usually large makes the errors of its weights large. So before rounding, the weights of
input i are multiplied by s_i = mean|x_i|^alpha, for which a step is then a smaller part of them, and what makes that
input is divided by it: the norm before, or the rows of the layer before. The model computes what it did, and its folder
needs nothing of ours. Alpha is found by trying: that with the smallest error of the layers' outputs on a text.

Not every layer has something before it that can be divided: where heads share values (GQA) the output projection has
not, nor has the second layer of an MLP whose activation is not a gate's. Those are rounded as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from journey.model.gpt import GPT
from journey.model.quantized import Bits, QuantizedLinear, rounded

ALPHAS = tuple(i / 20 for i in range(20))  # 0, with which nothing is scaled, to 0.95


@dataclass(frozen=True)
class Fold:
    """Layers that read the same input, and the module that makes it and can be divided by what they are multiplied."""

    names: tuple[str, ...]
    layers: tuple[nn.Linear, ...]
    before: nn.Module


@dataclass(frozen=True)
class Choice:
    """What was found for a fold: alpha, and the relative error of its layers' outputs, with it and with 0."""

    names: tuple[str, ...]
    alpha: float
    error: float
    error_unscaled: float


class Inputs:
    """Of the inputs x (N, in) of a layer the mean |x_i| and the sum of x xᵀ, from which any output's error follows:
    no more than a batch of them is ever held."""

    def __init__(self, n_inputs: int) -> None:
        self.n, self.sums, self.gram = 0, torch.zeros(n_inputs), torch.zeros(n_inputs, n_inputs)

    def add(self, x: Tensor) -> None:
        """Count in x (…, in)."""
        x = x.detach().flatten(0, -2)  # (N, in)
        self.n += len(x)
        self.sums += x.abs().sum(0)
        self.gram += x.T @ x

    def squared(self, weight: Tensor) -> float:
        """Σ ‖W x‖² over the inputs, of a weight or of a difference of two (out, in)."""
        return float(((weight @ self.gram) * weight).sum(dtype=torch.float64))


def folds(model: GPT) -> Iterator[Fold]:
    """Block by block: queries, keys and values behind their norm, the output projection behind the values, the MLP's
    first layers behind theirs, and its last behind the one that the gate multiplies."""
    for i, block in enumerate(model.blocks):
        # A family's blocks have the layers that they have.
        attention, mlp = (dict(cast(nn.Module, part).named_children()) for part in (block.attention, block.mlp))
        where = f"blocks.{i}"
        yield _fold(f"{where}.attention", attention, ("q", "k", "v"), cast(nn.Module, block.attention_norm))
        if attention["v"].out_features == attention["o"].in_features:
            yield _fold(f"{where}.attention", attention, ("o",), attention["v"])
        first = tuple(name for name in ("gate", "up") if name in mlp)
        yield _fold(f"{where}.mlp", mlp, first, cast(nn.Module, block.mlp_norm))
        if "gate" in mlp:
            yield _fold(f"{where}.mlp", mlp, ("down",), mlp["up"])


def _fold(where: str, modules: dict[str, nn.Module], names: tuple[str, ...], before: nn.Module) -> Fold:
    return Fold(tuple(f"{where}.{n}" for n in names), tuple(cast(nn.Linear, modules[n]) for n in names), before)


@torch.no_grad()
def apply(
    model: GPT,
    rows: Sequence[Sequence[int]],
    bits: Bits,
    group: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Choice]:
    """Scale a model's layers for rounding to so many bits by what they read of rows of ids, each at most n_ctx long.
    The model goes on computing the same. `progress` is told how many folds of how many are done."""
    found = list(folds(model))
    inputs = [Inputs(fold.layers[0].in_features) for fold in found]
    with ExitStack() as stack:
        for fold, into in zip(found, inputs, strict=True):
            hook = fold.layers[0].register_forward_pre_hook(_adding(into))
            stack.callback(hook.remove)
        for row in rows:
            model.hidden(torch.tensor([row]))
    choices: list[Choice] = []
    for fold, into in zip(found, inputs, strict=True):
        progress(len(choices), len(found))
        choices.append(_scale(fold, into, bits, group))
    return choices


def _adding(into: Inputs) -> Any:
    return lambda module, given: into.add(given[0])


def _scale(fold: Fold, inputs: Inputs, bits: Bits, group: int) -> Choice:
    """Find the alpha of a fold, and multiply and divide."""
    usual = inputs.sums / max(1, inputs.n)  # (in,)
    best, least, unscaled = torch.ones_like(usual), float("inf"), float("inf")
    alpha = 0.0
    for tried in ALPHAS:
        scale = scales(usual, tried)
        error = sum(inputs.squared(_error(layer, name, scale, bits, group)) for name, layer in _named(fold))
        if tried == 0:
            unscaled = error
        if error < least:
            alpha, best, least = tried, scale, error
    size = sum(inputs.squared(layer.weight) for layer in fold.layers)
    for layer in fold.layers:
        layer.weight.mul_(best)
    for part in ("weight", "bias"):
        if (tensor := getattr(fold.before, part, None)) is not None:
            tensor.div_(best[:, None] if tensor.dim() == 2 else best)
    relative = [(max(0.0, error) / size) ** 0.5 if size > 0 else 0.0 for error in (least, unscaled)]
    return Choice(fold.names, alpha, *relative)


def scales(usual: Tensor, alpha: float) -> Tensor:
    """mean|x|^alpha (in,), so that the largest and the smallest lie as far above 1 as below; an input that is always 0
    is taken for a very small one."""
    largest = float(usual.max())
    if largest <= 0:
        return torch.ones_like(usual)
    powers = (usual / largest).clamp(min=1e-4) ** alpha
    return powers / (powers.max() * powers.min()).sqrt()


def _named(fold: Fold) -> Iterator[tuple[str, nn.Linear]]:
    return zip(fold.names, fold.layers, strict=True)


def _error(layer: nn.Linear, name: str, scale: Tensor, bits: Bits, group: int) -> Tensor:
    """By how much a weight is off that was rounded scaled, (out, in)."""
    made = QuantizedLinear(bits, *rounded(layer.weight * scale, bits, group, name))
    return made.weight_dequantized() / scale - layer.weight
