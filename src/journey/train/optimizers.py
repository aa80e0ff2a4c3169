"""Muon for the matrices inside the blocks, AdamW for everything else."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from journey.model.gpt import GPT

# Odd polynomials ax + bx³ + cx⁵, each the one whose largest distance from 1 is least on the interval that those before
# leave (Amsel et al. 2025, "The Polar Express", arXiv 2505.16932): of [0.01, 1] three rounds make [0.72, 1.28]. The
# right end is taken 1 % wider each time, for beyond it a polynomial shoots up, and bf16 is inexact.
_ROUNDS = (
    (8.01716747, -22.94095455, 16.61125936),
    (3.61193883, -2.65206291, 0.51230487),
    (2.66095924, -1.94512725, 0.43568638),
)


def orthogonalize(G: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The semi-orthogonal matrix nearest to each matrix of a stack (…, rows, columns), by Newton–Schulz, roughly.

    Singular vectors stay. Singular values from a hundredth of their matrix's largest on end between 0.72 and 1.28, and
    smaller ones, measured by that largest, grow 77 times. The size of a matrix does not matter; zeros stay zeros.

    The products are computed in `dtype`. In bfloat16 the result is some 2 % off, and comes two to four times as fast
    where such products are faster (a GPU, a CPU with AVX512-BF16 or AMX); on AVX2 alone they are ten times slower.
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
    a, b, c = _ROUNDS[0]
    P = A2.mul_(c * s**5).add_(A * (b * s**3).to(dtype))
    P.diagonal(dim1=-2, dim2=-1).add_(a * s[..., 0])
    # A round makes X into P X, and so A into P A P. Of a long matrix it is less arithmetic to go on from that and to
    # multiply X once, at the end (Gram Newton–Schulz, Dao-AILab 2026): a quarter less of an MLP's. Squared, small
    # values lose digits: fp32 has them to spare (1e-5 in the result), bf16 has not (a tenth).
    long = dtype != torch.bfloat16 and max(rows, columns) > 1.5 * min(rows, columns)
    Q = P
    for a, b, c in _ROUNDS[1:]:
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

    A parameter may be a stack (…, rows, columns), as experts are: each of its matrices is stepped alone. So is each
    head of a matrix in `heads`, which says along which dimension its heads lie and how many they are: they are maps of
    their own that happen to be stored as one ("Muon Split", GLM-5 2026), and the Gram matrix of a head is small.
    All matrices of one shape are orthogonalized as one stack, in `dtype`; weights and momentum stay as they are.

    The size of a step does not depend on the gradient's: the spectral norm is about lr·sqrt(max(1, rows/columns)), and
    the rows' norms are lr on average, as they also are where heads are stepped alone. In this convention a step changes
    a layer's outputs by as much at any width, so the best lr is meant to transfer from narrow to wide (Bernstein &
    Newhouse 2024, arXiv 2410.21265; not measured here). Rates of the other convention, 0.2·sqrt(max(rows, columns)),
    which gives entries the size that AdamW's steps have (arXiv 2502.16982), are to be multiplied by 0.2·sqrt(columns).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        heads: Mapping[Tensor, tuple[int, int]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._heads, self._dtype = heads or {}, dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, int, float], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    if not self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                    rows, columns = self._parts(p, p).shape[-2:]
                    _, heads = self._heads.get(p, (0, 1))
                    scale = math.sqrt(p.size(-2) / (heads * min(rows, columns)))  # to rows of norm 1
                    alike[rows, columns, scale].append(p)
            for (_, _, scale), params in alike.items():
                weights = [self._parts(p, p) for p in params]  # each (n, rows, columns)
                gradients = [self._parts(p, p.grad) for p in params if p.grad is not None]
                momenta = [self._parts(p, self.state[p]["momentum"]) for p in params]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                directions = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
                steps = orthogonalize(torch.cat(directions), self._dtype).split([len(w) for w in weights])
                torch._foreach_add_(weights, steps, alpha=-group["lr"] * scale)

    def _parts(self, p: Tensor, tensor: Tensor) -> Tensor:
        """What belongs to a parameter as the stack (n, rows, columns) of matrices that are stepped alone: a view."""
        if p in self._heads:
            dim, n = self._heads[p]
            return tensor.unflatten(dim, (n, -1)).movedim(dim, 0)
        return tensor.view(-1, *tensor.shape[-2:])


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
        optimizers.append(Muon(matrices, lr=muon_lr, heads=model.heads(), dtype=dtype))
    return Optimizers(optimizers, [[group["lr"] for group in o.param_groups] for o in optimizers])
