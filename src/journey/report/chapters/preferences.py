"""What preference training taught: held-out pairs, their margins, and whether length alone would explain them."""

from collections.abc import Sequence
from dataclasses import replace

from journey.evaluate.statistics import mean
from journey.report.chapters.parts import by_model, figure, figures, nothing
from journey.report.charts import Curve, curves
from journey.report.estimates import Item, policy_kl, preference_accuracy
from journey.report.life import Life, Stage
from journey.report.lists import Notes
from journey.report.markup import MISSING, escape, estimate, table


def preferences(life: Life, notes: Notes) -> str:
    """Held-out accuracy and margins of every stage that was trained on preferences."""
    found = {s: s.measurement["preferences"] for s in life.models if _items(s)}
    if not found:
        return nothing("No preferences have been measured yet.")
    convention = next(iter(found.values())).get("convention", "")
    chart = by_model(
        life,
        {s: preference_accuracy(_items(s)) for s in found},
        "Held-out preference accuracy",
        "% of held-out pairs",
        f"Pairs whose chosen answer has the larger implicit reward.{notes.mark(convention)}",
        [(50.0, "chance, and before training")],
    )
    lines = [Curve(s.name, _sorted([i["margin"] for i in _items(s)]), life.colour(s)) for s in found]
    sorted_ = curves(
        lines, title="Margins of the held-out pairs, sorted", x_unit="% of pairs", y_unit="nats", marks=[(0.0, "a tie")]
    )
    caption = (
        "The margin of each held-out pair, from the least to the largest: right of where it crosses zero, told apart."
    )
    rows = [row for s in found for row in _rows(s)]
    head = ["Pairs", "how many", "told apart, %", "mean margin, nats"]
    apart = table("Is it the answer, or only its length? With 95 % intervals", head, rows, style="numbers")
    moved = [
        [escape(s.name), estimate(replace(policy_kl(kl), unit="nats/token"))]
        for s, measured in found.items()
        if len(kl := measured.get("kl", [])) > 1
    ]
    cost = table("How far the model moved, on its own answers", ["Model", "KL, nats/token"], moved, style="numbers")
    return figures([chart, figure(sorted_, caption)]) + f'<div class="grids">{apart}{cost if moved else ""}</div>'


def _items(stage: Stage) -> list[Item]:
    """The held-out pairs, where there are enough of them for an interval."""
    items = stage.measurement.get("preferences", {}).get("items", [])
    return items if len(items) > 1 else []


def _sorted(margins: Sequence[float]) -> list[tuple[float, float]]:
    return [(100 * (i + 0.5) / len(margins), m) for i, m in enumerate(sorted(margins))]


def _rows(stage: Stage) -> list[list[str]]:
    """All pairs, and those whose chosen answer is the longer or the shorter one, by tokens."""
    items = _items(stage)
    groups = {
        "all": items,
        "chosen is longer": [i for i in items if i["chosen_tokens"] > i["rejected_tokens"]],
        "as long": [i for i in items if i["chosen_tokens"] == i["rejected_tokens"]],
        "chosen is shorter": [i for i in items if i["chosen_tokens"] < i["rejected_tokens"]],
    }
    return [
        [
            f"{escape(stage.name)}, {said}",
            f"{len(some):,}",
            *(
                (estimate(preference_accuracy(some)), estimate(mean([i["margin"] for i in some])))
                if len(some) > 1
                else (MISSING, MISSING)
            ),
        ]
        for said, some in groups.items()
    ]
