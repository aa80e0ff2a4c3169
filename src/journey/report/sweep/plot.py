"""The plots of a sweep: a line per group over the values swept, with intervals, seeds, and the best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite, nan
from typing import Any

from journey.report.markup import escape
from journey.report.svg import WIDTH, line, text
from journey.report.sweep.axes import axis_map, short, width, x_axis, y_ticks
from journey.report.sweep.content import is_number, typed

TOGETHER = 4  # more groups than this are drawn apart
KINDS = {  # how a point looks -> what that means
    "best": "best on dev",
    "level": "level with it on test",
    "other": "clearly different",
    "seed": "one seed",
    "failed": "failed",
}
CSS = """
.solid { stroke: currentcolor; stroke-width: 2; } .hollow { fill: var(--paper); stroke: currentcolor; stroke-width: 2; }
.ring { fill: none; stroke: currentcolor; stroke-width: 1.8; } .seed { opacity: .5; stroke: none; }
.chart .said { font-weight: 600; fill: currentcolor; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
.neutral { color: var(--soft); fill: var(--soft); } .cross { stroke: var(--bad); stroke-width: 2; }
.chart .title { font-weight: 600; }
"""  # noqa: E501


@dataclass(frozen=True)
class Mark:
    """A point of a line: where it stands, how it looks, and what it says when pointed at."""

    x: Any
    y: float
    said: str
    kind: str = "level"
    low: float = nan
    high: float = nan
    seeds: Sequence[float] = ()
    label: str = ""


@dataclass(frozen=True)
class Series:
    """The line of a group; `failed` are the (x, message) that have no number."""

    label: str
    marks: Sequence[Mark]
    failed: Sequence[tuple[Any, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Axes:
    """What the lines of a plot share. `values` are those swept, and then the ticks; without them ticks are round."""

    x_title: str
    y_title: str
    values: Sequence[Any] = ()
    lower_is_better: bool = True


@dataclass(frozen=True)
class Drawing:
    """The parts of an SVG WIDTH wide."""

    title: str
    height: float
    parts: Sequence[str]


def drawings(series: Sequence[Series], axes: Axes) -> list[Drawing]:
    """All lines in one plot, or each in its own, over the same ranges, where they would be too many to tell apart."""
    drawn = [s for s in series if s.marks or s.failed]
    if not any(s.marks for s in drawn):
        return []
    ends = [v for s in drawn for m in s.marks for v in (m.y, m.low, m.high, *m.seeds) if isfinite(v)]
    xs = axes.values or [m.x for s in drawn for m in s.marks]
    if len(drawn) <= TOGETHER:
        return [_draw(drawn, axes, xs, ends, "", 330)]
    return [_draw([s], axes, xs, ends, s.label, 260) for s in drawn]


def _draw(
    series: Sequence[Series], axes: Axes, xs: Sequence[Any], ends: Sequence[float], name: str, tall: int
) -> Drawing:
    parts, top = [text(4, 15, short(name, 56), "title", "start")] if name else [], 20.0 if name else 4.0
    keys, top = _legend(series, top)
    parts += [*keys, text(4, top + 13, short(axes.y_title, 60), "axis", "start")]
    top += 28
    yt, y_log = y_ticks(ends, axes.lower_is_better)
    left, right, bottom = 11 + max(8.6 * len(label) for _, label in yt), WIDTH - 16.0, top + tall - 100
    y = axis_map(yt[0][0], yt[-1][0], bottom, top, y_log)
    longest = 0.0 if all(map(is_number, xs)) else max(width(short(typed(v), 18)) for v in xs)
    turned = longest if longest > (right - left) / len(xs) - 8 else 0.0
    x, xt = x_axis(xs, bool(axes.values), turned > 0, left + 18, right - 14)
    parts += [line(left, y(v), right, y(v), "grid") + text(left - 7, y(v) + 4, said, "tick", "end") for v, said in yt]
    for at, said in xt:
        parts.append(line(at, bottom, at, bottom + 4, "zero"))
        if turned:
            slope = f'<g transform="rotate(-40 {at:.1f} {bottom + 14:.1f})">'
            parts.append(f"{slope}{text(at + 4, bottom + 14, said, 'tick', 'end')}</g>")
        else:
            parts.append(text(at, bottom + 18, said, "tick", "middle"))
    under = bottom + 36 + 0.55 * turned
    parts.append(text((left + right) / 2, under, short(axes.x_title, 50), "axis", "middle"))
    where = sorted({round(x(v), 3) for v in xs})
    gap = min((after - before for before, after in pairwise(where)), default=60.0)
    # Groups that share a value stand beside each other, or their intervals would hide each other.
    apart = min(14.0, 0.7 * gap / len(series)) if axes.values else 0.0
    placed: list[_Placed] = []
    for k, s in enumerate(series):
        shift = apart * (k - (len(series) - 1) / 2)
        here = [_Placed(k, x(m.x) + shift, y(m.y), *_reach(m, y), 4.5 if gap > 14 else 3.0, m) for m in s.marks]
        placed += here
        parts.append(f'<g class="s{k % 6}">')
        if all(map(is_number, xs)) and len(here) > 1:  # between two names there is nothing that a line could show
            parts.append(f'<polyline class="curve" points="{" ".join(f"{p.x:.1f},{p.y:.1f}" for p in here)}"/>')
        beside = min(8.0, 0.5 * apart if len(series) > 1 else 0.3 * gap)
        parts += [p.drawn([y(v) for v in p.mark.seeds if isfinite(v)], beside) for p in here]
        for v, message in s.failed:
            cross = _cross(x(v) + shift, bottom - 8)
            parts.append(f"<g><title>{escape(message)}</title>{cross}</g>")
        parts.append("</g>")
    return Drawing(name, under + 8, parts + _labels(placed, axes.lower_is_better, bottom))


@dataclass(frozen=True)
class _Placed:
    """A mark where it is drawn; top and bottom are the ends of its interval, r half the size of its symbol."""

    k: int
    x: float
    y: float
    top: float
    bottom: float
    r: float
    mark: Mark

    @property
    def half(self) -> float:
        """Half of what it covers, its ring included."""
        return self.r + (6 if self.mark.kind == "best" else 1)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """What a label should not cover."""
        return (
            self.x - self.half,
            min(self.top, self.y - self.half),
            self.x + self.half,
            max(self.bottom, self.y + self.half),
        )

    def drawn(self, seeds: Sequence[float], beside: float) -> str:
        """The seeds, the interval and the symbol."""
        parts = [f'<circle class="seed" cx="{self.x + beside:.1f}" cy="{v:.1f}" r="2"/>' for v in seeds]
        if isfinite(self.mark.low) and isfinite(self.mark.high):
            parts.append(line(self.x, self.top, self.x, self.bottom, "whisker"))
            parts += [line(self.x - 3, end, self.x + 3, end, "whisker") for end in (self.top, self.bottom)]
        symbol = _marker(self.k, self.x, self.y, self.r, self.mark.kind)
        return f"<g><title>{escape(self.mark.said)}</title>{''.join(parts)}{symbol}</g>"


def _reach(mark: Mark, y: Callable[[float], float]) -> tuple[float, float]:
    known = [v for v in (mark.y, mark.low, mark.high) if isfinite(v)]
    return y(max(known)), y(min(known))


def _labels(placed: Sequence[_Placed], below: bool, floor_: float) -> list[str]:
    """Words at the marks that have some, each where it covers least of the others."""
    parts, boxes = [], [p.box for p in placed]
    for p in placed:
        if not p.mark.label:
            continue
        half, (x1, y1, x2, y2) = width(p.mark.label) / 2, p.box
        spots = [(p.x, y2 + 8), (p.x, y1 - 7), (x2 + half + 3, p.y), (x1 - half - 3, p.y)]  # below, above, right, left
        spots[:2] = spots[:2] if below else spots[1::-1]
        around = []
        for cx, cy in spots:
            cx = min(max(cx, half + 2), WIDTH - half - 2)
            around.append((cx - half, cy - 7, cx + half, cy + 7))
        chosen = min(around, key=lambda box: sum(_overlap(box, b) for b in boxes) + 1000 * (box[3] > floor_ + 2))
        boxes.append(chosen)
        words = text((chosen[0] + chosen[2]) / 2, chosen[1] + 11.5, p.mark.label, "said", "middle")
        parts.append(f'<g class="s{p.k % 6}">{words}</g>')
    return parts


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _cross(x: float, y: float) -> str:
    return line(x - 4, y - 4, x + 4, y + 4, "cross") + line(x - 4, y + 4, x + 4, y - 4, "cross")


def _marker(k: int, x: float, y: float, r: float, kind: str) -> str:
    """Circle, square, triangle, diamond by series; filled where level with the best, ringed at the best itself."""
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
    ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{r + 5}"/>' if kind == "best" else ""
    return drawn + ring


def _legend(series: Sequence[Series], top: float) -> tuple[list[str], float]:
    """What colours, shapes and fills mean, in as many rows as it takes; and where it ends."""
    kinds = {m.kind for s in series for m in s.marks} | {"failed" for s in series if s.failed}
    kinds |= {"seed" for s in series for m in s.marks if m.seeds}
    groups = [(f"s{k % 6}", k, "level", short(s.label, 44)) for k, s in enumerate(series) if len(series) > 1]
    states = [("neutral", 0, kind, meaning) for kind, meaning in KINDS.items() if kind in kinds]
    parts, y = [], top + 10
    for row in (groups, states if kinds != {"level"} else []):
        x = 4.0
        for style, k, kind, words in row:
            if x > 4 and x + 18 + width(words) > WIDTH:
                x, y = 4.0, y + 19
            if kind == "failed":
                drawn = _cross(x + 7, y)
            elif kind == "seed":
                drawn = f'<circle class="seed" cx="{x + 7}" cy="{y}" r="2"/>'
            else:
                drawn = _marker(k, x + 7, y, 4.5 if kind != "best" else 3.5, kind)
            parts.append(f'<g class="{style}">{drawn}</g>{text(x + 19, y + 4, words, "name", "start")}')
            x += 32 + width(words)
        y += 19 if row else 0
    return parts, y - 10
