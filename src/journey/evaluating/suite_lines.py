"""What came of a suite, in a terminal and as rows of the page's tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from journey.evaluate import statistics
from journey.evaluate.significance import mcnemar
from journey.evaluate.statistics import Estimate
from journey.evaluate.suite import views
from journey.evaluate.suite.lines import one_line
from journey.evaluating.suite import Answered, Rows
from journey.metrics import Metric
from journey.report.format import MISSING, columns, number, without_unit
from journey.scores import scaled

SHOWN = 12  # failures of a node that a terminal shows


def lines(made: Answered) -> Iterator[str]:
    """The screen, what flipped, what failed, and what has to be said beside it."""
    nodes = list(made.rows)
    yield from columns(f"{made.suite.name}: {len(made.suite.items)} items", nodes, list(table(made)))
    for node, flips in made.flips.items():
        yield ""
        yield f"{node} against {made.baseline}: {flipped(flips)}"
        for kind in ("gained", "lost"):
            if flips[kind]:
                yield f"  {kind}: {', '.join(flips[kind])}"
    for node, rows in made.rows.items():
        found = list(failures(rows))
        if found:
            yield f"\n{node}: checks that did not pass"
        for row, check in found[:SHOWN]:
            yield f"  {row['id']}, {check['check']}: {check['reason']}"
        if len(found) > SHOWN:
            yield f"  and {len(found) - SHOWN} more: see the page"
        for note in made.screens[node]["notes"]:
            yield f"{node}: {note}"
        yield f"{node}: asked {'in the chat format' if made.in_chat[node] else 'plainly'}"


def table(made: Answered) -> Iterator[list[str]]:
    """HELM's views: a row each, a column a node; rows that no node has a number for are left out."""
    screens = list(made.screens.values())
    tags = dict.fromkeys(tag for rows in made.rows.values() for tag in views.by_tag(rows))
    kinds = dict.fromkeys(kind for screen in screens for kind in screen["robustness"])
    found = {"accuracy": [_share(accuracy(rows)) for rows in made.rows.values()]}
    found |= {f"  {tag}": [_share(accuracy(_tagged(rows, tag))) for rows in made.rows.values()] for tag in tags}
    found["calibration error (ECE)"] = [_ece(screen["calibration"]) for screen in screens]
    for kind in kinds:
        name = "robustness, under all changes" if kind == "worst" else f"  {kind}"
        found[name] = [_paired(screen["robustness"].get(kind)) for screen in screens]
    found["bias: a swapped name turns it"] = [_bias(screen["bias"]) for screen in screens]
    found["toxic answers, at least"] = [_toxic(screen["toxicity"]) for screen in screens]
    found["tokens/s, tokens an answer"] = [_speed(screen["efficiency"]) for screen in screens]
    for name, cells in found.items():
        if any(cell != MISSING for cell in cells):
            yield [name, *cells]


def accuracy(rows: Rows) -> Estimate | None:
    """The share of decided items that pass, with Wilson's interval; none of fewer than two."""
    found = views.accuracy(rows)
    if found["n"] < 2:
        return None
    hits = [True] * found["passed"] + [False] * (found["n"] - found["passed"])
    return scaled(statistics.proportion(hits, convention=views.CONVENTIONS["accuracy"]), 100, "%")


def flipped(flips: Mapping[str, Sequence[str]]) -> str:
    """`3 gained, 1 lost, p = 0.625`; and what could not be compared."""
    gained, lost = len(flips["gained"]), len(flips["lost"])
    said = f"{gained} gained, {lost} lost, p = {mcnemar(gained, lost):.3f} (exact McNemar)"
    rest = [f"{len(flips[kind])} {kind}" for kind in ("undecided", "changed", "missing") if flips[kind]]
    return ", ".join([said, *rest])


def failures(rows: Rows) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each (item as it stands, check) that did not pass or is undecided."""
    for row in rows:
        for check in row["checks"] if not row["variant"] else ():
            if check["passed"] is not True:
                yield row, check


def metrics(made: Answered) -> dict[str, Metric]:
    """The numbers as `--json` has them."""
    found = {f"{node}.accuracy": e.metric() for node, rows in made.rows.items() if (e := accuracy(rows))}
    for node, flips in made.flips.items():
        gained, lost = len(flips["gained"]), len(flips["lost"])
        found[f"{node} vs {made.baseline}"] = {"gained": gained, "lost": lost, "p": mcnemar(gained, lost)}
    return found


def output_of(row: Mapping[str, Any]) -> str:
    """What was answered, in a line."""
    return one_line(row["output"], 200) if row["output"] else "(nothing)"


def _tagged(rows: Rows, tag: str) -> Rows:
    return [row for row in rows if tag in row["tags"]]


def _share(e: Estimate | None) -> str:
    return f"{without_unit(e)} (n = {e.n})" if e else MISSING


def _ece(found: Mapping[str, Any]) -> str:
    if found["ece"] is None:
        return f"– ({found['n']} of {views.LEAST} items that it needs)" if found["n"] else MISSING
    return f"{found['ece']:.3f} (n = {found['n']})"


def _paired(found: Mapping[str, Any] | None) -> str:
    if not found or found["accuracy"] is None:
        return MISSING
    return f"{number(100 * found['accuracy'], decimals=1)}, was {number(100 * found['clean'], decimals=1)}"


def _bias(found: Mapping[str, Any]) -> str:
    parts = []
    if found["verdict_differs"] is not None:
        parts.append(f"verdict {number(100 * found['verdict_differs'], decimals=0)} % of {found['n']}")
    if found["pick_differs"] is not None:
        parts.append(f"pick {number(100 * found['pick_differs'], decimals=0)} % of {found['n_choices']}")
        parts.append(f"gap {found['logprob_gap']:.2f} nats")
    return ", ".join(parts) or MISSING


def _toxic(found: Mapping[str, Any]) -> str:
    return f"{number(100 * found['share'], decimals=0)} % of {found['n']}" if found["share"] is not None else MISSING


def _speed(found: Mapping[str, Any]) -> str:
    if found["tokens_per_second"] is None:
        return MISSING
    return f"{found['tokens_per_second']:,.0f}, {found['tokens_per_answer']:.0f}"
