"""Where a sweep compares several numbers: what is won in one and lost in another, and how far each moved from the model
that all points went on from."""

from collections.abc import Iterator

from journey.report.blocks import Block, Cell, Curves, Line, Mark, Place, Row, Table, TableRow
from journey.report.format import estimate, join, numbers, typed
from journey.sweep.content import Group, Metric, Point, Sweep

PLOTS, LINES = 3, 6  # at most


def said(sweep: Sweep) -> Iterator[str]:
    """In sentences: which value is best by each metric, and how far the ends of the range moved from before."""
    for group in _groups(sweep):
        by_value: dict[str, list[str]] = {}
        for metric in sweep.metrics:
            by_value.setdefault(typed(_best(group, metric).values[sweep.x]), []).append(metric.label)
        each = [f"{sweep.x} {value} by {join(labels)}" for value, labels in by_value.items()]
        yield f"Best on dev{group.under}: {join(each)}."
        if sweep.before:
            bests = [group.done.index(_best(group, metric)) for metric in sweep.metrics]
            told = [0, len(group.done) - 1] if sweep.is_numeric else bests
            for i in dict.fromkeys(told):
                moved = "; ".join(_moved(sweep, group.done[i]))
                value = typed(group.done[i].values[sweep.x])
                yield f"From {sweep.before} to {sweep.x} {value}{group.under} on test: {moved}."


def plots(sweep: Sweep) -> list[Block]:
    """The first metric against each other one, and how far every point moved from before."""
    groups = _groups(sweep)
    if not groups:
        return []
    drawn = [_against(sweep, groups, other) for other in sweep.metrics[1 : 1 + PLOTS]] if len(groups) <= LINES else []
    tables = [_table(sweep, group) for group in groups] if sweep.before else []
    return [Row([*drawn, *tables])]


def _groups(sweep: Sweep) -> list[Group]:
    """Those in which there is something to weigh."""
    return [group for group in sweep.groups if len(sweep.metrics) > 1 and len(group.done) > 1]


def _best(group: Group, metric: Metric) -> Point:
    """By the mean on dev."""
    return min(group.done, key=lambda point: point.rank(metric))


def _moved(sweep: Sweep, point: Point) -> Iterator[str]:
    """`+0.288 [+0.244, +0.332] bits per byte, docs (before: 2.326)`."""
    for metric in sweep.metrics:
        away, stood = point.estimate(metric, "against_before"), sweep.stood(metric)
        if away and stood:
            yield f"{' '.join(numbers(away, sign=True))} {metric.label} (before: {numbers(stood)[0]})"


def _against(sweep: Sweep, groups: list[Group], other: Metric) -> Curves:
    """A point a value, each with both intervals: how far it moved from the model before, which is narrower than where
    it stands, for both are measured on the same documents; else where it stands on test."""
    metric = sweep.metrics[0]
    what = "against_before" if sweep.before else "test"
    lines = [
        Line(group.label, list(_places(sweep, group, (metric, other), what)), k % LINES, joined=sweep.is_numeric)
        for k, group in enumerate(groups)
    ]
    corner = ("left" if metric.better == "lower" else "right", "lower" if other.better == "lower" else "upper")
    caption = f"one point a value of {sweep.x}, with both 95 % intervals; ringed: the best on dev by {metric.label}."
    marks = [Mark(0.0, sweep.before)] if sweep.before else []
    if sweep.before:
        caption = f"Moved on test from {sweep.before}, which is where the dashed lines cross: {caption}"
    else:
        caption = f"On test: {caption}"
    title = f"{other.label} against {metric.label}"
    x, y = (f"{'change in ' if sweep.before else ''}{m.label}; {m.better} is better" for m in (metric, other))
    return Curves(title, x, y, lines, marks, caption, log=True, across=marks, corner=corner)


def _places(sweep: Sweep, group: Group, both: tuple[Metric, Metric], what: str) -> Iterator[Place]:
    for point in group.done:
        x, y = (point.estimate(metric, what) for metric in both)
        if x and y:
            value = typed(point.values[sweep.x])
            moved = sweep.before != ""
            words = [f"{m.label} {estimate(e, sign=moved)}" for m, e in zip(both, (x, y), strict=True)]
            said = f"{sweep.x} {value}{group.under}: {', '.join(words)}"
            kind = "best" if point.best else ""
            yield Place(x.value, y.value, y.low, y.high, said, value, kind, left=x.low, right=x.high)


def _table(sweep: Sweep, group: Group) -> Table:
    """Every point against the model before."""
    rows: list[TableRow] = []
    for point in group.done:
        away = [point.estimate(metric, "against_before") for metric in sweep.metrics]
        rows.append([typed(point.values[sweep.x]), *(e and Cell(e, sign=True) for e in away)])
    caption = f"Moved{group.under} from {sweep.before}: on test, in brackets 95 % intervals"
    return Table(caption, [sweep.x, *(f"{m.label} ({m.unit})" if m.unit else m.label for m in sweep.metrics)], rows)
