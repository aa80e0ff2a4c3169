"""Numbers as people write them, in plain text: what the page, the terminal and the charts share."""

import re
from collections.abc import Iterator, Sequence
from math import floor, isfinite, log10

from journey.evaluate.statistics import Estimate

# Characters that HTML forbids even when escaped: C0 (but tab, newline), DEL and C1, surrogates, non-characters.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]|[\U0001fffe\U0001ffff]")
_DECIMALS = {
    "bits/byte": 3,
    "nats/token": 3,
    "%": 1,
    "points": 1,
    "tokens": 1,
    "tokens/s": 0,
    "bytes/token": 2,
    "parameters": 0,
    "MB": 0,
}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MISSING = "–"


def visible(text: str) -> str:
    """Forbidden characters as visible marks."""
    return _FORBIDDEN.sub(lambda m: chr(0x2400 + ord(m[0])) if m[0] < " " else "\ufffd", text)


def number(value: float | None, unit: str = "", *, sign: bool = False, decimals: int | None = None) -> str:
    """A number with its unit, a real minus sign and a space that does not break."""
    if value is None or not isfinite(value):
        return MISSING
    places = _DECIMALS.get(unit, 2) if decimals is None else decimals
    text = f"{value:{'+' if sign else ''},.{places}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "\u2212") + (f"\u00a0{unit}" if unit else "")


def places(low: float, high: float, unit: str = "") -> int:
    """Decimals of a number with this interval: its unit's, or so many more that the interval's ends differ."""
    found, width = _DECIMALS.get(unit, 2), high - low
    while 0 < width < 2 * 10**-found and found < 5:
        found += 1
    return found


def interval(low: float, high: float, unit: str = "", *, sign: bool = False) -> str:
    """`[low, high]` without the unit."""
    ends = [number(end, sign=sign, decimals=places(low, high, unit)) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


def numbers(e: Estimate, *, sign: bool = False) -> tuple[str, str]:
    """The value and the interval of an estimate without its unit, in as many digits as the interval is worth; no
    interval ("") where its ends are not known."""
    known = isfinite(e.low) and isfinite(e.high)
    said = [e.value, *([e.low, e.high] if known else [])]
    large, spread = max(map(abs, said)), max(said) - min(said)
    extreme = 0 < large < 1e-4 or large >= 1e7
    digits = min(6, max(2, floor(log10(large / spread)) + 2)) if extreme and spread else 2
    decimals = places(e.low, e.high, e.unit) if known else places(0, 0, e.unit)
    value, *ends = (
        power(v, sign=sign, digits=digits) if extreme else number(v, sign=sign, decimals=decimals) for v in said
    )
    return value, f"[{ends[0]}, {ends[1]}]" if ends else ""


def without_unit(e: Estimate | None, *, sign: bool = False) -> str:
    """An estimate as words, where its unit stands already: its value, and its interval if it has one."""
    return " ".join(filter(None, numbers(e, sign=sign))) if e else MISSING


def estimate(e: Estimate | None, *, sign: bool = False) -> str:
    """An estimate as words: its value, its unit, and its interval if it has one."""
    if e is None:
        return MISSING
    value, ends = numbers(e, sign=sign)
    return " ".join(filter(None, [f"{value}\u00a0{e.unit}" if e.unit else value, ends]))


def big(value: float | None) -> str:
    """A count in words that people read: 1.35 million, 18.2 thousand."""
    if value is None:
        return MISSING
    for size, word in ((1e15, "quadrillion"), (1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{_three(value / size)}\u00a0{word}"
    return f"{value:,.0f}"


def bytes_(value: float | None) -> str:
    """Bytes with a decimal prefix: 18.2 MB."""
    if value is None:
        return MISSING
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{_three(value / size)}\u00a0{unit}"
    return f"{value:,.0f}\u00a0bytes"


def si(value: float, unit: str) -> str:
    """A quantity with a decimal prefix: 5.53 MFLOP, 1.2 GB/s."""
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{_three(value / size)}\u00a0{prefix}{unit}"
    return f"{_three(value) if value else 0}\u00a0{unit}"


def power(value: float, *, sign: bool = False, digits: int = 1) -> str:
    """A very small or large number: 3.1 × 10⁻⁶."""
    if value == 0 or not isfinite(value):
        return number(value, decimals=0)
    mantissa, _, exponent = f"{value:{'+' if sign else ''}.{digits}e}".partition("e")
    return f"{mantissa}\u00a0×\u00a010{str(int(exponent)).translate(_RAISED)}".replace("-", "\u2212")


def flops(value: float, digits: int = 2) -> str:
    """Arithmetic as a recipe has it: 1.2e13 FLOPs."""
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)} FLOPs"


def _three(value: float) -> str:
    """Three significant digits, or all of a whole number."""
    return f"{value:,.{max(0, 2 - floor(log10(abs(value))))}f}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 42 s, 8 min 41 s, 1 h 05 min."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}\u00a0s" if seconds < 10 else f"{whole}\u00a0s"
    if whole < 3600:
        return f"{whole // 60}\u00a0min\u00a0{whole % 60:02d}\u00a0s"
    return f"{whole // 3600}\u00a0h\u00a0{whole % 3600 // 60:02d}\u00a0min"


def join(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def is_number(value: object) -> bool:
    """A switch is no number, though Python says so."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def typed(value: object) -> str:
    """A value of a recipe's key as one would type it: 2,048, 3e-4, true."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) and abs(value) < 1e12:
        return f"{value:,}".replace("-", "\u2212")
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.12g}")


def columns(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A title and aligned columns, as lines for a terminal; a row's first cell names it."""
    cells = [["", *head], *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    yield f"\n{title}"
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
