"""The chapters on what was measured, each across all models: one code path, the same items."""

from typing import Any

from journey.evaluate.statistics import Estimate, mean
from journey.report import words
from journey.report.charts import Curve, Dot, curves, dots
from journey.report.effects import Effect, accuracy, answer_loss, bits_per_byte, chance, ended, kl
from journey.report.life import Life, Stage
from journey.report.lists import Notes
from journey.report.markup import MISSING, Cell, escape, estimate, heat, interval, number, table

PASSAGES = {"right": "the right passage", "shuffled": "another one's passage", "none": "no passage"}
ORDERS = ("bigram", "trigram")
_SAMPLE_LIMIT = 1200  # characters of one sample shown


def bits(life: Life, notes: Notes) -> str:
    """Bits per byte of every model on every corpus, beside the n-grams."""
    figures, rows = [], []
    for corpus in life.corpora:
        found = {s: bits_per_byte(_scored(s, corpus)) for s in life.models if _scored(s, corpus)}
        marks = _ngrams(life, corpus)
        chart = dots(
            _dots(life, found),
            title=f"Bits per byte on {corpus}",
            unit="bits per byte",
            marks=[(v, o) for o, v in marks.items()],
        )
        convention = next(iter(found)).measurement["bits_per_byte"][corpus]["convention"]
        figures.append(_figure(chart, f"<b>{escape(corpus)}</b>, test split.{notes.mark(convention)} Lower is better."))
        cells = [estimate(found[s]) if s in found else MISSING for s in life.models]
        rows.append([escape(corpus), *cells, *(number(marks.get(order), decimals=3) for order in ORDERS)])
    head = ["Corpus", *(escape(s.name) for s in life.models), *ORDERS]
    return _figures(figures) + table(
        "Bits per byte on the test split, with 95 % intervals", head, rows, style="numbers"
    )


def forgetting(life: Life, effects: list[Effect]) -> str:
    """The matrix of change: stages by corpora, each against its parent."""
    by_key = {(e.stage, e.name): e for e in effects}
    rows = []
    for stage in life.models:
        parent = life.parent(stage)
        if parent is None:
            continue
        found = [by_key.get((stage.name, f"bits per byte, {corpus}")) for corpus in life.corpora]
        rows.append([f"{escape(parent.name)} → {escape(stage.name)}", *(_change(e) for e in found)])
    if not rows:
        return _nothing("No stage has gone on from a measured model yet.")
    return table(
        "Change in bits per byte from the parent, with 95 % intervals",
        ["Stage", *map(escape, life.corpora)],
        rows,
        style="numbers",
    )


def choices(life: Life) -> str:
    """Multiple choice against chance, by our scorer and by lm-eval."""
    stages = [s for s in life.models if s.measurement.get("choices", {}).get("items")]
    if not stages:
        return _nothing("No multiple-choice items were measured.")
    items = {s: s.measurement["choices"]["items"] for s in stages}
    guess = chance(items[stages[0]])
    chart = dots(
        _dots(life, {s: accuracy(items[s]) for s in stages}),
        title="Multiple choice, percent right (acc_norm)",
        unit="% right (acc_norm)",
        marks=[(guess, f"guessing {guess:.0f} %")],
    )
    rows = []
    for s in stages:
        theirs = s.measurement["choices"].get("harness")
        agree = f"{theirs['agree']:,} of {theirs['n']:,}" if theirs else "not run"
        rows.append(
            [
                escape(s.name),
                estimate(accuracy(items[s], "picked")),
                estimate(accuracy(items[s])),
                *(number(100 * theirs[key], decimals=1) if theirs else MISSING for key in ("acc", "acc_norm")),
                agree,
            ]
        )
    head = [
        "Model",
        "acc,&nbsp;%",
        "acc_norm,&nbsp;%",
        "lm&#8209;eval acc,&nbsp;%",
        "lm&#8209;eval acc_norm,&nbsp;%",
        "same outcome",
    ]
    caption = f"Our scorer and lm-eval on the same {len(items[stages[0]]):,} items"
    numbers = table(caption, head, rows, style="numbers")
    return _figures([_figure(chart, "Share of held-out functions whose own summary was picked."), numbers])


def answers(life: Life) -> str:
    """Answer loss with the right, a shuffled and no passage; and the share of answers that end."""
    stages = [s for s in life.models if s.measurement.get("answers", {}).get("items")]
    if not stages:
        return _nothing("No answers were measured.")
    items = {s: s.measurement["answers"]["items"] for s in stages}
    rows = [Dot(f"{s.name}, {key}", answer_loss(items[s], key), life.colour(s)) for s in stages for key in PASSAGES]
    chart = dots(rows, title="Answer loss by passage", unit="nats per answer token")
    legend = "; ".join(f"<em>{key}</em>: {said}" for key, said in PASSAGES.items())
    figures = [_figure(chart, f"Loss of the documented answer. {legend}. Lower is better.")]
    finished = {s: ended(s.measurement["endings"]["items"]) for s in stages if s.measurement.get("endings")}
    if finished:
        limit = next(iter(finished)).measurement["endings"]["limit"]
        chart = dots(
            _dots(life, finished),
            title="Answers that end by themselves",
            unit="% of answers",
            marks=[(90.0, "mark 90 %")],
        )
        figures.append(_figure(chart, f"{words.ENDINGS} Limit here: {limit} tokens."))
    groups = [("function named", True), ("not named", False)]
    body = [
        [f"{escape(s.name)}, {said}", *(_loss([i for i in items[s] if i["named"] is named], key) for key in PASSAGES)]
        for s in stages
        for said, named in groups
    ]
    head = ["Model and question", *PASSAGES.values()]
    return _figures(figures) + table("Nats per answer token, by kind of question", head, body, style="numbers")


def repeats(life: Life, effects: list[Effect]) -> str:
    """First against second copy of random tokens, the heads, and a plain sentence on what they show."""
    stages = [s for s in life.models if s.measurement.get("repeat")]
    if not stages:
        return _nothing("Repeated tokens were not measured.")
    rows = [
        Dot(f"{s.name}, {copy}", mean(s.measurement["repeat"][copy], "nats/token"), life.colour(s))
        for s in stages
        for copy in ("first", "second")
    ]
    chart = dots(rows, title="Loss on repeated random tokens", unit="nats per token")
    said = {e.stage: e for e in effects if e.name == "repeated random tokens"}
    heads = [s for s in stages if s.measurement.get("heads")]
    verdicts = "".join(f"<li>{induction(s, said[s.name])}</li>" for s in heads)
    grids = "".join(_heads(s) for s in heads)
    words_ = f'<ul class="plain">{verdicts}</ul>'
    figure = _figures([_figure(chart, "First and second copy of the same random tokens."), words_])
    return f'{figure}<h3 class="sub">The heads</h3><p>{words.HEADS}</p>{grids}'


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
            f"{name}: the second copy is easier ({change}), but {strongest}: too little to call it an induction head. "
            "The first copy may be used, or later places may just be easier: these scores do not show which."
        )
    return f"{name} has an induction head: the second copy is easier ({change}), and {strongest}."


def against_parent(life: Life) -> str:
    """Weights, predictions and inner states against the parent's."""
    stages = [s for s in life.models if s.measurement.get("against_parent")]
    if not stages:
        return _nothing("No stage has gone on from a measured model yet.")
    against: dict[Stage, dict[str, Any]] = {s: s.measurement["against_parent"] for s in stages}
    titles = {s: f"{life.parent(s).name if life.parent(s) else 'parent'} → {s.name}" for s in stages}  # type: ignore[union-attr]
    figures = []
    for corpus in dict.fromkeys(c for a in against.values() for c in a.get("kl", {})):
        rows = [Dot(s.name, kl(a["kl"][corpus]), life.colour(s)) for s, a in against.items() if a["kl"].get(corpus)]
        chart = dots(rows, title=f"KL from the parent on {corpus}", unit="nats per token", marks=[(0.0, "no change")])
        figures.append(_figure(chart, f"KL on <b>{escape(corpus)}</b>, test split."))
    lines = [Curve(titles[s], list(enumerate(a["cka"])), life.colour(s)) for s, a in against.items() if a.get("cka")]
    if lines:
        low = min(y for c in lines for _, y in c.points)
        chart = curves(
            lines, title="CKA by layer", x_unit="layer", y_unit="CKA", y_range=(min(0.9, low), 1.0), x_whole=True
        )
        figures.append(_figure(chart, words.CKA))
    skipped = "".join(
        f"<p class='nothing'>{escape(titles[s])}: not compared, {escape(a['skipped'])}.</p>"
        for s, a in against.items()
        if a.get("skipped")
    )
    tables = "".join(_weights(titles[s], a["weights"]) for s, a in against.items() if a.get("weights"))
    return skipped + (
        f'<h3 class="sub">Predictions and inner states</h3><p>{words.KL}</p>{_figures(figures)}'
        f'<h3 class="sub">Weights</h3><p>{words.WEIGHTS}</p><div class="grids">{tables}</div>'
    )


def samples(life: Life) -> str:
    """Each prompt with what every model made of it, side by side."""
    prompts = dict.fromkeys((x["kind"], x["prompt"]) for s in life.models for x in s.measurement.get("samples", []))
    parts = []
    for kind, prompt in prompts:
        texts = "".join(
            f'<div class="sample s{life.colour(s)}"><h4>{escape(s.name)}</h4>'
            f'<pre dir="auto">{_sample(x["text"])}</pre></div>'
            for s in life.models
            for x in s.measurement.get("samples", [])
            if (x["kind"], x["prompt"]) == (kind, prompt)
        )
        said = {"chat": "Asked in the chat format", "text": "To be continued"}.get(kind, kind)
        parts.append(
            f'<section class="prompt"><h3>{escape(said)}</h3><pre class="given" dir="auto">{escape(prompt)}</pre>'
            f'<div class="side">{texts}</div></section>'
        )
    return "".join(parts) or _nothing("No samples were taken.")


def _sample(text: str) -> str:
    if not text.strip():
        return "<i>(nothing: it ended at once)</i>"
    return escape(text[:_SAMPLE_LIMIT]) + (" <i>… (cut here)</i>" if len(text) > _SAMPLE_LIMIT else "")


def _scored(stage: Stage, corpus: str) -> list[dict[str, Any]]:
    return stage.measurement["bits_per_byte"].get(corpus, {}).get("items", [])


def _ngrams(life: Life, corpus: str) -> dict[str, float]:
    """Bits per byte of the n-gram models, from the first pre-training that recorded them."""
    for stage in life.models:
        if marks := stage.measurement.get("baselines", {}).get(corpus):
            return {order: bits_per_byte(marks[order]).value for order in ORDERS if order in marks}
    return {}


def _dots(life: Life, found: dict[Stage, Estimate]) -> list[Dot]:
    return [Dot(s.name, e, life.colour(s)) for s, e in found.items()]


def _change(e: Effect | None) -> Cell:
    if e is None:
        return MISSING
    text = f'{number(e.value, "%", sign=True)} <span class="ci">{interval(e.low, e.high, "%", sign=True)}</span>'
    if e.verdict.startswith("not"):
        return text + " ≈", 'class="unsure"'
    return heat(text, abs(e.value) / 30, "good-heat" if e.verdict == "clear" else "bad-heat")


def _loss(items: list[dict[str, Any]], key: str) -> str:
    return estimate(answer_loss(items, key)) if len(items) > 1 else MISSING


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


def _figures(figures: list[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>'


def _figure(chart: str, caption: str) -> str:
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"


def _nothing(why: str) -> str:
    return f'<p class="nothing">{why}</p>'
