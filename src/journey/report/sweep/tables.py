"""The tables of a sweep's page, and how its numbers were counted."""

from typing import Any

from journey.evaluate.statistics import Estimate
from journey.report.markup import MISSING, Cell, big, bytes_, duration, escape, folded, join, number, si, table
from journey.report.sweep.content import Group, Metric, Point, Sweep, is_number, numbers, typed

FACTS = {  # key -> (title, how it is said)
    "parameters": ("parameters", big),
    "body_parameters": ("without embeddings", big),
    "tokens": ("training tokens", big),
    "flops": ("training FLOPs", lambda v: si(v or 0.0, "FLOP")),
    "text_bytes": ("training text", bytes_),
    "bytes_per_token": ("bytes per token", number),
    "flops_per_byte": ("FLOPs per byte", lambda v: si(v or 0.0, "FLOP")),
    "weights_read_per_byte": ("weights read per byte", bytes_),
    "cache_per_byte": ("cache per byte", bytes_),
    "seconds": ("time", duration),
}
VERDICTS = {  # verdict -> (tone, sign)
    "best": ("good", "◉"),
    "chosen": ("size", "◉"),
    "level": ("unsure", "≈"),
    "worse": ("bad", "✗"),
    "better": ("good", "✓"),
}


def points(sweep: Sweep, group: Group) -> str:
    """The points of a group."""
    keys = [k for k in FACTS if any(k in p.facts for p in group.points)]
    more = sorted({k for p in group.points for k in p.facts} - set(FACTS))
    head = [escape(sweep.x), "dev, which chose"]
    for metric in sweep.metrics:
        unit = f" ({escape(metric.unit)})" if metric.unit else ""
        head += [f"{escape(metric.label)}{unit}", "against the best", ""]
    head += [FACTS[k][0] for k in keys] + [escape(k.replace("_", " ")) for k in more]
    rows: list[list[Cell]] = []
    for p in group.points:
        name = escape(typed(p.values[sweep.x]))
        if 0 < len(p.runs) < len(sweep.seeds):
            name += f" <small>{len(p.runs)} of {len(sweep.seeds)} seeds</small>"
        if p.error:
            rows.append([name, (f"failed: {escape(p.error)}", f'class="failed" colspan="{len(head) - 1}"')])
            continue
        dev = p.estimate(sweep.metrics[0], "dev")
        row: list[Cell] = [f"<b>{name}</b>" if p.best else name, numbers(dev)[0] if dev else MISSING]
        for metric in sweep.metrics:
            row += _cells(sweep, p, metric)
        row += [FACTS[k][1](p.facts[k]) if k in p.facts else MISSING for k in keys]
        row += [typed(float(f"{p.facts[k]:.4g}")) if k in p.facts else MISSING for k in more]
        rows.append(row)
    caption = f"{escape(group.label)}: on test" if group.label else "On test"
    return table(f"{caption}, in brackets 95 % intervals", head, rows, style="numbers")


def _cells(sweep: Sweep, point: Point, metric: Metric) -> list[Cell]:
    value, against = point.estimate(metric), point.estimate(metric, "against_best")
    verdict = sweep.verdict(point, metric)
    tone, sign = VERDICTS.get(verdict, ("", ""))
    word = f'<span class="{tone}"><span aria-hidden="true">{sign}</span> {verdict}</span>' if verdict else ""
    return [_cell(value, False), _cell(against, True), (word, 'class="word"')]


def _cell(e: Estimate | None, sign: bool) -> str:
    if e is None:
        return MISSING
    value, ends = numbers(e, sign=sign)
    return f'{value} <span class="ci">{ends}</span>' if ends else value


def runs(sweep: Sweep) -> str:
    """Each seed by itself, on dev and on test."""
    rows: list[list[Cell]] = []
    for p in sweep.points:
        name = ", ".join(f"{key} {typed(value)}" for key, value in p.values.items())
        for run in p.runs:
            row = [escape(name), escape(run.get("seed", MISSING))]
            for m in sweep.metrics:
                found = run.get("metrics", {}).get(m.name, {})
                row += [_plain(found.get(split), m) for split in ("dev", "test")]
            node = f"<code>{escape(str(run.get('node', MISSING))[:12])}</code>"
            rows.append([*row, node, f"<code>{escape(run.get('path', MISSING))}</code>"])
    if not rows:
        return ""
    heads = [f"{escape(m.label)}, {split}" for m in sweep.metrics for split in ("dev", "test")]
    body = table("One row a run", ["point", "seed", *heads, "node", "folder"], rows, style="numbers runs")
    return folded(f"Every run ({len(rows):,})", body)


def method(sweep: Sweep) -> str:
    of, first = escape(sweep.of), escape(sweep.metrics[0].label)
    tested = sum(p.estimate(m, "against_best") is not None for p in sweep.points for m in sweep.metrics)
    said = [
        f"<b>Chosen on dev, shown on test.</b> Of points that differ in {escape(sweep.x)} alone, the best is the one "
        f"with the {'lowest' if sweep.metrics[0].better == 'lower' else 'highest'} mean {first} on <em>dev</em>. Every "
        "number in a plot and in the tables of points is from <em>test</em>, where nothing was trained or chosen.",
    ]
    if len(sweep.seeds) > 1:
        said.append(
            f"<b>Intervals.</b> 95 %, over {len(sweep.seeds)} seeds ({escape(join([str(s) for s in sweep.seeds]))}) "
            "and the documents of test. A few seeds give a rough interval."
        )
    else:
        said.append(
            "<b>Intervals.</b> 95 %, over the documents of test alone: each point was trained once, so what "
            "another seed would change is not in them."
        )
    level = (
        "<b>Level.</b> A point is level with the best when the interval of their difference on test, over the same "
        "documents, holds zero: they were not told apart, which does not make them equal."
    )
    if tested > 1:
        level += (
            f" {tested} differences are judged here; if none were real, about "
            f"{number(0.05 * tested, decimals=1)} would still fall outside zero by chance."
        )
    said.append(level)
    said += [f"<b>{escape(m.label)}.</b> {escape(m.convention)}" for m in sweep.metrics if m.convention]
    ran = f"<b>Run.</b> Recipe <code>{escape(sweep.recipe)}</code>, node <code>{of}</code>"
    ran += f", {duration(sweep.seconds)}" if is_number(sweep.seconds) else ""
    said.append(ran + (f" on {escape(sweep.machine)}." if sweep.machine else "."))
    return f'<ul class="plain">{"".join(f"<li>{item}</li>" for item in said)}</ul>'


def _plain(value: Any, metric: Metric) -> str:
    if not is_number(value):
        return MISSING
    return numbers(Estimate(value, value, value, 1, metric.unit))[0]
