"""Multiple choice: does a model find the right summary of a function the likeliest of four?"""

from dataclasses import dataclass

from journey.evaluate.conventions import WILSON
from journey.measure import Bench, Seen, dots, measure
from journey.report.blocks import Block, Cell, Row, Table
from journey.report.format import number
from journey.scores import Against, Items, Score, Taken, estimates

SHARES = f"number right of number asked, {WILSON}"
NORM = "acc_norm (log-probability by characters)"


@dataclass(frozen=True)
class MultipleChoice:
    """Settings of the measure."""

    harness: bool = True
    """Score the same items by lm-eval too, and count on how many the two agree."""


@measure(
    of="model",
    title="Multiple choice",
    why="The model sees the signature of a held-out function and four summaries, of which one is its own. It "
    "picks the one it finds likeliest. Who guesses gets 25 % right. *acc_norm* divides each summary's "
    "log-probability by its length in characters, *acc* does not; both are lm-eval's conventions.",
    keys=("choices.acc", "choices.acc_norm"),
    reads=("choices",),
    libraries=("lm_eval", "transformers"),
    version=1,
)
def multiple_choice(bench: Bench, config: MultipleChoice) -> Taken:
    """Our picks item by item, and lm-eval's numbers on the same items."""
    from journey.evaluate import choices as scorer
    from journey.evaluate import harness

    if not bench.choices:
        return Taken()
    scored = scorer.score(bench.model, bench.tokenizer, bench.choices)
    items = Items.of(
        {
            "id": i["id"],
            "right": i["picked"] == i["gold"],
            "right_norm": i["picked_norm"] == i["gold"],
            "options": len(i["logprobs"]),
        }
        for i in scored
    )
    facts = {}
    # lm-eval takes no option that is longer than the context, and opens a folder: not a model that is in training.
    n_ctx = bench.model.config.n_ctx
    fitting = [c for c in bench.choices if all(len(bench.tokenizer.encode(o)) < n_ctx for o in c.options)]
    if config.harness and fitting and bench.node.is_model:
        harness.write_task(fitting, bench.scratch / "lm-eval")
        theirs = harness.run(bench.node.path, bench.scratch / "lm-eval")
        ours = dict(zip(items.ids, items.columns["right_norm"], strict=True))
        agree = sum(ours[t["id"]] == bool(t["acc_norm"]) for t in theirs["items"])
        facts = {"acc": theirs["acc"], "acc_norm": theirs["acc_norm"], "n": len(theirs["items"]), "agree": agree}
    guess = 100 * sum(1 / len(i["logprobs"]) for i in scored) / len(scored)
    chance = Against(
        "chance",
        "by guessing",
        "Does it pick the right summary of a function more often than by guessing?",
        value=guess,
    )
    acc = Score("choices.acc", "multiple choice answered right (acc)", "right", share=True, unit="%", convention=SHARES)
    norm = Score(
        "choices.acc_norm",
        "multiple choice answered right (acc_norm)",
        "right_norm",
        share=True,
        unit="%",
        better="higher",
        parent=True,
        against=(chance,),
        question="Does it pick the right summary more often than {parent}?",
        convention=f"{NORM}; {SHARES}",
        compared=NORM,
        full=30.0,
    )
    return Taken({"items": items}, [acc, norm], {"harness": facts, "convention": scorer.CONVENTION})


@multiple_choice.chapter
def draw(seen: Seen) -> list[Block]:
    """Against chance, by our scorer and by lm-eval."""
    caption = "Share of held-out functions whose own summary was picked."
    rows, n = [], 0
    for subject, taken in seen.items():
        ours, theirs, n = estimates(taken), taken.facts["harness"], max(n, len(taken.items["items"]))
        assert isinstance(theirs, dict)
        acc, norm = (number(100 * float(theirs[k]), decimals=1) if theirs else None for k in ("acc", "acc_norm"))  # type: ignore[arg-type]
        agree = f"{theirs['agree']:,} of {theirs['n']:,}" if theirs else "not run"
        rows.append([Cell(subject.name), ours.get("choices.acc"), ours.get("choices.acc_norm"), acc, norm, agree])
    head = ["Model", "acc, %", "acc_norm, %", "lm-eval acc, %", "lm-eval acc_norm, %", "same outcome"]
    compared = Table(f"Our scorer and lm-eval on the same {n:,} items", head, rows)
    return [Row([dots(seen, "choices.acc_norm", caption), compared])]
