"""Where everything came from, and how it was measured."""

import json
from collections.abc import Mapping

from journey.life.workspace import Entry, Life
from journey.report.blocks import Block, Cell, Facts, Fold, Points, Prose, Table, TableRow, Text
from journey.report.format import MISSING, bytes_, duration, interval, join, number
from journey.scores import SIZE

LINEAGE = (
    "Where everything came from. A node's id is the hash of all that went in: the stage and its version, its "
    "settings, its parents, its data, the seed. The same inputs give the same id anywhere; the hash of the "
    "weights says what came out."
)


def nodes(life: Life) -> list[Block]:
    """The tables of lineage: nodes, data, versions."""
    head = ["Node", "id", "stage", "from", "tokens", "FLOPs", "time", "peak memory", "seed", "weights sha256"]
    names = {entry.node.id: entry.name for entry in life.done if entry.node}
    rows: list[TableRow] = []
    for entry in life.done:
        assert entry.node
        line = entry.node.lineage
        weights = line.get("weights_sha256")
        rows.append(
            [
                Cell(entry.name),
                Cell(line["id"][:12], code=True),
                entry.kind,
                join([names.get(p, p[:12]) for p in line.get("parents", [])]) or MISSING,
                number(line.get("tokens"), decimals=0),
                f"{line['flops']:.2e}" if line.get("flops") else MISSING,
                duration(line.get("seconds")),
                bytes_(line.get("peak_memory")),
                str(line.get("seed", MISSING)),
                Cell(weights[:16], code=True) if weights else None,
            ]
        )
    return [Table("The nodes", head, rows), *_data(life), *_surroundings(life)]


def record(entry: Entry) -> list[Block]:
    """What a stage wrote into its lineage, folded: its own numbers and its settings."""
    assert entry.node
    line = entry.node.lineage
    rows: list[TableRow] = [
        [Cell(name.replace("_", " ")), _counted(m), str(m.get("convention") or "")]
        for name, m in line.get("metrics", {}).items()
    ]
    settings = [(key, _value(value)) for key, value in line.get("config", {}).items()]
    numbers = Table("Numbers in the lineage", ["What", "number", "counted as"], rows, style="record")
    return [
        *([Fold("Recorded by the stage", [numbers])] if rows else []),
        *([Fold("Settings", [Facts(settings, columns=True)])] if settings else []),
    ]


def _counted(m: Mapping[str, float | str | None]) -> str:
    """A number of the lineage with its unit, and its interval where it has one."""
    value, low, high, unit = (m.get(key) for key in ("value", "low", "high", "unit"))
    if not isinstance(value, int | float):
        return MISSING
    if isinstance(low, int | float) and isinstance(high, int | float):
        shown = f"{number(value, decimals=3)} {interval(low, high, 'nats/token')}"
    else:
        shown = number(value, decimals=0) if value == int(value) else f"{value:.4g}"
    return f"{shown} {unit or ''}".rstrip()


def _value(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _data(life: Life) -> list[Block]:
    rows = [
        [Cell(f"{e.name}: {name}"), d.get("name", MISSING), Cell(d.get("fingerprint", d.get("id", ""))[:16], code=True)]
        for e in life.done
        if e.node
        for name, d in e.node.lineage.get("data", {}).items()
    ]
    return [Table("The data that went in", ["Node and field", "text", "fingerprint or id"], rows, "")] if rows else []


def _surroundings(life: Life) -> list[Block]:
    """Versions and machine; said once, from the last node, and the nodes that differ are named."""
    lines = {entry.name: entry.node.lineage for entry in life.done if entry.node}
    if not lines:
        return []
    last = list(lines.values())[-1]
    machine = last.get("machine", {})
    packages = {"Python": last.get("python", MISSING), **last.get("packages", {})}
    rows = [[Cell(name), version] for name, version in packages.items()]
    if machine:
        rows.append([Cell("CPU"), f"{machine.get('cpu', MISSING)}, {machine.get('cores', MISSING)} cores"])
        rows.append([Cell("memory"), bytes_(machine.get("memory"))])
    rows.append([Cell("commit"), Cell(last.get("git_commit") or "no git checkout", code=True)])
    differing = [name for name, line in lines.items() if line.get("packages") != last.get("packages")]
    odd: list[Block] = [Text(f"Made with other versions: {join(differing)}.")] if differing else []
    return [Table("Versions and machine", ["What", "version"], rows, ""), *odd]


def method(life: Life) -> list[Block]:
    """What a reader has to know before believing the numbers."""
    tested = [e for effects in life.effects.values() for e in effects if e.verdict != SIZE]
    seconds = sum(taken.seconds for entry in life.entries for taken in entry.taken.values())
    by_chance = max(1, round(len(tested) / 20))
    took = f", in {duration(seconds)} altogether" if seconds else ""
    said = [
        "**Three splits.** Training reads *train*; settings were chosen on *dev*; every number here is from *test*, "
        "except the curves through training, which are from dev. Clusters of near-copies go to one split as a whole.",
        "**Intervals.** Items (documents, questions, sequences) are drawn again 2,000 times with replacement, with "
        "a fixed seed; the interval holds the middle 95 % of the results. Two models are compared on the same items in "
        "every draw (paired), so what makes a document hard for both cancels. Shares of right or ended answers carry "
        "Wilson's interval, because drawing again from 150 successes never gives a failure.",
        "**Verdicts.** *Clear*: the whole interval is on the better side of zero. *Worse*: on the worse side. "
        f"Otherwise *not distinguishable from zero*. {len(tested)} effects are judged on this page; if none were real, "
        f"about {by_chance} of them would still fall outside zero by chance.",
        "**What the intervals leave out.** They say how the numbers would move with other test items. They do not "
        "say how they would move with another training seed: each model was trained once.",
        f"**One code path.** Every model was measured by the same functions on the same items{took}. A base "
        "model is asked in the chat format too, though it has never seen it: that is the comparison.",
    ]
    return [Points([Prose(each) for each in said])]
