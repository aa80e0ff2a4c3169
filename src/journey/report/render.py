"""Blocks as HTML: one file that needs no network and no script. Nothing here knows what the blocks are about."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from journey.evaluate.statistics import Estimate
from journey.report.blocks import (
    Block,
    Cell,
    Changes,
    Curves,
    Dots,
    Fold,
    Heat,
    Lanes,
    Page,
    Prose,
    Row,
    Section,
    Shares,
    Shown,
    Table,
)
from journey.report.curves import STYLE, curves
from journey.report.dots import dots, lanes, picture
from journey.report.drawing import escape
from journey.report.format import MISSING, numbers
from journey.report.heat import heat

LONGEST = 1200  # characters of a sample that are shown
VERDICTS = {  # word -> (style, sign): never told by colour alone
    "clear": ("good", "✓"),
    "not distinguishable from zero": ("unsure", "≈"),
    "worse": ("bad", "✗"),
    "a size": ("size", "↔"),
    "came out": ("good", "✓"),
    "not surely": ("unsure", "≈"),
    "did not come out": ("bad", "✗"),
    "the cost": ("size", "↔"),
}
_IN_MARKS = r"(?:\\.|`(?:\\.|[^`\\])*`|[^\\`])+?"
_MARKS = re.compile(
    r"\\(?P<char>[\\*`])|`(?P<code>(?:\\.|[^`\\])*)`"
    rf"|\*\*(?P<strong>{_IN_MARKS})\*\*|\*(?P<em>(?:\\.|`(?:\\.|[^`\\])*`|[^\\`*])+?)\*",
    re.DOTALL,
)


def render(page: Page) -> str:
    """The whole HTML of a page."""
    notes = {text: i for i, text in enumerate(dict.fromkeys(_notes(page)), 1)} if page.notes else {}
    style = Markup(STYLE.read_text(encoding="utf-8"))
    return _environment().get_template("page.html").render(page=page, style=style, notes=notes, on=_Place(notes))


@dataclass(frozen=True)
class _Place:
    """Where on a page a block stands: below a heading of which level, and with which numbers of notes."""

    notes: Mapping[str, int]
    level: int = 2

    def show(self, block: Block) -> Markup:
        """A block as HTML, by the macro of its name."""
        return getattr(_environment().get_template("blocks.html").module, type(block).__name__.lower())(block, self)

    def inside(self) -> "_Place":
        """A level further down."""
        return replace(self, level=min(6, self.level + 1))


@cache
def _environment() -> Environment:
    """The templates. Whatever they say passes through `_shown`; in an attribute first through `words`."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"words": _words, "cell": _cell, "classes": _classes, "ground": _ground}
    made.filters |= {"percents": _percents, "drawn": _drawn, "reach": _reach}
    made.globals |= {"numbers": numbers, "picture": _picture, "VERDICTS": VERDICTS, "LONGEST": LONGEST}
    made.tests |= {"estimate": lambda v: isinstance(v, Estimate), "prose": lambda v: isinstance(v, Prose)}
    made.tests["tables"] = lambda row: all(isinstance(block, Table) for block in row.blocks)
    return made


def _shown(value: object) -> Markup:
    """Anything as HTML: prose with its marks, other text as it is."""
    if isinstance(value, Markup):
        return value
    return _prose(value) if isinstance(value, Prose) else Markup(escape(value))


def _prose(text: str) -> Markup:
    parts, end = [], 0
    for m in _MARKS.finditer(text):
        parts.append(escape(text[end : m.start()]))
        kind, inner, end = str(m.lastgroup), str(m[str(m.lastgroup)]), m.end()
        if kind == "char":
            parts.append(escape(inner))
        else:
            held = escape(re.sub(r"\\([\\*`])", r"\1", inner)) if kind == "code" else _prose(inner)
            parts.append(f"<{kind}>{held}</{kind}>")
    return Markup("".join([*parts, escape(text[end:])]))


def _words(text: object) -> str:
    """The same without marks, for an attribute."""
    return Markup(_shown(text)).striptags() if isinstance(text, Prose) else str(text)


def _cell(value: str | Estimate | Cell | None) -> Cell:
    made = value if isinstance(value, Cell) else Cell(value)
    return replace(made, value=MISSING) if made.value is None else made


def _ground(cell: Cell) -> str:
    """The colour behind a cell, the stronger the larger its heat; nothing where it has none."""
    if cell.heat is None or cell.tone == "unsure":
        return ""
    tone = "heat" if cell.tone == "heat" else f"{cell.tone}-heat"
    return f"background:color-mix(in srgb, var(--{tone}) {10 + 60 * min(1.0, max(0.0, cell.heat)):.0f}%, var(--card))"


def _classes(cell: Cell) -> str:
    tone = "hot" if _ground(cell) else "" if cell.tone == "heat" else cell.tone
    return " ".join(filter(None, [tone, "" if cell.colour is None else f"s{cell.colour}"]))


def _percents(block: Shares) -> str:
    whole = sum(share for _, share in block.parts) or 1
    return ", ".join(f"{_words(name)} {100 * share / whole:.1f} %" for name, share in block.parts)


def _drawn(block: Dots | Curves | Lanes | Heat) -> Markup:
    match block:
        case Dots():
            drawing = dots(block)
        case Curves():
            drawing = curves(block)
        case Lanes():
            drawing = lanes(block)
        case Heat():
            drawing = heat(block)
    return drawing.svg() if drawing else Markup("")


def _reach(rows: Sequence[Shown]) -> dict[str, float]:
    """Unit -> the end of the axis that its changes share, so that they can be compared."""
    found: dict[str, float] = {}
    for row in rows:
        ends = [1.1 * abs(v) for v in (row.estimate.low, row.estimate.high) if isfinite(v)]
        found[row.estimate.unit] = max([found.get(row.estimate.unit, 1e-9), *(ends if row.sign else [])])
    return found


def _picture(row: Shown, reach: Mapping[str, float]) -> Markup:
    e = row.estimate
    if not row.sign or not all(map(isfinite, (e.value, e.low, e.high))):
        return Markup("")
    return picture(e.value, e.low, e.high, reach[e.unit], VERDICTS[row.tone or row.verdict][0])


def _notes(page: Page) -> Iterator[str]:
    """Conventions in the order in which the page needs them."""

    def of_blocks(blocks: Sequence[Block]) -> Iterator[str]:
        for block in blocks:
            if isinstance(block, Fold | Row):
                yield from of_blocks(block.blocks)
            elif isinstance(block, Changes):
                yield from (row.estimate.convention for row in block.rows if row.estimate.convention)
            elif isinstance(block, Dots | Curves | Lanes | Heat) and block.note:
                yield block.note

    def of_sections(sections: Sequence[Section]) -> Iterator[str]:
        for section in sections:
            yield from of_blocks(section.blocks)
            yield from of_sections(section.sections)

    yield from of_blocks(page.head)
    yield from of_sections(page.sections)
