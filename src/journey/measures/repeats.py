"""Random tokens that come twice, and what each attention head does on them."""

from dataclasses import dataclass

from journey.fields import Several
from journey.measure import Bench, Seen, measure
from journey.report.blocks import Block, Cell, Dot, Dots, Fold, Heading, Points, Prose, Row, Table, Text, plain
from journey.report.format import interval, number
from journey.scores import JSON, Against, Items, Score, Taken, comparisons, estimates

KINDS = ("induction", "previous", "duplicate")
STRONG = 0.3  # mean attention from which a head is called an induction head
HEADS = Prose(
    "Mean attention of each head on those sequences. *Induction*: to the token after the earlier copy "
    "of this one. *Previous*: to the token just before. *Duplicate*: to the earlier copy "
    "itself. 1 would be a head that does nothing else; the stronger the colour, the nearer to 1."
)


@dataclass(frozen=True)
class Repeats:
    """Settings of the measure."""

    sequences: Several = 32
    """How many repeated sequences are read."""


@measure(
    of="model",
    title="Repeated tokens and heads",
    why="Random tokens, then the same tokens once more. Nothing can predict the first copy: guessing evenly would "
    "cost the logarithm of the vocabulary, and a model that is sure of the wrong thing pays more. The second "
    "is easy for a model that looks back to where the token stood before and copies what followed: "
    "*induction*, the smallest known circuit of learning in context.",
    keys=("repeat.first", "repeat.second"),
    version=1,
)
def repeats(bench: Bench, config: Repeats) -> Taken:
    """Nats per token of both copies by sequence, and the scores of every head."""
    from journey.interpret import heads

    found = heads.repeat(bench.model, bench.tokenizer, n=config.sequences, seed=bench.seed)
    columns = {copy: found["repeat"][copy] for copy in ("first", "second")}
    items = Items([str(i) for i in range(len(columns["first"]))], columns)
    question = "Random tokens come twice: does it use the first copy to predict the second?"
    unit, convention = "nats/token", heads.CONVENTION
    first = Score("repeat.first", "loss of the first copy", "first", unit=unit, item="sequences", convention=convention)
    second = Score(
        "repeat.second",
        "loss of the second copy",
        "second",
        unit=unit,
        better="lower",
        against=(Against("first", "in the first copy", question, num="first"),),
        item="sequences",
        convention=convention,
    )
    return Taken({"items": items}, [first, second], {"heads": found["heads"]})


@repeats.chapter
def draw(seen: Seen) -> list[Block]:
    """First against second copy, the heads, and a plain sentence on what they show."""
    rows = [
        Dot(f"{subject.name}, {copy}", e, subject.colour)
        for subject, taken in seen.items()
        for copy in ("first", "second")
        if (e := estimates(taken).get(f"repeat.{copy}"))
    ]
    caption = (
        "First and second copy of the same random tokens. An easier second copy alone does not show induction: later "
        "places may just be easier. So a head has to look where the token stood before, too."
    )
    chart = Dots("Loss on repeated random tokens", "nats per token", rows, caption=caption)
    verdicts = [induction(subject.name, taken) for subject, taken in seen.items()]
    grids = [Fold(f"The heads of {s.name}", [Row(_grids(s.name, t.facts["heads"]))]) for s, t in seen.items()]
    return [Row([chart, Points(verdicts)]), Heading("The heads"), Text(HEADS), *grids]


def induction(name: str, taken: Taken) -> Prose:
    """What the two copies and the best head show together, without wishing."""
    scores = _heads(taken.facts["heads"], "induction")
    best, layer, head = max((v, i, j) for i, row in enumerate(scores) for j, v in enumerate(row))
    effect = next((e for e in comparisons(taken, name) if e.key == "repeat.second vs first"), None)
    who = f"**{plain(name)}**"
    if effect is None:
        return Prose(f"{who} read too few sequences to say.")
    size = effect.size
    change = f"{number(size.value, size.unit, sign=True)} {interval(size.low, size.high, size.unit, sign=True)}"
    strongest = f"the strongest head (layer {layer}, head {head}) scores {best:.2f} of 1"
    if effect.verdict != "clear":
        return Prose(
            f"{who} shows no induction: the second copy is no easier than the first ({change}), and {strongest}."
        )
    if best < STRONG:
        return Prose(
            f"{who}: the second copy is easier ({change}), but {strongest}: too little to call it an induction head."
        )
    return Prose(f"{who} has an induction head: the second copy is easier ({change}), and {strongest}.")


def _heads(facts: JSON, kind: str) -> list[list[float]]:
    """Scores of one kind, (n_layer, n_head)."""
    assert isinstance(facts, dict)
    return facts[kind]  # type: ignore[return-value]


def _grids(name: str, facts: JSON) -> list[Block]:
    return [
        Table(
            f"{name}: {kind}",
            ["layer", *(f"h{j}" for j in range(len(scores[0])))],
            [[str(i), *(Cell(f"{v:.2f}", heat=v) for v in row)] for i, row in enumerate(scores)],
            style="grid",
        )
        for kind in KINDS
        for scores in (_heads(facts, kind),)
    ]
