"""Muon for the matrices inside the blocks, AdamW for everything else."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from journey.model.gpt import GPT

# Coefficients of the quintic of Jordan et al. 2024 (kellerjordan.github.io/posts/muon): steepest at zero, so that
# five rounds bring every singular value near one.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def orthogonalize(G: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix to each matrix of a stack (…, rows, columns), by Newton–Schulz, roughly:
    singular values end between about 0.7 and 1.2, which trains as well as exactly 1.

    In fp32: bf16 matrix products are ten times slower on AVX2.
    """
    a, b, c = _QUINTIC
    wide = G.size(-2) <= G.size(-1)
    X = G if wide else G.mT  # the Gram matrix is then the smaller one
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        A = X @ X.mT
        X = a * X + (b * A + c * (A @ A)) @ X
    return X if wide else X.mT


class Muon(torch.optim.Optimizer):
    """Momentum, then the orthogonal matrix nearest to it as the step (Jordan et al. 2024).

    A step has spectral norm about lr·sqrt(max(1, rows/columns)) whatever the gradient's size. Matrices of one shape
    are orthogonalized as one stack: many small products cost more in calls than in arithmetic. A parameter may itself
    be a stack (…, rows, columns), as experts are: each of its matrices is stepped alone.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for shape, matrices in shapes.items():
                directions = []
                for p in matrices:
                    state = self.state[p]
                    if not state:
                        state["momentum"] = torch.zeros_like(p)
                    gradient, momentum = p.grad, group["momentum"]
                    assert gradient is not None  # kept only those that have one
                    m = state["momentum"].lerp_(gradient, 1 - momentum)
                    directions.append(gradient.lerp(m, momentum))  # Nesterov
                steps = orthogonalize(torch.stack(directions))
                scale = max(1.0, shape[-2] / shape[-1]) ** 0.5
                torch._foreach_add_(matrices, list(steps), alpha=-group["lr"] * scale)


@dataclass
class Optimizers:
    """The optimizers of one model, stepped and saved as one."""

    all: list[torch.optim.Optimizer] = field(default_factory=list)
    peaks: list[list[float]] = field(default_factory=list)

    def set_lr(self, share: float) -> None:
        """Set every learning rate to a share of its peak."""
        for optimizer, peaks in zip(self.all, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share

    def step(self) -> None:
        """Update the weights and forget the gradients."""
        for optimizer in self.all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All state, as tensors by name: what a resumed run needs."""
        return {
            f"{i}.{j}.{key}": value if isinstance(value, Tensor) else torch.tensor(float(value))
            for i, optimizer in enumerate(self.all)
            for j, p in enumerate(p for group in optimizer.param_groups for p in group["params"])
            for key, value in optimizer.state[p].items()
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        params = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in self.all]
        for name, value in tensors.items():
            i, j, key = name.split(".", 2)
            self.all[int(i)].state[params[int(i)][int(j)]][key] = value.clone()


def make_optimizers(model: GPT, name: str, lr: float, muon_lr: float, weight_decay: float) -> Optimizers:
    """`muon`: the blocks' matrices by Muon and the rest by AdamW; `adamw`: everything by AdamW.

    Embeddings, norms and biases are not decayed. AdamW's betas are GPT-3's (0.9, 0.95).
    """
    matrices = model.matrices()
    inside = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in inside]
    groups = [{"params": rest, "weight_decay": 0.0}]
    if name == "adamw":
        groups.append({"params": matrices, "weight_decay": weight_decay})
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-10, fused=True)
    ]
    if name == "muon":
        optimizers.append(Muon(matrices, lr=muon_lr))
    return Optimizers(optimizers, [[group["lr"] for group in o.param_groups] for o in optimizers])
