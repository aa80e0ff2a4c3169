"""The lineage of a workspace, as lines for people and as entries for programs."""

from pathlib import Path
from typing import Any

from journey import measuring, runner
from journey.checkpoint import LINEAGE, look_at, verdict
from journey.console import clock
from journey.scores import estimates


def entries(workspace: Path) -> list[dict[str, Any]]:
    """A dict a node of the last plan: id, name, stage, parents (ids), path, whether it is made, metrics."""
    plan = runner.read_plan(workspace)["stages"]
    ids = {entry["name"]: entry["id"] for entry in plan}
    nodes = []
    for entry in plan:
        path = workspace / entry["path"]
        made = (path / LINEAGE).exists()
        node = look_at(path) if made else None
        metrics = dict(node.lineage["metrics"]) if node else {}
        taken = measuring.read(node, workspace) if node else {}
        metrics |= {key: e.metric() for each in taken.values() for key, e in estimates(each).items()}
        parents = [ids.get(name, name) for name in [*entry["parents"], *entry["data"]]]
        lineage = node.lineage if node else {}
        nodes.append(
            {key: entry[key] for key in ("id", "name", "stage")}
            | {"parents": parents, "path": str(path), "made": made, "altered": verdict(node) if node else None}
            | {"seconds": lineage.get("seconds"), "tokens": lineage.get("tokens"), "metrics": metrics}
        )
    return nodes


def draw(nodes: list[dict[str, Any]]) -> str:
    """The nodes as a tree: each under the parent whose weights or vocabulary it continues, texts by name."""
    names = {node["id"]: node["name"] for node in nodes}
    first = {node["id"]: node["parents"][0] for node in nodes if node["parents"]}
    lines: list[str] = []

    def visit(node: dict[str, Any], prefix: str, branch: str, below: str) -> None:
        others = [names.get(parent, parent[:10]) for parent in node["parents"][1:]]
        beside = f" + {', '.join(others)}" if others else ""
        lines.append(f"{prefix}{branch}{node['name']}  {node['stage']}{beside}  {node['id'][:10]}  {_facts(node)}")
        children = [child for child in nodes if first.get(child["id"]) == node["id"]]
        for child in children:
            last = child is children[-1]
            visit(child, prefix + below, "└─ " if last else "├─ ", "   " if last else "│  ")

    for node in nodes:
        if first.get(node["id"]) not in names:
            visit(node, "", "", "")
    return "\n".join(lines)


def _facts(node: dict[str, Any]) -> str:
    if not node["made"]:
        return "not made yet"
    if node["altered"]:
        return node["altered"]
    metrics = node["metrics"]
    parts = [clock(node["seconds"])]
    if node["tokens"]:
        parts.append(f"{node['tokens']:,} tokens")
    parts += [
        f"{key.removeprefix('bits_per_byte.')} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}] bits/byte"
        for key, m in metrics.items()
        if key.startswith("bits_per_byte.") and key.count(".") == 1
    ]
    return "  ".join(parts)
