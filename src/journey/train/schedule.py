"""The learning rate over a run."""


def trapezoid(step: int, steps: int, warmup: float, decay: float) -> float:
    """Share of the peak learning rate at a step (0-based): linear warm-up, constant, linear decay to zero.

    Unlike a cosine, the constant part does not depend on where the run ends (Hägele et al. 2024,
    arXiv:2405.18392). `warmup` and `decay` are shares of the steps.
    """
    up = max(1, round(steps * warmup))
    down = max(1, round(steps * decay))
    return min(1.0, (step + 1) / up, (steps - step) / down)
