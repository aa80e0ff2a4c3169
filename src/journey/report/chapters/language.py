"""What the models know and say: bits per byte, multiple choice, answers; each across all models, on the same items."""

from typing import Any

from journey.report import words
from journey.report.chapters.parts import by_model, figures, nothing
from journey.report.estimates import accuracy, answer_f1, answer_length, answer_loss, bits_per_byte, chance, ended
from journey.report.life import Life, Stage
from journey.report.lists import Notes
from journey.report.markup import MISSING, escape, estimate, folded, number, table

PASSAGES = {"right": "the right passage", "shuffled": "another one's passage", "none": "no passage"}
ORDERS = ("bigram", "trigram")


def bits(life: Life, notes: Notes) -> str:
    """Bits per byte of every model on every corpus, beside the n-grams."""
    made, rows = [], []
    for corpus in life.corpora:
        found = {s: bits_per_byte(_scored(s, corpus)) for s in life.models if _scored(s, corpus)}
        marks = _ngrams(life, corpus)
        convention = next(iter(found)).measurement["bits_per_byte"][corpus]["convention"]
        caption = f"<b>{escape(corpus)}</b>, test split.{notes.mark(convention)} Lower is better."
        named = [(v, o) for o, v in marks.items()]
        made.append(by_model(life, found, f"Bits per byte on {corpus}", "bits per byte", caption, named))
        cells = [estimate(found[s]) if s in found else MISSING for s in life.models]
        rows.append([escape(corpus), *cells, *(number(marks.get(order), decimals=3) for order in ORDERS)])
    head = ["Corpus", *(escape(s.name) for s in life.models), *ORDERS]
    return figures(made) + table("Bits per byte on the test split, with 95 % intervals", head, rows, style="numbers")


def choices(life: Life) -> str:
    """Multiple choice against chance, by our scorer and by lm-eval."""
    stages = [s for s in life.models if s.measurement.get("choices", {}).get("items")]
    if not stages:
        return nothing("No multiple-choice items were measured.")
    items = {s: s.measurement["choices"]["items"] for s in stages}
    guess = chance(items[stages[0]])
    chart = by_model(
        life,
        {s: accuracy(items[s]) for s in stages},
        "Multiple choice, percent right (acc_norm)",
        "% right (acc_norm)",
        "Share of held-out functions whose own summary was picked.",
        [(guess, f"guessing {guess:.0f} %")],
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
    return figures([chart, table(caption, head, rows, style="numbers")])


def answers(life: Life) -> str:
    """Answer loss by passage; and of the greedy answers whether they end, what they share and how long they are."""
    stages = [s for s in life.models if s.measurement.get("answers", {}).get("items")]
    if not stages:
        return nothing("No answers were measured.")
    items = {s: s.measurement["answers"]["items"] for s in stages}
    body = [[escape(s.name), *(_loss(items[s], key) for key in PASSAGES)] for s in stages]
    caption = "Loss of the documented answer, nats per answer token, with 95 % intervals"
    losses = table(caption, ["Model", *PASSAGES.values()], body, style="numbers")
    split = [
        [f"{escape(s.name)}, {said}", *(_loss([i for i in items[s] if i["named"] is named], key) for key in PASSAGES)]
        for s in stages
        for said, named in (("function named", True), ("not named", False))
    ]
    by_kind = table(caption, ["Model and question", *PASSAGES.values()], split, style="numbers")
    return losses + folded("By kind of question", by_kind) + _greedy(life, stages)


def _greedy(life: Life, stages: list[Stage]) -> str:
    said: dict[Stage, list[dict[str, Any]]] = {
        s: found for s in stages if (found := s.measurement.get("endings", {}).get("items"))
    }
    if not said:
        return ""
    limit = next(iter(said)).measurement["endings"]["limit"]
    made = [
        by_model(
            life,
            {s: ended(found) for s, found in said.items()},
            "Answers that end by themselves",
            "% of answers",
            f"{words.ENDINGS} Limit here: {limit} tokens.",
            [(90.0, "mark 90 %")],
        )
    ]
    shared = {s: answer_f1(found) for s, found in said.items() if all("f1" in i for i in found)}
    if shared:
        made.append(by_model(life, shared, "Word F1 of the greedy answers", "F1, %", words.F1))
    lengths = {s: answer_length(found) for s, found in said.items()}
    made.append(by_model(life, lengths, "Length of the greedy answers", "tokens", words.LENGTH))
    return figures(made)


def _loss(items: list[dict[str, Any]], key: str) -> str:
    return estimate(answer_loss(items, key)) if len(items) > 1 else MISSING


def _scored(stage: Stage, corpus: str) -> list[dict[str, Any]]:
    return stage.measurement["bits_per_byte"].get(corpus, {}).get("items", [])


def _ngrams(life: Life, corpus: str) -> dict[str, float]:
    """Bits per byte of the n-gram models, from the first pre-training that recorded them."""
    for stage in life.models:
        if marks := stage.measurement.get("baselines", {}).get(corpus):
            return {order: bits_per_byte(marks[order]).value for order in ORDERS if order in marks}
    return {}
