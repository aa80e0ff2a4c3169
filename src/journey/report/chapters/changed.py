"""The matrix of change: stages down, measurements across, each against the model before it."""

from journey.report.chapters.parts import nothing
from journey.report.effect import SIZE, Effect
from journey.report.life import Life
from journey.report.markup import MISSING, Cell, escape, heat, interval, number, places, table

ABILITIES = {  # effect -> its head, and the change that gets the full colour
    "multiple choice": ("multiple choice, points", 30.0),
    "answer loss, right passage": ("answer loss, nats/token", 2.0),
    "answers that end by themselves": ("answers that end, points", 60.0),
    "answer F1": ("answer F1, points", 20.0),
    "answer length": ("answer length, tokens", 20.0),
}
BITS_FULL = 30.0  # percent


def changed(life: Life, effects: list[Effect]) -> str:
    """What each stage learned and forgot, and what it did to the answers."""
    by_key = {(e.stage, e.name): e for e in effects}
    steps = [(stage, parent) for stage in life.models if (parent := life.parent(stage))]
    if not steps:
        return nothing("No stage has gone on from a measured model yet.")
    tables = []
    bits = {f"bits per byte, {corpus}": (f"{escape(corpus)}, %", BITS_FULL) for corpus in life.corpora}
    for caption, columns in (("Change in bits per byte", bits), ("Change in what it can do", ABILITIES)):
        shown = {name: column for name, column in columns.items() if any((s.name, name) in by_key for s, _ in steps)}
        rows = [
            [
                f'{escape(parent.name)} → <b class="s{life.colour(stage)}">{escape(stage.name)}</b>',
                *(_cell(by_key.get((stage.name, name)), full) for name, (_, full) in shown.items()),
            ]
            for stage, parent in steps
        ]
        if shown:
            tables.append(table(caption, ["Stage", *(head for head, _ in shown.values())], rows, style="numbers"))
    return f'<div class="grids">{"".join(tables)}</div>'


def _cell(e: Effect | None, full: float) -> Cell:
    if e is None:
        return MISSING
    value = number(e.value, sign=True, decimals=places(e.low, e.high, e.unit))
    text = f'{value} <span class="ci">{interval(e.low, e.high, e.unit, sign=True)}</span>'
    if e.verdict == SIZE:
        return text
    if e.verdict.startswith("not"):
        return f"{value} ≈{text.removeprefix(value)}", 'class="unsure"'
    return heat(text, abs(e.value) / full, "good-heat" if e.verdict == "clear" else "bad-heat")
