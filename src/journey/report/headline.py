"""The first screen: what this is in one line, and the life as a row of stages with the one number each changed."""

from collections.abc import Sequence

from journey.evaluate.statistics import Estimate
from journey.files import read_json
from journey.report.biography import SPLITS, bytes_per_token, split_fact
from journey.report.claims import CODE_DROP, ENDINGS, main_text
from journey.report.effects import Effect
from journey.report.life import Life, Stage
from journey.report.lists import chip, size
from journey.report.markup import big, bytes_, duration, escape, interval, number


def headline(life: Life, found: Sequence[Effect]) -> str:
    """Title, two sentences, and a card a stage."""
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


def _card(life: Life, number_: int, stage: Stage, found: Sequence[Effect]) -> str:
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
    overlap = split_fact(stage, "test", "in_train")
    said = f"{number(100 * overlap, '%')} of a test document's 13-word runs stand in training too" if overlap else ""
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
    before = parent.name if parent else "the parent"
    if stage.kind == "sft" and (ended := by_name.get("answers that end by themselves")):
        easier = by_name.get("answer loss, right passage")
        read = by_name.get("answer loss, right passage against shuffled")
        changes = [
            (f"against {before}'s {{}}; the mark is {ENDINGS:.0f} %", ended),
            (f"loss of the documented answer, against {before}'s {{}}", easier),
            ("its loss with the right passage, against {} with a shuffled one", read),
        ]
        return _changes(ended, "of answers end by themselves", changes)
    if bigram:
        changes = [("against a bigram's {}", bigram), ("against a trigram's {}: the mark to reach", trigram)]
        return _changes(bigram, f"bits per byte on {main}", changes)
    if e := by_name.get(f"bits per byte, {main}"):
        mark = f"; the mark is {number(CODE_DROP, '%', decimals=0)}" if stage.kind == "continue" else ""
        costs = [(c, by_name.get(f"bits per byte, {c}")) for c in life.corpora if c != main]
        changes = [(f"against {before}'s {{}}{mark}", e)]
        changes += [(f"the cost: on {c}, against {before}'s {{}}", cost) for c, cost in costs]
        return _changes(e, f"bits per byte on {main}", changes)
    if own:
        return _changes(own[0], own[0].name, [("against {}", own[0])])
    return _facts(big(stage.lineage.get("tokens")), "tokens", "")


def _changes(e: Effect, what: str, changes: Sequence[tuple[str, Effect | None]]) -> str:
    """The number itself, and the changes that it stands for, each with the number that it is to be compared with."""
    here = e.here
    share = here.unit == "%"
    lines = "".join(
        f'<p class="delta">{chip(c.verdict)}{size(c)}<br>'
        f'<span class="compare">{escape(said.format(number(c.there.value, c.there.unit) if c.there else 0))}</span></p>'
        for said, c in changes
        if c
    )
    big_ = number(here.value, "%" if share else "", decimals=1 if share else 2)
    return f'<p class="big">{big_}</p><p class="what">{escape(what)} {_ci(here)}</p>{lines}'


def _facts(big_: str, what: str, compare: str) -> str:
    return f'<p class="big">{big_}</p><p class="what">{what}</p><p class="compare">{compare}</p>'


def _ci(e: Estimate) -> str:
    return f'<span class="ci">{interval(e.low, e.high, e.unit)}</span>'
