"""The same weights in fewer bits: what each file weighs, costs and does in llama.cpp."""

from typing import Any

from journey.evaluate.statistics import Estimate
from journey.report.chapters.parts import figure, figures, nothing
from journey.report.charts import Dot, dots
from journey.report.claims import Q8_COST
from journey.report.effect import Effect
from journey.report.estimates import bits_per_byte
from journey.report.life import Life
from journey.report.lists import Notes
from journey.report.markup import MISSING, bytes_, escape, estimate, interval, number, places, power, table


def quantized(life: Life, effects: list[Effect], notes: Notes) -> str:
    """Every set of GGUF files against the weights it was made of."""
    stages = [s for s in life.measured if s.measurement.get("quantized")]
    if not stages:
        return nothing("No files have been measured yet.")
    return "".join(
        _files(s.name, s.measurement["quantized"], [e for e in effects if e.stage == s.name], notes) for s in stages
    )


def _files(name: str, measured: dict[str, Any], own: list[Effect], notes: Notes) -> str:
    by_kind = {kind: next((e for e in own if e.name == f"bits per byte, {kind}"), None) for kind in measured["types"]}
    rows = [Dot(kind, Estimate(e.value, e.low, e.high, e.n, e.unit), 0) for kind, e in by_kind.items() if e]
    made = []
    if rows:
        marks = [(0.0, "fp32"), (Q8_COST, f"mark for q8_0: {Q8_COST} %")]
        chart = dots(rows, title="Change in bits per byte from fp32", unit="% more bits per byte", marks=marks)
        convention = measured.get("convention", "")
        made.append(figure(chart, f"What each file of <b>{escape(name)}</b> costs.{notes.mark(convention)}"))
    made.append(f"<div>{_facts(measured)}</div>")
    reference = measured["reference"]
    files = {"fp32, our code": (reference, None)} | {
        f"{kind}, llama.cpp": (made_, by_kind[kind]) for kind, made_ in measured["types"].items()
    }
    body = [_row(kind, made_, e, reference["bytes"]) for kind, (made_, e) in files.items()]
    head = [
        "Weights",
        "bytes",
        "of fp32",
        "bits per byte",
        "change, %",
        "logits off, of the largest",
        "tokens/s, decoding",
    ]
    return figures(made) + table("The files, with 95 % intervals", head, body, style="numbers")


def _row(kind: str, made: dict[str, Any], e: Effect | None, whole: int) -> list[str]:
    change = MISSING
    if e:
        value = number(e.value, sign=True, decimals=places(e.low, e.high, e.unit))
        change = f'{value} <span class="ci">{interval(e.low, e.high, e.unit, sign=True)}</span>'
    moved = made.get("logits_max_difference")
    return [
        escape(kind),
        bytes_(made["bytes"]),
        number(100 * made["bytes"] / whole, "%"),
        estimate(bits_per_byte(made["items"])) if len(made["items"]) > 1 else MISSING,
        change,
        MISSING if moved is None else f"{100 * moved:.2g}\u00a0%",
        number(made.get("tokens_per_second"), decimals=0),
    ]


def _facts(measured: dict[str, Any]) -> str:
    """What was checked beside the scores, in sentences."""
    said = []
    if (most := measured.get("f32_logits_max_difference")) is not None:
        said.append(
            f"With weights and cache in fp32, llama.cpp's logits and ours differ by {power(most)} of the largest."
        )
    if (prompts := measured.get("prompts")) and prompts["n"]:
        said.append(
            f"The chat template inside the file gives {prompts['equal']:,} of {prompts['n']:,} prompts exactly the ids "
            "that training saw."
        )
    if runtime := measured.get("runtime"):
        said.append(f"Run by {escape(runtime)}.")
    return "".join(f"<p>{sentence}</p>" for sentence in said)
