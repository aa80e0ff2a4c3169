"""The page of `journey sweep`: which value is best, how sure that is, and what it costs, in one HTML file."""

from collections.abc import Mapping
from typing import Any

from journey.errors import JourneyError
from journey.evaluate.statistics import Estimate
from journey.report.markup import escape, folded, join, si
from journey.report.page import STYLE
from journey.report.svg import WIDTH, svg
from journey.report.sweep.axes import compacted
from journey.report.sweep.content import Group, Metric, Point, Sweep, is_number, numbers, shown, typed
from journey.report.sweep.plot import CSS, TOGETHER, Axes, Drawing, Mark, Series, drawings
from journey.report.sweep.tables import FACTS, method, points, runs

MOST_ROWS = 40  # with more points the tables of several groups are folded
COSTS = {"flops_per_byte": "FLOPs per byte at inference", "weights_read_per_byte": "weights read per byte at inference"}
_STYLE = """
.findings { list-style: none; margin: .5rem 0 0; padding: 0; font: .95rem/1.45 var(--sans); }
.findings li { margin: .35rem 0; }
td.failed { white-space: normal; min-width: 16rem; color: var(--bad); text-align: left !important; }
.numbers td.word { text-align: left; }
"""
# The rules of the page's style that a drawing needs when it stands alone.
_DRAWN = (".chart text", ".chart .", ".grid {", ".zero", ".whisker", ".s0 {", "svg .s0", ".curve")


def page(result: Mapping[str, Any]) -> str:
    """The whole HTML of a sweep, from the content of its sweep.json."""
    sweep = Sweep(result)
    seeds = f"{len(sweep.seeds)} seed{'s' * (len(sweep.seeds) != 1)}"
    findings = "".join(f"<li>{escape(sweep.finding(group))}</li>" for group in sweep.groups)
    tables = [points(sweep, group) for group in sweep.groups]
    few = tables if len(tables) == 1 or (len(tables) <= TOGETHER and len(sweep.points) <= MOST_ROWS) else []
    rest = (folded(escape(g.label), t) for g, t in zip(sweep.groups, tables, strict=True) if t not in few)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(sweep.name)}: a sweep over {escape(join(list(sweep.axes)))}</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}{CSS}{_STYLE}</style></head><body>"
        f'<header class="top"><p class="kicker">Sweep {escape(sweep.name)} · {escape(sweep.recipe)} · '
        f"{escape(sweep.of)} · {seeds}</p><h1>{escape(sweep.title())}</h1>"
        f'<ul class="findings">{findings}</ul></header><main>'
        f'<section id="found"><h2>What was measured</h2>{_plots(sweep)}</section>{_costs(sweep)}'
        f'<section id="points"><h2>Every point</h2>{"".join(few)}{"".join(rest)}{runs(sweep)}</section>'
        f'<section id="how"><h2>How it was counted</h2>{method(sweep)}</section>'
        "</main><footer><p>Made by <code>journey sweep</code>. This page needs no network and no script.</p></footer>"
        "</body></html>\n"
    )


def figure(result: Mapping[str, Any], metric: str) -> str:
    """The plot of one metric (its name) as an SVG file that stands alone, in light and dark."""
    sweep = Sweep(result)
    chosen = next((m for m in sweep.metrics if m.name == metric), None)
    if chosen is None:
        known = join([m.name for m in sweep.metrics])
        raise JourneyError(f"the sweep {sweep.name} did not measure {metric}; it has {known}")
    found = _measured(sweep, chosen)
    columns = min(2, len(found))
    high, parts = 10.0, []
    for i in range(0, len(found), 2):
        for column, drawing in enumerate(found[i : i + 2]):
            place = f"translate({12 + column * (WIDTH + 12)} {high:.0f})"
            parts.append(f'<g transform="{place}">{"".join(drawing.parts)}</g>')
        high += max(drawing.height for drawing in found[i : i + 2]) + 14
    wide = columns * (WIDTH + 12) + 12
    zoom = 1.6 if columns == 1 else 1
    css = STYLE.read_text(encoding="utf-8")
    colours = css.partition("* {")[0]
    rules = "\n".join(rule for rule in css.splitlines() if rule.startswith(_DRAWN))
    size = f'viewBox="0 0 {wide} {high:.0f}" width="{zoom * wide:.0f}" height="{zoom * high:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size} role="img" '
        f'aria-label="{escape(_spoken(sweep, chosen))}">'
        f"<style>{colours}{rules}{CSS}</style>"
        f'<rect style="fill: var(--paper)" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def _plots(sweep: Sweep) -> str:
    """Per metric the plot over x, and the same over its cost."""
    figures, many = [], []
    for metric in sweep.metrics:
        found = _measured(sweep, metric)
        mean = ", mean of the seeds," if len(sweep.seeds) > 1 else ""
        said = f"{escape(metric.label)} on test{mean} with its 95 % interval."
        if metric is not sweep.metrics[0]:
            said += f" Ringed: the best on dev by {escape(sweep.metrics[0].label)}."
        spoken = _spoken(sweep, metric)
        if len(found) > 1:
            drawn = "".join(_figure(f"{drawing.title}. {spoken}", drawing) for drawing in found)
            many.append(f'<p class="caption">{said}</p><div class="figures">{drawn}</div>')
            continue
        figures += [_figure(spoken, drawing, said) for drawing in found]
        over_cost = f"{escape(metric.label)} over what a byte of text costs at inference."
        figures += [_figure(f"{spoken}; over FLOPs per byte", d, over_cost) for d in _against_cost(sweep, metric)]
    together = f'<div class="figures">{"".join(figures)}</div>' if figures else ""
    return together + "".join(many) or '<p class="nothing">No point has a result: every run failed.</p>'


def _figure(spoken: str, drawing: Drawing, said: str = "") -> str:
    caption = f"<figcaption>{said}</figcaption>" if said else ""
    return f"<figure>{svg(spoken, drawing.height, drawing.parts)}{caption}</figure>"


def _measured(sweep: Sweep, metric: Metric) -> list[Drawing]:
    """The metric on test over x."""
    series = [
        Series(
            group.label,
            [
                Mark(
                    x=p.values[sweep.x],
                    y=e.value,
                    said=f"{sweep.x} {typed(p.values[sweep.x])}{group.under}: {shown(e)}, {sweep.verdict(p, metric)}",
                    kind=_kind(sweep.verdict(p, metric)),
                    low=e.low,
                    high=e.high,
                    seeds=_seeds(p, metric),
                    label=numbers(e)[0] if p.best else "",
                )
                for p, e in _estimates(group, metric)
            ],
            [(p.values[sweep.x], f"{typed(p.values[sweep.x])} failed: {p.error}") for p in group.points if p.error],
        )
        for group in sweep.groups
    ]
    return drawings(series, Axes(sweep.x, _title(metric), sweep.values, metric.better == "lower"))


def _against_cost(sweep: Sweep, metric: Metric) -> list[Drawing]:
    """The metric over FLOPs per byte, the values swept written beside the best and the ends of each line."""
    cost, series, names = "flops_per_byte", [], dict[str, str]()
    if sweep.is_numeric:
        names = dict(zip(map(typed, sweep.values), compacted(sweep.values), strict=True))
    for group in sweep.groups:
        found = [(p, e) for p, e in _estimates(group, metric) if cost in p.facts]
        marks = [
            Mark(
                x=p.facts[cost],
                y=e.value,
                said=f"{sweep.x} {(value := typed(p.values[sweep.x]))}{group.under}: {shown(e)} "
                f"at {si(p.facts[cost], 'FLOP')} per byte",
                kind=_kind(sweep.verdict(p, metric)),
                low=e.low,
                high=e.high,
                label=names.get(value, value) if p.best or p in (found[0][0], found[-1][0]) else "",
            )
            for p, e in found
        ]
        series.append(Series(group.label, marks))
    costs = [m.x for s in series for m in s.marks]
    if len(set(costs)) < 3 or max(costs) < 1.02 * min(costs):
        return []
    axes = Axes(COSTS[cost], _title(metric), lower_is_better=metric.better == "lower")
    drawn = drawings(series, axes)
    return drawn if len(drawn) == 1 else []


def _costs(sweep: Sweep) -> str:
    """What a byte of text costs over x; groups that cost the same share a line."""
    figures = []
    for cost, title in COSTS.items():
        shared: dict[tuple[tuple[str, float], ...], list[str]] = {}
        for group in sweep.groups:
            known = [(typed(p.values[sweep.x]), p.facts[cost]) for p in group.done if cost in p.facts]
            if known:
                shared.setdefault(tuple((x, float(f"{v:.4g}")) for x, v in known), []).append(group.label)
        by_name = {typed(v): v for v in sweep.values}
        series = [
            Series(
                join(labels) if len(labels) < len(sweep.groups) else "all",
                [Mark(by_name[x], v, f"{x}: {FACTS[cost][1](v)}, {join(labels)}") for x, v in known],
            )
            for known, labels in shared.items()
        ]
        found = drawings(series, Axes(sweep.x, title, sweep.values))
        ends = "; ".join(f"{s.label}: {s.marks[0].said} to {s.marks[-1].said}" for s in series)
        if len(found) == 1:
            figures.append(_figure(f"{title}. {ends}", found[0]))
    if not figures:
        return ""
    said = (
        "Per byte of text, not per token: a longer token is read once for more text. Weights read decide the speed of "
        "writing one token after the other, FLOPs that of reading a prompt."
    )
    return (
        f'<section id="cost"><h2>What it costs</h2><p>{said}</p><div class="figures">{"".join(figures)}</div></section>'
    )


def _estimates(group: Group, metric: Metric) -> list[tuple[Point, Estimate]]:
    return [(p, e) for p in group.done if (e := p.estimate(metric))]


def _seeds(point: Point, metric: Metric) -> list[float]:
    """The runs' own numbers on test; of one run it is the point itself."""
    found = [run.get("metrics", {}).get(metric.name, {}).get("test") for run in point.runs]
    return [float(v) for v in found if is_number(v)] if len(found) > 1 else []


def _kind(verdict: str) -> str:
    return {"best": "best", "chosen": "best", "level": "level"}.get(verdict, "other")


def _title(metric: Metric) -> str:
    """`bits per byte, docs; lower is better`: the unit only where the label does not say it."""
    unit = f" ({metric.unit})" if metric.unit and metric.unit.replace("/", " per ") not in metric.label else ""
    return f"{metric.label}{unit}; {metric.better} is better"


def _spoken(sweep: Sweep, metric: Metric) -> str:
    """The plot in words, for who cannot see it."""
    best = ((g, g.best) for g in sweep.groups)
    said = [f"{sweep.x} {typed(p.values[sweep.x])}{g.under}, {shown(p.estimate(metric))}" for g, p in best if p]
    return f"{metric.label} over {sweep.x}. Best on dev: {'; '.join(said) or 'none'}"
