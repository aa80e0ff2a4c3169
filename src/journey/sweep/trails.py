"""How the trainings of a sweep went: what is to be drawn of the histories that its measured nodes hold.

A stage that trains leaves a history.json, a line a step. Of the seeds of a point the mean, the least and
the most are kept, thinned to what a drawing can show: sweep.json holds all that the page is made of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from journey.checkpoint import Node
from journey.report.format import is_number
from journey.train.history import read_history

LEAST = 4  # numbers that make a curve
MOST = 100  # that are kept of one
NOISY = 50  # means of neighbouring steps that are kept of a training loss: more would show the batches, not the model
HELD_OUT = "dev_bits_per_byte"  # and `_replay`, and other texts

History = list[dict[str, Any]]
Trail = dict[str, list[float]]  # tokens, of the seeds the mean and, where they differ, low and high


def trails(points: Sequence[Sequence[Node]]) -> tuple[list[dict[str, str]], list[dict[str, Trail]]]:
    """What was recorded through the trainings, and of each point (its nodes, one a seed; none: it failed) key -> trail.

    Bits per byte of held-out text where they were taken along the way: they can be compared whatever was trained on.
    Else the training loss, where all points have one tokenizer: a nat a token is another thing with another vocabulary.
    Beside it the learning rate, where it differs between points.
    """
    histories = [[read_history(node.path) for node in nodes] for nodes in points]
    recorded = {key for seeds in histories for history in seeds for line in history for key in line}
    nodes = [node for seeds in points for node in seeds]
    kept = _kept(histories, *sorted(key for key in recorded if key.startswith(HELD_OUT)))
    if not kept and len({node.lineage.get("tokenizer_hash") for node in nodes}) == 1:
        kept = _kept(histories, "loss")
    rates = _kept(histories, "lr").get("lr", []) if kept else []
    if len({repr(rate) for rate in rates if rate}) > 1:
        kept["lr"] = rates
    said = [_said(key, nodes[0]) for key in kept]
    return said, [{key: found[i] for key, found in kept.items() if found[i]} for i in range(len(points))]


def _said(key: str, node: Node) -> dict[str, str]:
    """A trail in words, by the texts of one of the nodes."""
    if key == "lr":
        return {"name": key, "label": "learning rate", "unit": "", "better": ""}
    if key == "loss":
        return {"name": key, "label": "training loss", "unit": "nats/token", "better": "lower"}
    texts: Mapping[str, Mapping[str, str]] = node.lineage.get("data") or {}
    rest = key.removeprefix(HELD_OUT).removeprefix("_")
    text = texts.get(f"{rest}_data" if rest else "data", {}).get("name") or rest
    return {"name": key, "label": f"bits per byte, {text}", "unit": "bits/byte", "better": "lower"}


def _kept(histories: Sequence[Sequence[History]], *keys: str) -> dict[str, list[Trail]]:
    """Of each key the trails of all points, where one at least has one."""
    found = {key: [_trail(seeds, key) for seeds in histories] for key in keys}
    return {key: of_points for key, of_points in found.items() if any(of_points)}


def _trail(seeds: Sequence[History], key: str) -> Trail:
    """The seeds' mean, least and most, at the tokens where all have this number; empty where those are too few."""
    found = [{line["tokens"]: float(line[key]) for line in seed if is_number(line.get(key))} for seed in seeds]
    tokens = sorted(set.intersection(*map(set, found))) if found else []
    if len(tokens) < LEAST:
        return {}
    if key == "loss":
        tokens_, values = _means(tokens, NOISY), [_means([each[t] for t in tokens], NOISY) for each in found]
    else:
        picked = _picked(tokens)
        tokens_, values = [float(t) for t in picked], [[each[t] for t in picked] for each in found]
    both = list(zip(*values, strict=True))
    trail = {"tokens": tokens_, "mean": [_short(sum(at) / len(at)) for at in both]}
    if any(min(at) < max(at) for at in both):
        trail |= {"low": [_short(min(at)) for at in both], "high": [_short(max(at)) for at in both]}
    return trail


def _means(values: Sequence[float], most: int) -> list[float]:
    k = min(len(values), most)
    groups = [values[i * len(values) // k : (i + 1) * len(values) // k] for i in range(k)]
    return [_short(sum(g) / len(g)) for g in groups]


def _picked(tokens: Sequence[int]) -> list[int]:
    """Evenly, with the first and the last."""
    if len(tokens) <= MOST:
        return list(tokens)
    return [tokens[round(i * (len(tokens) - 1) / (MOST - 1))] for i in range(MOST)]


def _short(value: float) -> float:
    """As many digits as a drawing has pixels for, and some."""
    return float(f"{value:.6g}")
