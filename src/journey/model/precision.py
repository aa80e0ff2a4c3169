"""The type that a forward pass multiplies in. The weights stay fp32: a step is often smaller than bf16 can see."""

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from journey.errors import JourneyError

PRECISIONS = ("fp32", "bf16")
_NO_FP16 = (
    "fp16 is not offered: gradients below 6e-8 become 0 in it, so the loss would have to be scaled up, and guarded "
    "against infinity; choose bf16, which has fp32's range at the same speed"
)
# Attention on a GPU, best first: cuDNN's beats flash on Hopper, and each takes what those before it do not.
_ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
# A square product whose time says which type this CPU is fast in: some multiply bf16 2.6 times as fast as fp32, others
# ten times as slow.
_SIDE, _TRIALS = 768, 5
_WORTHWHILE = 1.5  # times: below, what is not a product eats the gain


@contextlib.contextmanager
def precision(model: nn.Module, name: str) -> Iterator[None]:
    """Compute what is inside in fp32 or, its products, in bf16; on a GPU with the fastest attention there is.

    For forward passes between two steps: the weights in bf16 are made once, at their first use, and kept until the end.
    Gradients come out in fp32, as the weights are, whether `backward` is called inside or after.
    Raises JourneyError for another name.
    """
    if name == "fp16":
        raise JourneyError(_NO_FP16)
    if name not in PRECISIONS:
        raise JourneyError(f'unknown precision "{name}": choose {" or ".join(PRECISIONS)}')
    device = next(model.parameters()).device.type
    with contextlib.ExitStack() as stack:
        if device == "cuda":
            stack.enter_context(sdpa_kernel(_ATTENTION, set_priority=True))
        stack.enter_context(torch.autocast(device, torch.bfloat16, enabled=name == "bf16"))
        yield


def fastest(device: str) -> tuple[str, str]:
    """The precision to train in on a device, and why, in a few words; on a CPU from a measurement of a second at most.

    A measurement: two machines, or a busy one, may find differently. Who wants the same numbers everywhere takes fp32.
    """
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU multiplies it directly"
        return "fp32", "this GPU has no bf16"
    if device != "cpu":
        return "fp32", f"bf16 is not tried on {device}"
    ratio = seconds_of_product("fp32", _SIDE) / seconds_of_product("bf16", _SIDE)
    name = "bf16" if ratio >= _WORTHWHILE else "fp32"
    return name, f"this CPU multiplies bf16 {ratio:.1f} times as fast as fp32"


def seconds_of_product(name: str, side: int, device: str = "cpu") -> float:
    """The fastest of some square matrix products in a precision.

    Of ones: numbers drawn here would move the generator that a training draws from.
    """
    a = torch.ones(side, side, device=device, dtype=torch.bfloat16 if name == "bf16" else torch.float32)

    def product() -> float:
        start = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return min(product() for _ in range(_TRIALS))
