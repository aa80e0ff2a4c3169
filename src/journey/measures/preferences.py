"""What preference training taught: held-out pairs, their margins, and whether length alone would explain them."""

from dataclasses import replace

from journey.evaluate.conventions import WILSON
from journey.measure import Bench, NoSettings, Seen, dots, measure
from journey.report.blocks import Block, Cell, Curves, Line, Mark, Row, Table, TableRow
from journey.scores import Against, Items, Score, Taken, estimate, estimates

ACCURACY = (
    "held-out pairs whose chosen answer has the larger implicit reward, log p(model) - log p(reference); ties count "
    f"half; {WILSON}"
)
GROUPS = {None: "all", "longer": "chosen is longer", "as_long": "as long", "shorter": "chosen is shorter"}
HELD_OUT = "pairs-test.jsonl"  # where a stage that trains on preferences leaves those that it did not


@measure(
    of="model",
    title="Preferences",
    why="Pairs of answers that the training never saw. The *implicit reward* of an answer is how much likelier it "
    "has become than under the reference; the *margin* is the chosen answer's less the rejected one's. Above "
    "zero the pair is told apart rightly. Who guesses gets 50 %.",
    keys=("preference_accuracy", "policy_kl"),
    reads=("questions", "parent"),
    version=1,
)
def preferences(bench: Bench, config: NoSettings) -> Taken:
    """Each held-out pair's margin, and the KL of the model's own answers; nothing for a model without such pairs."""
    from journey.data.preferences import saved
    from journey.evaluate import preferences as scorer

    path = bench.node.path / HELD_OUT
    if not path.exists() or bench.before is None:
        return Taken()
    held_out = saved(path)
    found = scorer.measure(bench.model, bench.before[0], bench.tokenizer, held_out, bench.questions, bench.seed)
    pairs = Items.of(
        pair
        | {
            "preferred": float(scorer.preferred([pair["margin"]])[0]),
            "longer": pair["chosen_tokens"] > pair["rejected_tokens"],
            "as_long": pair["chosen_tokens"] == pair["rejected_tokens"],
            "shorter": pair["chosen_tokens"] < pair["rejected_tokens"],
        }
        for pair in found["items"]
    )
    question = "Does it prefer the better of two held-out answers, compared with the model before?"
    accuracy = Score(
        key="preference_accuracy",
        label="held-out preferences told apart",
        num="preferred",
        items="pairs",
        share=True,
        unit="%",
        better="higher",
        against=(Against("chance", "by chance and before training", question, value=50.0),),
        item="pairs",
        convention=ACCURACY,
        brief=True,
    )
    moved = Score(
        key="policy_kl",
        label="KL from the reference, own answers",
        num="nats",
        den="tokens",
        items="answers",
        unit="nats/token",
        stated="0: it says what the reference would have said",
        question="How far did it move from its reference on the answers it now gives?",
        item="answers",
        convention="KL(policy ‖ reference), mean over the tokens of the policy's own sampled answers; bootstrap over "
        "them",
    )
    items = {"pairs": pairs, "answers": Items.of(found["kl"])}
    return Taken(items, [accuracy, moved], {"convention": found["convention"]})


@preferences.chapter
def draw(seen: Seen) -> list[Block]:
    """Held-out accuracy and margins of every stage that was trained on preferences."""
    enough = {s: taken for s, taken in seen.items() if len(taken.items["pairs"]) > 1}
    if not enough:
        return []
    title, marks = "Held-out preference accuracy", [Mark(50.0, "chance, and before training")]
    caption = "Pairs whose chosen answer has the larger implicit reward."
    convention = str(next(iter(enough.values())).facts["convention"])
    chart = replace(dots(enough, "preference_accuracy", caption, marks, title), note=convention)
    lines = [Line(s.name, _sorted(t.items["pairs"].numbers("margin").tolist()), s.colour) for s, t in enough.items()]
    margins = Curves(
        "Margins of the held-out pairs, sorted",
        "% of pairs",
        "nats",
        lines,
        [Mark(0.0, "a tie")],
        "The margin of each held-out pair, from the least to the largest: right of where it crosses zero, told apart.",
    )
    rows: list[TableRow] = [row for subject, taken in enough.items() for row in _rows(subject.name, taken)]
    head = ["Pairs", "how many", "told apart, %", "mean margin, nats"]
    apart = Table("Is it the answer, or only its length? With 95 % intervals", head, rows)
    moved: list[TableRow] = [
        [Cell(s.name), e] for s, taken in enough.items() if (e := estimates(taken).get("policy_kl"))
    ]
    cost = Table("How far the model moved, on its own answers", ["Model", "KL, nats/token"], moved)
    return [Row([chart, margins]), Row([apart, *([cost] if moved else [])])]


def _sorted(margins: list[float]) -> list[tuple[float, float]]:
    return [(100 * (i + 0.5) / len(margins), m) for i, m in enumerate(sorted(margins))]


def _rows(name: str, taken: Taken) -> list[TableRow]:
    """All pairs, and those whose chosen answer is the longer or the shorter one, by tokens."""
    accuracy = next(score for score in taken.scores if score.key == "preference_accuracy")
    margin = replace(accuracy, num="margin", share=False, unit="nats")
    rows: list[TableRow] = []
    for where, said in GROUPS.items():
        n = len(taken.items["pairs"].where(where))
        parts = [Cell(estimate(taken, replace(score, where=where))) for score in (accuracy, margin)]
        rows.append([Cell(f"{name}, {said}"), f"{n:,}", *parts])
    return rows
