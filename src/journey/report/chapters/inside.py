"""Inside the models: what repeated tokens and the heads show, and how far each stage moved the model before it."""

from typing import Any

from journey.evaluate.statistics import mean
from journey.report import words
from journey.report.chapters.parts import by_model, figure, figures, nothing
from journey.report.charts import Curve, Dot, curves, dots
from journey.report.effect import Effect
from journey.report.estimates import kl
from journey.report.life import Life, Stage
from journey.report.markup import Cell, escape, folded, heat, interval, number, table


def repeats(life: Life, effects: list[Effect]) -> str:
    """First against second copy of random tokens, the heads, and a plain sentence on what they show."""
    stages = [s for s in life.models if s.measurement.get("repeat")]
    if not stages:
        return nothing("Repeated tokens were not measured.")
    rows = [
        Dot(f"{s.name}, {copy}", mean(s.measurement["repeat"][copy], "nats/token"), life.colour(s))
        for s in stages
        for copy in ("first", "second")
    ]
    chart = dots(rows, title="Loss on repeated random tokens", unit="nats per token")
    said = {e.stage: e for e in effects if e.name == "repeated random tokens"}
    heads = [s for s in stages if s.measurement.get("heads")]
    verdicts = "".join(f"<li>{induction(s, said[s.name])}</li>" for s in heads)
    grids = "".join(folded(f"The heads of <b>{escape(s.name)}</b>", _heads(s)) for s in heads)
    caption = (
        "First and second copy of the same random tokens. An easier second copy alone does not show induction: later "
        "places may just be easier. So a head has to look where the token stood before, too."
    )
    both = figures([figure(chart, caption), f'<ul class="plain">{verdicts}</ul>'])
    return f'{both}<h3 class="sub">The heads</h3><p>{words.HEADS}</p>{grids}'


def induction(stage: Stage, effect: Effect) -> str:
    """What the two copies and the best head show together, without wishing."""
    scores = stage.measurement["heads"]["induction"]
    best, layer, head = max((v, i, j) for i, row in enumerate(scores) for j, v in enumerate(row))
    name = f"<b>{escape(stage.name)}</b>"
    change = (
        f"{number(effect.value, effect.unit, sign=True)} {interval(effect.low, effect.high, effect.unit, sign=True)}"
    )
    strongest = f"the strongest head (layer {layer}, head {head}) scores {best:.2f} of 1"
    if effect.verdict != "clear":
        return f"{name} shows no induction: the second copy is no easier than the first ({change}), and {strongest}."
    if best < 0.3:
        return (
            f"{name}: the second copy is easier ({change}), but {strongest}: too little to call it an induction head."
        )
    return f"{name} has an induction head: the second copy is easier ({change}), and {strongest}."


def against_parent(life: Life) -> str:
    """Weights, predictions and inner states against the parent's."""
    stages = [s for s in life.models if s.measurement.get("against_parent")]
    if not stages:
        return nothing("No stage has gone on from a measured model yet.")
    against: dict[Stage, dict[str, Any]] = {s: s.measurement["against_parent"] for s in stages}
    titles = {s: f"{life.parent(s).name if life.parent(s) else 'parent'} → {s.name}" for s in stages}  # type: ignore[union-attr]
    made = []
    for corpus in dict.fromkeys(c for a in against.values() for c in a.get("kl", {})):
        found = {s: kl(a["kl"][corpus]) for s, a in against.items() if len(a["kl"].get(corpus, [])) > 1}
        if found:
            title, caption = f"KL from the parent on {corpus}", f"KL on <b>{escape(corpus)}</b>, test split."
            made.append(by_model(life, found, title, "nats per token", caption, [(0.0, "no change")]))
    lines = [Curve(titles[s], list(enumerate(a["cka"])), life.colour(s)) for s, a in against.items() if a.get("cka")]
    if lines:
        low = min(y for c in lines for _, y in c.points)
        chart = curves(
            lines, title="CKA by layer", x_unit="layer", y_unit="CKA", y_range=(min(0.9, low), 1.0), x_whole=True
        )
        made.append(figure(chart, words.CKA))
    skipped = "".join(
        f"<p class='nothing'>{escape(titles[s])}: not compared, {escape(a['skipped'])}.</p>"
        for s, a in against.items()
        if a.get("skipped")
    )
    tables = "".join(
        folded(f"The weights, <b>{escape(titles[s])}</b>", _weights(titles[s], a["weights"]))
        for s, a in against.items()
        if a.get("weights")
    )
    return skipped + (
        f'<h3 class="sub">Predictions and inner states</h3><p>{words.KL}</p>{figures(made)}'
        f'<h3 class="sub">Weights</h3><p>{words.WEIGHTS}</p>{tables}'
    )


def _heads(stage: Stage) -> str:
    heads = stage.measurement["heads"]
    grids = "".join(
        table(
            f"<b>{escape(stage.name)}</b>: {kind}",
            ["layer", *(f"h{j}" for j in range(len(heads[kind][0])))],
            [[str(i), *(heat(f"{v:.2f}", v) for v in row)] for i, row in enumerate(heads[kind])],
            style="grid",
        )
        for kind in ("induction", "previous", "duplicate")
    )
    return f'<div class="grids">{grids}</div>'


def _weights(title: str, weights: list[dict[str, Any]]) -> str:
    """Matrices down, layers across; what belongs to no layer (embedding, last norm) in the last column."""
    layers = sorted({w["layer"] for w in weights if w["layer"] is not None})
    outside = any(w["layer"] is None for w in weights)
    most = max(w["change"] for w in weights) or 1.0
    cells: dict[tuple[str, int | None], float] = {(w["matrix"], w["layer"]): w["change"] for w in weights}
    columns: list[int | None] = [*layers, *([None] if outside else [])]

    def cell(matrix: str, layer: int | None) -> Cell:
        value = cells.get((matrix, layer))
        return "" if value is None else heat(number(100 * value, decimals=1), value / most)

    rows = [
        [f"<code>{escape(matrix)}</code>", *(cell(matrix, layer) for layer in columns)]
        for matrix in dict.fromkeys(w["matrix"] for w in weights)
    ]
    head = ["matrix", *("outside" if layer is None else f"layer {layer}" for layer in columns)]
    return table(f"<b>{escape(title)}</b>: change of each matrix, %", head, rows, style="grid")
