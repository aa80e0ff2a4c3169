"""What was expected of each stage before it ran, and whether it came out."""

from dataclasses import dataclass

from journey.report.effect import SIZE, Effect
from journey.report.life import Life, Stage

CODE_DROP = -10.0  # percent of the bits per byte of the new text
ENDINGS = 90.0  # percent of the answers
Q8_COST = 0.5  # percent of the bits per byte, either way
RECALL = 80.0  # percent of the questions that name the function

CAME_OUT, PARTLY, DID_NOT, STATED = "came out", "not surely", "did not come out", "the cost"


@dataclass(frozen=True)
class Claim:
    """One expectation: `outcome` is judged by the whole interval, not by its middle."""

    stage: Stage
    expected: str
    effect: Effect
    outcome: str


def main_text(stage: Stage) -> str:
    """The corpus that a stage was trained on (without what it only repeated)."""
    data = stage.lineage.get("data", {}).get("data", {})
    return data.get("text", data).get("name", stage.data[0] if stage.data else "")


def claims(life: Life, effects: list[Effect]) -> list[Claim]:
    """The expectations that the measured stages bring with them, in the order of the life."""
    found = []
    for stage in life.measured:
        by_name = {e.name: e for e in effects if e.stage == stage.name}
        main = main_text(stage)
        if stage.kind == "pretrain" and (e := by_name.get(f"bits per byte, {main}, against a bigram")):
            found.append(Claim(stage, "beats a bigram model trained on the tokens it saw", e, _below(e, 0)))
        if stage.kind == "continue":
            if e := by_name.get(f"bits per byte, {main}"):
                found.append(Claim(stage, f"at least 10 % fewer bits per byte on {main}", e, _below(e, CODE_DROP)))
            costs = [e for c in life.corpora if c != main and (e := by_name.get(f"bits per byte, {c}"))]
            found += [Claim(stage, f"what that costs on {e.name.split(', ')[1]}", e, STATED) for e in costs]
        later = {"sft": _sft, "dpo": _dpo, "quantize": _quantize, "index": _index}
        found += later.get(stage.kind, _nothing)(stage, by_name)
    return found


def _sft(stage: Stage, by_name: dict[str, Effect]) -> list[Claim]:
    found = []
    if e := by_name.get("answers that end by themselves"):
        outcome = CAME_OUT if e.here.low >= ENDINGS else PARTLY if e.here.value >= ENDINGS else DID_NOT
        found.append(Claim(stage, "at least 90 % of answers end by themselves", e, outcome))
    if e := by_name.get("answer loss, right passage"):
        found.append(Claim(stage, "the documented answers become easier", e, _below(e, 0)))
    if e := by_name.get("answer loss, right passage against shuffled"):
        found.append(Claim(stage, "the right passage helps more than a shuffled one", e, _below(e, 0)))
    return found


def _dpo(stage: Stage, by_name: dict[str, Effect]) -> list[Claim]:
    found = []
    if e := by_name.get("preferences, against chance"):
        found.append(Claim(stage, "prefers the better of two held-out answers in more than 50 %", e, _above(e, 0)))
    costs = {
        "KL, own answers": "how far that moved it from the model before",
        "answer length": "what became of its answers' length",
    }
    costs |= {name: f"what that costs on {name[15:]}" for name in by_name if name.startswith("bits per byte, ")}
    return found + [Claim(stage, said, by_name[name], STATED) for name, said in costs.items() if name in by_name]


def _quantize(stage: Stage, by_name: dict[str, Effect]) -> list[Claim]:
    found = []
    if e := by_name.get("bits per byte, q8_0"):
        inside, near = max(-e.low, e.high) <= Q8_COST, abs(e.value) <= Q8_COST
        outcome = CAME_OUT if inside else PARTLY if near else DID_NOT
        found.append(Claim(stage, f"q8_0 stays within {Q8_COST} % of the bits per byte", e, outcome))
    if e := by_name.get("bits per byte, q4_0"):
        found.append(Claim(stage, "what q4_0 costs", e, STATED))
    return found


def _index(stage: Stage, by_name: dict[str, Effect]) -> list[Claim]:
    found = []
    if e := by_name.get("recall@5, named"):
        outcome = CAME_OUT if e.low >= RECALL else PARTLY if e.value >= RECALL else DID_NOT
        said = f"finds the passage of a named function among the first 5 in at least {RECALL:.0f} %"
        found.append(Claim(stage, said, e, outcome))
    if e := by_name.get("recall@5, not named"):
        found.append(Claim(stage, "the same where the question does not name the function", e, SIZE))
    for other, said in (("none", "no passage"), ("shuffled", "a shuffled one")):
        if e := by_name.get(f"answer loss, retrieved passage against {other}"):
            found.append(Claim(stage, f"the passage that was found helps more than {said}", e, _below(e, 0)))
    return found


def _nothing(stage: Stage, by_name: dict[str, Effect]) -> list[Claim]:
    return []


def _above(effect: Effect, mark: float) -> str:
    """Whether a number that should be above a mark is: with its whole interval, with its middle only, or not."""
    if effect.low > mark:
        return CAME_OUT
    return PARTLY if effect.value > mark else DID_NOT


def _below(effect: Effect, mark: float) -> str:
    """Whether a number that should be below a mark is: with its whole interval, with its middle only, or not."""
    if effect.high < mark:
        return CAME_OUT
    return PARTLY if effect.value < mark else DID_NOT
