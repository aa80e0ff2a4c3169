"""The parts of a drawing: an SVG as wide as a phone, its lines, boxes and words, and what its keys mean."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from unicodedata import east_asian_width

from markupsafe import Markup

from journey.report.format import visible

WIDTH = 440
LETTER = 7.5  # about how wide a letter is in a drawing, on a phone too, where letters are larger

Key = tuple[str, Callable[[float, float], str], str]  # style, its symbol drawn around a point, what it means


@dataclass(frozen=True)
class Drawing:
    """The parts of an SVG WIDTH wide, and what is read to who cannot see it."""

    label: str
    height: float
    parts: Sequence[str]

    def svg(self) -> Markup:
        """The drawing inside a page, coloured by the page's style sheet."""
        return svg(self.label, self.height, self.parts)


def escape(text: object) -> str:
    """Text for HTML, in an element or an attribute; forbidden characters become visible marks."""
    return html.escape(visible(str(text)))


def svg(label: str, height: float, parts: Sequence[str]) -> Markup:
    """A picture WIDTH wide; `label` is what is read to who cannot see it."""
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def group(style: str, said: str, parts: Sequence[str]) -> str:
    """What belongs together, in one colour; `said` is shown when pointed at."""
    title = f"<title>{escape(said)}</title>" if said else ""
    return f'<g class="{style}">{title}{"".join(parts)}</g>' if style else f"<g>{title}{''.join(parts)}</g>"


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line; `style` is a class of the page's style sheet, as everywhere here."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def whisker(x1: float, y1: float, x2: float, y2: float, half: float) -> str:
    """An interval with its ends, upright or lying."""
    across = (0.0, half) if y1 == y2 else (half, 0.0)
    ends = (
        line(x - across[0], y - across[1], x + across[0], y + across[1], "whisker") for x, y in ((x1, y1), (x2, y2))
    )
    return line(x1, y1, x2, y2, "whisker") + "".join(ends)


def rect(x: float, y: float, width: float, height: float, style: str, said: str) -> str:
    """A filled box that says something when pointed at."""
    place = f'x="{x:.2f}" y="{y:.2f}" width="{max(0.0, width):.2f}" height="{max(0.0, height):.2f}"'
    return f'<rect class="{style}" {place}><title>{escape(said)}</title></rect>'


def text(x: float, y: float, text: str, style: str, anchor: str) -> str:
    """Words at a point: its start, middle or end (`anchor`)."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def legend(rows: Sequence[Sequence[Key]], top: float) -> tuple[list[str], float]:
    """Keys in as many rows as it takes, and where they end."""
    parts, y = [], top + 10
    for row in rows:
        x = 4.0
        for style, symbol, words in row:
            if x > 4 and x + 18 + width(words) > WIDTH:
                x, y = 4.0, y + 19
            parts.append(group(style, "", [symbol(x + 8, y)]))
            parts.append(text(x + 21, y + 4, words, "name", "start"))
            x += 34 + width(words)
        y += 19 if row else 0
    return parts, y - 10


def short(words: str, most: int) -> str:
    """Words that fit into the room of so many Latin letters."""
    room = most * LETTER
    if width(words) <= room:
        return words
    while words and width(words) > room - LETTER:
        words = words[: min(len(words) - 1, most)]
    return words + "…"


def width(words: str) -> float:
    """About how wide words are in a drawing, on a phone too, where its letters are larger."""
    return sum(14.0 if east_asian_width(char) in "WF" else LETTER for char in words)
