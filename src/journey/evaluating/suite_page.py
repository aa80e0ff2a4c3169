"""What came of a suite as a page: HELM's views on the first screen, then every item with what was answered."""

from collections.abc import Mapping, Sequence
from typing import Any

from journey.evaluate.suite import running, views
from journey.evaluating.suite import Answered
from journey.evaluating.suite_lines import accuracy, flipped, output_of, table
from journey.report.blocks import (
    Block,
    Cell,
    Dot,
    Dots,
    Fold,
    Page,
    Points,
    Prose,
    Row,
    Section,
    Table,
    TableRow,
    Text,
    plain,
)
from journey.report.format import join
from journey.report.render import render

TITLES = {True: "passed", False: "failed", None: "undecided"}


def page(made: Answered) -> str:
    """All of it, as one file."""
    nodes = list(made.rows)
    screen = Table("HELM's views", ["", *nodes], list(table(made)))
    dots = [Dot(node, e, i) for i, node in enumerate(nodes) if (e := accuracy(made.rows[node])) is not None]
    chart = Dots("Items that pass", "percent of the items that pass all their checks", dots)
    notes = [f"{node}: {note}." for node in nodes for note in made.screens[node]["notes"]]
    notes += [f"{node} was asked {'in the chat format' if made.in_chat[node] else 'plainly'}." for node in nodes]
    sections = [
        Section("screen", "On one screen", [screen, Row([chart]), Points(notes)]),
        Section("flips", f"Against {made.baseline}", _flips(made)),
        Section("items", "Item by item", _items(made), "Every check that did not pass stands with what was answered."),
        Section("how", "How it was counted", [Points([Prose(f"**{k}**: {plain(v)}.") for k, v in _conventions()])]),
    ]
    return render(
        Page(
            title=f"{made.suite.name}: a suite of one's own",
            heading=made.suite.name,
            lede=f"{len(made.suite.items)} items, asked of {join(nodes)}.",
            sections=[section for section in sections if section.blocks],
            made_by="journey eval --suite",
        )
    )


def _conventions() -> Sequence[tuple[str, str]]:
    return [("asked", running.CONVENTION), *views.CONVENTIONS.items()]


def _flips(made: Answered) -> list[Block]:
    blocks: list[Block] = []
    for node, flips in made.flips.items():
        said = [f"{kind}: {', '.join(flips[kind])}" for kind in ("gained", "lost") if flips[kind]]
        blocks += [Text(f"{node}: {flipped(flips)}."), *([Points(said)] if said else [])]
    return blocks


def _items(made: Answered) -> list[Block]:
    """An item each: what each node answered and which checks failed; those that all pass are folded."""
    failing: list[Block] = []
    passing: list[Block] = []
    for item in made.suite.items:
        of = {node: _row(rows, item.id) for node, rows in made.rows.items()}
        rows: list[TableRow] = [
            [node, TITLES[row["passed"]], Cell(output_of(row), code=True), _reasons(row)] for node, row in of.items()
        ]
        shown = Table(of[next(iter(of))]["prompt"], ["node", "", "answer", "checks that did not pass"], rows, "plain")
        marks = ", ".join(f"{node} {TITLES[row['passed']]}" for node, row in of.items())
        whole = all(row["passed"] is True for row in of.values())
        (passing if whole else failing).append(Fold(item.id, [shown], small=marks))
    return [*failing, *([Fold(f"{len(passing)} items that all nodes pass", passing)] if passing else [])]


def _row(rows: Sequence[Mapping[str, Any]], id: str) -> Mapping[str, Any]:
    """The row of an item as it stands."""
    return next(row for row in rows if row["id"] == id and not row["variant"])


def _reasons(row: Mapping[str, Any]) -> str:
    return "; ".join(f"{check['check']}: {check['reason']}" for check in row["checks"] if check["passed"] is not True)
