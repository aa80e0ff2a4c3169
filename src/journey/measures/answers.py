"""How surprised a model is by the documented answers, by the passage that stands before the question."""

from journey.evaluate.conventions import ANSWER_LOSS
from journey.evaluate.statistics import Estimate
from journey.measure import Bench, NoSettings, Seen, measure
from journey.report.blocks import Block, Cell, Fold, Table
from journey.scores import Against, Items, Score, Taken, estimate, estimates

PASSAGES = {"right": "the right passage", "shuffled": "another one's passage", "none": "no passage"}


@measure(
    of="model",
    title="Answers",
    why="How surprised is the model by the documented answer to a held-out question, per token, when the right "
    "passage stands before the question, when the passage of another question stands there, and when none "
    "does? If the right passage helps more than a wrong one, the model reads it.",
    keys=("answer_loss.right", "answer_loss.shuffled", "answer_loss.none"),
    reads=("questions",),
    version=1,
)
def answers(bench: Bench, config: NoSettings) -> Taken:
    """Nats of each documented answer, given each kind of passage."""
    from journey.evaluate.answers import answer_losses

    if not bench.questions:
        return Taken()
    rows = answer_losses(bench.model, bench.tokenizer, bench.questions, bench.seed)
    items = Items.of(row | {"not_named": not row["named"]} for row in rows)
    others = {"shuffled": "the passage of another question", "none": "no passage"}
    against = tuple(
        Against(kind, f"with {said}", f"Is the answer easier with the right passage than with {said}?", num=kind)
        for kind, said in others.items()
    )
    made = [
        Score(
            key=f"answer_loss.{kind}",
            label=f"answer loss, {said}",
            num=kind,
            den="tokens",
            unit="nats/token",
            better="lower",
            parent=kind != "shuffled",
            against=against if kind == "right" else (),
            question=f"Are the documented answers easier for it than for {{parent}}, with {said}?",
            item="questions",
            convention=ANSWER_LOSS,
            full=2.0 if kind == "right" else None,
        )
        for kind, said in PASSAGES.items()
    ]
    return Taken({"items": items}, made)


@answers.chapter
def draw(seen: Seen) -> list[Block]:
    """Answer loss by passage, and by kind of question."""
    caption = "Loss of the documented answer, nats per answer token, with 95 % intervals"
    rows = [[Cell(s.name), *(estimates(t).get(f"answer_loss.{kind}") for kind in PASSAGES)] for s, t in seen.items()]
    by_kind = [
        [Cell(f"{subject.name}, {said}"), *(_part(taken, kind, where) for kind in PASSAGES)]
        for subject, taken in seen.items()
        for said, where in (("function named", "named"), ("not named", "not_named"))
    ]
    return [
        Table(caption, ["Model", *PASSAGES.values()], rows),
        Fold("By kind of question", [Table(caption, ["Model and question", *PASSAGES.values()], by_kind)]),
    ]


def _part(taken: Taken, kind: str, where: str) -> Estimate | None:
    score = Score("", "", kind, den="tokens", where=where, unit="nats/token")
    return estimate(taken, score)
