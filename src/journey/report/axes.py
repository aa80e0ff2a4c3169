"""The axes of a drawing: where a number stands, and which numbers or names are written there."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from journey.report.drawing import short, width
from journey.report.format import number, typed

WIDE = 8  # from this ratio of the largest to the smallest number an axis that may be is logarithmic

Map = Callable[[float], float]
Tick = tuple[float, str]  # where it stands, and its words


def scale(low: float, high: float, start: float, end: float) -> Map:
    """The straight map of [low, high] to [start, end]; one number alone stands in the middle."""
    if low == high:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def powers(low: float, high: float, start: float, end: float) -> Map:
    """The map of [low, high] to [start, end] by powers."""
    by_power = scale(log10(low), log10(high), start, end)
    return lambda value: by_power(log10(value))


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers that enclose low and high: steps of 1, 2 or 5 times a power of ten."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one number, but for rounding
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def tick(value: float, grid: Sequence[float]) -> str:
    """One of the numbers on an axis, in no more decimals than tell them apart."""
    large = max(map(abs, grid))
    if value == 0 or large >= 1e4 or large < 1e-3:
        return compact(value)
    step = grid[1] - grid[0] if len(grid) > 1 else 1.0
    return number(value, decimals=max(0, -floor(log10(step) + 1e-9)))


def is_wide(low: float, high: float) -> bool:
    """Whether numbers span so much that an axis by powers shows them better."""
    return low > 0 and high >= WIDE * low


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose low and high, with 2 and 5 between them where the decades are few."""
    first, last = floor(log10(low) + 1e-9), ceil(log10(high) - 1e-9)
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    every = max(1, ceil((last - first) / 6))
    grid = [m * 10.0**power for power in range(first, last + 1, every) for m in steps]
    start = max((v for v in grid if v <= low * 1.001), default=grid[0])
    end = min((v for v in grid if v >= high * 0.999), default=10.0 ** (first + every * ceil((last - first) / every)))
    kept = [v for v in grid if start <= v <= end]
    return kept if kept[-1] >= end else [*kept, end]


def y_axis(ends: Sequence[float], log: bool, below: bool | None, bottom: float, top: float) -> tuple[Map, list[Tick]]:
    """An upright axis around all that is drawn; `below`: room for words below (True) or above (False) the numbers."""
    low, high = min(ends), max(ends)
    if log and is_wide(low, high):
        grid = log_ticks(low, high)
        place = powers(grid[0], grid[-1], bottom, top)
        return place, [(place(v), compact(v)) for v in grid]
    room = 0.08 * (high - low)
    grid = ticks(low - room * (below is True), high + room * (below is False), 5)
    place = scale(grid[0], grid[-1], bottom, top)
    return place, [(place(v), tick(v, grid)) for v in grid]


def x_axis(xs: Sequence[float], log: bool, start: float, end: float) -> tuple[Map, list[Tick]]:
    """A lying axis with round numbers; one that is never logarithmic begins at zero."""
    low, high = min(xs), max(xs)
    if log and is_wide(low, high):
        place = powers(low, high, start, end)
        return place, apart([(place(v), compact(v)) for v in log_ticks(low, high) if low * 0.999 <= v <= high * 1.001])
    low = low if log else min(0.0, low)
    grid, place = ticks(low, high, 5 if log else 4), scale(low, high, start, end)
    return place, apart([(place(v), tick(v, grid)) for v in grid if low <= v <= high] or [(place(high), typed(high))])


def values_axis(values: Sequence[float], log: bool, start: float, end: float) -> tuple[Map, list[Tick]]:
    """A lying axis whose ticks are the values themselves, as many as there is room for."""
    known = sorted(set(values))
    place = (powers if log and is_wide(known[0], known[-1]) else scale)(known[0], known[-1], start, end)
    return place, apart([(place(v), name) for v, name in zip(known, compacted(known), strict=True)])


def names_axis(
    names: Sequence[object], turned: bool, start: float, end: float
) -> tuple[Callable[[object], float], list[Tick]]:
    """A lying axis of names, side by side in the order given."""
    known = [typed(v) for v in names]
    step = (end - start) / len(known)

    def place(value: object) -> float:
        return start + step * (known.index(typed(value)) + 0.5)

    return place, apart([(place(v), short(typed(v), 18)) for v in names], turned)


def apart(found: Sequence[Tick], turned: bool = False) -> list[Tick]:
    """As many labels as stand apart, the first and the last among them."""

    def fits(a: Tick, b: Tick) -> bool:
        return b[0] - a[0] >= (20 if turned else (width(a[1]) + width(b[1])) / 2 + 5)

    kept = [*found[:1]]
    for label in found[1:]:
        if fits(kept[-1], label):
            kept.append(label)
    if kept and kept[-1] != found[-1]:
        while len(kept) > 1 and not fits(kept[-1], found[-1]):
            kept.pop()
        kept.append(found[-1])
    return kept


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
