"""What a sweep found, read from the content of its sweep.json, and said in sentences that follow from the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isfinite
from typing import Any

from journey.evaluate.statistics import Estimate
from journey.report.format import estimate, is_number, join, typed

MANY = 6  # more values than this are counted, not listed


@dataclass(frozen=True)
class Metric:
    """A number that the sweep compares; of several the first decides which point is best."""

    name: str
    label: str
    unit: str
    better: str  # lower or higher
    convention: str = ""


@dataclass(frozen=True)
class Point:
    """One combination of values: what its runs gave, or why there is nothing."""

    values: Mapping[str, Any]
    runs: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, float]
    trails: Mapping[str, Mapping[str, Sequence[float]]]  # what was recorded -> tokens, and of the seeds mean, low, high
    best: bool
    level: bool
    error: str

    def estimate(self, metric: Metric, what: str = "test") -> Estimate | None:
        """The mean over the seeds on `dev` or `test`, or the difference to the best (`against_best`) or to the model
        before (`against_before`)."""
        return estimate_of(self.metrics.get(metric.name, {}).get(what), metric)

    def rank(self, metric: Metric) -> float:
        """On dev; the best point has the least."""
        found = self.estimate(metric, "dev")
        return inf if found is None else found.value if metric.better == "lower" else -found.value


@dataclass(frozen=True)
class Group:
    """The points that differ in x alone, in the order of x."""

    values: Mapping[str, Any]
    points: Sequence[Point]
    preposition: str  # under equal FLOPs, at lr 0.001

    @property
    def label(self) -> str:
        """Strings speak for themselves; a number or a switch needs the name of its key."""
        return ", ".join(v if isinstance(v, str) else f"{key} {typed(v)}" for key, v in self.values.items())

    @property
    def under(self) -> str:
        """` under equal FLOPs`; nothing where there is one group only."""
        return f" {self.preposition} {self.label}" if self.values else ""

    @cached_property
    def done(self) -> list[Point]:
        """The points that have numbers."""
        return [p for p in self.points if not p.error and p.metrics]

    @property
    def best(self) -> Point | None:
        """The point that dev chose."""
        return next((p for p in self.done if p.best), None)


class Sweep:
    """The content of sweep.json."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.name, self.recipe, self.of = str(result["name"]), str(result["recipe"]), str(result["of"])
        self.seeds, self.x = list(result["seeds"]), str(result["x"])
        self.machine, self.seconds = result.get("machine"), result.get("seconds")
        self.axes = {str(a["name"]): list(a["values"]) for a in result["axes"]}
        self.metrics = _metrics(result["metrics"])
        self.trails = _metrics(result.get("trails") or [])
        self.points = [_point(p) for p in result["points"]]
        self.between, self._before = result.get("between"), result.get("before") or {}
        self.before = str(self._before.get("name", ""))  # the model that all points went on from, where it is compared
        self.values = self.axes[self.x]
        self.is_numeric = all(map(is_number, self.values))
        if self.is_numeric:
            self.values = sorted(self.values)
        named = all(isinstance(v, str) for name, values in self.axes.items() if name != self.x for v in values)
        self.groups = [
            Group(
                g["values"],
                sorted((self.points[i] for i in g["points"]), key=self._place),
                "under" if named else "at",
            )
            for g in result["groups"]
        ]

    def _place(self, point: Point) -> int:
        return self.values.index(point.values[self.x])

    def stood(self, metric: Metric) -> Estimate | None:
        """The model before, on test."""
        return estimate_of(self._before.get("metrics", {}).get(metric.name), metric)

    def verdict(self, point: Point, metric: Metric) -> str:
        """best (chosen, by a metric that does not decide), level (not told apart from it), worse, better or nothing."""
        if point.best:
            return "best" if metric is self.metrics[0] else "chosen"
        found = point.estimate(metric, "against_best")
        # The flag is the sweep's own reading of the deciding metric; other metrics have only their intervals.
        if point.level if metric is self.metrics[0] else found and found.low <= 0 <= found.high:
            return "level"
        if not found:
            return ""
        return "worse" if (found.value > 0) == (metric.better == "lower") else "better"

    def said(self, group: Group, verdict: str) -> list[str]:
        """The values of a group with this verdict by the deciding metric."""
        return [typed(p.values[self.x]) for p in group.done if self.verdict(p, self.metrics[0]) == verdict]

    def is_undecided(self, group: Group) -> bool:
        """Every point is level with the best."""
        return len(group.done) > 1 and len(self.said(group, "level")) == len(group.done) - 1

    def title(self) -> str:
        """The finding in one line."""
        ran = [g for g in self.groups if g.best]
        if not ran:
            return "No point has a result"
        if all(len(g.done) == 1 for g in ran):
            return f"One point{' a group' if len(self.groups) > 1 else ''}: nothing to compare"
        if all(self.is_undecided(g) for g in ran):
            return f"No {self.x} is distinguishable from the best"
        where: dict[str, list[str]] = {}
        for g in ran:
            is_told = g.best and len(g.done) > 1 and not self.is_undecided(g)
            best = typed(g.best.values[self.x]) if g.best and is_told else "undecided"
            where.setdefault(best, []).append(g.label)
        if len(self.groups) == 1:
            found = [*where]
        elif len(ran) <= MANY:
            found = [f"{value} {ran[0].preposition} {join(labels)}" for value, labels in where.items()]
        else:
            counts = sorted(where.items(), key=lambda item: -len(item[1]))
            found = [f"{value} in {len(labels)} of {len(ran)} groups" for value, labels in counts[:MANY]]
            found += [f"others in {sum(len(labels) for _, labels in counts[MANY:])}"] * (len(counts) > MANY)
        return f"Best {self.x} on dev: {'; '.join(found)}"

    def finding(self, group: Group) -> str:
        """What a group says, in sentences: its best on dev, what is level with it, and what to doubt."""
        metric, best = self.metrics[0], group.best
        failed = len(group.points) - len(group.done)
        lost = [f"{failed} of {len(group.points)} failed."] if failed else []
        if not best:
            return " ".join([f"Nothing to show{group.under}.", *lost])
        test = best.estimate(metric)
        value = typed(best.values[self.x])
        if len(group.done) == 1:
            only = f"{self.x} {value}{group.under}: {estimate(test)} on test. There is nothing to compare it with."
            return " ".join([only, *lost])
        said = [f"Best on dev: {self.x} {value}{group.under}, {estimate(test)} on test.", self._level(group, best)]
        better = self.said(group, "better")
        if better:
            said.append(f"{listed(better)} {are(better)} clearly better on test, though not on dev.")
        return " ".join([*said, *filter(None, [self._end(group, best)]), *lost])

    def _level(self, group: Group, best: Point) -> str:
        level, n = self.said(group, "level"), len(group.done)
        if self.is_undecided(group):
            if n == 2:
                return "The other is level with it: the two are not distinguishable on test."
            return f"All {n} are level: they are not distinguishable from it on test."
        if not level:
            worse = self.said(group, "worse")
            return "No other is level with it." if len(worse) < n - 1 else "Every other is clearly worse on test."
        order = [typed(p.values[self.x]) for p in group.done]
        run = sorted(order.index(v) for v in [*level, typed(best.values[self.x])])
        if self.is_numeric and len(run) > 2 and run[-1] - run[0] == len(run) - 1:
            return f"{order[run[0]]} to {order[run[-1]]} are level: not distinguishable from it on test."
        return f"{listed(level)} {are(level)} level with it: not distinguishable on test."

    def _end(self, group: Group, best: Point) -> str:
        """A range is only searched where the best has worse neighbours on both sides."""
        if not self.is_numeric:
            return ""
        ends = [group.done[0], group.done[-1]]
        if any(best is end for end in ends):
            return "The best is at the end of the range: the optimum may lie beyond it."
        if not self.is_undecided(group) and any(self.verdict(end, self.metrics[0]) != "worse" for end in ends):
            return "What is not worse reaches the end of the range: the optimum may lie beyond it."
        return ""


def estimate_of(found: Mapping[str, Any] | None, metric: Metric) -> Estimate | None:
    """A number as sweep.json holds it; ends that are not known are nan."""
    read = replace(Estimate.read(found or {}), unit=metric.unit)
    return read if isfinite(read.value) else None


def _metrics(found: Sequence[Mapping[str, Any]]) -> list[Metric]:
    return [Metric(**{k: str(m.get(k, "")) for k in ("name", "label", "unit", "better", "convention")}) for m in found]


def _point(found: Mapping[str, Any]) -> Point:
    error = " ".join(str(found.get("error") or "").split())
    return Point(
        values=found["values"],
        runs=found.get("runs") or [],
        metrics={} if error else found.get("metrics") or {},
        facts={k: v for k, v in (found.get("facts") or {}).items() if is_number(v) and isfinite(v)},
        trails=found.get("trails") or {},
        best=bool(found.get("best")),
        level=bool(found.get("level")),
        error=error,
    )


def listed(values: Sequence[str]) -> str:
    """a, b and c, or how many where they are many."""
    return join(values) if len(values) <= MANY else f"{len(values)} others"


def are(values: Sequence[str]) -> str:
    """The verb for so many."""
    return "is" if len(values) == 1 else "are"
