"""The first screen: what this is in one line, and the life as rows, each with the one number its stage changed."""

from collections.abc import Sequence

from journey.evaluate.statistics import Estimate
from journey.files import read_json
from journey.report.biography import SPLITS, bytes_per_token, pairs, split_fact
from journey.report.claims import CODE_DROP, ENDINGS, Q8_COST, main_text
from journey.report.effect import SIZE, Effect
from journey.report.estimates import length_bias, recall, score_gap
from journey.report.later import used
from journey.report.life import Life, Stage
from journey.report.lists import chip, mark, size
from journey.report.markup import MISSING, big, bytes_, duration, escape, interval, number, places, power

Change = tuple[str, Effect | Estimate | None]  # what is compared, with {} for the other number; and the number itself


def headline(life: Life, found: Sequence[Effect]) -> str:
    """Title, two sentences, and a row a stage."""
    rows = "".join(_row(life, i, stage, found) for i, stage in enumerate(life.stages, 1))
    legend = " ".join(chip(word) for word in ("clear", "not distinguishable from zero", "worse", SIZE))
    return (
        f'<header class="top"><p class="kicker">Journey · recipe {escape(life.recipe)} · seed {life.seed}</p>'
        f'<h1>{_title(life)}</h1><p class="lede">{_lede(life)}</p>'
        f'<ol class="life">{rows}</ol>'
        f'<p class="key">In brackets: 95 % intervals. {legend}: the interval lies on the better side of zero, '
        "holds zero, lies on the worse side; or the number is neither good nor bad.</p></header>"
    )


def _title(life: Life) -> str:
    seconds = sum((s.lineage.get("seconds") or 0) + s.measurement.get("seconds", 0) for s in life.done)
    left = len(life.stages) - len(life.done)
    if left:
        return f"A model's life, stage by stage: {len(life.done)} of {len(life.stages)} have run"
    kinds = {s.kind for s in life.done}
    goal = "a chat model" if kinds & {"sft", "dpo"} else "a language model"
    goal = "answers with sources" if "index" in kinds and goal == "a chat model" else goal
    start = "an imported checkpoint" if "import" in kinds else "raw text"
    return f"From {start} to {goal} in {duration(seconds)}: what each stage changed"


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
        start = "trained from random weights"
        if first.kind == "import":
            start = "brought from elsewhere and trained further" if tokens else "brought from elsewhere"
        said.append(f"A GPT{size_}{family}, {start}" + (f" on {big(tokens)} tokens" if tokens else ""))
        machine = first.lineage.get("machine", {})
        if machine.get("cores"):
            said[-1] += f" with {machine['cores']} cores of {escape(machine.get('cpu') or 'a CPU')}"
        said[-1] += "."
    said.append("Every number stands on a test split that nothing was trained on and nothing was chosen on.")
    return " ".join(said)


def _row(life: Life, number_: int, stage: Stage, found: Sequence[Effect]) -> str:
    """A stage as one number, the changes it stands for, their verdicts, and what to compare them with."""
    own = {e.name: e for e in found if e.stage == stage.name}
    if not stage.lineage:
        body = _facts(MISSING, "has not run yet")
    elif stage.kind == "text":
        body = _text(stage)
    elif stage.kind == "tokenizer":
        body = _tokenizer(life, stage)
    elif stage.kind == "prepare":
        body = _facts(big(stage.lineage["metrics"]["tokens"]["value"]), "tokens to train on, encoded once")
    elif stage.kind == "pairs":
        body = _pairs(stage)
    elif stage.kind == "import":
        body = _import(stage)
    elif not stage.measurement:
        body = _facts(big(stage.lineage.get("tokens")), "tokens; not measured yet")
    elif stage.kind == "quantize":
        body = _quantize(stage, own)
    elif stage.kind == "index":
        body = _index(stage, own)
    else:
        body = _model(life, stage, own)
    colour = f" s{life.colour(stage)}" if stage.is_model else ""
    kind = "" if stage.kind == stage.name else f"<small>{escape(stage.kind)}</small>"
    return (
        f'<li class="row{colour}"><h2><a href="#stage-{escape(stage.name)}"><i>{number_}</i>'
        f"{escape(stage.name)}</a>{kind}</h2>{body}</li>"
    )


def _text(stage: Stage) -> str:
    documents, total = (sum(split_fact(stage, split, key) or 0 for split in SPLITS) for key in ("documents", "bytes"))
    overlap = split_fact(stage, "test", "in_train")
    said = f"{number(100 * overlap, '%')} of a test document's 13-word runs stand in training too" if overlap else ""
    return _facts(bytes_(total), f"of text in {documents:,} documents", said)


def _tokenizer(life: Life, stage: Stage) -> str:
    size_ = f"{number(stage.lineage['config'].get('vocab_size'), decimals=0)} tokens in the vocabulary"
    e = bytes_per_token(life, main_text(stage))
    if e is None:
        return _facts("", size_)
    return _facts(number(e.value, decimals=2), f"bytes of text per token {_ci(e)}", f"1 would be bytes alone; {size_}")


def _pairs(stage: Stage) -> str:
    found = [p for split in SPLITS for p in pairs(stage, split)]
    train = pairs(stage, "train")  # what the next stage learns from
    changes: list[Change] = []
    if len(train) > 1:
        changes = [
            ("of 1: how much better the chosen scored", score_gap(train)),
            ("more in the chosen: the length bias", length_bias(train)),
        ]
    return _changes(f"{len(found):,}", "pairs of answers, ranked", changes)


def _import(stage: Stage) -> str:
    metrics = stage.lineage.get("metrics", {})
    checked = next((m["value"] for name, m in metrics.items() if "logits" in name), None)
    said = "its predictions could not be checked against the source"
    if checked is not None:
        said = f"logits within {power(checked)} of the source's"
    parameters = metrics.get("parameters", {}).get("value")
    millions = MISSING if parameters is None else f"{parameters / 1e6:,.3g}\u00a0M"
    return _facts(millions, "parameters, trained elsewhere", said)


def _model(life: Life, stage: Stage, own: dict[str, Effect]) -> str:
    main = main_text(stage)
    parent = life.parent(stage)
    before = parent.name if parent else "the parent"
    bigram, trigram = (own.get(f"bits per byte, {main}, against a {order}") for order in ("bigram", "trigram"))
    if stage.kind == "sft" and (ended := own.get("answers that end by themselves")):
        changes: list[Change] = [
            (f"against {before}'s {{}}; the mark is {ENDINGS:.0f} %", ended),
            (f"answer loss, against {before}'s {{}}", own.get("answer loss, right passage")),
        ]
        return _changes(ended.here, "of answers end by themselves", changes)
    if stage.kind == "dpo" and (told := own.get("preferences, against chance")):
        moved = own.get("KL, own answers")
        changes = [("against 50 % by chance", told), (f"the cost: how far it moved from {before}", moved)]
        return _changes(told.here, "of held-out preferences told apart", changes)
    if bigram:
        changes = [("against a bigram's {}", bigram), ("against a trigram's {}: the mark", trigram)]
        return _changes(bigram.here, f"bits per byte on {main}", changes)
    if e := own.get(f"bits per byte, {main}"):
        said = f"; the mark is {number(CODE_DROP, '%', decimals=0)}" if stage.kind == "continue" else ""
        changes = [(f"against {before}'s {{}}{said}", e)]
        changes += [
            (f"the cost on {c}, against {before}'s {{}}", own.get(f"bits per byte, {c}"))
            for c in life.corpora
            if c != main
        ]
        return _changes(e.here, f"bits per byte on {main}", changes)
    if own:
        e = next(iter(own.values()))
        return _changes(e.here, e.name, [("against {}", e)])
    return _facts(big(stage.lineage.get("tokens")), "tokens")


def _quantize(stage: Stage, own: dict[str, Effect]) -> str:
    made = stage.measurement["quantized"]
    shares = {kind: 100 * t["bytes"] / made["reference"]["bytes"] for kind, t in made["types"].items()}
    smallest = min(shares, key=lambda kind: shares[kind])
    others = "".join(f"; {kind} {share:.0f} %" for kind, share in shares.items() if kind not in (smallest, "f16"))
    marks = {"q8_0": f"; the mark is +{Q8_COST} %"}
    changes = [
        (f"bits per byte as {kind}{marks.get(kind, ', against {}')}", own.get(f"bits per byte, {kind}"))
        for kind in shares
        if kind != "f16"
    ]
    return _changes(f"{shares[smallest]:.0f}\u00a0%", f"of the fp32 bytes as {smallest}{others}", changes)


def _index(stage: Stage, own: dict[str, Effect]) -> str:
    items = stage.measurement.get("retrieval", {}).get("items", [])
    if len(items) < 2:
        return _facts(MISSING, "no held-out question to search for")
    helps = (
        "answer loss, against {} without",
        own.get("answer loss, retrieved passage against none"),
    )
    named, other = own.get("recall@5, named"), own.get("recall@5, not named")
    if not named:
        return _changes(recall(items, used(stage.measurement)), "find their passage in the first 5", [helps])
    changes: list[Change] = [("where the question names no function", other), helps]
    return _changes(named.here, "of named functions found in the first 5", changes)


def _changes(value: Estimate | str, what: str, changes: Sequence[Change]) -> str:
    """The number itself, and the first two changes that it stands for, each with what it is to be compared with."""
    if isinstance(value, Estimate):
        shown = number(value.value, "%" if value.unit == "%" else "", decimals=1 if value.unit == "%" else 2)
        said = f"{escape(what)} {_ci(value)}"
    else:
        shown, said = value, escape(what)
    lines = [_change(words, e) for words, e in changes if e][:2]
    return f'<p class="big">{shown}</p><p class="what">{said}</p>{"".join(lines)}'


def _change(said: str, e: Effect | Estimate) -> str:
    if isinstance(e, Effect):
        there, shown = e.there, mark(e.verdict) + size(e)
    else:
        value = number(e.value, e.unit, sign=True, decimals=places(e.low, e.high, e.unit))
        there, shown = None, f"{mark(SIZE)}<strong>{value}</strong> {_ci(e, sign=True)}"
    other = (
        number(there.value, "%" if there.unit == "%" else "", decimals=1 if there.unit == "%" else 3) if there else ""
    )
    return f'<p class="delta">{shown} <span class="compare">{escape(said.replace("{}", other))}</span></p>'


def _facts(value: str, what: str, compare: str = "") -> str:
    said = f'<p class="delta fact"><span class="compare">{compare}</span></p>' if compare else ""
    return f'<p class="big">{value}</p><p class="what">{what}</p>{said}'


def _ci(e: Estimate, sign: bool = False) -> str:
    return f'<span class="ci">{interval(e.low, e.high, e.unit, sign=sign)}</span>'
