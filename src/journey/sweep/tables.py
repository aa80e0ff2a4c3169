"""The tables of a sweep's page, and how its numbers were counted."""

from collections.abc import Callable, Iterator

from journey.evaluate.statistics import Estimate
from journey.report.blocks import Cell, Fold, Prose, Table, plain
from journey.report.format import MISSING, big, bytes_, duration, is_number, join, number, numbers, si, typed
from journey.sweep.content import Group, Metric, Point, Sweep

Shown = str | Estimate | Cell | None
FACTS: dict[str, tuple[str, Callable[[float], str]]] = {  # key -> (title, how it is said)
    "parameters": ("parameters", big),
    "body_parameters": ("without embeddings", big),
    "tokens": ("training tokens", big),
    "flops": ("training FLOPs", lambda v: si(v, "FLOP")),
    "text_bytes": ("training text", bytes_),
    "bytes_per_token": ("bytes per token", number),
    "flops_per_byte": ("FLOPs per byte", lambda v: si(v, "FLOP")),
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


def points(sweep: Sweep, group: Group) -> Table:
    """The points of a group."""
    keys = [k for k in FACTS if any(k in p.facts for p in group.points)]
    more = sorted({k for p in group.points for k in p.facts} - set(FACTS))
    head = [sweep.x, "dev, which chose"]
    for metric in sweep.metrics:
        head += [f"{metric.label} ({metric.unit})" if metric.unit else metric.label, "against the best", ""]
    head += [FACTS[k][0] for k in keys] + [k.replace("_", " ") for k in more]
    rows: list[list[Shown]] = []
    for p in group.points:
        value = typed(p.values[sweep.x])
        some = f"{len(p.runs)} of {len(sweep.seeds)} seeds" if 0 < len(p.runs) < len(sweep.seeds) else ""
        name = Cell(Prose(f"**{plain(value)}**") if p.best and value else value, small=some)
        if p.error:
            rows.append([name, Cell(f"failed: {p.error}", tone="bad")])
            continue
        dev = p.estimate(sweep.metrics[0], "dev")
        row: list[Shown] = [name, dev and numbers(dev)[0]]
        for metric in sweep.metrics:
            row += _cells(sweep, p, metric)
        row += [FACTS[k][1](p.facts[k]) if k in p.facts else None for k in keys]
        row += [typed(float(f"{p.facts[k]:.4g}")) if k in p.facts else None for k in more]
        rows.append(row)
    caption = f"{group.label}: on test" if group.label else "On test"
    return Table(f"{caption}, in brackets 95 % intervals", head, rows)


def _cells(sweep: Sweep, point: Point, metric: Metric) -> list[Shown]:
    against, verdict = point.estimate(metric, "against_best"), sweep.verdict(point, metric)
    tone, sign = VERDICTS.get(verdict, ("heat", ""))
    return [point.estimate(metric), against and Cell(against, sign=True), Cell(f"{sign} {verdict}".strip(), tone=tone)]


def runs(sweep: Sweep) -> Iterator[Fold]:
    """Each seed by itself, on dev and on test."""
    rows: list[list[Shown]] = []
    for p in sweep.points:
        name = ", ".join(f"{key} {typed(value)}" for key, value in p.values.items())
        for run in p.runs:
            row: list[Shown] = [name, str(run.get("seed", MISSING))]
            for m in sweep.metrics:
                found = run.get("metrics", {}).get(m.name, {})
                row += [_plain(found.get(split), m) for split in ("dev", "test")]
            path = str(run.get("path", MISSING))
            rows.append([*row, Cell(str(run.get("node", MISSING))[:12], code=True), Cell(path, code=True)])
    if rows:
        heads = [f"{m.label}, {split}" for m in sweep.metrics for split in ("dev", "test")]
        table = Table("One row a run", ["point", "seed", *heads, "node", "folder"], rows)
        yield Fold(f"Every run ({len(rows):,})", [table])


def method(sweep: Sweep) -> Iterator[str]:
    """What a reader has to know before believing the numbers."""
    first = plain(sweep.metrics[0].label)
    tested = sum(p.estimate(m, "against_best") is not None for p in sweep.points for m in sweep.metrics)
    yield Prose(
        f"**Chosen on dev, shown on test.** Of points that differ in {plain(sweep.x)} alone, the best is the one "
        f"with the {'lowest' if sweep.metrics[0].better == 'lower' else 'highest'} mean {first} on *dev*. Every "
        "number in a plot and in the tables of points is from *test*, where nothing was trained or chosen."
    )
    if len(sweep.seeds) > 1:
        yield Prose(
            f"**Intervals.** 95 %, over {len(sweep.seeds)} seeds ({plain(join([str(s) for s in sweep.seeds]))}) "
            "and the documents of test. A few seeds give a rough interval."
        )
    else:
        yield Prose(
            "**Intervals.** 95 %, over the documents of test alone: each point was trained once, so what "
            "another seed would change is not in them."
        )
    level = (
        "**Level.** A point is level with the best when the interval of their difference on test, over the same "
        "documents, holds zero: they were not told apart, which does not make them equal."
    )
    if tested > 1:
        level += (
            f" {tested} differences are judged here; if none were real, about "
            f"{number(0.05 * tested, decimals=1)} would still fall outside zero by chance."
        )
    yield Prose(level)
    yield from (Prose(f"**{plain(m.label)}.** {plain(m.convention)}") for m in sweep.metrics if m.convention)
    ran = f"**Run.** Recipe `{plain(sweep.recipe)}`, node `{plain(sweep.of)}`"
    ran += f", {duration(sweep.seconds)}" if is_number(sweep.seconds) else ""
    yield Prose(ran + (f" on {plain(sweep.machine)}." if sweep.machine else "."))


def _plain(value: object, metric: Metric) -> str | None:
    if not isinstance(value, int | float):
        return None
    return numbers(Estimate(value, value, value, 1, metric.unit))[0]
