"""One section a stage: what it is, what went in, how it went, what it changed."""

import json
from collections.abc import Sequence
from typing import Any

from journey.evaluate.statistics import Estimate, ratio
from journey.files import read_json
from journey.report import words
from journey.report.charts import Curve, Mark, curves
from journey.report.claims import main_text
from journey.report.effects import Effect, bits_per_byte
from journey.report.life import Life, Stage
from journey.report.lists import Notes, effect_list
from journey.report.markup import MISSING, big, bytes_, duration, escape, estimate, join, number, table

SPLITS = ("train", "dev", "test")
EXAMPLE = "numpy.linalg.norm(x, ord=None): Return the matrix or vector norm of x."


def section(life: Life, stage: Stage, first: bool, effects: Sequence[Effect], notes: Notes) -> str:
    """The section of one stage, its heading included; the first of a kind is explained."""
    kind = "" if stage.kind == stage.name else f" <small>{escape(stage.kind)}</small>"
    head = f'<section id="stage-{escape(stage.name)}" class="stage"><h3>{escape(stage.name)}{kind}</h3>'
    if not stage.lineage:
        return f"{head}<p class='nothing'>This stage has not run yet.</p></section>"
    explained = f"<p>{words.STAGES[stage.kind]}</p>" if first and stage.kind in words.STAGES else ""
    body = {"text": _text, "tokenizer": _tokenizer}.get(stage.kind, _model)(life, stage)
    own = [e for e in effects if e.stage == stage.name]
    changed = f"<h4>What it changed</h4>{effect_list(own, notes)}" if own else ""
    return f"{head}{explained}{body}{changed}{_settings(stage)}</section>"


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


def _model(life: Life, stage: Stage) -> str:
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
    return f'<dl class="facts">{cells}</dl>{_curves(life, stage)}'


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
    loss = Curve("training loss", _points(history, "loss"), colour)
    chart = curves([loss], title=f"Training loss of {stage.name}", x_unit="tokens", y_unit="nats/token")
    figures = [
        f"<figure>{chart}<figcaption>Loss on the training text, means of neighbouring steps.</figcaption></figure>"
    ]
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
    if len(points := _points(history, "dev_loss")) > 1:
        chart = curves(
            [Curve("dev loss", points, colour)], title=f"Dev loss of {stage.name}", x_unit="tokens", y_unit="nats/token"
        )
        figures.append(
            f"<figure>{chart}<figcaption>Loss of held-out answers (dev split) through training.</figcaption></figure>"
        )
    return f'<div class="figures">{"".join(figures)}</div>'


def _points(history: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(h["tokens"], h[key]) for h in history if key in h]


def _marks(stage: Stage) -> list[Mark]:
    found = stage.measurement.get("baselines", {}).get(main_text(stage), {})
    return [(bits_per_byte(found[o]).value, o) for o in ("bigram", "trigram") if o in found]


def _settings(stage: Stage) -> str:
    config = stage.lineage.get("config", {})
    if not config:
        return ""
    listed = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(_value(value))}</dd></div>" for key, value in config.items()
    )
    return f'<h4>Settings</h4><dl class="settings">{listed}</dl>'


def _value(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
