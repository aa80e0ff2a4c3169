"""Cross-entropy of a linear head that never holds all logits: of 32 rows of 1,024 tokens over GPT-2's 50,304 ids those,
their copy in fp32 and their gradients are 20 GB, more than the rest of the model's training."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Logits made at a time. On a CPU they stay in its cache, 4 MB: head and loss of 1,024 tokens over 4,096 take 33 ms of a
# core, not 60 (the three products alone: 30). On a GPU they are 1 GB in fp32, few enough that adding up the head's
# gradient, once for each chunk, costs little beside the products.
_AT_A_TIME = {"cpu": 2**20, "cuda": 2**28}
_FEWEST_ROWS = 64


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of logits x weightᵀ: x (N, C), weight (V, C), targets (N,), -100 not counted.

    NaN where none is counted, as torch's. Under autocast the products are in its type, everything else in fp32. The
    gradients are computed on the way forward, as the logits are there once only; they cannot be differentiated again.
    """
    device = x.device.type
    rows = max(_FEWEST_ROWS, _AT_A_TIME.get(device, _AT_A_TIME["cpu"]) // len(weight))
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    eager = not torch.compiler.is_compiling()
    if device == "cpu" and low is None and eager and hasattr(F, "linear_cross_entropy"):
        # torch's own (2.13), the same algorithm, but closed to torch.compile, and on a CPU its bf16 multiplies in fp32.
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=rows, chunking_method=None)
        return F.linear_cross_entropy(x, weight, targets, options=options)
    training = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return _Chunked.apply(x, weight, targets, rows, low or x.dtype, training)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, rows: int, dtype: torch.dtype, training: bool
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            W = weight.to(dtype)
            counted = targets != -100
            share = counted / counted.sum()  # (N,): what each row's loss counts in the mean; NaN where none is counted
            loss = x.new_zeros((), dtype=torch.float32)
            dx = torch.empty_like(x) if training else None
            dW = torch.zeros_like(weight, dtype=torch.float32) if training else None
            for start in range(0, len(x), rows):
                part = slice(start, start + rows)
                inputs, scale = x[part].to(dtype), share[part, None]
                target = targets[part, None].clamp(min=0)  # an ignored row's share is 0, whatever its target
                logprobs = F.log_softmax((inputs @ W.mT).float(), -1)  # (rows, V)
                loss = loss - (logprobs.gather(1, target) * scale).sum()
                if dx is not None and dW is not None:
                    dlogits = logprobs.exp_().mul_(scale).scatter_add_(1, target, -scale).to(dtype)
                    dx[part] = dlogits @ W
                    dW += dlogits.mT @ inputs
        ctx.save_for_backward(dx, dW)
        ctx.weight_dtype = weight.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        dx, dW = ctx.saved_tensors
        return (dx * gradient).to(dx.dtype), (dW * gradient).to(ctx.weight_dtype), None, None, None, None
