"""Scaling laws: the loss as a function of a model's parameters N and its training tokens D, fitted to many trainings.

Two forms. Chinchilla's (Hoffmann et al. 2022, arXiv:2203.15556, its third approach), L = E + A/N^α + B/D^β, with N all
parameters; and Kaplan's (Kaplan et al. 2020, arXiv:2001.08361), L = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D, with N those
outside the embeddings. L is in nats per token of one tokenizer, and arithmetic is C = 6 N D FLOPs.

Both are fitted as Chinchilla's authors fitted theirs: the sum of Huber losses (δ = 1e-3) of log L by L-BFGS from a
grid of starts. Besiroglu et al. 2024 (arXiv:2404.10102) showed what went wrong there: a mean of numbers near 1e-6 looks
converged to an optimizer long before it is, and rounded constants move the optimum by a fifth. So the sum is taken
here, in units of δ², and constants are kept as precise as they are known.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise, product
from typing import Generic, TypeVar

import numpy as np
from scipy.optimize import minimize

from journey.errors import JourneyError
from journey.evaluate.statistics import SEED, Estimate

DELTA = 1e-3  # of log L: residuals beyond a thousandth count by their size, not by its square
RESAMPLES = 300
PF_DAY = 8.64e19  # FLOPs: a petaFLOP/s for a day, Kaplan's unit
_POLISHED = 12  # best starts of the grid that L-BFGS goes on from
_NEAR = 1.02  # sizes, or numbers of tokens, that differ by less are one
_SAME_COMPUTE = 1.1  # trainings whose arithmetic differs by less share an IsoFLOP curve


@dataclass(frozen=True)
class Training:
    """One model, trained to its end: parameters, those outside the embeddings, tokens, FLOPs, nats per token."""

    parameters: float
    body: float
    tokens: float
    flops: float
    loss: float


@dataclass(frozen=True)
class Chinchilla:
    """L(N, D) = E + A/N^α + B/D^β, N all parameters."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    @property
    def a(self) -> float:
        """N_opt grows as C^a."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, N: float, D: float) -> float:
        """Nats per token."""
        return self.E + self.A * N**-self.alpha + self.B * D**-self.beta

    def optimum(self, C: float) -> tuple[float, float]:
        """(N, D) of the lowest loss among those with 6 N D = C: N = G (C/6)^a, G = (αA / βB)^(1/(α+β))."""
        N = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta)) * (C / 6) ** self.a
        return N, C / (6 * N)


@dataclass(frozen=True)
class Kaplan:
    """L(N, D) = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D, N without the embeddings."""

    N_c: float
    D_c: float
    alpha_N: float
    alpha_D: float

    @property
    def a(self) -> float:
        """N_opt grows as C^a, if each token is read once and every training is let run to its end."""
        return self.alpha_D / (self.alpha_N + self.alpha_D)

    def loss(self, N: float, D: float) -> float:
        """Nats per token."""
        return ((self.N_c / N) ** (self.alpha_N / self.alpha_D) + self.D_c / D) ** self.alpha_D


# Chinchilla's third approach, unrounded: from the TeX source of the paper, whose text says 1.69, 406.4, 410.7, 0.34 and
# 0.28 (Besiroglu et al. 2024: with those the optimum at Gopher's compute is 32 billion parameters; the paper has 40).
HOFFMANN = Chinchilla(1.6933523, 406.4010, 410.7228, 0.33917084, 0.2849083)
# The same form and data, fitted to convergence by Besiroglu et al. 2024.
BESIROGLU = Chinchilla(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
KAPLAN = Kaplan(6.4e13, 1.8e13, 0.076, 0.103)  # their equation 1.5


def kaplan_optimum(C: float) -> tuple[float, float]:
    """(N, D) at C FLOPs as Kaplan et al. 2020 advise: N = 1.3e9 (C in PF-days)^0.73, not counting embeddings.

    That exponent is no consequence of their L(N, D): it was read off learning curves of one schedule, warm-up and batch
    for all lengths, with the embeddings' arithmetic left out; both push it up (Porian et al. 2024, arXiv:2406.19146).
    """
    N = 1.3e9 * (C / PF_DAY) ** 0.73
    return N, C / (6 * N)


Law = TypeVar("Law", Chinchilla, Kaplan)


@dataclass(frozen=True)
class Fit(Generic[Law]):
    """A law fitted to n trainings, and to each resample of them."""

    law: Law
    draws: tuple[Law, ...]
    n: int
    error: float  # mean |log L - log of the law's L|: 0.01 is about a percent

    def estimate(self, of: Callable[[Law], float], unit: str = "") -> Estimate:
        """Any number that follows from the law, with the percentile interval (95 %) of the bootstrap over trainings."""
        drawn = [value for law in self.draws if math.isfinite(value := of(law))]
        low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (math.nan, math.nan)
        return Estimate(of(self.law), float(low), float(high), self.n, unit)


def check(trainings: Sequence[Training]) -> None:
    """JourneyError, in a line, where no law can be told from these trainings."""
    for t in trainings:
        if not all(0 < value < math.inf for value in (t.parameters, t.body, t.tokens, t.flops, t.loss)):
            raise JourneyError(
                f"the law cannot be told: a training of {t.parameters:,.0f} parameters on {t.tokens:,.0f} tokens has a "
                f"loss of {t.loss:g} and {t.flops:g} FLOPs, where numbers above 0 belong: leave it out"
            )
    for what, values in (
        ("sizes of the model", [t.parameters for t in trainings]),
        ("numbers of tokens", [t.tokens for t in trainings]),
    ):
        if (found := _distinct(values)) < 3:
            raise JourneyError(
                f"the law cannot be told: it needs three {what} at least, two points fit any power and any floor; "
                f"here {'is 1' if found == 1 else f'are {found}'}: vary more of them"
            )
    if (points := len({(t.parameters, t.tokens) for t in trainings})) < 6:
        raise JourneyError(
            f"the law cannot be told: {points} points cannot hold its 5 parameters: train 6 or more combinations"
        )


def fit_chinchilla(trainings: Sequence[Training], resamples: int = RESAMPLES) -> Fit[Chinchilla]:
    """Chinchilla's form on all parameters. Errors: JourneyError by `check`."""
    check(trainings)
    N, D = (_log([getattr(t, name) for t in trainings]) for name in ("parameters", "tokens"))
    loss = _log([t.loss for t in trainings])
    n0, d0, l0 = N.mean(), D.mean(), loss.min()
    # Around the mean of log N and of log D, where a, b and e say what each part adds to the loss there.
    share = [math.log(s) for s in (0.02, 0.1, 0.3)]
    floor = [math.log(s) for s in (0.02, 0.3, 0.6, 0.9)]
    powers = (0.1, 0.3, 0.6, 1.2)
    grid = [(e + l0, a + l0, b + l0, al, be) for e, a, b, al, be in product(floor, share, share, powers, powers)]
    low, high = l0 - 9, l0 + 3  # a part e^-9 of the loss is none

    def model(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        e, a, b, alpha, beta = (p[..., i, None] for i in range(5))
        terms = np.stack(np.broadcast_arrays(e, a - alpha * (N - n0), b - beta * (D - d0)))  # (3, …, n)
        total = np.logaddexp.reduce(terms, axis=0)
        w = np.exp(terms - total)  # the share of each part in the loss
        return total, np.stack([w[0], w[1], w[2], -w[1] * (N - n0), -w[2] * (D - d0)])

    def law(p: np.ndarray) -> Chinchilla:
        e, a, b, alpha, beta = map(float, p)
        return Chinchilla(math.exp(e), math.exp(a + alpha * n0), math.exp(b + beta * d0), alpha, beta)

    bounds = [(low, high)] * 3 + [(1e-3, 3.0)] * 2
    return _fit(model, law, loss, np.array(grid), bounds, trainings, resamples)


def fit_kaplan(trainings: Sequence[Training], resamples: int = RESAMPLES) -> Fit[Kaplan]:
    """Kaplan's form on the parameters outside the embeddings. Errors: JourneyError by `check`."""
    check(trainings)
    N, D = (_log([getattr(t, name) for t in trainings]) for name in ("body", "tokens"))
    loss = _log([t.loss for t in trainings])
    n0, d0, l0 = N.mean(), D.mean(), loss.min()
    powers = (0.03, 0.08, 0.15, 0.3, 0.6)
    shifts = [math.log(s) for s in (0.1, 0.4, 0.8)]

    def model(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v, aN, aD = (p[..., i, None] for i in range(4))  # u, v: log of what N and D add to the loss at the means
        terms = np.stack([(u - aN * (N - n0)) / aD, (v - aD * (D - d0)) / aD])
        total = np.logaddexp.reduce(terms, axis=0)
        w = np.exp(terms - total)
        slope = total - w[0] * terms[0] - w[1] * terms[1] - w[1] * (D - d0)
        return aD * total, np.stack([w[0], w[1], -w[0] * (N - n0), slope])

    def law(p: np.ndarray) -> Kaplan:
        u, v, aN, aD = map(float, p)
        return Kaplan(math.exp(u / aN + n0), math.exp(v / aD + d0), aN, aD)

    grid = np.array([(u + l0, v + l0, aN, aD) for u, v, aN, aD in product(shifts, shifts, powers, powers)])
    bounds = [(l0 - 9, l0 + 3)] * 2 + [(5e-3, 3.0)] * 2
    return _fit(model, law, loss, grid, bounds, trainings, resamples)


Model = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # parameters (…, k) -> log L (…, n), gradient (k, …, n)


def _fit(
    model: Model,
    law: Callable[[np.ndarray], Law],
    loss: np.ndarray,
    grid: np.ndarray,
    bounds: list[tuple[float, float]],
    trainings: Sequence[Training],
    resamples: int,
) -> Fit[Law]:
    """The best that L-BFGS finds from the best starts of the grid (g, k); then, of each resample of the trainings, the
    better of what it finds from there and from the grid's best for that resample."""
    at_start = _huber(model(grid)[0] - loss)  # (g, n)
    best = min(
        (_polish(model, loss, np.ones(len(loss)), grid[i], bounds) for i in at_start.sum(1).argsort()[:_POLISHED]),
        key=lambda found: found[1],
    )[0]
    draws = []
    for weights in _resampled(trainings, resamples):
        starts = (best, grid[(at_start @ weights).argmin()])
        found = min((_polish(model, loss, weights, start, bounds) for start in starts), key=lambda found: found[1])
        draws.append(law(found[0]))
    error = float(np.abs(model(best)[0] - loss).mean())
    return Fit(law(best), tuple(draws), len(trainings), error)


def _polish(
    model: Model, loss: np.ndarray, weights: np.ndarray, start: np.ndarray, bounds: list[tuple[float, float]]
) -> tuple[np.ndarray, float]:
    """Where L-BFGS ends, and the sum of Huber losses there, in units of δ²."""

    def objective(p: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes = model(p)
        r = (value - loss) / DELTA
        return float(weights @ _huber(r * DELTA)), slopes @ (weights * np.clip(r, -1, 1)) / DELTA

    done = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 3000, "maxfun": 30000, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-6},
    )
    return done.x, float(done.fun)


def _huber(residuals: np.ndarray) -> np.ndarray:
    """Huber's loss of residuals of log L, in units of δ²."""
    size = np.abs(residuals) / DELTA
    return np.where(size <= 1, 0.5 * size**2, size - 0.5)


def _resampled(trainings: Sequence[Training], resamples: int) -> Iterable[np.ndarray]:
    """How often each training was drawn, for each resample; one from which no law can be told is drawn again."""
    rng, n = np.random.default_rng(SEED), len(trainings)
    for _ in range(resamples):
        for _ in range(100):
            weights = np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
            drawn = [t for t, weight in zip(trainings, weights, strict=True) if weight]
            if min(_distinct([t.parameters for t in drawn]), _distinct([t.tokens for t in drawn])) >= 3:
                break
        yield weights


def _log(values: Sequence[float]) -> np.ndarray:
    return np.log(np.array(values, dtype=np.float64))


def _distinct(values: Sequence[float]) -> int:
    """How many values there are that differ by more than rounding."""
    return sum(b > _NEAR * a for a, b in pairwise([0.0, *sorted(values)]))


@dataclass(frozen=True)
class IsoFlop:
    """The trainings of one budget, and the parabola of their loss over log N (Chinchilla's second approach).

    `best` is the N of its lowest point, where that lies between the sizes trained; else None, for `why`.
    """

    flops: float
    trainings: tuple[Training, ...]
    parabola: tuple[float, float, float]  # of log N, highest power first
    best: float | None
    why: str = ""

    def loss(self, N: float) -> float:
        """The parabola's loss at N."""
        return float(np.polyval(self.parabola, math.log(N)))


def isoflops(trainings: Sequence[Training]) -> list[IsoFlop]:
    """A parabola for each group of trainings of the same arithmetic that has three sizes, the smallest budget first."""
    groups: list[list[Training]] = []
    for training in sorted(trainings, key=lambda t: t.flops):
        if groups and training.flops < _SAME_COMPUTE * groups[-1][0].flops:
            groups[-1].append(training)
        else:
            groups.append([training])
    ordered = [sorted(group, key=lambda t: t.parameters) for group in groups]
    return [_parabola(group) for group in ordered if _distinct([t.parameters for t in group]) >= 3]


def _parabola(group: list[Training]) -> IsoFlop:
    flops = float(np.exp(_log([t.flops for t in group]).mean()))
    N = _log([t.parameters for t in group])
    curve = np.polyfit(N, [t.loss for t in group], 2)
    parabola = (float(curve[0]), float(curve[1]), float(curve[2]))
    if parabola[0] <= 0:
        return IsoFlop(flops, tuple(group), parabola, None, "the curve has no lowest point")
    lowest = -parabola[1] / (2 * parabola[0])
    if not N.min() <= lowest <= N.max():
        end = "smallest" if lowest < N.min() else "largest"
        return IsoFlop(flops, tuple(group), parabola, None, f"the lowest point lies beyond the {end} model")
    return IsoFlop(flops, tuple(group), parabola, math.exp(lowest))


def optimum_exponent(trainings: Sequence[Training], law: Chinchilla, resamples: int = RESAMPLES) -> Estimate | None:
    """a of N_opt ∝ C^a by the second approach: the slope of log N over log C through the parabolas' lowest points.

    None with fewer than three of them, here or in most resamples. Three points lie on their parabola whatever the
    noise, so that trainings drawn with replacement would show none: each loss is moved instead by a residual drawn from
    those of the fitted law, enlarged for its 5 parameters.
    """

    def slope(curves: Sequence[IsoFlop]) -> float | None:
        found = [c for c in curves if c.best]
        if len(found) < 3:
            return None
        return float(np.polyfit(_log([c.flops for c in found]), _log([c.best or 0 for c in found]), 1)[0])

    value = slope(isoflops(trainings))
    if value is None:
        return None
    n = len(trainings)
    residuals = _log([t.loss / law.loss(t.parameters, t.tokens) for t in trainings]) * math.sqrt(n / max(1, n - 5))
    rng, drawn = np.random.default_rng(SEED), []
    for _ in range(resamples):
        moved = np.exp(rng.choice(residuals - residuals.mean(), n))
        again = [replace(t, loss=float(t.loss * by)) for t, by in zip(trainings, moved, strict=True)]
        if (found := slope(isoflops(again))) is not None:
            drawn.append(found)
    if len(drawn) < resamples / 2:  # most resamples have no three lowest points: this one is luck
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)


def numbers(law: Chinchilla | Kaplan) -> list[float]:
    """A law as it is kept in a file, six digits each."""
    return [float(f"{value:.6g}") for value in astuple(law)]
