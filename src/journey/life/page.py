"""The page as a whole: the headline a person would show, the stages, the measurements, and how it was all measured."""

from collections.abc import Sequence

from journey.expected import judged
from journey.life import first, provenance
from journey.life.workspace import Entry, Life
from journey.measures import every, load
from journey.report.blocks import Block, Cell, Changes, Fold, Heading, Page, Prose, Row, Section, Table, Text, plain
from journey.scores import SIZE, VERSUS, Effect, Score

CHANGED = (
    "Weights that learn something new are the weights that held the old. Each row is one stage against the model "
    "before it, on the same held-out items. Bits per byte below zero: it learned that text; above zero: it forgot some."
)


def page(life: Life) -> Page:
    """Everything that there is to show of a life."""
    taken = [name for entry in life.entries for name in entry.taken]
    measures = {name: load(name) for name in every(taken) if life.seen(name)}
    before = [_chapter(life, name) for name, measure in measures.items() if measure.first]
    after = [_chapter(life, name) for name, measure in measures.items() if not measure.first and measure.of == "model"]
    after += [
        _chapter(life, name) for name, m in measures.items() if not m.first and m.of not in ("model", "tokenizer")
    ]
    if not after:
        after = [Section("measurements", "Measurements", [Text("No model has been measured yet.", "nothing")])]
    explained = {entry.kind: entry.name for entry in reversed(life.entries)}  # the first of a kind
    stages = [_stage(life, entry, explained[entry.kind] == entry.name) for entry in life.entries]
    return Page(
        title=f"{life.recipe}: what each stage changed",
        heading=first.heading(life),
        kicker=f"Journey · recipe {life.recipe} · seed {life.seed}",
        lede=first.lede(life),
        steps=[first.step(life, entry) for entry in life.entries],
        sections=[
            *_expected(life),
            *([_changed(life)] if measures and any(entry.is_model for entry in life.entries) else []),
            *before,
            Section("stages", "The stages, one by one", [], sections=stages),
            *after,
            Section("lineage", "Lineage", provenance.nodes(life), provenance.LINEAGE),
            Section("how", "How it was measured", provenance.method(life)),
        ],
        made_by="journey report",
        contents=True,
        notes="how",
        footer="Made from the files of the nodes.",
    )


def _expected(life: Life) -> list[Section]:
    """What the recipe expects, and what came out; a recipe that expects nothing has no such chapter."""
    if not life.expected:
        return []
    rows = [
        shown
        for entry in life.entries
        if entry.name in life.expected
        for shown in judged(life.expected[entry.name], entry.name, entry.taken, life.effects[entry.name])
    ]
    blocks: list[Block] = [Changes(rows)] if rows else [Text("Nothing to compare yet.", "nothing")]
    return [Section("expected", "What was expected, and what came out", blocks, short="Expected and found")]


def _chapter(life: Life, name: str) -> Section:
    measure = load(name)
    return Section(name, measure.title, list(measure.drawn(life.seen(name))), Prose(measure.why))


def _stage(life: Life, entry: Entry, explained: bool) -> Section:
    """What a stage is, what went in, how it went, what it changed."""
    kind = "" if entry.kind == entry.name else entry.kind
    if not entry.node:
        nothing = Text("This stage has not run yet.", "nothing")
        return Section(f"stage-{entry.name}", entry.name, [nothing], kind=kind)
    own = life.effects[entry.name]
    by_itself = [e for e in own if life.parent(entry) and _by_itself(entry, e)]
    main = [e for e in own if e not in by_itself]
    shown = [key.partition("{")[0] for key in entry.stage.shows]
    main.sort(key=lambda e: not any(e.key.startswith(key) for key in shown))  # what the stage is for comes first
    changes: list[Block] = []
    if main:
        heading = "What it changed" if entry.is_model else "What was measured"
        changes = [Heading(heading), Changes([e.shown() for e in main])]
    if by_itself:
        changes.append(Fold("And by itself, as every model is measured", [Changes([e.shown() for e in by_itself])]))
    blocks = [*life.story(entry).blocks, *changes, *provenance.record(entry)]
    return Section(f"stage-{entry.name}", entry.name, blocks, Prose(entry.stage.why) if explained else "", kind=kind)


def _by_itself(entry: Entry, effect: Effect) -> bool:
    """Whether it is no change from the model before, and not what the stage is for."""
    return VERSUS in effect.key and entry.is_model and effect.key not in entry.stage.shows


def _changed(life: Life) -> Section:
    """The matrix of change: stages down, scores across, each against the model before it."""
    steps = [(entry, parent) for entry in life.entries if entry.taken and (parent := life.parent(entry))]
    by_key = {(entry.name, e.key): e for entry, _ in steps for e in life.effects[entry.name]}
    scores: dict[str, Score] = {}
    for e in by_key.values():
        if e.score.full is not None and e.key == e.score.key:
            scores.setdefault(e.key, e.score)
    tables = []
    for change, caption in (("percent", "Change in bits per byte"), ("difference", "Change in what it can do")):
        columns = [score for score in scores.values() if score.change == change]
        if not columns:
            continue
        head = ["Stage", *(_column(score) for score in columns)]
        rows = [
            [
                Cell(Prose(f"{plain(parent.name)} → **{plain(entry.name)}**"), colour=life.colour(entry)),
                *(_cell(by_key.get((entry.name, score.key)), score) for score in columns),
            ]
            for entry, parent in steps
            if entry.is_model
        ]
        tables.append(Table(caption, head, rows))
    nothing = Text("No stage has gone on from a measured model yet.", "nothing")
    blocks: Sequence[Block] = [Row(tables)] if tables else [nothing]
    return Section("changed", "What each stage changed", blocks, CHANGED)


def _column(score: Score) -> str:
    return f"{score.label}, {score.change_unit}"


def _cell(effect: Effect | None, score: Score) -> Cell | None:
    if effect is None:
        return None
    if effect.verdict == SIZE:
        return Cell(effect.size, sign=True)
    if effect.verdict.startswith("not"):
        return Cell(effect.size, sign=True, tone="unsure")
    heat = abs(effect.size.value) / (score.full or 1.0)
    return Cell(effect.size, sign=True, heat=heat, tone="good" if effect.verdict == "clear" else "bad")
