"""Lists of effects, their verdicts, and the numbered notes that say how each was counted."""

from collections.abc import Mapping, Sequence

from journey.report.charts import whisker
from journey.report.claims import CAME_OUT, DID_NOT, PARTLY, STATED, Claim
from journey.report.effect import SIZE, Effect
from journey.report.markup import escape, interval, number, places

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


def mark(word: str) -> str:
    """A verdict as its sign alone, where the page is dense; the word is there for who listens or points."""
    style, sign = _CHIPS[word]
    return f'<b class="sign {style}" role="img" aria-label="{word}" title="{word}">{sign}</b>'


def size(e: Effect) -> str:
    """The change, its unit and its interval; a share or a distance carries no plus sign."""
    ci = interval(e.low, e.high, e.unit, sign=e.signed)
    value = number(e.value, e.unit, sign=e.signed, decimals=places(e.low, e.high, e.unit))
    return f'<strong>{value}</strong> <span class="ci">{ci}</span>'


def effect_list(effects: Sequence[Effect], notes: Notes) -> str:
    """Effects as question and answer."""
    return _list([(escape(e.question), e, e.verdict) for e in effects], notes)


def claim_list(found: Sequence[Claim], notes: Notes) -> str:
    """Expectations and whether they came out."""
    rows = [(f"<b>{escape(c.stage.name)}:</b> {escape(c.expected)}", c.effect, c.outcome) for c in found]
    return _list(rows, notes)


def _list(rows: Sequence[tuple[str, Effect, str]], notes: Notes) -> str:
    """Rows of (question as HTML, effect, verdict); changes of one unit share an axis, so that they can be compared."""
    reach: dict[str, float] = {}
    for _, e, _ in rows:
        if e.signed:
            reach[e.unit] = max(reach.get(e.unit, 1e-9), 1.1 * abs(e.low), 1.1 * abs(e.high))
    return f'<ul class="effects">{"".join(_item(*row, reach, notes) for row in rows)}</ul>'


def _item(question: str, e: Effect, word: str, reach: Mapping[str, float], notes: Notes) -> str:
    picture = whisker(e.value, e.low, e.high, reach[e.unit], _CHIPS[e.verdict][0]) if e.signed else ""
    return (
        f'<li><p class="q">{question}</p><p class="a">{size(e)}{notes.mark(e.convention)}</p><p class="m">{picture}</p>'
        f'<p class="v">{chip(word)}</p><p class="c">{escape(e.compare)} · n\u00a0=\u00a0{e.n:,}</p></li>'
    )
