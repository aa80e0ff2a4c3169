"""The page as a whole: the headline a person would show, the stages, the measurements, and how it was all measured."""

from collections.abc import Sequence
from pathlib import Path

from journey.evaluate.statistics import Estimate
from journey.files import read_json
from journey.report import chapters, words
from journey.report.biography import SPLITS, bytes_per_token, section, split_fact
from journey.report.claims import CODE_DROP, ENDINGS, claims, main_text
from journey.report.effects import Effect, effects
from journey.report.life import Life, Stage
from journey.report.lists import Notes, chip, claim_list, size
from journey.report.markup import MISSING, big, bytes_, duration, escape, interval, join, number, table

STYLE = Path(__file__).with_name("style.css")


def page(life: Life) -> str:
    """The whole HTML of a life."""
    found = effects([s.measurement for s in life.models], {s.lineage["id"]: s.lineage for s in life.done})
    notes = Notes()
    expected = claims(life, found)
    promises = f"<h2>What was expected, and what came out</h2>{claim_list(expected, notes)}" if expected else ""
    firsts = {s.kind: s.name for s in reversed(life.stages)}
    stages = "".join(section(life, s, firsts[s.kind] == s.name, found, notes) for s in life.stages)
    measured = _chapters(life, found, notes)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(life.recipe)}: what each stage changed</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head><body>"
        f"{_headline(life, found)}{_contents(life)}<main>"
        f'<section id="expected">{promises}</section>'
        f'<section id="stages"><h2>The stages, one by one</h2>{stages}</section>'
        f"{measured}"
        f'<section id="lineage"><h2>Lineage</h2><p>{words.LINEAGE}</p>{_lineage(life)}</section>'
        f'<section id="how"><h2>How it was measured</h2>{_how(life, found)}{notes.listed()}</section>'
        "</main><footer><p>Made by <code>journey report</code> from the files of the nodes. "
        "This page needs no network and no script.</p></footer></body></html>\n"
    )


def _headline(life: Life, found: list[Effect]) -> str:
    cards = "".join(_card(life, i, stage, found) for i, stage in enumerate(life.stages, 1))
    legend = " ".join(chip(word) for word in ("clear", "not distinguishable from zero", "worse"))
    return (
        f'<header class="top"><p class="kicker">Journey · recipe {escape(life.recipe)} · seed {life.seed}</p>'
        f'<h1>{_title(life)}</h1><p class="lede">{_lede(life)}</p>'
        f'<ol class="life">{cards}</ol>'
        f'<p class="key">In brackets: 95 % intervals. {legend}: the interval lies on the better side of zero, '
        "holds zero, or lies on the worse side.</p></header>"
    )


def _title(life: Life) -> str:
    seconds = sum((s.lineage.get("seconds") or 0) + s.measurement.get("seconds", 0) for s in life.done)
    left = len(life.stages) - len(life.done)
    if left:
        return f"A model's life, stage by stage: {len(life.done)} of {len(life.stages)} have run"
    goal = "a chat model" if any(s.kind == "sft" for s in life.done) else "a language model"
    return f"From raw text to {goal} in {duration(seconds)}, and what each stage changed"


def _lede(life: Life) -> str:
    """What was trained on what, in a sentence or two."""
    models = [s for s in life.done if s.is_model]
    said = []
    if models:
        first = models[0]
        shape = read_json(first.path / "config.json") if (first.path / "config.json").exists() else {}
        parameters = first.lineage.get("metrics", {}).get("parameters", {}).get("value")
        size_ = f" of {big(parameters)} parameters" if parameters else ""
        tokens = sum(s.lineage.get("tokens") or 0 for s in models)
        family = f" ({escape(shape['model_type'])})" if "model_type" in shape else ""
        said.append(f"A GPT{size_}{family}, trained from random weights on {big(tokens)} tokens")
        machine = first.lineage.get("machine", {})
        if machine.get("cores"):
            said[-1] += f" with {machine['cores']} cores of {escape(machine.get('cpu') or 'a CPU')}"
        said[-1] += "."
    said.append("Every number stands on a test split that nothing was trained on and nothing was chosen on.")
    return " ".join(said)


def _card(life: Life, number_: int, stage: Stage, found: list[Effect]) -> str:
    """A stage as one number, the change it stands for, the verdict, and what to compare it with."""
    if not stage.lineage:
        body = "<p class='what'>has not run yet</p>"
    elif stage.kind == "text":
        body = _text_card(stage)
    elif stage.kind == "tokenizer":
        body = _tokenizer_card(life, stage)
    elif not stage.measurement:
        body = f"<p class='big'>{big(stage.lineage.get('tokens'))}</p><p class='what'>tokens; not measured yet</p>"
    else:
        body = _model_card(life, stage, [e for e in found if e.stage == stage.name])
    colour = f" s{life.colour(stage)}" if stage.is_model else ""
    kind = "" if stage.kind == stage.name else f"<small>{escape(stage.kind)}</small>"
    return (
        f'<li class="card{colour}"><h2><a href="#stage-{escape(stage.name)}"><i>{number_}</i>'
        f"{escape(stage.name)}</a>{kind}</h2>{body}</li>"
    )


def _text_card(stage: Stage) -> str:
    documents, total = (sum(split_fact(stage, split, key) or 0 for split in SPLITS) for key in ("documents", "bytes"))
    overlap = split_fact(stage, "test", "over_half_in_train")
    said = f"{number(100 * overlap, '%')} of test documents still overlap with training" if overlap is not None else ""
    return _facts(bytes_(total), f"of text in {documents:,} documents", said)


def _tokenizer_card(life: Life, stage: Stage) -> str:
    size_ = f"{number(stage.lineage['config'].get('vocab_size'), decimals=0)} tokens in the vocabulary"
    e = bytes_per_token(life, main_text(stage))
    if e is None:
        return _facts("", size_, "")
    return _facts(number(e.value, decimals=2), f"bytes of text per token {_ci(e)}", f"1 would be bytes alone; {size_}")


def _model_card(life: Life, stage: Stage, own: list[Effect]) -> str:
    by_name = {e.name: e for e in own}
    main = main_text(stage)
    parent = life.parent(stage)
    bigram, trigram = (by_name.get(f"bits per byte, {main}, against a {order}") for order in ("bigram", "trigram"))
    if stage.kind == "sft" and (ended := by_name.get("answers that end by themselves")):
        easier = by_name.get("answer loss, right passage")
        read = by_name.get("answer loss, right passage against shuffled")
        changes = [
            (f"than {parent.name if parent else 'the parent'}; the mark is {ENDINGS:.0f} %", ended),
            ("loss of the documented answer", easier),
            ("right passage against a shuffled one", read),
        ]
        return _changes(ended, "of answers end by themselves", changes)
    if bigram:
        changes = [("against a bigram", bigram), ("against a trigram: the mark to reach", trigram)]
        return _changes(bigram, f"bits per byte on {main}", changes)
    if e := by_name.get(f"bits per byte, {main}"):
        name = parent.name if parent else "the parent"
        costs = [by_name.get(f"bits per byte, {c}") for c in life.corpora if c != main]
        mark = (
            f"than {name}; the mark is {number(CODE_DROP, '%', decimals=0)}"
            if stage.kind == "continue"
            else f"than {name}"
        )
        return _changes(
            e,
            f"bits per byte on {main}",
            [(mark, e), *((f"on {c.name.split(', ')[1]}: the cost", c) for c in costs if c)],
        )
    if own:
        return _changes(own[0], own[0].name, [("", own[0])])
    return _facts(big(stage.lineage.get("tokens")), "tokens", "")


def _changes(e: Effect, what: str, changes: Sequence[tuple[str, Effect | None]]) -> str:
    """The number itself, and the changes that it stands for, each with what it is to be compared with."""
    here = e.here
    share = here is not None and here.unit == "%"
    big_ = number(here.value, "%" if share else "", decimals=1 if share else 2) if here else MISSING
    lines = "".join(
        f'<p class="delta">{chip(c.verdict)}{size(c)}<br><span class="compare">{escape(_versus(words_, c))}</span></p>'
        for words_, c in changes
        if c
    )
    return f'<p class="big">{big_}</p><p class="what">{escape(what)} {_ci(here) if here else ""}</p>{lines}'


def _versus(said: str, e: Effect) -> str:
    """What an effect is measured against, with the number that stood there."""
    return f"{said} ({number(e.there.value, e.there.unit)})" if e.there else said


def _facts(big_: str, what: str, compare: str) -> str:
    return f'<p class="big">{big_}</p><p class="what">{what}</p><p class="compare">{compare}</p>'


def _ci(e: Estimate) -> str:
    return f'<span class="ci">{interval(e.low, e.high, e.unit)}</span>'


def _contents(life: Life) -> str:
    links = [("expected", "Expected and found"), *((f"stage-{s.name}", s.name) for s in life.stages)]
    links += [(id, title) for id, title, _ in _CHAPTERS] if life.models else []
    links += [("lineage", "Lineage"), ("how", "How it was measured")]
    items = "".join(f'<li><a href="#{escape(id)}">{escape(title)}</a></li>' for id, title in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


_CHAPTERS = (
    ("bits", "Bits per byte", words.BITS),
    ("forgetting", "What was forgotten", words.FORGETTING),
    ("choices", "Multiple choice", words.CHOICES),
    ("answers", "Answers", words.ANSWERS),
    ("repeats", "Repeated tokens and heads", words.REPEATS),
    ("parent", "Inside, against the parent", "What a stage did to the model itself."),
    ("samples", "Samples side by side", words.SAMPLES),
)


def _chapters(life: Life, found: list[Effect], notes: Notes) -> str:
    if not life.models:
        return "<section><h2>Measurements</h2><p class='nothing'>No model of this life has been measured yet.</p></section>"
    bodies = {
        "bits": lambda: chapters.bits(life, notes),
        "forgetting": lambda: chapters.forgetting(life, found),
        "choices": lambda: chapters.choices(life),
        "answers": lambda: chapters.answers(life),
        "repeats": lambda: chapters.repeats(life, found),
        "parent": lambda: chapters.against_parent(life),
        "samples": lambda: chapters.samples(life),
    }
    parts = (
        f'<section id="{id}"><h2>{title}</h2><p>{said}</p>{bodies[id]()}</section>' for id, title, said in _CHAPTERS
    )
    return "".join(parts)


def _lineage(life: Life) -> str:
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


def _data(life: Life) -> str:
    rows = [
        [
            f"{escape(s.name)}: {escape(field)}",
            escape(d.get("name", MISSING)),
            f"<code>{escape(d['fingerprint'][:16])}</code>",
        ]
        for s in life.done
        for field, d in s.lineage.get("data", {}).items()
    ]
    return table("The data that went in", ["Node and field", "text", "fingerprint"], rows) if rows else ""


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


def _how(life: Life, found: Sequence[Effect]) -> str:
    tested = [e for e in found if e.verdict != "a size"]
    seconds = sum(s.measurement.get("seconds", 0) for s in life.models)
    return f"""
<ul class="plain">
<li><b>Three splits.</b> Training reads <em>train</em>; settings were chosen on <em>dev</em>; every number here is from <em>test</em>,
except the curves through training, which are from dev. Clusters of near-copies go to one split as a whole.</li>
<li><b>Intervals.</b> Items (documents, questions, sequences) are drawn again 2,000 times with replacement, with a fixed seed; the interval holds
the middle 95 % of the results. Two models are compared on the same items in every draw (paired), so what makes a document hard for both cancels. Shares
of right or ended answers carry Wilson's interval, because drawing again from 150 successes never gives a failure.</li>
<li><b>Verdicts.</b> <em>Clear</em>: the whole interval is on the better side of zero. <em>Worse</em>: on the worse side. Otherwise
<em>not distinguishable from zero</em>. {len(tested)} effects are judged on this page; if none were real, about {max(1, round(len(tested) / 20))} of them would
still fall outside zero by chance.</li>
<li><b>What the intervals leave out.</b> They say how the numbers would move with other test items. They do not say how they would move with another
training seed: each model was trained once.</li>
<li><b>One code path.</b> Every model was measured by the same functions on the same items{f", in {duration(seconds)} altogether" if seconds else ""}. A base model is asked
in the chat format too, though it has never seen it: that is the comparison.</li>
</ul>
<h3>Conventions, by note</h3>"""
