"""What a sweep compares beside the points of a group: the bests of groups, and every point with the model before."""

from collections.abc import Sequence
from typing import Any

from journey import runner
from journey.checkpoint import Node
from journey.console import Console
from journey.errors import JourneyError
from journey.evaluate import statistics
from journey.sweep.numbers import Asked, Found, measure
from journey.sweep.plan import Sweep

Points = Sequence[dict[str, Any]]


def best_on_dev(points: Points, standing: Sequence[int], name: str, better: str) -> int:
    """Which of the points of these numbers is best by a metric, the mean over its seeds."""
    sign = 1 if better == "lower" else -1
    return min(standing, key=lambda number: sign * points[number]["metrics"][name]["dev"]["value"])


def compare_groups(sweep: Sweep, points: Points, groups: Points, name: str, better: str) -> dict[str, Any] | None:
    """The best of all points by dev, and on test how far the best of each other group is from it; `name` is the metric
    that chooses.

    Only where what tells the groups apart are keys over lists. Named choices, as equal FLOPs and equal text, are
    conditions under which something else is looked at: the best under one of them says nothing of the other.
    """
    bests = [group["best"] for group in groups]
    standing = [number for number in bests if number is not None]
    if len(standing) < 2 or not all("." in axis.key for axis in sweep.axes if axis.name in groups[0]["values"]):
        return None
    best = best_on_dev(points, standing, name, better)

    def away(number: int) -> dict[str, Any]:
        own, its = ([run["items"][name]["test"] for run in points[n]["runs"]] for n in (number, best))
        return dict(statistics.difference_of_trainings(own, its).metric())

    return {"best": best, "against_best": [None if n in (None, best) else away(n) for n in bests]}


def compare_before(made: Sequence[Sequence[Node]], points: Points, asked: Asked) -> dict[str, Any] | None:
    """The model that all points went on from, on test, and in each point's metrics how far it is from that.

    `made` are the nodes of each point, one a seed. Only where several metrics are compared, for then one may be bought
    with the other, and where the points share what they went on from.
    """
    parents = [[runner.model_before(node) for node in nodes] for nodes in made if nodes]
    shared = {tuple(node.id for node in before if node) for before in parents}
    if len(asked.metrics) < 2 or len(shared) != 1 or not all(node for before in parents for node in before):
        return None
    once = {node.id: node for node in parents[0] if node}
    try:
        found: list[Found] = [measure(node, asked, Console()) for node in once.values()]
    except JourneyError:
        return None  # it may have no such score: a base ends no answers
    metrics = {}
    for name in asked.metrics:
        before = [each.sums[name]["test"] for each in found]
        metrics[name] = statistics.over_trainings(before).metric()
        for point in points:
            if point["runs"]:
                own = [run["items"][name]["test"] for run in point["runs"]]
                away = statistics.difference_of_trainings(own, before)
                point["metrics"][name]["against_before"] = away.metric()
    return {"name": next(iter(once.values())).name, "metrics": metrics}
