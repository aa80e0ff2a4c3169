"""The learning rate over a run."""


def trapezoid(step: int, steps: int, warmup: float, decay: float) -> float:
    """Share of the peak learning rate at a step (0-based): linear warm-up, constant, linear decay to zero.

    Unlike a cosine, the constant part does not depend on where the run ends (Hägele et al. 2024,
    arXiv:2405.18392). `warmup` and `decay` are shares of the steps.
    """
    up = max(1, round(steps * warmup))
    down = max(1, round(steps * decay))
    return min(1.0, (step + 1) / up, (steps - step) / down)


def noam(step: int, warmup: int, n_embd: int) -> float:
    """The learning rate of the Transformer at a step (0-based): linear up to step `warmup`, then by the inverse square
    root of the step, all of it by that of the model's width (Vaswani et al. 2017, arXiv:1706.03762, section 5.3).

    It is a rate itself and not a share of one: `warmup` and width decide the peak, 1 / sqrt(n_embd warmup).
    """
    return n_embd**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)
