"""SVG drawn in Python: small charts that read at 350 px as well as at 500, coloured by the page's own style sheet."""

from collections.abc import Sequence
from dataclasses import dataclass

from journey.evaluate.statistics import Estimate
from journey.report.markup import escape, number, places
from journey.report.svg import WIDTH, line, scale, svg, text, tick, ticks

MAX_POINTS = 160  # of one curve: more than its pixels can show


@dataclass(frozen=True)
class Dot:
    """One row of a dot-and-whisker chart."""

    label: str
    estimate: Estimate
    colour: int


@dataclass(frozen=True)
class Curve:
    """One line: points (x, y), x rising."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int
    faint: bool = False


Mark = tuple[float, str]  # a number to compare with, and its name


def dots(rows: Sequence[Dot], *, title: str, unit: str, marks: Sequence[Mark] = ()) -> str:
    """Dots with their 95 % whiskers on one axis, and dashed lines where the numbers to compare with stand."""
    ends = [end for row in rows for end in (row.estimate.low, row.estimate.high)] + [value for value, _ in marks]
    grid = ticks(min(ends), max(ends), 4)
    left = 22.0 + 7.6 * max(len(row.label) for row in rows)  # room for the labels
    values = [number(r.estimate.value, decimals=places(r.estimate.low, r.estimate.high, r.estimate.unit)) for r in rows]
    right, row_height = 20 + 7.6 * max(5, *map(len, values)), 30
    marks = sorted(marks)
    top = 10 + 15 * len(marks)
    bottom = top + row_height * len(rows)
    x = scale(grid[0], grid[-1], left, WIDTH - right)
    parts = [line(x(t), top, x(t), bottom, "grid") for t in grid]
    parts += [text(x(t), bottom + 16, tick(t, grid), "tick", "middle") for t in grid]
    parts.append(text((left + WIDTH - right) / 2, bottom + 34, unit, "axis", "middle"))
    for i, (value, name) in enumerate(marks):
        parts.append(line(x(value), 10 + 15 * i, x(value), bottom, "mark"))
        after = x(value) < WIDTH * 0.55
        parts.append(text(x(value) + (5 if after else -5), 19 + 15 * i, name, "name", "start" if after else "end"))
    for i, (row, value_) in enumerate(zip(rows, values, strict=True)):
        e, y = row.estimate, top + row_height * (i + 0.5)
        said = f"{row.label}: {number(e.value, e.unit)}, 95 % [{number(e.low)}, {number(e.high)}], n = {e.n:,}"
        parts.append(
            f'<g class="s{row.colour}"><title>{escape(said)}</title>'
            + line(x(e.low), y, x(e.high), y, "whisker")
            + "".join(line(x(end), y - 5, x(end), y + 5, "whisker") for end in (e.low, e.high))
            + f'<circle cx="{x(e.value):.1f}" cy="{y:.1f}" r="5"/></g>'
        )
        parts.append(text(left - 10, y + 4, row.label, "label", "end"))
        parts.append(text(WIDTH - right + 10, y + 4, value_, "value", "start"))
    spoken = "; ".join(f"{row.label} {number(row.estimate.value, row.estimate.unit)}" for row in rows)
    return svg(f"{title}. {spoken}", bottom + 42, parts)


def curves(
    lines: Sequence[Curve],
    *,
    title: str,
    x_unit: str,
    y_unit: str,
    marks: Sequence[Mark] = (),
    height: int = 270,
    y_range: tuple[float, float] | None = None,
    x_whole: bool = False,
) -> str:
    """Lines over one pair of axes; each point says its numbers when pointed at."""
    lines = [Curve(c.label, _thin(c.points), c.colour, c.faint) for c in lines]
    xs = [x for c in lines for x, _ in c.points]
    ys = [y for c in lines for _, y in c.points] + [mark for mark, _ in marks]
    low, high = y_range or (min(ys), max(ys))
    yt = ticks(low, high, 5)
    xt = [float(i) for i in range(int(min(xs)), int(max(xs)) + 1)] if x_whole else ticks(min(0.0, *xs), max(xs), 4)
    left, right, top, bottom = 46.0, 14.0, 30.0, height - 44.0
    x, y = (
        scale(xt[0], max(xt[-1] if x_whole else max(xs), 1e-9), left, WIDTH - right),
        scale(yt[0], yt[-1], bottom, top),
    )
    xt = [t for t in xt if t <= max(xs)] or xt
    parts = [line(left, y(t), WIDTH - right, y(t), "grid") for t in yt]
    parts += [text(left - 7, y(t) + 4, tick(t, yt), "tick", "end") for t in yt]
    parts += [text(x(t), bottom + 17, tick(t, xt), "tick", "middle") for t in xt]
    parts.append(text((left + WIDTH - right) / 2, height - 8, x_unit, "axis", "middle"))
    parts.append(text(4, 14, y_unit, "axis", "start"))
    for value, name in marks:
        parts.append(line(left, y(value), WIDTH - right, y(value), "mark"))
        parts.append(text(WIDTH - right, y(value) - 5, name, "name", "end"))
    for c in lines:
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in c.points)
        style = "curve faint" if c.faint else "curve"
        parts.append(f'<g class="s{c.colour}"><polyline class="{style}" points="{path}"/>')
        size = 3.5 if len(c.points) <= 40 and not c.faint else 0
        for px, py in c.points:
            said = escape(f"{c.label}: {number(py, y_unit)} at {number(px, x_unit, decimals=_decimals(px))}")
            where = f'cx="{x(px):.1f}" cy="{y(py):.1f}"'
            parts.append(f'<circle class="hit" {where} r="6"><title>{said}</title></circle>')
            parts.append(f'<circle {where} r="{size}"/>' if size else "")
        parts.append("</g>")
    legend = _legend(lines) if len(lines) > 1 else ""
    last = "; ".join(f"{c.label} ends at {number(c.points[-1][1], y_unit)}" for c in lines)
    return legend + svg(f"{title}. {last}", height, parts)


def whisker(value: float, low: float, high: float, reach: float, tone: str) -> str:
    """A word-sized picture of an interval on an axis from -reach to reach, with zero in the middle.

    The numbers stand beside it, so it is hidden from screen readers.
    """
    x = scale(-reach, reach, 2, 118)
    body = line(60, 1, 60, 19, "zero") + line(x(low), 10, x(high), 10, "whisker")
    body += f'<circle cx="{x(value):.1f}" cy="10" r="4"/>'
    return f'<svg class="mini {tone}" viewBox="0 0 120 20" width="120" height="20" aria-hidden="true">{body}</svg>'


def _legend(lines: Sequence[Curve]) -> str:
    keys = (f'<li class="s{c.colour}{" faint" if c.faint else ""}"><i></i>{escape(c.label)}</li>' for c in lines)
    return f'<ul class="legend">{"".join(keys)}</ul>'


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS, each the mean of its neighbours: of a noisy loss the mean is what there is to see."""
    k = min(len(points), MAX_POINTS)
    groups = [points[i * len(points) // k : (i + 1) * len(points) // k] for i in range(k)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _decimals(value: float) -> int:
    return 0 if value == int(value) or abs(value) >= 100 else 2
