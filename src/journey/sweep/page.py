"""The page of `journey sweep`: which value is best, how sure that is, and what it costs, in one HTML file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from journey.errors import JourneyError
from journey.evaluate.statistics import Estimate
from journey.report import curves as charts
from journey.report.axes import compacted
from journey.report.blocks import Block, Curves, Fold, Line, Page, Place, Points, Row, Section, Text
from journey.report.format import estimate, is_number, join, numbers, si, typed
from journey.report.render import render
from journey.sweep import law_page, tradeoff
from journey.sweep.content import Group, Metric, Point, Sweep
from journey.sweep.overall import Overall, headline
from journey.sweep.tables import FACTS, method, points, runs
from journey.sweep.trail_plots import trails

TOGETHER = 5  # more groups than this are drawn apart
MOST_ROWS = 40  # with more points the tables of several groups are folded
COSTS = {"flops_per_byte": "FLOPs per byte at inference", "weights_read_per_byte": "weights read per byte at inference"}
MEANINGS = {
    "best": "best on dev",
    "": "level with it on test",
    "other": "clearly different",
    "seed": "one seed",
    "failed": "failed",
}


def page(result: Mapping[str, Any]) -> str:
    """The whole HTML of a sweep, from the content of its sweep.json."""
    sweep = Sweep(result)
    seeds = f"{len(sweep.seeds)} seed{'s' * (len(sweep.seeds) != 1)}"
    tables = [points(sweep, group) for group in sweep.groups]
    is_few = len(tables) == 1 or (len(tables) <= TOGETHER and len(sweep.points) <= MOST_ROWS)
    shown = tables if is_few else [Fold(g.label, [t]) for g, t in zip(sweep.groups, tables, strict=True)]
    costs = list(_costs(sweep))
    found = Overall.of(sweep)
    overall, bests = ([found.finding()], [found.table()]) if found else ([], [])
    courses, trades = list(trails(sweep)), list(tradeoff.plots(sweep))
    said = (
        "Per byte of text, not per token: a longer token is read once for more text. Weights read decide the speed of "
        "writing one token after the other, FLOPs that of reading a prompt."
    )
    return render(
        Page(
            title=f"{sweep.name}: a sweep over {join(list(sweep.axes))}",
            heading=headline(sweep),
            kicker=f"Sweep {sweep.name} · {sweep.recipe} · {sweep.of} · {seeds}",
            head=[Points([*overall, *map(sweep.finding, sweep.groups), *tradeoff.said(sweep)], "findings")],
            sections=[
                *law_page.sections(result),
                Section("found", "What was measured", list(_plots(sweep))),
                *([Section("trade", "What is won and what is lost", trades)] if trades else []),
                *([Section("training", "How the trainings went", courses)] if courses else []),
                *([Section("cost", "What it costs", [Row(costs)], said)] if costs else []),
                Section("points", "Every point", [*bests, *shown, *runs(sweep)]),
                Section("how", "How it was counted", [Points(list(method(sweep)))]),
            ],
            made_by="journey sweep",
        )
    )


def figure(result: Mapping[str, Any], metric: str) -> str:
    """The plot of one metric (its name) as an SVG file that stands alone, in light and dark."""
    sweep = Sweep(result)
    chosen = next((m for m in sweep.metrics if m.name == metric), None)
    if chosen is None:
        known = join([m.name for m in sweep.metrics])
        raise JourneyError(f"the sweep {sweep.name} did not measure {metric}; it has {known}")
    drawn = [drawing for block in _measured(sweep, chosen) if (drawing := charts.curves(block))]
    return charts.figure(f"{chosen.label} over {sweep.x}", drawn)


def _plots(sweep: Sweep) -> Iterator[Block]:
    """Per metric the plot over x, and the same over its cost."""
    together: list[Block] = []
    many: list[Block] = []
    for metric in sweep.metrics:
        found = _measured(sweep, metric)
        mean = ", mean of the seeds," if len(sweep.seeds) > 1 else ""
        said = f"{metric.label} on test{mean} with its 95 % interval."
        if metric is not sweep.metrics[0]:
            said += f" Ringed: the best on dev by {sweep.metrics[0].label}."
        if len(found) > 1:
            many += [Text(said, "caption"), Row(found)]
        elif found:
            together += [replace(found[0], caption=said), *_against_cost(sweep, metric)]
    if together:
        yield Row(together)
    yield from many
    if not (together or many):
        yield Text("No point has a result: every run failed.", "nothing")


def _measured(sweep: Sweep, metric: Metric) -> list[Curves]:
    """The metric on test over x."""
    lines = []
    for k, group in enumerate(sweep.groups):
        places = [
            _place(sweep, metric, group, p, e, p.values[sweep.x], numbers(e)[0] if p.best else "", _seeds(p, metric))
            for p, e in _estimates(group, metric)
        ]
        failed = [(p.values[sweep.x], f"{typed(p.values[sweep.x])} failed: {p.error}") for p in group.points if p.error]
        lines.append(Line(group.label, places, k % 6, failed=failed))
    title = f"{metric.label} over {sweep.x}"
    return _curves(Curves(title, sweep.x, _title(metric), lines, values=sweep.values), metric)


def _against_cost(sweep: Sweep, metric: Metric) -> list[Curves]:
    """The metric over FLOPs per byte, the values swept written beside the best and the ends of each line."""
    cost, lines, names = "flops_per_byte", [], dict[str, str]()
    if sweep.is_numeric:
        names = dict(zip(map(typed, sweep.values), compacted(sweep.values), strict=True))
    costs = [p.facts[cost] for group in sweep.groups for p, _ in _estimates(group, metric) if cost in p.facts]
    if len(set(costs)) < 3 or max(costs) < 1.02 * min(costs):
        return []
    for k, group in enumerate(sweep.groups):
        found = [(p, e) for p, e in _estimates(group, metric) if cost in p.facts]
        ends = [p for p, _ in (found[:1] + found[-1:])]
        places = []
        for p, e in found:
            value = typed(p.values[sweep.x])
            label = names.get(value, value) if p.best or p in ends else ""
            place = _place(sweep, metric, group, p, e, p.facts[cost], label)
            places.append(replace(place, said=f"{place.said} at {si(p.facts[cost], 'FLOP')} per byte"))
        lines.append(Line(group.label, places, k % 6))
    said = f"{metric.label} over what a byte of text costs at inference."
    title = f"{metric.label} over FLOPs per byte"
    return _curves(Curves(title, COSTS[cost], _title(metric), lines, caption=said), metric)[:1]


def _curves(block: Curves, metric: Metric) -> list[Curves]:
    """All lines in one plot, or each in its own, over the same range, where they would be too many to tell apart."""
    lines = [line for line in block.lines if line.points or line.failed]
    places = [p for line in lines for p in line.points if isinstance(p, Place)]
    if not places:
        return []
    block = replace(block, lines=lines, lower_is_better=metric.better == "lower", log=True, meanings=MEANINGS)
    if len(lines) <= TOGETHER:
        return [block]
    ends = [v for p in places for v in (p.y, p.low, p.high, *p.seeds) if v is not None and isfinite(v)]
    return [
        replace(
            block, lines=[line], name=line.label, y_range=(min(ends), max(ends)), title=f"{line.label}. {block.title}"
        )
        for line in lines
    ]


def _costs(sweep: Sweep) -> Iterator[Curves]:
    """What a byte of text costs over x; groups that cost the same share a line."""
    by_name = {typed(v): v for v in sweep.values}
    for cost, title in COSTS.items():
        shared: dict[tuple[tuple[str, float], ...], list[str]] = {}
        for group in sweep.groups:
            known = [(typed(p.values[sweep.x]), p.facts[cost]) for p in group.done if cost in p.facts]
            if known:
                shared.setdefault(tuple((x, float(f"{v:.4g}")) for x, v in known), []).append(group.label)
        lines = [
            Line(
                join(labels) if len(labels) < len(sweep.groups) else "all",
                [Place(by_name[x], v, said=f"{x}: {FACTS[cost][1](v)}, {join(labels)}") for x, v in known],
                k % 6,
            )
            for k, (known, labels) in enumerate(shared.items())
        ]
        if 0 < len(lines) <= TOGETHER and len({v for known in shared for _, v in known}) > 1:
            yield Curves(title, sweep.x, title, lines, values=sweep.values, lower_is_better=True, log=True)


def _place(
    sweep: Sweep,
    metric: Metric,
    group: Group,
    point: Point,
    e: Estimate,
    x: float | str | bool,
    label: str,
    seeds: Sequence[float] = (),
) -> Place:
    verdict = sweep.verdict(point, metric)
    said = f"{sweep.x} {typed(point.values[sweep.x])}{group.under}: {estimate(e)}, {verdict}"
    kind = {"best": "best", "chosen": "best", "level": ""}.get(verdict, "other")
    return Place(x, e.value, e.low, e.high, said, label, kind, seeds)


def _estimates(group: Group, metric: Metric) -> list[tuple[Point, Estimate]]:
    return [(p, e) for p in group.done if (e := p.estimate(metric))]


def _seeds(point: Point, metric: Metric) -> list[float]:
    """The runs' own numbers on test; of one run it is the point itself."""
    found = [run.get("metrics", {}).get(metric.name, {}).get("test") for run in point.runs]
    return [float(v) for v in found if is_number(v)] if len(found) > 1 else []


def _title(metric: Metric) -> str:
    """`bits per byte, docs; lower is better`: the unit only where the label does not say it."""
    unit = f" ({metric.unit})" if metric.unit and metric.unit.replace("/", " per ") not in metric.label else ""
    return f"{metric.label}{unit}; {metric.better} is better"
