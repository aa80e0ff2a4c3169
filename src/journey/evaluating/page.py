"""A board of nodes and benchmarks as a page."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from journey.evaluate.statistics import Estimate
from journey.evaluating.board import Board, Found, quoted
from journey.evaluating.lines import cells, helm, how_many, row_name, trained_on
from journey.measures import load
from journey.report.blocks import (
    Block,
    Cell,
    Dot,
    Dots,
    Fold,
    Mark,
    Page,
    Points,
    Prose,
    Row,
    Section,
    Table,
    TableRow,
    plain,
)
from journey.report.format import join, number
from journey.report.render import render
from journey.scores import Taken

READ = (
    "An item that stands in the training text may be remembered, not answered. Read means that one of its runs of 13 "
    "words stands there too; the training texts of the whole lineage are looked through."
)
HEAD = ["Task and node", "difference, points", "gained", "lost", "p", "p of all (Holm)", "could be seen, points"]
HELM = (
    "The same items with typos, in capitals, with other spaces: a number that falls was not about the question. *ECE* "
    "is how far the model's confidence in its pick lies from how often that is right (Guo et al. 2017)."
)
SHOWN = 4  # items of a kind
LEAD = (
    "Each number with its 95 % interval. ▲ and ▼ stand beside a number that differs from the baseline's on the same "
    "items at 5 % for all comparisons of this page together (Holm 1979). Without a mark nothing is claimed: look at "
    "what could have been seen."
)


def page(board: Board, found: Found) -> str:
    """All of it, as one file."""
    against = Table(f"Against {board.baseline}, on the same items", HEAD, _differences(board))
    tables = [_numbers(board), *([against] if board.differences else [])]
    sections = [
        Section("board", "Side by side", tables, Prose(LEAD)),
        Section("charts", "Beside guessing", [Row([_dots(board, found, task) for task in board.tasks])]),
        Section("helm", "Reworded, and how sure", _helm(board, found), Prose(HELM)),
        Section(
            "items", "Items gained and lost", _flips(board, found), "Read a few: a number hides what it is made of."
        ),
        Section("read", "Read in training?", _read(board, found), Prose(READ)),
        Section("how", "How it was counted", [Points([_convention(board, found, task) for task in board.tasks])]),
    ]
    return render(
        Page(
            title="Benchmarks side by side",
            heading=join(board.nodes),
            lede=f"{join([load(task).title for task in board.tasks])}.",
            sections=[section for section in sections if section.blocks],
            made_by="journey eval",
        )
    )


def _numbers(board: Board) -> Table:
    rows: list[TableRow] = []
    for task in board.tasks:
        row: list[str | Estimate | Cell | None] = [Cell(row_name(board, task), small=how_many(board, task))]
        for node in board.nodes:
            d = board.differences.get((node, task))
            row.append(Cell(board.numbers.get((node, task)), small=d.mark if d else ""))
        rows.append(row)
    if board.centred:
        rows.append(["mean above chance", *(board.centred.get(node) for node in board.nodes)])
    return Table("Percent right, with 95 % intervals", ["Task", *board.nodes], rows)


def _differences(board: Board) -> list[list[str]]:
    return [[f"{row_name(board, task)}: {node}", *cells(board, node, task)] for node, task in board.differences]


def _dots(board: Board, found: Found, task: str) -> Dots:
    score = board.scores[task]
    rows = [
        Dot(node, board.numbers[node, task], i) for i, node in enumerate(board.nodes) if (node, task) in board.numbers
    ]
    items = found[board.nodes[0]][task].of(score)
    chance = 100 * float(items.numbers("chance").mean()) if "chance" in items.columns else None
    marks = [Mark(chance, f"guessing {number(chance, decimals=1)}")] if chance is not None else []
    metric = score.key.rpartition(".")[2]
    return Dots(load(task).title, f"{load(task).title}, {metric}, %", rows, marks, note=score.convention)


def _helm(board: Board, found: Found) -> list[Block]:
    rows = list(helm(board, found))
    return [Table("HELM's views", ["", *board.nodes], rows)] if rows else []


def _read(board: Board, found: Found) -> list[Block]:
    """The numbers on items that were read in training, and on those that were not."""
    rows: list[TableRow] = []
    unknown: dict[str, None] = {}
    for task, node, read, apart in trained_on(board, found):
        unknown |= dict.fromkeys(read.get("unknown", ()))
        if read.get("texts"):
            told = [str(read.get(part, 0)) for part in ("overlapping", "clean")]
            rows.append([f"{row_name(board, task)}: {node}", *told, apart.get("overlapping"), apart.get("clean")])
    head = ["Task and node", "items read", "not read", "percent right of those read", "of those not read"]
    blocks: list[Block] = [Table("Items in what each node and all that it was made from was trained on", head, rows)]
    said = Points([f"Not looked at: {what}." for what in unknown])
    return [*(blocks if rows else []), *([said] if unknown else [])]


def _flips(board: Board, found: Found) -> list[Block]:
    """A few items that a node has right and the baseline wrong, and the other way round."""
    blocks: list[Block] = []
    for node, task in board.differences:
        score = board.scores[task]
        after, before = found[node][task].of(score), found[board.baseline][task].of(score)
        ours, theirs = after.paired(before)
        asked, old = _asked(found[node][task]), _asked(found[board.baseline][task])
        change = ours.numbers(score.num) - theirs.numbers(score.num)
        shown: list[Block] = []
        for kind, wanted in (("gained", change > 0), ("lost", change < 0)):
            rows: list[TableRow] = [
                [Cell(_end(asked[id]["prompt"]), code=True), _picked(old[id]), _picked(asked[id]), _right(asked[id])]
                for id, holds in zip(ours.ids, wanted, strict=True)
                if holds and id in asked and id in old
            ]
            if rows:
                head = ["the end of the prompt", board.baseline, node, "right"]
                shown.append(Table(f"{len(rows):,} {kind}, the first of them", head, rows[:SHOWN], "plain"))
        if shown:
            blocks.append(Fold(f"{load(task).title}: {node} against {board.baseline}", shown))
    return blocks


def _asked(taken: Taken) -> dict[str, Mapping[str, Any]]:
    """What was asked and answered, by the item's id."""
    return {each["id"]: each for each in cast(Sequence[Mapping[str, Any]], taken.facts["items"])}


def _end(text: str) -> str:
    return text if len(text) <= 160 else f"…{text[-160:]}"


def _picked(item: Mapping[str, Any]) -> str:
    """What was answered; of options the likeliest."""
    if "options" not in item:
        return _end(str(item.get("written") or ""))
    logprobs = item["logprobs"]
    return str(item["options"][logprobs.index(max(logprobs))]) if logprobs else ""


def _right(item: Mapping[str, Any]) -> str:
    gold = item.get("gold")
    return str(item["options"][gold]) if gold is not None else _end(str(item.get("target") or ""))


def _convention(board: Board, found: Found, task: str) -> Prose:
    """Of each task how it was asked; where nodes were asked otherwise, of each."""
    said = dict.fromkeys(quoted(found[node][task]).convention for node in board.nodes)
    ways: Sequence[str] = list(said)
    if len(ways) > 1:
        ways = [f"{node}: {quoted(found[node][task]).convention}" for node in board.nodes]
    return Prose(f"**{plain(load(task).title)}** ({plain(task)}): {plain('; '.join(ways))}.")
