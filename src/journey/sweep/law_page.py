"""The scaling law on a sweep's page: loss over compute, IsoFLOP curves, the fitted law per size, and where it leads."""

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from journey.evaluate.scaling import BESIROGLU, HOFFMANN, KAPLAN, Training, kaplan_optimum
from journey.evaluate.statistics import Estimate
from journey.report.blocks import (
    Block,
    Curves,
    Fold,
    Line,
    Place,
    Points,
    Prose,
    Row,
    Section,
    Table,
    TableRow,
    Text,
    plain,
)
from journey.report.format import big, flops, number, power
from journey.sweep.law import NAMES, best_at, fit_of, left_out

_FINE = 60  # points of a smooth curve, more than are drawn with symbols
_NATS = "nats/token"
_LOSS = "nats per token; lower is better"
_FOUND = {
    "E": "the floor (nats per token)",
    "alpha": "exponent of N",
    "beta": "exponent of D",
    "a": "N_opt grows as C^a",
    "alpha_N": "exponent of N",
    "alpha_D": "exponent of D",
}


def sections(result: Mapping[str, Any]) -> list[Section]:
    """The section of a sweep whose recipe asks for a law; none where it does not."""
    found = result.get("law")
    if not found:
        return []
    if "error" in found:
        return [Section("law", "The scaling law", [Text(found["error"], "nothing"), *_left_out(found)])]
    trainings = [Training(**t) for t in found["trainings"]]
    blocks: list[Block] = [
        Points(found["said"], "findings"),
        Row([_over_compute(found, trainings), *_isoflops(found)]),
        Row([_per_size(found, trainings), _optimum(found, trainings)]),
        _chinchilla(found),
        _kaplan(found),
        *_left_out(found),
        Fold("How the law was fitted", [Points(list(_method(found)))]),
    ]
    return [Section("law", "The scaling law", blocks)]


def _sizes(trainings: Sequence[Training]) -> dict[float, list[Training]]:
    sizes = sorted({t.parameters for t in trainings})
    return {N: sorted((t for t in trainings if t.parameters == N), key=lambda t: t.tokens) for N in sizes}


def _over_compute(found: Mapping[str, Any], trainings: Sequence[Training]) -> Curves:
    """Every training over its arithmetic; ringed is what no cheaper one has reached."""
    fit, frontier, best = fit_of(found), set(), math.inf
    for t in sorted(trainings, key=lambda t: (t.flops, t.loss)):
        if t.loss < best:
            best = t.loss
            frontier.add(t)
    lines = [
        Line(
            big(N),
            [Place(t.flops, t.loss, said=_of(t), kind="best" if t in frontier else "") for t in runs],
            k % 6,
        )
        for k, (N, runs) in enumerate(_sizes(trainings).items())
    ]
    budgets = _spread([t.flops for t in trainings])
    law = [(C, fit.law.loss(*fit.law.optimum(C))) for C in budgets]
    lines.append(Line("the fitted law at its optimum", law, 5, faint=True))
    return Curves(
        "Loss over arithmetic",
        "FLOPs of training",
        _LOSS,
        lines,
        caption="Every training, by its number of parameters. The dotted line is the loss that the fitted law gives "
        "the best model for that much arithmetic, by C = 6 N D; a training's own FLOPs count attention too.",
        name="Loss over arithmetic",
        log=True,
        meanings={"best": "nothing cheaper was better"},
    )


def _isoflops(found: Mapping[str, Any]) -> Iterator[Curves]:
    """A line a budget; its parabola's lowest point is ringed."""
    lines = []
    for k, curve in enumerate(found["isoflops"]):
        C, trainings = curve["flops"], [Training(**t) for t in curve["trainings"]]
        places = [(t.parameters, Place(t.parameters, t.loss, said=_of(t))) for t in trainings]
        if N := curve["parameters"]:
            loss = sum(c * math.log(N) ** i for c, i in zip(curve["parabola"], (2, 1, 0), strict=True))
            said = f"{flops(C)}: lowest at {big(N)} parameters, {number(loss, _NATS)}"
            places.append((N, Place(N, loss, said=said, kind="best")))
        lines.append(Line(flops(C), [place for _, place in sorted(places, key=lambda p: p[0])], k % 6))
    if lines:
        yield Curves(
            "IsoFLOP curves",
            "parameters",
            _LOSS,
            lines,
            caption="Each line has one budget: a larger model, or more tokens. Ringed: the lowest point of the "
            "parabola through its trainings, where that lies between the sizes trained.",
            name="IsoFLOP curves",
            log=True,
            meanings={"best": "lowest point of the parabola"},
        )


def _per_size(found: Mapping[str, Any], trainings: Sequence[Training]) -> Curves:
    """The law with its interval where something was trained, and what was measured there."""
    fit, lines = fit_of(found), []
    for k, (N, runs) in enumerate(_sizes(trainings).items()):
        places = []
        for D in sorted({t.tokens for t in runs}):
            e = fit.estimate(operator.methodcaller("loss", N, D))
            measured = [t.loss for t in runs if t.tokens == D]
            said = f"{big(N)} parameters, {big(D)} tokens: {number(e.value, _NATS)} by the law, "
            said += f"{', '.join(number(v, _NATS) for v in measured)} measured"
            places.append(Place(D, e.value, e.low, e.high, said, seeds=measured))
        lines.append(Line(big(N), places, k % 6))
    return Curves(
        "The fitted law by size",
        "training tokens",
        _LOSS,
        lines,
        caption="L(N, D) as fitted, a line for each number of parameters, with 95 % intervals of the bootstrap over "
        "trainings; the small points are the trainings themselves.",
        name="The fitted law by size",
        log=True,
        meanings={"seed": "a training"},
    )


def _optimum(found: Mapping[str, Any], trainings: Sequence[Training]) -> Curves:
    """The best number of parameters over compute, by this fit and as published."""
    fit = fit_of(found)
    budgets = _spread([t.flops for t in trainings])
    here = []
    for C in budgets[:: _FINE // 4]:
        e = fit.estimate(best_at(C)["parameters"])
        here.append(Place(C, e.value, e.low, e.high, f"{flops(C)}: {big(e.value)} parameters by this fit"))
    minima = [
        Place(c["flops"], c["parameters"], said=f"{flops(c['flops'])}: {big(c['parameters'])} parameters")
        for c in found["isoflops"]
        if c["parameters"]
    ]
    lines = [Line("this fit", here, 0)]
    lines += [Line("lowest points of the IsoFLOP curves", minima, 1)] if minima else []
    lines += [
        Line("Hoffmann et al. 2022", [(C, HOFFMANN.optimum(C)[0]) for C in budgets], 2, faint=True),
        Line("Kaplan et al. 2020, without embeddings", [(C, kaplan_optimum(C)[0]) for C in budgets], 3, faint=True),
    ]
    return Curves(
        "The best size for a budget",
        "FLOPs of training",
        "parameters",
        lines,
        caption="What to spend arithmetic on. The published lines are extrapolated here over many powers of ten.",
        name="The best size for a budget",
        log=True,
    )


def _chinchilla(found: Mapping[str, Any]) -> Table:
    fitted = found["chinchilla"]["parameters"]
    rows: list[TableRow] = [
        [_named(name), Estimate.read(value), _as_read(getattr(HOFFMANN, name)), _as_read(getattr(BESIROGLU, name))]
        for name, value in fitted.items()
    ]
    if a := found["a_of_isoflops"]:
        rows.append(["a, by the IsoFLOP curves", Estimate.read(a), "0.49", None])
    optimum = found["optimum"]
    C = optimum["flops"]
    published = [number(D / N, decimals=1) for N, D in (law.optimum(C) for law in (HOFFMANN, BESIROGLU))]
    rows.append([f"tokens per parameter at {flops(C)}", Estimate.read(optimum["tokens_per_parameter"]), *published])
    head = ["", "here", "Hoffmann et al. 2022", "Besiroglu et al. 2024"]
    return Table("L = E + A/N^α + B/D^β, N all parameters; in brackets 95 % intervals", head, rows)


def _kaplan(found: Mapping[str, Any]) -> Table:
    rows: list[TableRow] = [
        [_named(name), Estimate.read(value), _as_read(getattr(KAPLAN, name))]
        for name, value in found["kaplan"]["parameters"].items()
    ]
    caption = "L = [(N_c/N)^(α_N/α_D) + D_c/D]^α_D, N without embeddings; a = α_D/(α_N + α_D) follows from it"
    return Table(caption, ["", "here", "Kaplan et al. 2020"], rows)


def _method(found: Mapping[str, Any]) -> Iterator[str]:
    yield Prose(
        "**The loss** is in nats per token on the *test* split: bits per byte "
        f"(`{plain(found['metric'])}`) × ln 2 × {number(found['bytes_per_token'], decimals=3)} bytes per token. One "
        "tokenizer made all of it; with another, A, B and E are other numbers and the exponents are about the same."
    )
    yield Prose(
        "**The fit** is Hoffmann et al.'s third approach (arXiv 2203.15556): the sum of Huber losses of log L, "
        "δ = 0.001, by L-BFGS from a grid of starts. Besiroglu et al. (arXiv 2404.10102) found that the original "
        "stopped early and was printed rounded: here the sum is taken in units of δ², and the table has the unrounded "
        "constants."
    )
    yield Prose(
        f"**Intervals** are percentiles of {len(found['chinchilla']['draws'])} fits to trainings drawn with "
        "replacement; of the IsoFLOP curves' exponent, of curves whose losses are moved by residuals of the fit. They "
        "know nothing of a form that is wrong."
    )
    yield Prose(
        "**Kaplan's exponent**, 0.73, is not what Kaplan's own form gives (0.58, in the table): it was read off "
        "learning curves in which every run had one schedule, warm-up and batch, whatever its length, and the "
        "embeddings' arithmetic was left out. With both mended it becomes Chinchilla's (Porian et al. 2024, arXiv "
        "2406.19146)."
    )


def _left_out(found: Mapping[str, Any]) -> list[Block]:
    said = left_out(found)
    return [Points(said)] if said else []


def _named(name: str) -> str:
    return f"{NAMES.get(name, name)}{f', {_FOUND[name]}' if name in _FOUND else ''}"


def _as_read(value: float) -> str:
    return power(value) if value >= 1e7 else number(value, decimals=1 if value > 100 else 3)


def _of(t: Training) -> str:
    return f"{big(t.parameters)} parameters, {big(t.tokens)} tokens, {flops(t.flops)}: {number(t.loss, _NATS)}"


def _spread(values: Sequence[float]) -> list[float]:
    """Numbers between the smallest and the largest, evenly by powers."""
    low, high = min(values), max(values)
    return [low * (high / low) ** (i / _FINE) for i in range(_FINE + 1)]
