"""Results of sweeps that never ran, as `journey sweep` writes them."""

from itertools import product
from typing import Any

import numpy as np

BITS = {
    "name": "bits_per_byte.docs",
    "label": "bits per byte, docs",
    "unit": "bits/byte",
    "better": "lower",
    "convention": "all bits over all bytes of the held-out documents",
}
TRAILS = {
    "dev_bits_per_byte": {**BITS, "name": "dev_bits_per_byte", "convention": ""},
    "dev_bits_per_byte_replay": {**BITS, "name": "dev_bits_per_byte_replay", "label": "bits per byte, old"},
    "lr": {"name": "lr", "label": "learning rate", "unit": "", "better": ""},
}
SIZES = [512, 1024, 2048, 4096, 8192, 16384]


def bowl(values: dict[str, Any]) -> float:
    """Lowest at 2,048; 1,024 is nearly as good."""
    x = np.log2(values["vocab_size"])
    return 2.3 + 0.02 * (x - 10.8) ** 2 + 0.05 * (values.get("budget") == "equal text")


def falling(values: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Twenty numbers that fall steeply, then slowly, to a level that the values decide; a rate halved each time."""
    tokens = [1e4 * (i + 1) for i in range(20)]
    level = len(repr(values)) / 10
    mean = [level + 8 / (i + 1) for i in range(20)]
    band = {"low": [v - 0.1 for v in mean], "high": [v + 0.1 for v in mean]}
    rates = {"tokens": tokens, "mean": [level * 0.5**i for i in range(20)]}
    return {"dev_bits_per_byte": {"tokens": tokens, "mean": mean, **band}, "lr": rates}


def vocabularies(values: dict[str, Any]) -> dict[str, float]:
    """What a vocabulary costs, roughly."""
    size = values["vocab_size"]
    per_token = 1.1 + 0.32 * np.log2(size / 128)
    body, head = 786_432, 128 * size
    return {
        "parameters": float(body + head),
        "body_parameters": float(body),
        "tokens": 1e6,
        "flops": 6e6 * (body + head),
        "text_bytes": 1e6 * per_token,
        "bytes_per_token": per_token,
        "flops_per_byte": 2 * (body + head) / per_token,
        "weights_read_per_byte": (body + head) / per_token,
        "cache_per_byte": 4096 / per_token,
        "seconds": 91.2,
    }


def sweep(
    axes: dict[str, list[Any]] | None = None,
    loss: Any = bowl,
    *,
    seeds: int = 3,
    facts: Any = vocabularies,
    metrics: list[dict[str, str]] | None = None,
    width: float = 0.02,
    failed: dict[int, str] | None = None,
    x: str | None = None,
    trails: Any = None,
    before: float | None = None,
    between: bool = False,
) -> dict[str, Any]:
    """A whole result: `loss(values)` is the truth on test, `width` half an interval, `failed` errors by point;
    `trails(values)` what each point's trainings recorded, `before` the loss of the model before, `between` whether the
    bests of groups are compared."""
    axes = axes or {"vocab_size": SIZES, "budget": ["equal FLOPs", "equal text"]}
    metrics = metrics or [BITS]
    rng = np.random.default_rng(0)

    def number(v: Any) -> bool:
        return isinstance(v, int | float) and not isinstance(v, bool)

    x = x or next((name for name, values in axes.items() if all(map(number, values))), next(iter(axes)))
    points: list[dict[str, Any]] = []
    for at, combination in enumerate(product(*axes.values())):
        values = dict(zip(axes, combination, strict=True))
        if failed and at in failed:
            points.append({"values": values, "runs": [], "best": False, "level": False, "error": failed[at]})
            continue
        truth = {m["name"]: loss(values) * (1 + i) for i, m in enumerate(metrics)}
        runs = []
        for seed in range(seeds):
            noise = {name: value + width * rng.normal(0, 0.4) for name, value in truth.items()}
            found = {name: {"dev": v - 0.01 * width, "test": v} for name, v in noise.items()}
            runs.append({"seed": seed, "node": f"{at:04x}{seed:060x}", "path": f"nodes/base-{at}", "metrics": found})
        numbers = {
            m["name"]: {split: _estimate(truth[m["name"]], width, m, seeds) for split in ("dev", "test")}
            for m in metrics
        }
        points.append({"values": values, "runs": runs, "metrics": numbers, "best": False, "level": False})
        if facts:
            points[-1]["facts"] = facts(values)
        if trails:
            points[-1]["trails"] = trails(values)
    groups: list[dict[str, Any]] = []
    for combination in product(*(values for name, values in axes.items() if name != x)):
        fixed = dict(zip([name for name in axes if name != x], combination, strict=True))
        members = [i for i, p in enumerate(points) if all(p["values"][k] == v for k, v in fixed.items())]
        groups.append({"values": fixed, "points": members, "best": _judge(points, members, metrics, width, seeds)})
    known = {key for p in points for key in p.get("trails", {})}
    return {
        "trails": [TRAILS[key] for key in TRAILS if key in known],
        "before": _before(points, metrics, before, width, seeds),
        "between": _between(points, groups, metrics, width, seeds) if between else None,
        "name": "vocab-size",
        "recipe": "recipes/vocab-size.yaml",
        "of": "base",
        "seeds": [*range(seeds)],
        "machine": "2 cores of a CPU",
        "seconds": 3600.0,
        "axes": [{"name": name, "values": values} for name, values in axes.items()],
        "metrics": metrics,
        "points": points,
        "groups": groups,
        "x": x,
    }


def _estimate(value: float, width: float, metric: dict[str, str], n: int) -> dict[str, Any]:
    unit = {"unit": metric["unit"], "convention": metric["convention"]}
    return {"value": value, "low": value - width, "high": value + width, "n": n, **unit}


def _judge(points: list[Any], members: list[int], metrics: list[Any], width: float, seeds: int) -> int | None:
    """Mark the best of a group and what is level with it."""
    ran = [i for i in members if "error" not in points[i]]
    if not ran:
        return None
    first = metrics[0]["name"]
    turn = 1 if metrics[0]["better"] == "lower" else -1
    best = min(ran, key=lambda i: turn * points[i]["metrics"][first]["dev"]["value"])
    points[best] |= {"best": True, "level": True}
    for i in ran:
        for m in metrics:
            of = points[i]["metrics"][m["name"]]
            gap = of["test"]["value"] - points[best]["metrics"][m["name"]]["test"]["value"]
            of["against_best"] = None if i == best else _estimate(gap, width, m, seeds)
        if i != best:
            points[i]["level"] = abs(points[i]["metrics"][first]["against_best"]["value"]) <= width
    return best


def _before(
    points: list[Any], metrics: list[Any], loss: float | None, width: float, seeds: int
) -> dict[str, Any] | None:
    if loss is None:
        return None
    found = {}
    for i, m in enumerate(metrics):
        found[m["name"]] = _estimate(loss * (1 + i), width, m, seeds)
        for p in points:
            if "error" not in p:
                of = p["metrics"][m["name"]]
                of["against_before"] = _estimate(of["test"]["value"] - loss * (1 + i), width / 4, m, seeds)
    return {"name": "base", "metrics": found}


def _between(points: list[Any], groups: list[Any], metrics: list[Any], width: float, seeds: int) -> dict[str, Any]:
    m, bests = metrics[0], [g["best"] for g in groups]
    numbers = {i: points[i]["metrics"][m["name"]]["test"]["value"] for i in bests if i is not None}
    best = min(numbers, key=numbers.__getitem__)
    away = [None if i in (None, best) else _estimate(numbers[i] - numbers[best], width, m, seeds) for i in bests]
    return {"best": best, "against_best": away}
