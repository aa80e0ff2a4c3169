"""From the numbers of every training to the result of a sweep: each point with its interval, the best of each group."""

from collections.abc import Sequence
from typing import Any

from journey.checkpoint import open_node
from journey.evaluate import statistics
from journey.evaluate.statistics import Estimate
from journey.lineage import surroundings
from journey.runner import Planned
from journey.stages.run import metric
from journey.sweep.numbers import SPLITS, Asked, read
from journey.sweep.plan import Point, Sweep

COUNTED = {
    "bits_per_byte": (
        "bits per byte",
        "bits/byte",
        "-log2 p of the first 2,048 bytes of each document, over their bytes",
    ),
    "answer_loss": ("answer loss", "nats/token", "nats of the documented answer and its <|end|>, over its tokens"),
}


def result(sweep: Sweep, made: Sequence[Sequence[Planned]], asked: Asked, failed: dict[str, str]) -> dict[str, Any]:
    """The content of sweep.json. `made` maps a point's number to its measured nodes, one a seed."""
    points = [_point(point, made[i], sweep, asked, failed) for i, point in enumerate(sweep.points)]
    x = next((axis.name for axis in sweep.axes if all(_is_number(v) for v in axis.choices)), sweep.axes[0].name)
    groups = _groups(points, x)
    for group in groups:
        _compare(points, group, asked.metrics[0], asked)
    for point in points:
        for run in point["runs"]:
            del run["items"]
    return {
        "name": sweep.name,
        "recipe": sweep.path.name,
        "of": sweep.of,
        "seeds": list(sweep.seeds),
        "machine": surroundings()["machine"]["cpu"],
        "seconds": sum(point["facts"].get("seconds", 0) * len(point["runs"]) for point in points),
        "axes": [{"name": axis.name, "values": list(axis.choices)} for axis in sweep.axes],
        "metrics": [_described(name) for name in asked.metrics],
        "points": points,
        "groups": groups,
        "x": x,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _described(name: str) -> dict[str, str]:
    kind, _, which = name.partition(".")
    label, unit, convention = COUNTED[kind]
    return {"name": name, "label": f"{label}, {which}", "unit": unit, "better": "lower", "convention": convention}


def _point(
    point: Point, nodes: Sequence[Planned], sweep: Sweep, asked: Asked, failed: dict[str, str]
) -> dict[str, Any]:
    runs, facts = [], []
    for seed, item in zip(sweep.seeds, nodes, strict=True):
        if item.id in failed:
            return {"values": point.values, "error": failed[item.id], "runs": [], "facts": {}}
        found = read(open_node(item.path), asked)
        assert found is not None  # it did not fail
        facts.append(found["facts"])
        numbers = {
            name: {split: sum(sums["num"]) / sum(sums["den"]) for split, sums in splits.items()}
            for name, splits in found["items"].items()
        }
        path = str(item.path.relative_to(asked.workspace))
        runs.append({"seed": seed, "node": item.id, "path": path, "metrics": numbers, "items": found["items"]})
    return {
        "values": point.values,
        "runs": runs,
        "metrics": {
            name: {split: _estimate(statistics.over_trainings(_items(runs, name, split))) for split in SPLITS}
            for name in asked.metrics
        },
        "best": False,
        "level": False,
        "facts": {key: sum(each[key] for each in facts) / len(facts) for key in facts[0]},
    }


def _items(runs: list[dict[str, Any]], name: str, split: str) -> list[tuple[list[float], list[float]]]:
    return [(run["items"][name][split]["num"], run["items"][name][split]["den"]) for run in runs]


def _estimate(e: Estimate) -> dict[str, Any]:
    return metric(e.value, e.unit, e.convention, e.low, e.high, e.n)


def _groups(points: list[dict[str, Any]], x: str) -> list[dict[str, Any]]:
    """Points that differ in x alone."""
    groups: list[dict[str, Any]] = []
    for number, point in enumerate(points):
        rest = {name: value for name, value in point["values"].items() if name != x}
        group = next((g for g in groups if g["values"] == rest), None)
        if group is None:
            groups.append(group := {"values": rest, "points": [], "best": None})
        group["points"].append(number)
    return groups


def _compare(points: list[dict[str, Any]], group: dict[str, Any], chosen_by: str, asked: Asked) -> None:
    """Mark a group's best, chosen on dev, and give each point its difference to it on test."""
    standing = [number for number in group["points"] if "error" not in points[number]]
    if not standing:
        return
    group["best"] = min(standing, key=lambda number: points[number]["metrics"][chosen_by]["dev"]["value"])
    best = points[group["best"]]
    best["best"] = True
    for number in standing:
        point = points[number]
        for name in asked.metrics:
            away = None
            if point is not best:
                own, its = (_items(each["runs"], name, "test") for each in (point, best))
                away = _estimate(statistics.difference_of_trainings(own, its))
            point["metrics"][name]["against_best"] = away
        against = point["metrics"][chosen_by]["against_best"]
        point["level"] = against is None or against["low"] <= 0 <= against["high"]
