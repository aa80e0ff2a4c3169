"""The scaling law of a sweep over sizes and tokens: `law: true` in a recipe's `sweep:`. What is fitted, in numbers for
sweep.json, and in the sentences that the terminal and the page share."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.evaluate import scaling
from journey.evaluate.scaling import BESIROGLU, HOFFMANN, Chinchilla, Fit, IsoFlop, Kaplan, Training
from journey.evaluate.statistics import Estimate
from journey.files import read_json
from journey.report.format import big, estimate, flops, join, number, numbers

NAMES = {"E": "E", "A": "A", "B": "B", "alpha": "α", "beta": "β", "N_c": "N_c", "D_c": "D_c"} | {
    "alpha_N": "α_N",
    "alpha_D": "α_D",
}
# N_opt ∝ C^a as each paper concludes (Chinchilla's three approaches: 0.50, 0.49, 0.46).
CHINCHILLA_A, KAPLAN_A = 0.5, 0.73


def law(
    points: Sequence[Mapping[str, Any]], metric: str, texts: Mapping[str, Path], resamples: int = scaling.RESAMPLES
) -> dict[str, Any]:
    """The laws fitted to every training of a sweep's points, by its `bits_per_byte.TEXT`; `texts` are folders by name.

    Where they cannot be told, `error` says in a line why.
    """
    trainings, left_out = [], []
    whole = read_json(texts[metric.removeprefix("bits_per_byte.")] / "corpus.json")["splits"]["train"]["bytes"]
    per_token = {round(p["facts"]["bytes_per_token"], 6) for p in points if p["runs"]}
    if len(per_token) > 1:
        return {"error": "the law cannot be told: losses per token of several tokenizers cannot be compared"}
    for point in points:
        if not point["runs"]:
            left_out.append({"values": point["values"], "why": "failed"})
            continue
        facts = point["facts"]
        if facts["text_bytes"] > whole:
            read = facts["text_bytes"] / whole
            left_out.append({"values": point["values"], "why": f"read the text {read:.1f} times: repeats are not new"})
            continue
        nats = math.log(2) * facts["bytes_per_token"]  # of a token that costs one bit a byte
        trainings += [
            Training(
                facts["parameters"],
                facts["body_parameters"],
                facts["tokens"],
                facts["flops"],
                run["metrics"][metric]["test"] * nats,
            )
            for run in point["runs"]
        ]
    found: dict[str, Any] = {"metric": metric, "bytes_per_token": next(iter(per_token), None), "left_out": left_out}
    try:
        chinchilla, kaplan = scaling.fit_chinchilla(trainings, resamples), scaling.fit_kaplan(trainings, resamples)
    except JourneyError as error:
        return found | {"error": str(error)}
    curves = scaling.isoflops(trainings)
    by_curves = scaling.optimum_exponent(trainings, chinchilla.law, resamples)
    largest = max(t.flops for t in trainings)
    C = _budget(chinchilla.law, trainings, curves)
    found |= {
        "largest": largest,
        "trainings": [vars(t) for t in trainings],
        "chinchilla": _fitted(chinchilla, "E A B alpha beta a"),
        "kaplan": _fitted(kaplan, "N_c D_c alpha_N alpha_D a"),
        "isoflops": [
            {"flops": c.flops, "parabola": list(c.parabola), "parameters": c.best, "why": c.why}
            | {"trainings": [vars(t) for t in c.trainings]}
            for c in curves
        ],
        "a_of_isoflops": by_curves.metric() if by_curves else None,
        "optimum": {"flops": C} | {name: chinchilla.estimate(of).metric() for name, of in best_at(C).items()},
    }
    return found | {"said": list(_said(trainings, C, chinchilla, kaplan, curves, by_curves))}


def fit_of(found: Mapping[str, Any]) -> Fit[Chinchilla]:
    """The fit that stands in the `law` of a sweep.json."""
    kept = found["chinchilla"]
    draws = tuple(Chinchilla(*draw) for draw in kept["draws"])
    return Fit(Chinchilla(*kept["law"]), draws, len(found["trainings"]), kept["error"])


def read_fit(path: Path) -> tuple[Fit[Chinchilla], float]:
    """The fit in a sweep.json, and the most FLOPs that one of its trainings had.

    Errors: JourneyError for a file that holds none, with the sweep's own reason where it has one.
    """
    if not path.is_file():
        raise JourneyError(f"no law in {path}: name chinchilla, besiroglu or kaplan, or give a sweep's sweep.json")
    result = read_json(path)
    found = result.get("law") if isinstance(result, dict) else None
    if not isinstance(found, dict):
        raise JourneyError(f"{path} holds no law: `law: true` in the sweep: of its recipe fits one")
    if "error" in found:
        raise JourneyError(f"{path}: {found['error']}")
    try:
        fit, largest = fit_of(found), float(found["largest"])
        known = [largest, fit.error, *(value for law in (fit.law, *fit.draws) for value in vars(law).values())]
    except (KeyError, TypeError, ValueError):
        known = [math.nan]
    if not all(isinstance(value, int | float) and 0 < value < math.inf for value in known):
        raise JourneyError(f"{path}: its law is damaged: `journey sweep` writes it anew")
    return fit, largest


def _fitted(fit: Fit[Any], names: str) -> dict[str, Any]:
    return {
        "law": scaling.numbers(fit.law),
        "parameters": {name: fit.estimate(operator.attrgetter(name)).metric() for name in names.split()},
        "error": fit.error,
        "draws": [scaling.numbers(law) for law in fit.draws],
    }


def best_at(C: float) -> dict[str, Callable[[Chinchilla], float]]:
    """What a law says of the best model for C FLOPs."""
    return {
        "parameters": lambda law: law.optimum(C)[0],
        "tokens": lambda law: law.optimum(C)[1],
        "tokens_per_parameter": lambda law: law.optimum(C)[1] / law.optimum(C)[0],
        "loss": lambda law: law.loss(*law.optimum(C)),
    }


def _budget(law: Chinchilla, trainings: Sequence[Training], curves: Sequence[IsoFlop]) -> float:
    """The arithmetic to speak of: the most that several sizes shared whose best model lies among those trained."""
    budgets = [curve.flops for curve in curves] or [max(t.flops for t in trainings)]
    return max((C for C in budgets if _is_inside(law, C, trainings)), default=max(budgets))


def _is_inside(law: Chinchilla, C: float, trainings: Sequence[Training]) -> bool:
    N, D = law.optimum(C)
    sizes, tokens = [t.parameters for t in trainings], [t.tokens for t in trainings]
    return min(sizes) <= N <= max(sizes) and min(tokens) <= D <= max(tokens)


def _said(
    trainings: Sequence[Training],
    C: float,
    chinchilla: Fit[Chinchilla],
    kaplan: Fit[Kaplan],
    curves: Sequence[IsoFlop],
    by_curves: Estimate | None,
) -> list[str]:
    """What follows from the numbers, and what does not."""
    c, k = chinchilla.law, kaplan.law
    largest, smallest = max(t.flops for t in trainings), min(t.flops for t in trainings)
    first = (
        f"Chinchilla's form fits {len(trainings)} trainings to {100 * chinchilla.error:.1f} % of their loss on "
        f"average: L = {c.E:.2f} + {c.A:,.3g}/N^{c.alpha:.2f} + {c.B:,.3g}/D^{c.beta:.2f} nats per token."
    )
    a = chinchilla.estimate(lambda law: law.a)
    said = f"With the arithmetic C the best model grows as C^a: a = {estimate(a)}"
    if by_curves:
        said += f" by the fit, {estimate(by_curves)} by the lowest points of the IsoFLOP curves"
    elif curves:
        n = sum(curve.best is not None for curve in curves)
        said += f"; the IsoFLOP curves give no second opinion ({n} of {len(curves)} have their lowest point inside)"
    else:
        said += "; there are no IsoFLOP curves, for no three sizes share a budget"
    of = best_at(C)
    N, D = of["parameters"](c), of["tokens"](c)
    ratio = chinchilla.estimate(of["tokens_per_parameter"])
    at = (
        f"For {flops(C)} the fit asks for {big(N)} parameters and {big(D)} tokens, {estimate(ratio)} tokens per "
        f"parameter, with a loss of {number(of['loss'](c), 'nats/token')}. {_twenty(ratio)} The published constants, "
        f"for other text and models, give {_ratio(HOFFMANN, C)} (Hoffmann et al.) and {_ratio(BESIROGLU, C)} "
        "(Besiroglu et al.) there."
    )
    if not _is_inside(c, C, trainings):
        at += " That model lies outside the sizes and tokens trained here: it is extrapolation."
    form = (
        f"Kaplan's form, on parameters outside the embeddings and without a floor, fits to {100 * kaplan.error:.1f} %: "
        f"α_N = {k.alpha_N:.3f}, α_D = {k.alpha_D:.3f} (published: 0.076 and 0.103)."
    )
    limits = (
        f"This holds for one text, one tokenizer, one family, and the learning rates of the recipe at every size, from "
        f"{flops(smallest)} to {flops(largest)}. Beyond that it is extrapolation; E is where the form puts "
        "its floor, no measured entropy; and intervals are of the trainings drawn, not of the form being wrong."
    )
    return [first, f"{said}. {_against(a)}", at, form, limits]


def _against(a: Estimate) -> str:
    """Which paper's exponent the interval holds."""
    papers = {"Chinchilla's 0.5": CHINCHILLA_A, "Kaplan's 0.73": KAPLAN_A}
    inside = [name for name, value in papers.items() if a.low <= value <= a.high]
    if len(inside) == 2:
        return "The fit's interval holds Chinchilla's 0.5 and Kaplan's 0.73: these trainings cannot tell them apart."
    outside = [name for name in papers if name not in inside]
    if inside:
        return f"The fit's interval holds {inside[0]} and not {outside[0]}."
    return f"The fit's interval holds neither {' nor '.join(outside)}."


def _twenty(ratio: Estimate) -> str:
    if ratio.low <= 20 <= ratio.high:
        return "The rule of 20 lies within the interval."
    return f"That is {'fewer' if ratio.high < 20 else 'more'} than the rule of 20."


def _ratio(law: Chinchilla, C: float) -> str:
    N, D = law.optimum(C)
    return number(D / N, decimals=1)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The law in a terminal."""
    if "error" in found:
        return ["", found["error"], *left_out(found)]
    rows = [
        f"{NAMES.get(name, name)} = {' '.join(numbers(Estimate.read(value)))}"
        for name, value in found["chinchilla"]["parameters"].items()
    ]
    return ["", *found["said"], "   ".join(rows), *left_out(found)]


def left_out(found: Mapping[str, Any]) -> list[str]:
    """What the law was not fitted to, and why."""
    return [
        f"Left out of the law: {join([f'{k} {v}' for k, v in each['values'].items()])}: {each['why']}"
        for each in found.get("left_out", [])
    ]
