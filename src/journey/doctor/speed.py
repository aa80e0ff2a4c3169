"""What this machine can do: the two limits of every model, arithmetic and memory, and the pocket recipe's own step."""

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from journey import machine
from journey.doctor.finding import Finding
from journey.metrics import metric

if TYPE_CHECKING:
    import torch

SECONDS = {"matmul": 0.7, "reading": 0.7, "training": 2.0}


def matmul() -> Finding:
    """How fast arithmetic can be here: a square fp32 matrix product."""
    import torch

    device = _device()
    n = 1024 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device)
    what = f"fp32 product of two {n} × {n} matrices, {_where(device)}"
    return _speed("matmul", lambda: a @ a, 2 * n**3 / 1e9, "GFLOP/s", what)


def reading() -> Finding:
    """How fast memory is read, which bounds generation: every token reads every weight."""
    device = _device()
    work, n_bytes = machine.reading(device.type)
    what = f"{n_bytes / 1e6:.0f} MB of fp32 added up, {_where(device)}"
    return _speed("reading", work, n_bytes / 1e9, "GB/s", what)


def training() -> Finding:
    """Steps of the pocket recipe's shape on random tokens, optimizer and all."""
    import torch

    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT
    from journey.train.loop import accumulate_gradients
    from journey.train.optimizers import make_optimizers

    V, B, T, device = 4096, 4, 256, _device()
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("qwen3", V, T, n_layer=4, n_embd=128)).to(device)
    optimizers = make_optimizers(model, "muon", lr=3e-3, muon_lr=0.02, weight_decay=0.1)
    tokens = torch.randint(1, V, (B, T + 1), device=device)

    def step() -> None:
        accumulate_gradients(model, tokens, parts=1, mark=0)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step()

    what = f"{model.config.n_params / 1e6:.2f} M parameters, {B} × {T} tokens a step, Muon, {_where(device)}"
    return _speed("training", step, B * T, "tokens/s", what)


def _speed(name: str, work: Callable[[], object], amount: float, unit: str, what: str) -> Finding:
    """`amount` of units per second of `work`, called for some seconds after one call that does not count."""
    import torch

    def call() -> float:
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return amount / (time.perf_counter() - start)

    call()
    end, speeds = time.perf_counter() + SECONDS[name], [call()]
    while time.perf_counter() < end:
        speeds.append(call())
    value = statistics.median(speeds)
    convention = f"{what}; the median of n runs, low and high the slowest and the fastest"
    measured = metric(value, unit, convention, low=min(speeds), high=max(speeds), n=len(speeds))
    return Finding(True, f"{value:,.0f} {unit} ({what})", metrics={name: measured})


def _device() -> "torch.device":
    import torch

    return torch.device(machine.device())


def _where(device: "torch.device") -> str:
    import torch

    return "GPU" if device.type == "cuda" else f"CPU, threads: {torch.get_num_threads()}"
