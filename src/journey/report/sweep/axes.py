"""Axes of the plots of a sweep: where a value stands, and which numbers or names are written there."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import Any
from unicodedata import east_asian_width

from journey.report.svg import scale, tick, ticks
from journey.report.sweep.content import is_number, typed

LETTER = 7.5  # about how wide a letter is in a plot, on a phone too, where letters are larger
LOG = 8  # from this ratio of the largest to the smallest value an axis is logarithmic


def x_axis(
    xs: Sequence[Any], at_values: bool, turned: bool, start: float, end: float
) -> tuple[Callable[[Any], float], list[tuple[float, str]]]:
    """Where a value stands, and the ticks: the values themselves where there is room, or round numbers."""
    if not all(map(is_number, xs)):
        step = (end - start) / len(xs)
        names = [typed(v) for v in xs]
        at = lambda v: start + step * (names.index(typed(v)) + 0.5)  # noqa: E731
        return at, _apart([(at(v), short(typed(v), 18)) for v in xs], turned)
    low, high = min(xs), max(xs)
    logarithmic = low > 0 and high >= LOG * low
    if at_values:
        place = axis_map(low, high, start, end, logarithmic)
        values = sorted(set(xs))
        return place, _apart([(place(v), name) for v, name in zip(values, compacted(values), strict=True)])
    if logarithmic:
        place = axis_map(low, high, start, end, True)
        round_ = [(v, said) for v, said in _log_ticks(low, high) if low * 0.999 <= v <= high * 1.001]
        return place, _apart([(place(v), said) for v, said in round_])
    grid, place = ticks(low, high, 5), axis_map(low, high, start, end, False)
    return place, [(place(v), _tick(v, grid)) for v in grid if low <= v <= high]


def _apart(found: Sequence[tuple[float, str]], turned: bool = False) -> list[tuple[float, str]]:
    """As many labels as stand apart, the first and the last among them."""

    def fits(a: tuple[float, str], b: tuple[float, str]) -> bool:
        return b[0] - a[0] >= (20 if turned else (width(a[1]) + width(b[1])) / 2 + 5)

    kept = [found[0]]
    for label in found[1:]:
        if fits(kept[-1], label):
            kept.append(label)
    if kept[-1] != found[-1]:
        while len(kept) > 1 and not fits(kept[-1], found[-1]):
            kept.pop()
        kept.append(found[-1])
    return kept


def y_ticks(ends: Sequence[float], lower_is_better: bool) -> tuple[list[tuple[float, str]], bool]:
    """Round numbers around all that is drawn, and whether they stand on a logarithmic axis."""
    low, high = min(ends), max(ends)
    if low > 0 and high >= LOG * low:
        return _log_ticks(low, high), True
    room = 0.08 * (high - low)  # for the label of the best
    grid = ticks(low - room * lower_is_better, high + room * (not lower_is_better), 5)
    return [(v, _tick(v, grid)) for v in grid], False


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten that enclose low and high, with 2 and 5 between them where the decades are few."""
    first, last = floor(log10(low) + 1e-9), ceil(log10(high) - 1e-9)
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    every = max(1, ceil((last - first) / 6))
    grid = [m * 10.0**power for power in range(first, last + 1, every) for m in steps]
    start = max((v for v in grid if v <= low * 1.001), default=grid[0])
    end = min((v for v in grid if v >= high * 0.999), default=10.0 ** (first + every * ceil((last - first) / every)))
    kept = [v for v in grid if start <= v <= end]
    return [(v, compact(v)) for v in (kept if kept[-1] >= end else [*kept, end])]


def axis_map(low: float, high: float, start: float, end: float, logarithmic: bool) -> Callable[[float], float]:
    """The map of [low, high] to [start, end], straight or by powers; one number alone stands in the middle."""
    if low == high:
        return lambda value: (start + end) / 2
    if not logarithmic:
        return scale(low, high, start, end)
    by_power = scale(log10(low), log10(high), start, end)
    return lambda value: by_power(log10(value))


def _tick(value: float, grid: Sequence[float]) -> str:
    large = max(map(abs, grid))
    return compact(value) if large >= 1e4 or large < 1e-3 else tick(value, grid)


def compact(value: float) -> str:
    """A number of an axis: 500, 2k, 1.5M, 1e-5."""
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e21:
            return f"{value / size:.4g}{prefix}"
    return typed(float(f"{value:.4g}"))


def compacted(values: Sequence[float]) -> list[str]:
    """The values swept, short: 512, 1k, 2k of powers of two (k is 1,024 then), 10k and 1M of round numbers."""
    for base, step in ((1024, 1024), (1000, 100)):
        large = [v for v in values if abs(v) >= base]
        if large and all(v % step == 0 for v in large):
            names = [_with_prefix(v, base) for v in values]
            if len(set(names)) == len(values):
                return names
    return [typed(v) for v in values]


def _with_prefix(value: float, base: int) -> str:
    for size, prefix in ((base**3, "G"), (base**2, "M"), (base, "k")):
        if abs(value) >= size and value * 10 % size == 0:
            return f"{value / size:g}{prefix}"
    return typed(value)


def short(words: str, most: int) -> str:
    """Words that fit into the room of so many Latin letters."""
    room = most * LETTER
    if width(words) <= room:
        return words
    while words and width(words) > room - LETTER:
        words = words[: min(len(words) - 1, most)]
    return words + "…"


def width(words: str) -> float:
    """About how wide words are in a plot, on a phone too, where its letters are larger."""
    return sum(14.0 if east_asian_width(char) in "WF" else LETTER for char in words)
