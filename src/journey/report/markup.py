"""Text and numbers as HTML: everything that comes from a model or a file passes through `escape`."""

import html
import re
from collections.abc import Iterable, Sequence
from math import floor, isfinite, log10

from journey.evaluate.statistics import Estimate

# Characters that HTML forbids even when escaped: C0 (but tab, newline), DEL and C1, surrogates, non-characters.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]|[\U0001fffe\U0001ffff]")
_DECIMALS = {"bits/byte": 3, "nats/token": 3, "%": 1, "points": 1, "tokens": 1, "bytes/token": 2}
MISSING = "–"


def escape(text: object) -> str:
    """Text for HTML, in an element or an attribute; forbidden characters become visible marks."""
    return html.escape(_FORBIDDEN.sub(_visible, str(text)))


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


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


def estimate(e: Estimate) -> str:
    """A number and its interval, for a table whose caption names the unit."""
    value = number(e.value, decimals=places(e.low, e.high, e.unit))
    return f'{value} <span class="ci">{interval(e.low, e.high, e.unit)}</span>'


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


def power(value: float) -> str:
    """A very small or large number as HTML: 3.1 × 10⁻⁶ with a raised exponent."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}\u00a0×\u00a010<sup>{number(int(exponent), decimals=0)}</sup>"


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


def folded(summary: str, body: str) -> str:
    """What a reader opens who wants to know; summary and body are HTML."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def join(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


Cell = str | tuple[str, str]  # HTML, or (HTML, attributes of the td)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell]], *, style: str = "") -> str:
    """A table that scrolls in its own box when it is wide. Cells and heads are HTML; a row's first cell names it."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(_cell(cell) for cell in row[1:]) + "</tr>" for row in rows
    )
    label = html.escape(re.sub("<[^>]+>", "", html.unescape(caption)))
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table class="{style}">'
        f"<caption>{caption}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    text, attributes = cell if isinstance(cell, tuple) else (cell, "")
    return f"<td {attributes}>{text}</td>" if attributes else f"<td>{text}</td>"


def heat(text: str, share: float, tone: str = "heat") -> Cell:
    """A table cell whose ground is the stronger the larger `share` (0 to 1) is; `tone` names a colour of the page."""
    strength = 10 + 60 * min(1.0, max(0.0, share))
    return text, f'class="hot" style="background:color-mix(in srgb, var(--{tone}) {strength:.0f}%, var(--card))"'
