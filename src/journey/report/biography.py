"""One section a stage: what it is, what went in, how it went, what it changed."""

import json
from collections.abc import Sequence
from typing import Any

from journey.evaluate.statistics import Estimate, ratio
from journey.files import read_json
from journey.report import words
from journey.report.charts import Curve, Mark, curves
from journey.report.claims import main_text
from journey.report.effect import Effect
from journey.report.estimates import bits_per_byte, length_bias, score_gap
from journey.report.life import Life, Stage
from journey.report.lists import Notes, effect_list
from journey.report.markup import MISSING, big, bytes_, duration, escape, estimate, folded, join, number, table
from journey.report.provenance import record

SPLITS = ("train", "dev", "test")
BY_ITSELF = (  # effects that are no change from the model before: folded where there was one
    "multiple choice, against chance",
    "repeated random tokens",
    "answer loss, right passage against shuffled",
    "answer loss, right passage against none",
)
EXAMPLE = "numpy.linalg.norm(x, ord=None): Return the matrix or vector norm of x."


def section(life: Life, stage: Stage, first: bool, effects: Sequence[Effect], notes: Notes) -> str:
    """The section of one stage, its heading included; the first of a kind is explained."""
    kind = "" if stage.kind == stage.name else f" <small>{escape(stage.kind)}</small>"
    head = f'<section id="stage-{escape(stage.name)}" class="stage"><h3>{escape(stage.name)}{kind}</h3>'
    if not stage.lineage:
        return f"{head}<p class='nothing'>This stage has not run yet.</p></section>"
    explained = f"<p>{words.STAGES[stage.kind]}</p>" if first and stage.kind in words.STAGES else ""
    bodies = {"text": _text, "tokenizer": _tokenizer, "pairs": _pairs, "quantize": _facts, "index": _facts} | {
        "import": _import,
        "prepare": _facts,
    }
    body = bodies.get(stage.kind, _model)(life, stage)
    own = [e for e in effects if e.stage == stage.name]
    by_itself = [e for e in own if life.parent(stage) and e.name in BY_ITSELF]
    main = [e for e in own if e not in by_itself]
    main.sort(key=lambda e: not e.name.startswith("preferences"))  # what its stage is for comes first
    head_ = {"quantize": "What it cost", "index": "What it finds, and what that helps"}
    changed = f"<h4>{head_.get(stage.kind, 'What it changed')}</h4>{effect_list(main, notes)}" if main else ""
    changed += folded("And by itself, as every model is measured", effect_list(by_itself, notes)) if by_itself else ""
    return f"{head}{explained}{body}{changed}{record(stage)}</section>"


def split_fact(stage: Stage, split: str, key: str) -> Any:
    """A number that a text's corpus.json keeps by split, or None."""
    return stage.corpus.get("splits", {}).get(split, {}).get(key)


def bytes_per_token(life: Life, corpus: str) -> Estimate | None:
    """Bytes per token on the test split, from what the first measured model was scored on."""
    for stage in life.models:
        if items := stage.measurement["bits_per_byte"].get(corpus, {}).get("items"):
            return ratio([i["bytes"] for i in items], [i["tokens"] for i in items], "bytes/token")
    return None


def _text(life: Life, stage: Stage) -> str:
    rows = [
        [
            split,
            number(split_fact(stage, split, "documents"), decimals=0),
            bytes_(split_fact(stage, split, "bytes")),
            _share(split_fact(stage, split, "over_half_in_train")),
            _share(split_fact(stage, split, "in_train")),
            number(split_fact(stage, split, "questions"), decimals=0),
            number(split_fact(stage, split, "choices"), decimals=0),
        ]
        for split in SPLITS
    ]
    head = ["Split", "documents", "bytes", "over half in train", "mean share in train", "questions", "multiple choice"]
    bar = "".join(
        f'<span class="{split}" style="flex-grow:{split_fact(stage, split, "documents") or 0}"></span>'
        for split in SPLITS
    )
    said = []
    if dropped := stage.corpus.get("duplicates_dropped"):
        said.append(f"{dropped:,} exact duplicates were dropped.")
    if (spellings := stage.corpus.get("special_spellings")) is not None:
        said.append(f"Spellings of special tokens in the text: {spellings:,}, kept as text.")
    return (
        f'<div class="bar" aria-hidden="true">{bar}</div>'
        + table(f"The text <b>{escape(stage.name)}</b>", head, rows, style="numbers")
        + f"<p>{' '.join(said)}</p>"
    )


def _share(value: float | None) -> str:
    return MISSING if value is None else number(100 * value, "%")


def _tokenizer(life: Life, stage: Stage) -> str:
    rows = [[escape(c), estimate(e)] for c in life.corpora if (e := bytes_per_token(life, c))]
    lengths = table("Bytes of text per token, test split", ["Corpus", "bytes per token"], rows, style="numbers")
    return f"{lengths if rows else ''}{_pieces(stage)}"


def _pieces(stage: Stage) -> str:
    """One sentence cut by the tokenizer, so that the eye sees what a token is."""
    if not (stage.path / "tokenizer.json").exists():
        return ""
    from journey.tokenizer.formats import Tokenizer

    tokenizer = Tokenizer.load(stage.path)
    ids = tokenizer.encode(EXAMPLE)
    cut = "".join(f"<span>{escape(tokenizer.decode([i])).replace(' ', '·')}</span><wbr>" for i in ids)
    counted = f"{len(EXAMPLE)} characters as {len(ids)} tokens (· is a space)."
    return f'<p class="pieces">{cut}</p><p class="caption">{counted}</p>'


def pairs(stage: Stage, split: str) -> list[dict[str, Any]]:
    """The preference pairs of a split: {"prompt", "chosen", "rejected", "chosen_score", "rejected_score", …}."""
    path = stage.path / f"pairs-{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _import(life: Life, stage: Stage) -> str:
    path = stage.path / "import.json"
    facts = read_json(path) if path.exists() else {}
    said = [f"Read from {escape(facts['format'])}."] if facts.get("format") else []
    said += [f"{escape(line).capitalize()}." for line in facts.get("changed", [])]
    if reason := facts.get("check", {}).get("unchecked"):
        said.append(f"Logits not checked: {escape(reason)}.")
    return _facts(life, stage) + "".join(f"<p>{sentence}</p>" for sentence in said)


def _pairs(life: Life, stage: Stage) -> str:
    found = {split: pairs(stage, split) for split in SPLITS}
    rows = [
        [split, f"{len(some):,}", estimate(score_gap(some)), estimate(length_bias(some))]
        if len(some) > 1
        else [split, f"{len(some):,}", MISSING, MISSING]
        for split, some in found.items()
    ]
    head = ["Split", "pairs", "score, chosen less rejected", "words more in the chosen"]
    counted = table("Pairs, and how their two answers differ, with 95 % intervals", head, rows, style="numbers")
    shown = next((some[0] for some in (found["test"], found["train"]) if some), None)
    return _facts(life, stage) + counted + (_example(shown) if shown else "")


def _example(pair: dict[str, Any]) -> str:
    """One pair as it is, so that the eye sees what a preference is."""
    asked = "".join(escape(m["content"]) + "\n" for m in pair["prompt"]).strip()
    answers = "".join(
        f'<div class="sample"><h4>{key}, scored {number(pair[f"{key}_score"])}</h4>'
        f'<pre dir="auto">{"".join(escape(m["content"]) for m in pair[key]) or "<i>(nothing)</i>"}</pre></div>'
        for key in ("chosen", "rejected")
    )
    return f'<pre class="given" dir="auto">{asked}</pre><div class="side two">{answers}</div>'


def _model(life: Life, stage: Stage) -> str:
    return f"{_facts(life, stage)}{_curves(life, stage)}"


def _facts(life: Life, stage: Stage) -> str:
    line, config = stage.lineage, _config(stage)
    facts = [
        ("read", f"{big(line.get('tokens'))} tokens" if line.get("tokens") else None),
        ("work", f"{big(line['flops'])} FLOPs" if line.get("flops") else None),
        ("time", duration(line["seconds"]) if line.get("seconds") else None),
        ("from", join([escape(p) for p in stage.parents]) or None),
        ("text", escape(main_text(stage)) or None),
        ("shape", _shape(config)),
    ]
    cells = "".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in facts if value)
    return f'<dl class="facts">{cells}</dl>'


def _config(stage: Stage) -> dict[str, Any]:
    path = stage.path / "config.json"
    return read_json(path) if path.exists() else {}


def _shape(config: dict[str, Any]) -> str | None:
    """Family, layers and width from a Hugging Face config, in either of its dialects."""
    if not config:
        return None
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    width = config.get("hidden_size", config.get("n_embd"))
    return f"{escape(config.get('model_type', ''))}, {layers} layers, width {width}"


def _curves(life: Life, stage: Stage) -> str:
    """Training loss, and what was scored on the dev split along the way, with the n-grams as marks."""
    history = stage.history
    if len(history) < 2:
        return ""
    colour = life.colour(stage)
    figures = []
    loss = "nats/pair" if stage.kind == "dpo" else "nats/token"
    for key, name, unit, caption in (
        ("loss", "training loss", loss, "Loss on the training text, means of neighbouring steps."),
        ("dev_loss", "dev loss", loss, "Loss on the held-out dev split through training."),
        ("dev_accuracy", "dev accuracy", "share of pairs", "Pairs of the dev split told apart through training."),
    ):
        if len(points := _points(history, key)) > 1:
            title = f"{name.capitalize()} of {stage.name}"
            chart = curves([Curve(name, points, colour)], title=title, x_unit="tokens", y_unit=unit)
            figures.append(f"<figure>{chart}<figcaption>{caption}</figcaption></figure>")
    data = stage.lineage.get("data", {})
    named = {
        "dev_bits_per_byte": (main_text(stage), False),
        "dev_bits_per_byte_replay": (data.get("replay_data", {}).get("name", "replayed text"), True),
    }
    held = [
        Curve(name, points, colour, faint)
        for key, (name, faint) in named.items()
        if len(points := _points(history, key)) > 1
    ]
    if held:
        marks = _marks(stage)
        chart = curves(
            held, title=f"Dev bits per byte of {stage.name}", x_unit="tokens", y_unit="bits/byte", marks=marks
        )
        beside = " The dashed marks are the n-gram models on the test split." if marks else ""
        figures.append(
            f"<figure>{chart}<figcaption>Bits per byte on the dev split through training.{beside}</figcaption></figure>"
        )
    return f'<div class="figures">{"".join(figures)}</div>'


def _points(history: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(h["tokens"], h[key]) for h in history if key in h and "tokens" in h]


def _marks(stage: Stage) -> list[Mark]:
    found = stage.measurement.get("baselines", {}).get(main_text(stage), {})
    return [(bits_per_byte(found[o]).value, o) for o in ("bigram", "trigram") if o in found]
