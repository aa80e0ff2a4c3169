"""From the numbers of every training to the result of a sweep: each point with its interval, the best of each group."""

from collections.abc import Sequence
from typing import Any

from journey.checkpoint import open_node
from journey.console import Console
from journey.errors import JourneyError
from journey.evaluate import statistics
from journey.evaluate.statistics import Estimate
from journey.lineage import surroundings
from journey.runner import Planned
from journey.scores import Score
from journey.sweep.between import best_on_dev, compare_before, compare_groups
from journey.sweep.law import law
from journey.sweep.numbers import SPLITS, Asked, Found, measure
from journey.sweep.plan import Point, Sweep
from journey.sweep.trails import trails


def result(sweep: Sweep, made: Sequence[Sequence[Planned]], asked: Asked, failed: dict[str, str]) -> dict[str, Any]:
    """The content of sweep.json. `made` maps a point's number to its measured nodes, one a seed; `failed` gets those
    that have no such score."""
    found: dict[str, Found] = {}
    for item in {item.id: item for nodes in made for item in nodes if item.id not in failed}.values():
        try:
            found[item.id] = measure(open_node(item.path), asked, Console())  # all of it stands by now
        except JourneyError as error:
            failed[item.id] = str(error)
    scores = next((each.scores for each in found.values()), {})
    points = [_point(point, made[i], sweep, asked, failed, found) for i, point in enumerate(sweep.points)]
    x = next((axis.name for axis in sweep.axes if all(_is_number(v) for v in axis.choices)), sweep.axes[0].name)
    groups = _groups(points, x)
    for group in groups:
        _compare(points, group, scores, asked)
    standing = [[open_node(item.path) for item in made[i] if "error" not in point] for i, point in enumerate(points)]
    recorded, of_points = trails(standing)
    for point, trail in zip(points, of_points, strict=True):
        point["trails"] = trail
    first = asked.metrics[0]
    between = compare_groups(sweep, points, groups, first, (scores[first].better or "") if scores else "")
    before = compare_before(standing, points, asked)
    for point in points:
        for run in point["runs"]:
            del run["items"]
    fitted = {"law": law(points, asked.metrics[0], asked.texts)} if sweep.law else {}
    return {
        "name": sweep.name,
        "recipe": sweep.path.name,
        "of": sweep.of,
        "seeds": list(sweep.seeds),
        "machine": surroundings()["machine"]["cpu"],
        "seconds": sum(point["facts"].get("seconds", 0) * len(point["runs"]) for point in points),
        "axes": [{"name": axis.name, "values": list(axis.choices)} for axis in sweep.axes],
        "metrics": [_described(key, scores.get(key)) for key in asked.metrics],
        "trails": recorded,
        "points": points,
        "groups": groups,
        "between": between,
        "before": before,
        "x": x,
        **fitted,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _described(key: str, score: Score | None) -> dict[str, str]:
    """A score in words; where every training failed, its key is all there is."""
    if score is None:
        return {"name": key, "label": key, "unit": "", "better": "lower", "convention": ""}
    return {
        "name": score.key,
        "label": score.label,
        "unit": score.unit,
        "better": score.better or "",
        "convention": score.convention,
    }


def _point(
    point: Point,
    nodes: Sequence[Planned],
    sweep: Sweep,
    asked: Asked,
    failed: dict[str, str],
    found: dict[str, Found],
) -> dict[str, Any]:
    runs, facts = [], []
    for seed, item in zip(sweep.seeds, nodes, strict=True):
        if item.id in failed:
            return {"values": point.values, "error": failed[item.id], "runs": [], "facts": {}}
        facts.append(found[item.id].facts)
        sums = found[item.id].sums
        numbers = {
            name: {split: sum(num) / sum(den) for split, (num, den) in splits.items()} for name, splits in sums.items()
        }
        path = str(item.path.relative_to(asked.workspace))
        runs.append({"seed": seed, "node": item.id, "path": path, "metrics": numbers, "items": sums})
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
    return [run["items"][name][split] for run in runs]


def _estimate(e: Estimate) -> dict[str, Any]:
    return e.metric()


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


def _compare(points: list[dict[str, Any]], group: dict[str, Any], scores: dict[str, Score], asked: Asked) -> None:
    """Mark a group's best, chosen on dev, and give each point its difference to it on test."""
    standing = [number for number in group["points"] if "error" not in points[number]]
    if not standing:
        return
    chosen_by = asked.metrics[0]
    group["best"] = best_on_dev(points, standing, chosen_by, scores[chosen_by].better or "")
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
