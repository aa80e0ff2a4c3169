"""The learning rate over a run: pure functions of the step, shared by every stage that trains."""

import math
from typing import Literal, TypeAlias

ScheduleName: TypeAlias = Literal["wsd", "cosine", "linear", "inverse-sqrt", "constant"]


def share_of_peak(
    step: int, steps: int, schedule: ScheduleName = "wsd", warmup: float = 0.0, decay: float = 0.5, floor: float = 0.0
) -> float:
    """Share of the peak learning rate at a step (0-based). All rise linearly first, over `warmup` (`warmup_steps`).

    wsd            level, then linearly down over the last `decay` of the steps. Where its level part ends, a run can be
                   lengthened, which no cosine can (Hägele et al. 2024, arXiv:2405.18392).
    cosine         half a cosine from the peak to the end (Loshchilov & Hutter 2017, arXiv:1608.03983)
    linear         a straight line from the peak to the end (as GPT-2's own fine-tuning, and TRL's default)
    inverse-sqrt   sqrt(warm-up / step), Noam's shape (Vaswani et al. 2017), which knows no end
    constant       the peak, always

    The three that fall to an end, end at `floor`, a share of the peak.
    """
    up = warmup_steps(warmup, steps)
    rising = (step + 1) / up
    if schedule == "wsd":
        down = max(1, round(steps * decay))
        return min(1.0, rising, _above(floor, (steps - step) / down))
    if step < up or schedule == "constant":
        return min(1.0, rising)
    if schedule == "inverse-sqrt":
        return math.sqrt(up / (step + 1))
    left = (steps - step) / (steps - up + 1)  # 1 at the end of the warm-up, one step's worth at the last step
    return _above(floor, left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)


def warmup_steps(warmup: float, steps: int) -> int:
    """In how many steps the rate rises: below 1 `warmup` is a share of the steps, from 1 on their number."""
    return min(steps, max(1, round(steps * warmup if warmup < 1 else warmup)))


def _above(floor: float, share: float) -> float:
    return floor + (1 - floor) * share


def noam(step: int, warmup: int, n_embd: int) -> float:
    """The learning rate of the Transformer at a step (0-based): linear up to step `warmup`, then by the inverse square
    root of the step, all of it by that of the model's width (Vaswani et al. 2017, arXiv:1706.03762, section 5.3).

    It is a rate itself and not a share of one: `warmup` and width decide the peak, 1 / sqrt(n_embd warmup).
    """
    return n_embd**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)
