"""Lines over one pair of axes: a loss over tokens, or a sweep's numbers over its values with their intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

from journey.report.axes import Tick, names_axis, values_axis, x_axis, y_axis
from journey.report.blocks import Curves, Line, Place
from journey.report.drawing import WIDTH, Drawing, Key, escape, group, legend, line, short, text, whisker, width
from journey.report.format import is_number, number, typed

MOST = 160  # points of one line: more than its pixels can show
STROKES = ("plain", "dashed", "faint")
STYLE = Path(__file__).with_name("style.css")


def curves(block: Curves) -> Drawing | None:
    """The drawing of a block; None where there is no point to draw."""
    lines = [_Line(i, found) for i, found in enumerate(block.lines)]
    lines = [found for found in lines if found.points or found.line.failed]
    points = [p for found in lines for p in found.points]
    if not points:
        return None
    ends = [v for p in points for v in (p.y, *_interval(p.low, p.high), *p.seeds) if isfinite(v)]
    ends += [v for found in lines for _, *both in found.line.band for v in both]
    ends = [*(block.y_range or ends), *(mark.value for mark in block.marks)]
    parts, top = [text(4, 15, short(block.name, 48), "title", "start")] if block.name else [], 20.0 if block.name else 4
    keys, top = legend(_keys(lines, block), top)
    parts += [*keys, text(4, top + 13, short(block.y_unit, 50), "axis", "start")]
    top += 28
    bottom = top + (160 if block.name else 210)
    y, yt = y_axis(ends, block.log, block.lower_is_better, bottom, top)
    left, right = 11 + max(8.6 * len(said) for _, said in yt), WIDTH - 16.0
    xs: Sequence[Any] = block.values or [p.x for p in points]
    room = 0.0 if not (block.values or block.log) else 18.0 if len(lines) < 4 else 28.0  # beside what stands at a value
    beside = [v for p in points for v in _interval(p.left, p.right)] + [mark.value for mark in block.across]
    x, xt, turned = _x_axis(block, [*xs, *beside], left + room, right - room)
    parts += [line(left, at, right, at, "grid") + text(left - 7, at + 4, said, "tick", "end") for at, said in yt]
    parts += [_x_tick(at, said, bottom, turned > 0) for at, said in xt]
    under = bottom + 36 + 0.55 * turned
    parts.append(text((left + right) / 2, under, short(block.x_unit, 46), "axis", "middle"))
    for mark in block.marks:
        parts.append(line(left, y(mark.value), right, y(mark.value), "mark"))
        parts.append(text(right, y(mark.value) - 5, short(mark.name, 40), "name", "end"))
    parts += [line(x(mark.value), top, x(mark.value), bottom, "mark") for mark in block.across]
    gap = min((b - a for a, b in pairwise(sorted({round(x(v), 3) for v in xs}))), default=60.0)
    # Lines that share a value stand beside each other, or their intervals would hide each other.
    most = 2 * (room - 6) / max(1, len(lines) - 1)
    dodge = (
        min(14.0, most, 0.7 * gap / len(lines))
        if block.values and any(_interval(p.low, p.high) for p in points)
        else 0.0
    )
    placed: list[_Placed] = []
    for k, found in enumerate(lines):
        shift = dodge * (k - (len(lines) - 1) / 2)
        here, drawn = [], []
        for p in found.points:
            tall = [y(v) for v in (p.y, *_interval(p.low, p.high))]
            wide = [x(v) + shift for v in (p.x, *_interval(p.left, p.right))]
            r = found.r if found.is_plain else 4.5 if gap > 14 or not block.values else 3.0
            box = (min(wide), min(tall), max(wide), max(tall))
            here.append(_Placed(found, p, x(p.x) + shift, y(p.y), *box, r))
        if found.line.band:
            drawn.append(_band([(x(at), y(low), y(high)) for at, low, high in found.line.band]))
        if all(map(is_number, xs)) and len(here) > 1 and found.line.joined:  # between two names there is nothing
            drawn.append(
                f'<polyline class="curve {found.stroke}" points="{" ".join(f"{p.x:.1f},{p.y:.1f}" for p in here)}"/>'
            )
        away = min(8.0, 0.5 * dodge if len(lines) > 1 else 0.3 * gap)
        drawn += [p.drawn(block, [y(v) for v in p.place.seeds if isfinite(v)], away) for p in here]
        drawn += [group("", message, [_cross(x(v) + shift, bottom - 8)]) for v, message in found.line.failed]
        parts.append(group(f"s{found.line.colour}", "", drawn))
        placed += here
    parts += _labels(placed, block.lower_is_better is not False, bottom)
    if block.corner:
        parts.append(_corner(*block.corner, (left, top, right, bottom)))
    return Drawing(f"{block.title}. {'; '.join(_spoken(found, block) for found in lines)}", under + 8, parts)


def figure(title: str, drawings: Sequence[Drawing]) -> str:
    """Drawings as one SVG file that stands alone, in light and dark, two side by side; `title` names it when empty."""
    columns = min(2, len(drawings))
    high, parts = 10.0, []
    for i in range(0, len(drawings), 2):
        for column, drawing in enumerate(drawings[i : i + 2]):
            place = f"translate({12 + column * (WIDTH + 12)} {high:.0f})"
            parts.append(f'<g transform="{place}">{"".join(drawing.parts)}</g>')
        high += max(drawing.height for drawing in drawings[i : i + 2]) + 14
    wide = columns * (WIDTH + 12) + 12
    zoom = 1.6 if columns == 1 else 1
    css = STYLE.read_text(encoding="utf-8")
    colours, rules = css.partition("* {")[0], css.partition("/* Drawings. */")[2].partition("/*")[0]
    size = f'viewBox="0 0 {wide} {high:.0f}" width="{zoom * wide:.0f}" height="{zoom * high:.0f}"'
    label = "; ".join(drawing.label for drawing in drawings) or title
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size} role="img" aria-label="{escape(label)}">'
        f"<style>{colours}{rules}</style>"
        f'<rect style="fill: var(--paper)" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


class _Line:
    """A line with its points as places: those given as numbers alone are thinned, and have no symbols when many."""

    def __init__(self, k: int, line: Line) -> None:
        self.k, self.line = k, line
        self.is_plain = not any(isinstance(p, Place) for p in line.points)
        thin = _thin([p for p in line.points if not isinstance(p, Place)])
        places = [p for p in line.points if isinstance(p, Place)]
        self.points = [p for p in (*places, *(Place(x, y) for x, y in thin)) if isfinite(p.y)]
        self.r = 2.5 if len(self.points) <= 40 and not (line.faint or line.dashed or line.key or line.band) else 0.0

    @property
    def stroke(self) -> str:
        """One of STROKES."""
        return "dashed" if self.line.dashed else "faint" if self.line.faint else "plain"


@dataclass(frozen=True)
class _Placed:
    """A point where it is drawn; its intervals end at left, top, right and bottom, r is half the size of its symbol."""

    line: _Line
    place: Place
    x: float
    y: float
    left: float
    top: float
    right: float
    bottom: float
    r: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """What a label should not cover: the symbol with its ring, and the intervals."""
        half = self.r + (6 if self.place.kind == "best" else 1)
        ends = min(self.left, self.x - half), max(self.right, self.x + half)
        return ends[0], min(self.top, self.y - half), ends[1], max(self.bottom, self.y + half)

    def drawn(self, block: Curves, seeds: Sequence[float], beside: float) -> str:
        """The seeds, the intervals and the symbol, and a place to point at where the symbol is small."""
        parts = [_seed(self.x + beside, v) for v in seeds]
        if _interval(self.place.low, self.place.high):
            parts.append(whisker(self.x, self.top, self.x, self.bottom, 3))
        if _interval(self.place.left, self.place.right):
            parts.append(whisker(self.left, self.y, self.right, self.y, 3))
        if self.line.is_plain:
            parts.append(f'<circle class="hit" cx="{self.x:.1f}" cy="{self.y:.1f}" r="6"/>')
        if self.r:
            parts.append(_symbol(self.line.k, self.r, self.place.kind, self.x, self.y))
        return group("", _said(self.line.line, self.place, block), parts)


def _x_axis(
    block: Curves, xs: Sequence[Any], start: float, end: float
) -> tuple[Callable[[Any], float], list[Tick], float]:
    """Where a value stands, the ticks, and how wide the longest is where they have to be turned."""
    if all(map(is_number, xs)):
        return *(values_axis if block.values else x_axis)(xs, block.log, start, end), 0.0
    longest = max(width(short(typed(v), 18)) for v in xs)
    turned = longest if longest > (end - start) / len(xs) - 8 else 0.0
    return *names_axis(xs, turned > 0, start, end), turned


def _x_tick(at: float, said: str, bottom: float, turned: bool) -> str:
    if not turned:
        inside = min(at, WIDTH - 1 - 4.3 * len(said))  # a number at the very end would leave the frame
        return line(at, bottom, at, bottom + 4, "zero") + text(inside, bottom + 18, said, "tick", "middle")
    slope = f'<g transform="rotate(-40 {at:.1f} {bottom + 14:.1f})">'
    return f"{line(at, bottom, at, bottom + 4, 'zero')}{slope}{text(at + 4, bottom + 14, said, 'tick', 'end')}</g>"


def _interval(*known: float | None) -> tuple[float, ...]:
    """Both ends of an interval, or nothing."""
    ends = tuple(v for v in known if v is not None and isfinite(v))
    return ends if len(ends) == 2 else ()


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST, each the mean of its neighbours: of a noisy loss the mean is what there is to see."""
    k = min(len(points), MOST)
    groups = [points[i * len(points) // k : (i + 1) * len(points) // k] for i in range(k)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _said(line: Line, place: Place, block: Curves) -> str:
    """A point in words."""
    if place.said or not isinstance(place.x, int | float):
        return place.said or f"{line.label}: {number(place.y, block.y_unit)} at {typed(place.x)}"
    whole = place.x == int(place.x) or abs(place.x) >= 100
    return f"{line.label}: {number(place.y, block.y_unit)} at {number(place.x, block.x_unit, decimals=2 - 2 * whole)}"


def _spoken(found: _Line, block: Curves) -> str:
    """A line in words: its best points, or where it ends."""
    best = [_said(found.line, p, block) for p in found.points if p.kind == "best"]
    if best or not found.points:
        return "; ".join(best) or f"{found.line.label}: nothing"
    last = found.points[-1]
    return last.said or f"{found.line.label} ends at {number(last.y, block.y_unit)}"


def _keys(lines: Sequence[_Line], block: Curves) -> list[list[Key]]:
    """What colours and shapes mean, and what fills and rings."""
    rows: list[list[Key]] = [[], []]
    for found in lines if len(lines) > 1 else []:
        symbol: Callable[[float, float], str] = partial(_symbol, found.k, 4.5, "")
        if found.is_plain and not found.r:
            symbol = partial(_stroke, "" if found.line.key else found.stroke)
        made = (f"s{found.line.colour}", symbol, short(found.line.key or found.line.label, 44))
        rows[0] += [made] if all(made[::2] != other[::2] for other in rows[0]) else []
    kinds = {p.kind for found in lines for p in found.points} | {"failed" for found in lines if found.line.failed}
    kinds |= {"seed" for found in lines for p in found.points if p.seeds}
    kinds |= {found.stroke for found in lines if found.line.key}
    others: dict[str, Callable[[float, float], str]] = {"failed": _cross, "seed": _seed}
    others |= {stroke: partial(_stroke, stroke) for stroke in STROKES}
    for kind, meaning in block.meanings.items():
        shape = others.get(kind) or partial(_symbol, 0, 3.5 if kind == "best" else 4.5, kind)
        rows[1] += [("neutral", shape, short(meaning, 44))] if kind in kinds and kinds != {""} else []
    return rows


def _labels(placed: Sequence[_Placed], below: bool, floor: float) -> list[str]:
    """Words at the points that have some, each where it covers least of the others."""
    parts, boxes = [], [p.box for p in placed]
    for p in placed:
        if not p.place.label:
            continue
        said = short(p.place.label, 24)
        half, (x1, y1, x2, y2) = 0.56 * width(said), p.box  # bold letters are wider
        spots = [(p.x, y2 + 8), (p.x, y1 - 7), (x2 + half + 3, p.y), (x1 - half - 3, p.y)]  # below, above, right, left
        spots[:2] = spots[:2] if below else spots[1::-1]
        around = []
        for cx, cy in spots:
            cx = min(max(cx, half + 2), WIDTH - half - 2)
            around.append((cx - half, cy - 7, cx + half, cy + 7))
        chosen = min(around, key=lambda box: sum(_overlap(box, b) for b in boxes) + 1000 * (box[3] > floor + 2))
        boxes.append(chosen)
        words = text((chosen[0] + chosen[2]) / 2, chosen[1] + 11.5, said, "said", "middle")
        parts.append(group(f"s{p.line.line.colour}", "", [words]))
    return parts


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _cross(x: float, y: float) -> str:
    return line(x - 4, y - 4, x + 4, y + 4, "cross") + line(x - 4, y + 4, x + 4, y - 4, "cross")


def _stroke(style: str, x: float, y: float) -> str:
    return line(x - 8, y, x + 8, y, f"curve {style}".strip())


def _band(places: Sequence[tuple[float, float, float]]) -> str:
    """A ground from the lows to the highs."""
    around = [(x, low) for x, low, _ in places] + [(x, high) for x, _, high in reversed(places)]
    return f'<polygon class="band" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in around)}"/>'


def _corner(side: str, end: str, frame: tuple[float, float, float, float]) -> str:
    """Where a point would be ideal, in words."""
    left, top, right, bottom = frame
    arrow = {"lower left": "↙", "upper left": "↖", "lower right": "↘", "upper right": "↗"}[f"{end} {side}"]
    words = f"{arrow} better" if side == "left" else f"better {arrow}"
    at, anchor = (left + 6, "start") if side == "left" else (right - 6, "end")
    return text(at, bottom - 9 if end == "lower" else top + 14, words, "name", anchor)


def _seed(x: float, y: float) -> str:
    return f'<circle class="seed" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'


def _symbol(k: int, r: float, kind: str, x: float, y: float) -> str:
    """Circle, square, triangle, diamond by line; hollow for another kind, ringed at the best."""
    style = "hollow" if kind == "other" else "solid"
    d = 1.3 * r
    shapes = [
        "",
        f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x:.1f} {y - 1.2 * r:.1f}l{1.2 * r:.1f} {2.1 * r:.1f}h{-2.4 * r:.1f}z",
        f"M{x:.1f} {y - d:.1f}l{d:.1f} {d:.1f}l{-d:.1f} {d:.1f}l{-d:.1f} {-d:.1f}z",
    ]
    circle = f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    drawn = f'<path class="{style}" d="{shapes[k % 4]}"/>' if k % 4 else circle
    return drawn + (f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{r + 5}"/>' if kind == "best" else "")
