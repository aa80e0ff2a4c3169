"""The trainings of a sweep over the tokens read: what was scored along the way, and the learning rate beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from journey.report.axes import compact
from journey.report.blocks import Block, Curves, Line, Row, Text
from journey.report.format import typed
from journey.sweep.content import Group, Metric, Point, Sweep, listed

LINES, PANELS = 6, 8  # more than these are not told apart, or not looked at
STROKES: Sequence[dict[str, Any]] = ({}, {"dashed": True}, {"faint": True})  # so many values of x go over each other
NAMES = ("plain", "dashed", "faint")  # of the strokes, in a legend
# What is left out of the tokens, and of all that is to be seen the share that may then be left: where a beginning holds
# most of the change, what differs between the points would not be seen beside it.
EARLY = {"half": (0.5, 0.3), "quarter": (0.25, 0.5)}


@dataclass(frozen=True)
class _Panel:
    """What is drawn together: each point with its name and colour."""

    name: str
    points: Sequence[tuple[str, Point, int]]


def trails(sweep: Sweep) -> Iterator[Block]:
    """The curves that sweep.json holds; nothing where it holds none."""
    held = [metric for metric in sweep.trails if metric.better]
    rate = [metric for metric in sweep.trails if not metric.better]
    if not sweep.trails:
        return
    panels = _panels(sweep)
    if not panels:
        yield from (
            Text(f"{m.label}: more curves than can be told apart; sweep.json holds them.", "nothing") for m in held
        )
    elif len(panels) == 1:
        found = [_curves(sweep, panels[0], metric) for metric in held]
        drawn = [replace(c, caption=f"{_caption(sweep, m)} {c.caption}") for m, c in zip(held, found, strict=True)]
        yield Row([*drawn, *(_rates(panels[0], metric) for metric in rate)])
    else:
        for metric in held:
            yield Text(_caption(sweep, metric), "caption")
            if len(sweep.values) <= len(STROKES) and len(sweep.groups) <= LINES:
                yield Row([_overlay(sweep, each) for each in (metric, *rate)])
            yield Row([c for p in panels for c in (_curves(sweep, p, metric), *(_rates(p, each) for each in rate))])


def _panels(sweep: Sweep) -> list[_Panel]:
    """One for all where there is one group; else one a value of x, with a colour a group as in the other plots; one a
    group where the groups or the values are many."""
    groups, values = sweep.groups, sweep.values
    if 1 < len(groups) <= LINES and len(values) <= PANELS:
        return [
            _Panel(
                f"{sweep.x} {typed(value)}",
                [(g.label, p, k) for k, g in enumerate(groups) for p in g.done if p.values[sweep.x] == value],
            )
            for value in values
        ]
    if len(groups) <= PANELS and len(values) <= LINES:
        return [_Panel(group.label, _of(sweep, group)) for group in groups]
    return []


def _of(sweep: Sweep, group: Group) -> list[tuple[str, Point, int]]:
    return [(f"{sweep.x} {typed(p.values[sweep.x])}", p, sweep.values.index(p.values[sweep.x])) for p in group.done]


def _curves(sweep: Sweep, panel: _Panel, metric: Metric) -> Curves:
    """The points of a panel with the ranges of their seeds, over the same heights in every panel."""
    start = _start(sweep, metric)
    shown = [(name, p, k) for name, p, k in panel.points if metric.name in p.trails]
    every = [p for group in sweep.groups for p in group.done if metric.name in p.trails]
    ends = [v for p in every for key in ("mean", "low", "high") for _, v in _late(p, metric, start, key)]
    return Curves(
        _titled(panel, f"{metric.label} through training"),
        "tokens",
        _y(metric),
        [Line(name, _late(p, metric, start), k, band=_band(p, metric, start)) for name, p, k in shown],
        caption=_order(shown, metric),
        y_range=(min(ends), max(ends)) if ends else None,
        log=start > 0,  # an axis that begins where the lines do
        name=panel.name,
    )


def _rates(panel: _Panel, rate: Metric) -> Curves:
    lines = [Line(name, _late(p, rate, 0), k, key=name) for name, p, k in panel.points if rate.name in p.trails]
    return Curves(_titled(panel, rate.label), "tokens", rate.label, lines, name=panel.name)


def _overlay(sweep: Sweep, metric: Metric) -> Curves:
    """All over each other, a colour a group and a stroke a value of x."""
    start = _start(sweep, metric)
    lines = [
        Line(f"{g.label}, {sweep.x} {typed(value)}", _late(p, metric, start), k, key=g.label, **stroke)
        for value, stroke in zip(sweep.values, STROKES, strict=False)
        for k, g in enumerate(sweep.groups)
        for p in g.done
        if p.values[sweep.x] == value and metric.name in p.trails
    ]
    title = f"{metric.label} through training, all {len(lines)} points"
    meanings = dict(zip(NAMES, (f"{sweep.x} {typed(value)}" for value in sweep.values), strict=False))
    return Curves(title, "tokens", _y(metric), lines, meanings=meanings, log=start > 0)


def _late(point: Point, metric: Metric, start: float, key: str = "mean") -> list[tuple[float, float]]:
    trail = point.trails[metric.name]
    return [(t, v) for t, v in zip(trail["tokens"], trail.get(key, ()), strict=False) if t >= start]


def _band(point: Point, metric: Metric, start: float) -> list[tuple[float, float, float]]:
    low, high = (_late(point, metric, start, key) for key in ("low", "high"))
    return [(t, a, b) for (t, a), (_, b) in zip(low, high, strict=True)]


def _start(sweep: Sweep, metric: Metric) -> float:
    """The tokens from which on something is to be seen."""
    last = max((t for t, _ in _whole(sweep, metric)), default=0.0)
    part = _left_out(sweep, metric)
    return EARLY[part][0] * last if part else 0.0


def _left_out(sweep: Sweep, metric: Metric) -> str:
    """Which part of the beginning is left out, of `EARLY`, or none. Of learning rates it is what there is to see."""
    whole = _whole(sweep, metric) if metric.better else []
    last, values = max((t for t, _ in whole), default=0.0), [v for _, v in whole]
    for part, (share, left) in EARLY.items():
        late = [v for t, v in whole if t >= share * last]
        if late and max(late) - min(late) < left * (max(values) - min(values)):
            return part
    return ""


def _whole(sweep: Sweep, metric: Metric) -> list[tuple[float, float]]:
    """All that was recorded, of all points."""
    shown = [p for group in sweep.groups for p in group.done if metric.name in p.trails]
    return [at for p in shown for at in _late(p, metric, 0)]


def _order(shown: Sequence[tuple[str, Point, int]], metric: Metric) -> str:
    """Which is ahead halfway and which at the end, by the means of the seeds."""
    if len(shown) < 2:
        return ""
    end = min(p.trails[metric.name]["tokens"][-1] for _, p, _ in shown)
    first = []
    for at in (end / 2, end):
        values = {name: min(_late(p, metric, 0), key=lambda place: abs(place[0] - at))[1] for name, p, _ in shown}
        first.append((min if metric.better == "lower" else max)(values, key=values.__getitem__))
    word = "Lowest" if metric.better == "lower" else "Highest"
    if first[0] == first[1]:
        return f"{word} halfway, at {compact(end / 2)} tokens, and at the end: {first[0]}."
    return f"{word} halfway, at {compact(end / 2)} tokens: {first[0]}; at the end: {first[1]}."


def _caption(sweep: Sweep, metric: Metric) -> str:
    what = "as each read its own text" if metric.name == "loss" else "on documents of dev"
    said = f"{metric.label[0].upper()}{metric.label[1:]} through training, {what}"
    if len(sweep.seeds) > 1:
        said += f": means of {len(sweep.seeds)} seeds, shaded from the lowest to the highest of them"
    without = [_named(p) for g in sweep.groups for p in g.done if metric.name not in p.trails]
    said += f". Not recorded of {listed(without)}" if without else ""
    part = _left_out(sweep, metric)
    return f"{said}. The first {part}, where most is learned, is left out." if part else f"{said}."


def _y(metric: Metric) -> str:
    return f"{metric.label}; {metric.better} is better" if metric.better else metric.label


def _named(point: Point) -> str:
    return ", ".join(f"{name} {typed(value)}" for name, value in point.values.items())


def _titled(panel: _Panel, title: str) -> str:
    return f"{panel.name}. {title}" if panel.name else title
