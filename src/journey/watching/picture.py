"""Trainings as a terminal shows them, drawn anew twice a second."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from journey.console import clock
from journey.watching import words
from journey.watching.training import Series, Training

_CHART = 8  # lines of a terminal
_LOW = 30  # lines of a window in which there is no room for every word
_BAR = 14  # columns of a layer's bar
_NEAR = 2  # columns of dots on each side that a curve is smoothed over
_EIGHTHS = " ▏▎▍▌▋▊▉"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character: row, column


def picture(shown: Sequence[tuple[Training, str]], note: str, width: int, height: int) -> Any:
    """One training in full, or several in a table; `note` stands below."""
    from rich.console import Group
    from rich.text import Text

    body = [_whole(*shown[0], width, height - 2)] if len(shown) == 1 else [_table(shown)] if shown else []
    return Group(*body, Text(f" {note}", style="dim", no_wrap=True, overflow="ellipsis"))


def _whole(training: Training, state: str, width: int, height: int) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Text(" ").append(words.title(training, state), style="bold")
    progress = Table.grid(padding=(0, 1))
    left = f"  {clock(training.left)} left" if training.left is not None and not training.complete else ""
    bar = ProgressBar(total=100, completed=100 * training.share, width=max(10, min(40, width // 3)))
    progress.add_row("", bar, Text(f"{100 * training.share:.0f} %  {words.amount(training)}{left}", no_wrap=True))
    rows = list(words.facts(training))
    if height < _LOW:
        rows = [(name, text) for name, text in rows if not name.startswith(" ")]  # without the notes to others
    facts = Table.grid(padding=(0, 2))
    for name, text in rows:
        facts.add_row(Text(f" {name}", style="cyan", no_wrap=True), Text(text, no_wrap=True, overflow="ellipsis"))
    room = height - len(rows) - 4  # beside head, progress and two empty lines
    high = min(_CHART, max(room - len(words.layers(training)) - 2, room // 2 - 1))
    chart = chart_lines(training.losses, max(20, min(100, width - 12)), high) if high >= _CHART // 3 else []
    layers = _layers(training, room - len(chart))
    lines = [Text(line, no_wrap=True) for line in chart]
    return Group(head, progress, Text(""), *lines, facts, Text(""), *([layers] if layers else []))


def _layers(training: Training, room: int) -> Any:
    """Bars, each to its column's largest; of more layers than there is room for every second, third, …"""
    from rich.table import Table
    from rich.text import Text

    found = words.layers(training)
    if not found or room < 3:
        return None
    every = -(-len(found) // (room - 1))
    table = Table.grid(padding=(0, 2))
    which = f"one in {every} layers" if every > 1 else "layer"
    head = (f" {which}, at step {training.norms['step']:,}", "gradient", "", "update / weight", "")
    table.add_row(*(Text(text, style="dim", no_wrap=True) for text in head))
    most = [max(gradient or 0.0 for _, gradient, _ in found), max(update or 0.0 for _, _, update in found)]
    for name, gradient, update in found[::every]:
        cells = [Text(f" {name}", no_wrap=True)]
        for value, largest in zip((gradient, update), most, strict=True):
            cells += [Text("-" if value is None else f"{value:.2e}"), Text(bar(value, largest, _BAR), style="green")]
        table.add_row(*cells)
    return table


def _table(shown: Sequence[tuple[Training, str]]) -> Any:
    """A line a training; of what was scored on the dev split, the first number."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    dev = next((key for training, _ in shown for key in training.dev), "")
    head = (" training", "", "", "", "loss", dev.replace("_", " "), "tokens/s", "MFU", "left", "")
    table.add_row(*(Text(text, style="dim", no_wrap=True) for text in head))
    for training, state in shown:
        now, _ = training.speed
        mfu, left, scored = training.mfu(now), training.left, training.dev.get(dev)
        cells = [
            f"{100 * training.share:3.0f} %",
            "" if training.loss is None else f"{training.loss:.4g}",
            f"{scored[-1][1]:.4g}" if scored else "",
            f"{now:,.0f}" if now else "",
            "" if mfu is None else f"{100 * mfu:.1f} %",
            "" if left is None or training.complete else clock(left),
            "" if state == words.RUNNING else state,
        ]
        id = training.path.absolute().parents[1].name.removeprefix(".work-")[:8]
        bar = ProgressBar(total=100, completed=100 * training.share, width=16)
        named = Text(f" {training.name}", style="bold", no_wrap=True)
        of = Text(f"{training.stage} {id}", style="dim", no_wrap=True, overflow="ellipsis")
        table.add_row(named, of, bar, *(Text(cell, no_wrap=True) for cell in cells))
    return table


def bar(value: float | None, largest: float, columns: int) -> str:
    """A bar of eighths of a character."""
    if not value or value < 0 or largest <= 0:
        return ""
    eighths = round(8 * columns * min(1.0, value / largest))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def chart_lines(points: Series, columns: int, rows: int) -> list[str]:
    """A curve in braille dots, two across and four down a character, with its ends on the axis; nothing of one point.

    Each column of dots is the mean of its points and of its neighbours', and straight between two that have some. What
    a training begins with is so high that the rest would lie flat: the axis ends at the highest after the first
    twentieth, and what is above stands at its top.
    """
    if len(points) < 2 or points[-1][0] <= points[0][0]:
        return []
    start, end = points[0][0], points[-1][0]
    sums: dict[int, list[float]] = {}
    for x, y in points:
        sums.setdefault(min(2 * columns - 1, int((x - start) / (end - start) * 2 * columns)), []).append(y)
    means = {x: sum(each) / len(each) for x, each in sorted(sums.items())}
    for (x, y), (then, other) in pairwise(list(means.items())):
        means |= {between: y + (other - y) * (between - x) / (then - x) for between in range(x + 1, then)}
    row = [means[x] for x in sorted(means)]
    near = [row[max(0, i - _NEAR) : i + _NEAR + 1] for i in range(len(row))]
    means = dict(zip(sorted(means), (sum(each) / len(each) for each in near), strict=True))
    later = [y for x, y in means.items() if x >= columns // 10] or list(means.values())
    low, high = min(later), max(later)
    span = high - low or 1.0
    cells = [[0] * columns for _ in range(rows)]
    last = None
    for x, y in means.items():
        down = round((4 * rows - 1) * (1 - min(1.0, max(0.0, (y - low) / span))))
        step = 0 if last is None else (last > down) - (last < down)
        for dot in range(down, down if last is None else last, step or 1):  # down to where the last one stood
            cells[dot // 4][x // 2] |= _DOTS[dot % 4][x % 2]
        cells[down // 4][x // 2] |= _DOTS[down % 4][x % 2]
        last = down
    lines = ["".join(chr(0x2800 + cell) for cell in row) for row in cells]
    labels = [f"{high:8.4g}", *[" " * 8] * (rows - 2), f"{low:8.4g}"]
    axis = f"{start:,.0f}".ljust(columns - len(f"{end:,.0f} tokens")) + f"{end:,.0f} tokens"
    return [*(f" {label} {line}" for label, line in zip(labels, lines, strict=True)), f"{'loss':>9} {axis}"]
