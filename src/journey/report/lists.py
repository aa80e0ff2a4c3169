"""Lists of effects, their verdicts, and the numbered notes that say how each was counted."""

from collections.abc import Sequence

from journey.report.charts import whisker
from journey.report.claims import CAME_OUT, DID_NOT, PARTLY, STATED, Claim
from journey.report.effects import SIZE, Effect
from journey.report.markup import escape, interval, number

_CHIPS = {  # word -> (style, sign): never told by colour alone
    "clear": ("good", "✓"),
    "worse": ("bad", "✗"),
    "not distinguishable from zero": ("unsure", "≈"),
    SIZE: ("size", "↔"),
    CAME_OUT: ("good", "✓"),
    PARTLY: ("unsure", "≈"),
    DID_NOT: ("bad", "✗"),
    STATED: ("size", "↔"),
}


class Notes:
    """Conventions by number, in the order in which the page first needs them."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}

    def mark(self, convention: str) -> str:
        """A raised number that leads to the note."""
        if not convention:
            return ""
        n = self._texts.setdefault(convention, len(self._texts) + 1)
        return f'<a class="note" href="#note-{n}" aria-label="note {n}">{n}</a>'

    def listed(self) -> str:
        items = (f'<li id="note-{n}">{escape(text)}</li>' for text, n in self._texts.items())
        return f'<ol class="notes">{"".join(items)}</ol>' if self._texts else ""


def chip(word: str) -> str:
    """A verdict as a small label: a sign, a word and a colour."""
    style, sign = _CHIPS[word]
    return f'<span class="chip {style}"><span aria-hidden="true">{sign}</span> {word}</span>'


def size(e: Effect) -> str:
    """The change, its unit and its interval; a share or a distance carries no plus sign."""
    sign = e.verdict != SIZE
    ci = interval(e.low, e.high, e.unit, sign=sign)
    return f'<strong>{number(e.value, e.unit, sign=sign)}</strong> <span class="ci">{ci}</span>'


def effect_list(effects: Sequence[Effect], notes: Notes) -> str:
    """Effects as question and answer."""
    return f'<ul class="effects">{"".join(_item(e.question, e, chip(e.verdict), notes) for e in effects)}</ul>'


def claim_list(found: Sequence[Claim], notes: Notes) -> str:
    """Expectations and whether they came out."""
    items = (
        _item(f"<b>{escape(c.stage.name)}</b> {escape(c.expected)}", c.effect, chip(c.outcome), notes, raw=True)
        for c in found
    )
    return f'<ul class="effects">{"".join(items)}</ul>'


def _item(question: str, e: Effect, label: str, notes: Notes, raw: bool = False) -> str:
    tone = _CHIPS[e.verdict][0]
    return (
        f'<li><p class="q">{question if raw else escape(question)}</p>'
        f'<p class="a">{size(e)}{notes.mark(e.convention)} {whisker(e.value, e.low, e.high, tone)}</p>'
        f'<p class="v">{label}</p><p class="c">{escape(e.compare)} · n\u00a0=\u00a0{e.n:,}</p></li>'
    )
