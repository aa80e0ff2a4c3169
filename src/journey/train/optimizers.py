"""Muon for the matrices inside the blocks, AdamW for everything else."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from journey.model.gpt import GPT

# Odd polynomials ax + bx³ + cx⁵, each the one whose largest distance from 1 is least on the interval that those before
# leave (Amsel et al. 2025, "The Polar Express", arXiv 2505.16932): of [0.01, 1] three rounds make [0.72, 1.28], of
# [0.0022, 1] four make [0.69, 1.31]. The right end is taken 1 % wider each time, for beyond it a polynomial shoots up,
# and bf16 is inexact.
_THREE = (
    (8.01716749, -22.94095471, 16.6112595),
    (3.61193882, -2.6520629, 0.51230486),
    (2.66095924, -1.94512726, 0.43568639),
)
_FOUR = (
    (8.33571599, -24.17319994, 17.57191627),
    (4.06053829, -2.96259784, 0.54647278),
    (3.64916619, -2.67825048, 0.51517978),
    (2.71760721, -1.98999858, 0.44046032),
)
# The larger a matrix, the more of its momentum's singular values are small: 128 wide, three rounds bring 77 to 100 % of
# them above 0.7 and train as five of one polynomial do; 384 wide they bring 31 to 38 %, and four 65 to 88 %
# (docs/measurements.md).
_NARROW = 256


def orthogonalize(G: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The semi-orthogonal matrix nearest to each matrix of a stack (…, rows, columns), by Newton–Schulz, roughly.

    Singular vectors stay. Singular values from a hundredth of their matrix's largest on (a 450th, where its smaller
    side is above 256) end between 0.69 and 1.31, and smaller ones, measured by that largest, grow 77 (336) times. The
    size of a matrix does not matter; zeros stay zeros.

    The products are computed in `dtype`. In bfloat16 the result is some 2 to 3 % off, and comes two to four times as
    fast where such products are faster (a GPU, a CPU with AVX512-BF16 or AMX); on AVX2 alone they are ten times slower.
    """
    rows, columns = G.shape[-2:]
    largest = torch.linalg.vector_norm(G, ord=math.inf, dim=(-2, -1), keepdim=True)
    X = (G / largest.clamp_min(torch.finfo(G.dtype).tiny)).to(dtype).reshape(-1, rows, columns)
    A = _gram(X)
    A2 = A @ A
    # A bound on the largest singular value that costs nothing more, (Σ σ⁸)^⅛: of real momentum it is 1.02 times the
    # largest, where the Frobenius norm is twice, and takes half a round more (Grishina et al. 2025, arXiv 2506.10935,
    # from Gelfand's formula). It is at least the largest entry, 1.
    norm = torch.linalg.vector_norm(A2, dim=(-2, -1), keepdim=True, dtype=torch.promote_types(dtype, torch.float32))
    s = norm.clamp_min(1) ** -0.25  # (n, 1, 1)
    first, *more = _THREE if min(rows, columns) <= _NARROW else _FOUR
    a, b, c = first
    P = A2.mul_(c * s**5).add_(A * (b * s**3).to(dtype))
    P.diagonal(dim1=-2, dim2=-1).add_(a * s[..., 0])
    # A round makes X into P X, and so A into P A P. Of a long matrix it is less arithmetic to go on from that and to
    # multiply X once, at the end (Gram Newton–Schulz, Dao-AILab 2026): a quarter less of an MLP's. Squared, small
    # values lose digits: fp32 has them to spare (1e-5 in the result), bf16 has not (a tenth).
    long = dtype != torch.bfloat16 and max(rows, columns) > 1.5 * min(rows, columns)
    Q = P
    for a, b, c in more:
        if long:
            A = P @ (A @ P)
        else:
            X = _times(Q, X)
            A = _gram(X)
        P = torch.baddbmm(A, A, A, beta=b, alpha=c)
        P.diagonal(dim1=-2, dim2=-1).add_(a)
        Q = Q @ P if long else P
    return _times(Q, X).to(G.dtype).reshape(G.shape)


def _gram(X: Tensor) -> Tensor:
    """X Xᵀ or XᵀX, whichever is smaller."""
    return X @ X.mT if X.size(-2) <= X.size(-1) else X.mT @ X


def _times(P: Tensor, X: Tensor) -> Tensor:
    """X multiplied on the side of its `_gram` by a polynomial of that."""
    return P @ X if X.size(-2) <= X.size(-1) else X @ P


class Muon(torch.optim.Optimizer):
    """Momentum, then the orthogonal matrix nearest to it as the step (Jordan et al. 2024).

    A parameter may itself be a stack (…, rows, columns), as experts are: each of its matrices is stepped alone. All
    matrices of one shape are orthogonalized as one stack, in `dtype`; weights and momentum stay as they are.

    The size of a step does not depend on the gradient's: its spectral norm is about lr·sqrt(max(1, rows/columns)), so
    that its rows have a norm of lr on average. In this convention a step changes a layer's outputs by as much at any
    width, and the best lr is meant to transfer from narrow to wide (Bernstein & Newhouse 2024, arXiv 2410.21265; not
    measured here). Rates of the other convention, 0.2·sqrt(max(rows, columns)), which gives entries the size that
    AdamW's steps have (arXiv 2502.16982), are to be multiplied by 0.2·sqrt(columns).
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    if not self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                    shapes[p.shape].append(p)
            for shape, matrices in shapes.items():
                gradients = [p.grad for p in matrices if p.grad is not None]
                momenta = [self.state[p]["momentum"] for p in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                directions = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
                steps = orthogonalize(torch.stack(directions), self._dtype)
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
            p = params[int(i)][int(j)]
            self.all[int(i)].state[p][key] = value.to(p.device, copy=True)  # AdamW's number of steps, too: it is fused


def make_optimizers(
    model: GPT, name: str, lr: float, muon_lr: float, weight_decay: float, dtype: torch.dtype = torch.float32
) -> Optimizers:
    """`muon`: the blocks' matrices by Muon and the rest by AdamW; `adamw`: everything by AdamW.

    Embeddings, norms and biases are not decayed. AdamW's betas are GPT-3's (0.9, 0.95). `dtype`: of Muon's products.
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
        optimizers.append(Muon(matrices, lr=muon_lr, dtype=dtype))
    return Optimizers(optimizers, [[group["lr"] for group in o.param_groups] for o in optimizers])
