"""Nodes side by side on benchmarks: one number each, and which differences are real."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from journey.evaluate import significance
from journey.evaluate.significance import Comparison
from journey.evaluate.statistics import Z95, Estimate
from journey.scores import Score, Taken, estimate, scaled

Found = Mapping[str, Mapping[str, Taken]]  # node -> task -> what was found
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """A node against the baseline on one task."""

    node: str
    task: str
    comparison: Comparison
    holm: float  # its p among all of the board

    @property
    def mark(self) -> str:
        """▲ or ▼ where the difference is real at 5 % for all comparisons together; nothing where none can be told."""
        if self.holm > LEVEL:
            return ""
        return "▲" if self.comparison.difference.value > 0 else "▼"


@dataclass(frozen=True)
class Board:
    """Nodes × tasks."""

    nodes: tuple[str, ...]
    tasks: tuple[str, ...]
    baseline: str
    shots: Mapping[str, int]  # worked examples before each item
    scores: Mapping[str, Score]  # of each task, the one that is quoted
    numbers: Mapping[tuple[str, str], Estimate]  # (node, task)
    differences: Mapping[tuple[str, str], Difference]
    centred: Mapping[str, Estimate]  # of each node, over the tasks that have a chance level


def quoted(taken: Taken) -> Score:
    """The score of a benchmark that papers quote."""
    return next((score for score in taken.scores if score.full is not None), taken.scores[0])


def board(found: Found, tasks: Sequence[str], baseline: str) -> Board:
    """Compare every node with the baseline on the items that both were asked. Holm's rule (1979) goes over all of the
    comparisons that are shown."""
    nodes = tuple(found)
    scores = {task: quoted(found[nodes[0]][task]) for task in tasks}
    numbers = {
        (node, task): e
        for node, of in found.items()
        for task, taken in of.items()
        if (e := estimate(taken, quoted(taken))) is not None
    }
    compared = {
        (node, task): _compared(found[node][task], found[baseline][task], scores[task])
        for node in nodes
        if node != baseline
        for task in tasks
    }
    known = {at: each for at, each in compared.items() if each is not None}
    adjusted = significance.holm([each.p for each in known.values()])
    differences = {at: Difference(*at, each, p) for (at, each), p in zip(known.items(), adjusted, strict=True)}
    centred = {node: mean for node in nodes if (mean := _centred(numbers, found[node], node)) is not None}
    shots = {task: cast(int, found[nodes[0]][task].facts.get("shots") or 0) for task in tasks}
    return Board(nodes, tuple(tasks), baseline, shots, scores, numbers, differences, centred)


def _compared(after: Taken, before: Taken, score: Score) -> Comparison | None:
    """On the items of both; none where they share fewer than two."""
    ours, theirs = after.of(score).paired(before.of(score))
    if len(ours) < 2:
        return None
    clusters = ours.columns[score.cluster] if score.cluster else ()
    found = significance.compare(
        ours.numbers(score.num), theirs.numbers(score.num), clusters if len(set(clusters)) > 1 else None
    )
    return replace(found, difference=scaled(found.difference, 100, "points"))


def _centred(numbers: Mapping[tuple[str, str], Estimate], found: Mapping[str, Taken], node: str) -> Estimate | None:
    """The mean over tasks of (score - chance) / (1 - chance), as CORE has it (DCLM, arXiv 2406.11794), in percent: 0 is
    guessing. The tasks' intervals, taken for normal and independent, make its own."""
    parts = []
    for task, taken in found.items():
        items = taken.of(quoted(taken))
        if "chance" in items.columns and (node, task) in numbers and quoted(taken).unit == "%":
            chance, e = float(items.numbers("chance").mean()), numbers[node, task]
            parts.append((100 * (e.value / 100 - chance) / (1 - chance), (e.high - e.low) / (2 * Z95 * (1 - chance))))
    if not parts:
        return None
    value = sum(part for part, _ in parts) / len(parts)
    half = Z95 * math.sqrt(sum(error**2 for _, error in parts)) / len(parts)
    return Estimate(
        value, value - half, value + half, len(parts), "%", "mean over tasks of (score - chance)/(1 - chance)"
    )


def visible(n: int, chance: float, comparisons: int) -> Sequence[tuple[float, float | None]]:
    """What n items can show before any is asked: (share of items on which two nodes differ, the smallest difference
    found 80 times in 100), for nodes that answer much alike and for ones that answer independently. The strictest
    comparison under Holm's rule is made at 5 % over their number."""
    alike, apart = 0.1, significance.expected_discordant(chance)
    return [(share, significance.detectable(n, share, alpha=LEVEL / max(1, comparisons))) for share in (alike, apart)]
