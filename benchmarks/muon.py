"""Muon's step against the plain one, against torch's own, and as a share of a training step.

    python benchmarks/muon.py [--rounds 10] [--device cuda]

All take turns on the same gradients, so that a busy machine slows each alike; ratios are medians over the rounds.
`plain` is Jordan et al. 2024: five rounds of one polynomial over whole matrices, in fp32 (what Journey did before), on
a GPU in bf16. torch's own computes in bf16 everywhere. A training step is a forward and a backward pass in fp32 (bf16
autocast on a GPU), AdamW for what is no matrix, and Muon. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import torch
from torch import Tensor

from journey.lineage import surroundings
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.train.optimizers import Muon

V, T = 4096, 256
SHAPES = {"4x128": (4, 128, 4), "6x384": (6, 384, 8)}  # blocks, width, rows a step
LR = 1e-5  # the weights hardly move, whoever steps them


def plain(G: Tensor) -> Tensor:
    """Five rounds of Jordan's polynomial on a stack of matrices."""
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G if G.size(-2) <= G.size(-1) else G.mT
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        A = X @ X.mT
        X = a * X + (b * A + c * (A @ A)) @ X
    return X if G.size(-2) <= G.size(-1) else X.mT


class Plain:
    """Muon as it is published: momentum, and `plain` on all matrices of a shape at once."""

    def __init__(self, matrices: list[torch.nn.Parameter], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.momenta = [torch.zeros_like(p) for p in matrices]
        self.stacks = [[i for i, p in enumerate(matrices) if p.shape == s] for s in {p.shape for p in matrices}]
        self.matrices = matrices

    @torch.no_grad()
    def step(self) -> None:
        """One update of all matrices."""
        for stack in self.stacks:
            matrices, momenta = [self.matrices[i] for i in stack], [self.momenta[i] for i in stack]
            gradients = [p.grad for p in matrices if p.grad is not None]
            torch._foreach_lerp_(momenta, gradients, 0.05)
            steps = plain(torch.stack(torch._foreach_lerp(gradients, momenta, 0.95)).to(self.dtype)).float()
            scale = max(1, matrices[0].size(0) / matrices[0].size(1)) ** 0.5
            torch._foreach_add_(matrices, list(steps), alpha=-LR * scale)


def measure(shape: str, device: str, rounds: int) -> dict[str, float]:
    """Medians of one model: ms of a step of each and of the passes, ratios to `plain`, shares of a training step."""
    n_layer, n_embd, B = SHAPES[shape]
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("qwen3", V, T, n_layer=n_layer, n_embd=n_embd)).to(device)
    matrices = model.matrices()
    inside = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in inside]
    adamw = torch.optim.AdamW(rest, lr=LR, fused=True)
    rows = torch.randint(V, (B, T + 1), device=device)

    def passes() -> None:
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model(rows[:, :-1], rows[:, 1:])
        loss.backward()
        adamw.step()

    fp32, bf16 = torch.float32, torch.bfloat16
    sides: dict[str, Callable[[], object]] = {
        "passes": passes,
        "plain": Plain(matrices, fp32 if device == "cpu" else bf16).step,
        "torch": torch.optim.Muon(matrices, lr=LR, weight_decay=0).step,
        "ours": Muon(matrices, LR).step,
        "ours_bf16": Muon(matrices, LR, dtype=bf16).step,
    }

    def seconds(step: Callable[[], object]) -> float:
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for step in sides.values():
        seconds(step)  # warm up
    times = [{name: seconds(step) for name, step in sides.items()} for _ in range(rounds)]
    found = {f"{name}_ms": 1000 * statistics.median(turn[name] for turn in times) for name in sides}
    for name in ("plain", "torch", "ours", "ours_bf16"):
        found[f"{name}_ratio"] = statistics.median(turn[name] / turn["plain"] for turn in times)
        found[f"{name}_share"] = statistics.median(turn[name] / (turn["passes"] + turn[name]) for turn in times)
    return found


def main() -> None:
    """Measure both shapes in turn and print the shares."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    machine = surroundings()["machine"]
    name = torch.cuda.get_device_name() if given.device == "cuda" else f"{machine['cpu']}, {os.cpu_count()} cores"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, qwen3, V={V} T={T}")
    results = {}
    for shape, (_, _, B) in SHAPES.items():
        found = results[shape] = measure(shape, given.device, given.rounds)
        print(f"\n{shape}, B={B}: forward, backward and AdamW {found['passes_ms']:,.1f} ms")
        print(f"{'Muon':>10} {'ms':>8} {'/ plain':>8}  of a step")
        for side in ("plain", "torch", "ours", "ours_bf16"):
            ms, ratio, share = (found[f"{side}_{what}"] for what in ("ms", "ratio", "share"))
            print(f"{side.replace('_', ' '):>10} {ms:8.1f} {ratio:8.2f}  {share:9.1%}")
    print(json.dumps({"rounds": given.rounds, "device": given.device, "machine": machine, **results}))


if __name__ == "__main__":
    main()
