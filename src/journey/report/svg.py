"""The parts of a drawing: an SVG as wide as a phone, its lines and words, and axes with round numbers."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from journey.report.markup import escape, number

WIDTH = 440


def svg(label: str, height: float, parts: Sequence[str]) -> str:
    """A picture WIDTH wide; `label` is what is read to who cannot see it."""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line; `style` is a class of the page's style sheet, as everywhere here."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, text: str, style: str, anchor: str) -> str:
    """Words at a point: its start, middle or end (`anchor`)."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The straight map of [low, high] to [start, end]."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers that enclose low and high: steps of 1, 2 or 5 times a power of ten."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one number, but for rounding
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def rect(x: float, y: float, width: float, height: float, style: str, said: str) -> str:
    """A filled box that says something when pointed at."""
    place = f'x="{x:.2f}" y="{y:.2f}" width="{max(0.0, width):.2f}" height="{max(0.0, height):.2f}"'
    return f'<rect class="{style}" {place}><title>{escape(said)}</title></rect>'


def tick(value: float, ticks: Sequence[float]) -> str:
    """One of the numbers on an axis, in no more decimals than tell them apart."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    if value == 0:
        return "0"
    if ticks[-1] >= 1e6:
        return f"{value / 1e6:g}M"
    if ticks[-1] >= 1e4:
        return f"{value / 1e3:g}k"
    return number(value, decimals=max(0, -floor(log10(step) + 1e-9)))
