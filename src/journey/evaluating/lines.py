"""A board of nodes and benchmarks in a terminal, and as JSON."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from journey.evaluate.statistics import Estimate
from journey.evaluate.suite.variants import KINDS
from journey.evaluating.board import Board, Found
from journey.metrics import Metric
from journey.report.format import MISSING, columns, join, number, without_unit
from journey.scores import estimates


def lines(board: Board, found: Found) -> Iterator[str]:
    """The table of numbers, HELM's views where they were asked for, the differences, and what was read in training."""
    rows = [
        [
            f"{row_name(board, task)}, {how_many(board, task)}",
            *(
                f"{without_unit(board.numbers.get((node, task)))} {_mark(board, node, task)}".rstrip()
                for node in board.nodes
            ),
        ]
        for task in board.tasks
    ]
    if board.centred:
        rows.append(["mean above chance", *(without_unit(board.centred.get(node)) for node in board.nodes)])
    yield from columns("Percent, with 95 % intervals", board.nodes, rows)
    if views := list(helm(board, found)):
        yield from columns(
            "HELM's views: percent right of the same items, reworded; and calibration", board.nodes, views
        )
    if board.differences:
        head = ["difference, points", "gained", "lost", "p", "p of all", "could be seen"]
        rows = [
            [f"{row_name(board, d.task)}: {d.node}", *cells(board, node, task)]
            for (node, task), d in board.differences.items()
        ]
        yield from columns(f"Against {board.baseline}, on the same items", head, rows)
        yield (
            f"▲▼ and p of all: Holm's correction over the {len(board.differences)} comparisons; could be seen: the "
            "smallest difference that so many items show 80 times in 100"
        )
    yield from contaminated(board, found)


def how_many(board: Board, task: str) -> str:
    """`0-shot, n = 500`; of nodes that were asked different numbers of items, the most."""
    n = max((e.n for (_, of), e in board.numbers.items() if of == task), default=0)
    return f"{board.shots[task]}-shot, n = {n:,}"


def row_name(board: Board, task: str) -> str:
    """`hellaswag acc_norm`."""
    return board.scores[task].key.replace(".", " ", 1)


def cells(board: Board, node: str, task: str) -> list[str]:
    """A difference in words: its size, the items gained and lost, p, Holm's p, and what could have been seen."""
    d = board.differences[node, task]
    c = d.comparison
    visible = number(100 * c.detectable, decimals=1) if c.detectable is not None else MISSING
    return [
        f"{without_unit(c.difference, sign=True)} {d.mark}".rstrip(),
        f"{c.gained:,}",
        f"{c.lost:,}",
        f"{c.p:.3f}",
        f"{d.holm:.3f}",
        visible,
    ]


def _mark(board: Board, node: str, task: str) -> str:
    found = board.differences.get((node, task))
    return found.mark if found else ""


def helm(board: Board, found: Found) -> Iterator[list[str]]:
    """HELM's views of each task: a row each, a column a node; nothing where none were asked for."""
    for task in board.tasks:
        key = board.scores[task].key
        known = {
            node: {e: v for e, v in estimates(found[node][task]).items() if e.startswith(key)} for node in board.nodes
        }
        for kind in (*KINDS, "worst"):
            if any(f"{key}.{kind}" in of for of in known.values()):
                name = "right under every change" if kind == "worst" else f"asked with {kind}"
                yield [f"{task}: {name}", *(without_unit(known[node].get(f"{key}.{kind}")) for node in board.nodes)]
        told = [cast(Mapping[str, Any], found[node][task].facts.get("calibration") or {}) for node in board.nodes]
        if any(told):
            shown = [f"{each['ece']:.3f}" if each.get("ece") is not None else MISSING for each in told]
            yield [f"{task}: calibration error (ECE)", *shown]
            seconds = [
                found[node][task].seconds / max(1, len(found[node][task].items["items"])) for node in board.nodes
            ]
            yield [f"{task}: seconds an item, all changes", *(f"{each:.3f}" for each in seconds)]


def trained_on(board: Board, found: Found) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Estimate]]]:
    """Of each task and node: what of its items was read in training and what could not be looked at, and the numbers on
    the items of both kinds."""
    for task in board.tasks:
        for node in board.nodes:
            taken = found[node][task]
            read = cast(Mapping[str, Any], taken.facts.get("read") or {})
            known, key = estimates(taken), board.scores[task].key
            apart = {part: known[f"{key}.{part}"] for part in ("clean", "overlapping") if f"{key}.{part}" in known}
            yield task, node, read, apart


def contaminated(board: Board, found: Found) -> Iterator[str]:
    """A line for each task of which a node has read items, and one for what nobody can look at."""
    unknown: dict[str, list[str]] = {}
    for task, node, read, apart in trained_on(board, found):
        if read.get("overlapping"):
            alone = f": without them {without_unit(apart['clean'])}" if "clean" in apart else ""
            yield f"{task}: {read['overlapping']:,} items share 13 words in a row with {node}'s training texts{alone}"
        for what in read.get("unknown", ()):
            unknown.setdefault(what, []).append(node)
    for what, nodes in unknown.items():
        yield f"not looked at for test items: {what} ({join(list(dict.fromkeys(nodes)))})"


def metrics(board: Board) -> dict[str, Metric]:
    """Every number, as `--json` has it: `base.hellaswag.acc_norm`; differences as `chat.hellaswag.acc_norm vs base`."""
    found = {f"{node}.{board.scores[task].key}": e.metric() for (node, task), e in board.numbers.items()}
    found |= {f"{node}.mean_above_chance": e.metric() for node, e in board.centred.items()}
    for (node, task), d in board.differences.items():
        c = d.comparison
        more: Metric = {
            "gained": c.gained,
            "lost": c.lost,
            "p": c.p,
            "p_holm": d.holm,
            "detectable": c.detectable and 100 * c.detectable,
        }
        found[f"{node}.{board.scores[task].key} vs {board.baseline}"] = c.difference.metric() | more
    return found


def every_item(board: Board, found: Found) -> Mapping[str, Any]:
    """The whole board for a file: its numbers, and of every item what each node made of it."""
    return {
        "nodes": board.nodes,
        "tasks": board.tasks,
        "baseline": board.baseline,
        "metrics": metrics(board),
        "items": {
            task: {
                node: {
                    "convention": taken.facts.get("convention"),
                    "scored": taken.items["items"].rows(),
                    "asked": taken.facts.get("items"),
                }
                for node, of in found.items()
                for taken in (of[task],)
            }
            for task in board.tasks
        },
    }
