"""The first screen: what this is in one line, and the life as rows, each with the one number its stage changed."""

from dataclasses import replace

from journey.files import read_json
from journey.life.workspace import Entry, Life
from journey.report.blocks import Shown, Step
from journey.report.format import MISSING, big, duration, number
from journey.scores import Effect
from journey.stages.run import BELOW


def heading(life: Life) -> str:
    """From what to what, and how long it took."""
    left = len(life.entries) - len(life.done)
    if left:
        return f"A model's life, stage by stage: {len(life.done)} of {len(life.entries)} have run"
    begins = sorted((e for e in life.done if e.stage.start), key=lambda e: not e.is_model)  # a model before a text
    start = begins[0].stage.start if begins else "a checkpoint"
    goal = next((e.stage.goal for e in reversed(life.done) if e.stage.goal), "a text")
    seconds = sum(entry.seconds for entry in life.done)
    return f"From {start} to {goal} in {duration(seconds)}: what each stage changed"


def lede(life: Life) -> str:
    """What was trained on what, in a sentence or two."""
    models = [entry for entry in life.done if entry.is_model]
    said = []
    if models:
        first = models[0]
        assert first.node
        shape = read_json(first.node.path / "config.json") if (first.node.path / "config.json").exists() else {}
        line = first.node.lineage
        parameters = line.get("metrics", {}).get("parameters", {}).get("value")
        size = f" of {big(parameters)} parameters" if parameters else ""
        tokens = sum(entry.node.lineage.get("tokens") or 0 for entry in models if entry.node)
        family = f" ({shape['model_type']})" if "model_type" in shape else ""
        start = "trained from random weights"
        if first.stage.start:
            start = "brought from elsewhere and trained further" if tokens else "brought from elsewhere"
        machine = line.get("machine", {})
        on = f" on {big(tokens)} tokens" if tokens else ""
        cores = f" with {machine['cores']} cores of {machine.get('cpu') or 'a CPU'}" if machine.get("cores") else ""
        said.append(f"A GPT{size}{family}, {start}{on}{cores}.")
    said.append("Every number stands on a test split that nothing was trained on and nothing was chosen on.")
    return " ".join(said)


def step(life: Life, entry: Entry) -> Step:
    """A stage as one number, the changes it stands for, their verdicts, and what to compare them with."""
    about = Step(
        name=entry.name,
        big=MISSING,
        what="has not run yet",
        kind="" if entry.kind == entry.name else entry.kind,
        colour=life.colour(entry) if entry.is_model else None,
        link=f"stage-{entry.name}",
    )
    if not entry.node:
        return about
    story = life.story(entry)
    shown = _shown(life, entry)
    if story.big:
        changes = story.changes or [_change(life, entry, e, None) for e in shown]
        return replace(about, big=story.big, what=story.what, said=story.said, changes=changes)
    if not shown:
        tokens = entry.node.lineage.get("tokens")
        return replace(about, big=big(tokens), what="tokens" if entry.taken else "tokens; not measured yet")
    first = shown[0]
    value = number(first.here.value, "%" if first.here.unit == "%" else "", decimals=1 if first.here.unit == "%" else 2)
    rest = shown if first.signed else shown[1:]  # a size is the number itself
    changes = [_change(life, entry, e, first) for e in rest]
    said = "" if changes else first.than
    return replace(about, big=value, what=_what(first), estimate=first.here, changes=changes, said=said)


def _what(effect: Effect) -> str:
    return f"of {effect.score.label}" if effect.score.share else effect.score.label


def _shown(life: Life, entry: Entry) -> list[Effect]:
    """The effects that the stage says stand on the first screen; a model that shows none of them shows its first."""
    by_key = {effect.key: effect for effect in life.effects[entry.name]}
    others = [text for text in life.texts if text not in entry.texts]
    keys = [
        key.format(data=text, others=other)
        for key in entry.stage.shows
        for text in (entry.texts if "{data}" in key else [""])
        for other in (others if "{others}" in key else [""])
    ]
    found = []
    for key in keys:
        name, _, limit = key.partition(BELOW)
        effect = by_key.get(name)
        if effect and not (limit and effect.here.value >= float(limit)):
            found.append(effect)
    return found or ([next(iter(by_key.values()))] if by_key and entry.is_model else [])


def _change(life: Life, entry: Entry, effect: Effect, first: Effect | None) -> Shown:
    """A change with what to compare it with; what it is a change of is said where that is not the number shown."""
    label = "" if first is not None and effect.score.key == first.score.key else effect.score.label
    against = f"against {effect.shortly}" if effect.signed else ""
    said = ", ".join(filter(None, [label, against]))
    marks = [each.mark() for each in life.expected.get(entry.name, ()) if each.concerns(effect)]
    return replace(effect.shown(), compare="; ".join([said, *filter(None, marks)]))
