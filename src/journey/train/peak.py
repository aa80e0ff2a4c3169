"""The most arithmetic that a device can do, which MFU (model FLOPs utilization) is a share of."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Dense bf16 tensor cores with fp32 sums, FLOP/s: NVIDIA's data sheets, where a number "with sparsity" is twice as high.
# All words must stand in the name that CUDA gives; the first row that fits counts. A laptop's card is another one.
_BF16 = (
    (("H100", "PCIe"), 756e12),
    (("H100", "NVL"), 835e12),
    (("H100",), 989e12),
    (("H200", "NVL"), 836e12),
    (("H200",), 989e12),
    (("B200",), 2250e12),
    (("A100",), 312e12),
    (("A40",), 149.7e12),
    (("L40S",), 362e12),
    (("L4",), 121e12),
    (("4090",), 165.2e12),
    (("3090",), 71e12),
)


@dataclass(frozen=True)
class Peak:
    """FLOP/s, and where the number is from; None where nobody knows."""

    flops: float | None
    source: str


def peak(device: "torch.device", precision: str) -> Peak:
    """Of a device with products in `precision`, fp32 or bf16: of a GPU in the table from there, else measured."""
    if device.type == "cuda":
        import torch

        name = torch.cuda.get_device_name(device)
        known = listed(name) if precision == "bf16" else None
        return Peak(known, f"data sheet of {name}: dense bf16") if known else _measured("cuda", precision, 8192)
    return _measured("cpu", precision, 1024) if device.type == "cpu" else Peak(None, f"no peak is known of {device}")


def listed(name: str) -> float | None:
    """The table's FLOP/s of a GPU by the name that CUDA gives it."""
    words = set(name.replace("-", " ").split())
    return next((flops for wanted, flops in _BF16 if words.issuperset(wanted) and "Laptop" not in words), None)


@cache
def _measured(device: str, precision: str, n: int) -> Peak:
    """By square matrix products, once in a process (some hundredths of a second on a CPU)."""
    import torch

    from journey.model.precision import seconds_of_product

    seconds = seconds_of_product(precision, n, device)
    threads = f", threads: {torch.get_num_threads()}" if device == "cpu" else ""
    return Peak(2 * n**3 / seconds, f"measured here: {precision} product of two {n} × {n} matrices{threads}")
