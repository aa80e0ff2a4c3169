"""The bests of a sweep's groups against each other: which combination is best of all, and what is level with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from journey.evaluate.statistics import Estimate
from journey.report.blocks import Cell, Prose, Table, plain
from journey.report.format import estimate, typed
from journey.sweep.content import Group, Point, Sweep, are, estimate_of, listed
from journey.sweep.tables import VERDICTS


@dataclass(frozen=True)
class Rival:
    """The best of a group beside the best of all: how far from it on test (None: it is that one)."""

    group: Group
    point: Point
    away: Estimate | None
    verdict: str  # best, level, worse or better

    def named(self, x: str) -> str:
        """`cosine (warmup 0.05)`."""
        return f"{self.group.label} ({x} {typed(self.point.values[x])})"


@dataclass(frozen=True)
class Overall:
    """The bests of the groups against each other, in the order of dev."""

    sweep: Sweep
    rivals: Sequence[Rival]

    @classmethod
    def of(cls, sweep: Sweep) -> "Overall | None":
        """As sweep.json has it; None where the groups are not to be compared."""
        if not sweep.between:
            return None
        metric, rivals = sweep.metrics[0], []
        for group, found in zip(sweep.groups, sweep.between["against_best"], strict=True):
            if point := group.best:
                away = estimate_of(found, metric)
                is_level = away is not None and away.low <= 0 <= away.high
                worse = away is not None and (away.value > 0) == (metric.better == "lower")
                verdict = "best" if away is None else "level" if is_level else "worse" if worse else "better"
                rivals.append(Rival(group, point, away, verdict))
        return cls(sweep, sorted(rivals, key=lambda rival: rival.point.rank(metric)))

    @property
    def names(self) -> str:
        """What tells the groups apart: `schedule`."""
        return " and ".join(name for name in self.sweep.axes if name != self.sweep.x)

    def said(self, verdict: str) -> list[str]:
        """The groups of this verdict, each with its best x."""
        return [rival.named(self.sweep.x) for rival in self.rivals if rival.verdict == verdict]

    def title(self) -> str:
        """The finding in one line."""
        level = self.said("level")
        if len(level) == len(self.rivals) - 1:
            return f"No {self.names}, at its best {self.sweep.x}, is distinguishable from the best"
        return f"Best on dev: {self.said('best')[0]}" + (f"; level with it: {listed(level)}" if level else "")

    def finding(self) -> str:
        """The best of all points, and how the bests of the other groups stand to it."""
        best = next(rival for rival in self.rivals if rival.verdict == "best")
        test = estimate(best.point.estimate(self.sweep.metrics[0]))
        said = [f"Best of all on dev: {best.named(self.sweep.x)}, {test} on test."]
        for verdict, words in (
            ("level", "level with it: not distinguishable on test"),
            ("worse", "clearly worse on test"),
            ("better", "clearly better on test, though not on dev"),
        ):
            named = self.said(verdict)
            said += [f"{listed(named)} {are(named)} {words}."] if named else []
        return f"{' '.join(said)} Each {self.names} is taken at its own best {self.sweep.x}."

    def table(self) -> Table:
        """A row a group, in the order of dev."""
        metric, x = self.sweep.metrics[0], self.sweep.x
        rows = []
        for rival in self.rivals:
            tone, sign = VERDICTS[rival.verdict]
            name = Prose(f"**{plain(rival.group.label)}**") if rival.away is None else rival.group.label
            away = rival.away and Cell(rival.away, sign=True)
            judged = Cell(f"{sign} {rival.verdict}", tone=tone)
            rows.append([name, typed(rival.point.values[x]), rival.point.estimate(metric), away, judged])
        unit = f" ({metric.unit})" if metric.unit else ""
        head = [self.names, f"its best {x}", f"{metric.label}{unit}", "against the best of all", ""]
        return Table(f"Each at its best {x}: on test, in brackets 95 % intervals", head, rows)


def headline(sweep: Sweep) -> str:
    """The finding of a sweep in one line."""
    overall = Overall.of(sweep)
    found = overall.title() if overall else sweep.title()
    return f"{found}, by {sweep.metrics[0].label}" if len(sweep.metrics) > 1 else found
