"""Dots with their 95 % whiskers on one axis, boxes over time, and the small picture of an interval."""

from collections.abc import Sequence
from math import isfinite

from markupsafe import Markup

from journey.report.axes import scale, tick, ticks
from journey.report.blocks import Box, Dot, Dots, Lanes
from journey.report.drawing import LETTER, WIDTH, Drawing, Key, group, legend, line, rect, short, text, whisker, width
from journey.report.format import numbers

LEFT, RIGHT, LANE, GAP = 48.0, 12.0, 64.0, 30.0  # of lanes


def dots(block: Dots) -> Drawing | None:
    """The drawing of a block, a row a label; None where there is no number to draw."""
    found = [d for d in block.rows if isfinite(d.estimate.value)]
    if not found:
        return None
    rows = {d.label: [e for e in found if e.label == d.label] for d in found}
    most = max(map(len, rows.values()))
    keys = {d.series: _key(d.colour, d.series) for d in found if d.series}
    parts, top = legend([[*keys.values()]], 0) if len(keys) > 1 else ([], -6.0)
    marks = sorted(block.marks, key=lambda mark: mark.value)
    ends = [v for d in found for v in (d.estimate.value, *_interval(d)) if isfinite(v)] + [m.value for m in marks]
    grid = ticks(min(ends), max(ends), 4)
    labels = {label: short(label, 26) for label in rows}
    values = {label: numbers(few[0].estimate)[0] if most == 1 else "" for label, few in rows.items()}
    left = 22.0 + max(map(width, labels.values()))
    right = WIDTH - (20 + max(38.0, *map(width, values.values())) if most == 1 else 14)
    high = 30.0 if most == 1 else 8.0 * most + 10
    names, top = top + 16, top + 16 + 15 * len(marks)
    bottom = top + high * len(rows)
    x = scale(grid[0], grid[-1], left, right)
    parts += [line(x(t), top, x(t), bottom, "grid") for t in grid]
    parts += [text(x(t), bottom + 16, tick(t, grid), "tick", "middle") for t in grid]
    room = int(min(left + right, 2 * WIDTH - left - right) / LETTER)
    parts.append(text((left + right) / 2, bottom + 34, short(block.unit, room), "axis", "middle"))
    for i, mark in enumerate(marks):
        at, after = x(mark.value), x(mark.value) < WIDTH * 0.55
        parts.append(line(at, names + 15 * i, at, bottom, "mark"))
        words = short(mark.name, int((WIDTH - at if after else at) / LETTER) - 1)
        parts.append(text(at + (5 if after else -5), names + 9 + 15 * i, words, "name", "start" if after else "end"))
    for i, (label, few) in enumerate(rows.items()):
        middle = top + high * (i + 0.5)
        parts.append(text(left - 10, middle + 4, labels[label], "label", "end"))
        if most == 1:
            parts.append(text(right + 10, middle + 4, values[label], "value", "start"))
        else:
            parts.append(line(left, middle + high / 2, right, middle + high / 2, "grid"))
        for k, d in enumerate(few):
            y = middle + 8 * (k - (len(few) - 1) / 2)
            drawn = (
                [whisker(x(d.estimate.low), y, x(d.estimate.high), y, 5 if most == 1 else 0)] if _interval(d) else []
            )
            drawn.append(f'<circle cx="{x(d.estimate.value):.1f}" cy="{y:.1f}" r="{5 if most == 1 else 3.4}"/>')
            parts.append(group(f"s{d.colour}", _said(d, block.unit), drawn))
    spoken = "; ".join(f"{_name(d)} {numbers(d.estimate)[0]}" for d in found)
    return Drawing(f"{block.title}, {block.unit}. {spoken}", bottom + 42, parts)


def lanes(block: Lanes) -> Drawing | None:
    """The boxes one after the other, then each kind of number in a lane of its own; None where there is no box."""
    total = sum(box.ms for box in block.boxes)
    if not total > 0:
        return None
    parts, top = legend([[_key(colour, said) for colour, said in block.legend]], 0) if block.legend else ([], 0.0)
    xs = ticks(0.0, total, 4)
    x = scale(0.0, total, LEFT, WIDTH - RIGHT)
    starts = [sum(box.ms for box in block.boxes[:i]) for i in range(len(block.boxes))]
    placed = list(zip(starts, block.boxes, strict=True))

    def drawn(at: float, box: Box, top: float, height: float) -> str:
        wide = x(at + box.ms) - x(at)
        hair = min(0.6, 0.2 * wide)  # between neighbours
        return rect(x(at), top, wide - hair, height, f"s{box.colour}", f"{box.label}: {box.said}")

    top += 16
    parts.append(text(LEFT, top - 5, "one after the other", "axis", "start"))
    parts += [drawn(at, box, top, 26) for at, box in placed]
    top += 26 + GAP
    for lane in block.lanes:
        ys = ticks(0.0, max([box.heights[lane] for box in block.boxes if lane in box.heights], default=1.0), 2)
        y = scale(0.0, ys[-1], top + LANE, top)
        parts += [line(LEFT, y(t), WIDTH - RIGHT, y(t), "grid") for t in ys]
        parts += [text(LEFT - 6, y(t) + 4, tick(t, ys), "tick", "end") for t in ys]
        parts.append(text(LEFT, top - 9, short(lane, 50), "axis", "start"))
        for at, box in placed:
            if lane in box.heights:
                parts.append(drawn(at, box, y(box.heights[lane]), top + LANE - y(box.heights[lane])))
        top += LANE + GAP
    bottom = top - GAP
    parts += [text(x(t), bottom + 17, tick(t, xs), "tick", "middle") for t in xs if t <= total]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 34, short(block.unit, 50), "axis", "middle"))
    spoken = "; ".join(said for _, said in block.legend)
    return Drawing(f"{block.title}. {spoken}", bottom + 42, parts)


def picture(value: float, low: float, high: float, reach: float, tone: str) -> Markup:
    """A word-sized picture of an interval on an axis from -reach to reach, with zero in the middle.

    The numbers stand beside it, so it is hidden from screen readers.
    """
    x = scale(-reach, reach, 2, 118)
    body = line(60, 1, 60, 19, "zero") + line(x(low), 10, x(high), 10, "whisker")
    body += f'<circle cx="{x(value):.1f}" cy="10" r="4"/>'
    return Markup(
        f'<svg class="mini {tone}" viewBox="0 0 120 20" width="120" height="20" aria-hidden="true">{body}</svg>'
    )


def _interval(d: Dot) -> Sequence[float]:
    ends = (d.estimate.low, d.estimate.high)
    return ends if all(map(isfinite, ends)) else ()


def _key(colour: int, words: str) -> Key:
    def square(x: float, y: float) -> str:
        return f'<rect x="{x - 6:.1f}" y="{y - 5:.1f}" width="12" height="10"/>'

    return f"s{colour}", square, short(words, 50)


def _name(d: Dot) -> str:
    return ", ".join(filter(None, [d.series, d.label]))


def _said(d: Dot, unit: str) -> str:
    e = d.estimate
    value, ends = numbers(e)
    interval = f", 95 % {ends}" if ends else ""
    return f"{_name(d)}: {value} {e.unit or unit}{interval}, n = {e.n:,}"
