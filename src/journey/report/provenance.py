"""Where everything came from, and how it was measured."""

import json
from collections.abc import Sequence
from typing import Any

from journey.report import words
from journey.report.effect import SIZE, Effect
from journey.report.life import Life, Stage
from journey.report.markup import MISSING, bytes_, duration, escape, folded, interval, join, number, table


def nodes(life: Life) -> str:
    """The tables of lineage: nodes, data, versions."""
    head = ["Node", "id", "stage", "from", "tokens", "FLOPs", "time", "peak memory", "seed", "weights sha256"]
    names = {s.lineage["id"]: s.name for s in life.done}
    rows = [
        [
            escape(s.name),
            f"<code>{escape(s.lineage['id'][:12])}</code>",
            escape(s.kind),
            join([escape(names.get(p, p[:12])) for p in s.lineage.get("parents", [])]) or MISSING,
            number(s.lineage.get("tokens"), decimals=0),
            f"{s.lineage['flops']:.2e}" if s.lineage.get("flops") else MISSING,
            duration(s.lineage.get("seconds")),
            bytes_(s.lineage.get("peak_memory")),
            escape(s.lineage.get("seed", MISSING)),
            f"<code>{escape(s.lineage['weights_sha256'][:16])}</code>" if s.lineage.get("weights_sha256") else MISSING,
        ]
        for s in life.done
    ]
    return table("The nodes", head, rows, style="numbers") + _data(life) + _surroundings(life)


def record(stage: Stage) -> str:
    """What a stage wrote into its lineage, folded: its own numbers and its settings."""
    rows = [
        [escape(name.replace("_", " ")), _counted(m), escape(m.get("convention") or "")]
        for name, m in stage.lineage.get("metrics", {}).items()
    ]
    numbers = table("Numbers in the lineage", ["What", "number", "counted as"], rows, style="record")
    settings = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(_value(value))}</dd></div>"
        for key, value in stage.lineage.get("config", {}).items()
    )
    return (folded("Recorded by the stage", numbers) if rows else "") + (
        folded("Settings", f'<dl class="settings">{settings}</dl>') if settings else ""
    )


def _counted(m: dict[str, Any]) -> str:
    """A number of the lineage with its unit, and its interval where it has one."""
    value, low, high, unit = (m.get(key) for key in ("value", "low", "high", "unit"))
    if value is None:
        return MISSING
    if low is None or high is None:
        shown = number(value, decimals=0) if value == int(value) else f"{value:.4g}"
    else:
        shown = f'{number(value, decimals=3)} <span class="ci">{interval(low, high, "nats/token")}</span>'
    return f"{shown} {escape(unit or '')}"


def _value(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _data(life: Life) -> str:
    rows = [
        [
            f"{escape(s.name)}: {escape(field)}",
            escape(d.get("name", MISSING)),
            f"<code>{escape(d.get('fingerprint', d.get('id', MISSING))[:16])}</code>",  # of a pairs node, its id
        ]
        for s in life.done
        for field, d in s.lineage.get("data", {}).items()
    ]
    return table("The data that went in", ["Node and field", "text", "fingerprint or id"], rows) if rows else ""


def _surroundings(life: Life) -> str:
    """Versions and machine; said once, from the last node, and the nodes that differ are named."""
    if not life.done:
        return ""
    last = life.done[-1].lineage
    machine = last.get("machine", {})
    packages = {"Python": last.get("python", MISSING), **last.get("packages", {})}
    differing = [s.name for s in life.done if s.lineage.get("packages") != last.get("packages")]
    rows = [[escape(name), escape(version)] for name, version in packages.items()]
    if machine:
        rows.append(["CPU", f"{escape(machine.get('cpu', MISSING))}, {machine.get('cores', MISSING)} cores"])
        rows.append(["memory", bytes_(machine.get("memory"))])
    rows.append(["commit", f"<code>{escape(last.get('git_commit') or 'no git checkout')}</code>"])
    odd = f"<p>Made with other versions: {join([escape(n) for n in differing])}.</p>" if differing else ""
    return table("Versions and machine", ["What", "version"], rows) + odd


def method(life: Life, found: Sequence[Effect]) -> str:
    """What a reader has to know before believing the numbers."""
    tested = [e for e in found if e.verdict != SIZE]
    seconds = sum(s.measurement.get("seconds", 0) for s in life.measured)
    points = words.METHOD.format(
        tested=len(tested),
        by_chance=max(1, round(len(tested) / 20)),
        seconds=f", in {duration(seconds)} altogether" if seconds else "",
    )
    return f"{points}<h3>Conventions, by note</h3>"
