"""Norms by layer: how large the gradient is in each, and how far a step moves its weights.

‖Δw‖/‖w‖ is what people look at: about 1e-3 a step is usual; a layer far above its neighbours is about to diverge, one
far below is not learning.
"""

import re

import torch
from torch import Tensor, nn


class Update:
    """One step of an optimizer: made just before it, when the gradients stand, and asked just after it.

    It keeps a copy of the weights for so long. Activations are gone by then, so that the copy adds nothing to the
    training's peak of memory, unless the model is larger than they were.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
        self._layers = [layer_of(name) for name, _ in named]
        self._weights = [p.detach() for _, p in named]
        self._before = [weight.clone() for weight in self._weights]
        self._gradients = _norms([p.grad for _, p in named if p.grad is not None])

    def norms(self, total: float) -> dict[str, dict[str, float | None]]:
        """`grad_norms` and `update_norms`, layer -> number, in the order of the model.

        grad_norms: scaled so that the root of the sum of their squares is `total`, the norm before clipping.
        update_norms: ‖Δw‖/‖w‖; None where all weights of a layer were zero.
        """
        sizes = _norms(self._before)
        torch._foreach_sub_(self._before, self._weights)
        moved = _norms(self._before)
        order = list(dict.fromkeys(self._layers))
        place = {layer: i for i, layer in enumerate(order)}
        sums = torch.zeros(3, len(order), dtype=torch.float64)
        every = torch.stack([*self._gradients, *moved, *sizes]).double().cpu().view(3, -1)  # (3, parameters)
        sums.index_add_(1, torch.tensor([place[layer] for layer in self._layers]), every.square())
        gradients, moved_, sizes_ = sums.sqrt().tolist()
        clipped = sum(g * g for g in gradients) ** 0.5
        scale = total / clipped if clipped else 0.0
        return {
            "grad_norms": {layer: g * scale for layer, g in zip(order, gradients, strict=True)},
            "update_norms": {layer: m / s if s else None for layer, m, s in zip(order, moved_, sizes_, strict=True)},
        }


def layer_of(name: str) -> str:
    """The layer of a parameter by its name, ours or transformers': `embedding`, `block 3`, `decoder 3`, or `head` for
    all after."""
    if found := re.search(r"(\w+)\.(\d+)\.", name):
        return f"{found[1] if found[1] in ('encoder', 'decoder') else 'block'} {found[2]}"
    return "embedding" if re.search(r"embed|positions|wte|wpe", name) else "head"


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    return list(torch._foreach_norm(tensors, 2, dtype=torch.float32)) if tensors else []
