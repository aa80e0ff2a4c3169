"""A sweep in a terminal: what was found, and a table of the points of each group."""

from collections.abc import Mapping
from typing import Any

from journey.report.drawing import short
from journey.report.format import columns, typed, without_unit
from journey.sweep import law
from journey.sweep.content import Metric, Point, Sweep
from journey.sweep.overall import Overall, headline
from journey.sweep.tradeoff import said as trade


def lines(result: Mapping[str, Any]) -> list[str]:
    """The table of a sweep, from the content of its sweep.json, as lines of plain text."""
    sweep = Sweep(result)
    overall = Overall.of(sweep)
    out = [headline(sweep), "", *([overall.finding()] if overall else []), *map(sweep.finding, sweep.groups)]
    out += trade(sweep)
    for group in sweep.groups:
        head = [
            column for m in sweep.metrics for column in (f"{m.label} ({m.unit})" if m.unit else m.label, "to best", "")
        ]
        rows = []
        for p in group.points:
            cells = [cell for m in sweep.metrics for cell in _cells(sweep, p, m)] if not p.error else ["failed"]
            rows.append([typed(p.values[sweep.x]), *cells, *[""] * (len(head) - len(cells))])
        title = f"{sweep.x}{group.under}, on test [95 % interval]"
        out += columns(title, head, rows)
        out += [f"{typed(p.values[sweep.x])} failed: {short(p.error, 200)}" for p in group.points if p.error]
    if found := result.get("law"):
        out += law.lines(found)
    return [_printable(line) for line in out]


def _cells(sweep: Sweep, point: Point, metric: Metric) -> list[str]:
    found = [(point.estimate(metric), False), (point.estimate(metric, "against_best"), True)]
    return [
        *(without_unit(e, sign=sign) for e, sign in found),
        sweep.verdict(point, metric),
    ]


def _printable(line: str) -> str:
    """A value may hold what a terminal obeys."""
    line = line.replace("\u00a0", " ")
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in line)
