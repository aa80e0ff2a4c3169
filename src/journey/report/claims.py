"""What was expected of each stage before it ran, and whether it came out."""

from dataclasses import dataclass

from journey.report.effects import Effect
from journey.report.life import Life, Stage

CODE_DROP = -10.0  # percent of the bits per byte of the new text
ENDINGS = 90.0  # percent of the answers

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
    return stage.lineage.get("data", {}).get("data", {}).get("name", stage.data[0] if stage.data else "")


def claims(life: Life, effects: list[Effect]) -> list[Claim]:
    """The expectations that the measured stages bring with them, in the order of the life."""
    found = []
    for stage in life.models:
        by_name = {e.name: e for e in effects if e.stage == stage.name}
        main = main_text(stage)
        if stage.kind == "pretrain" and (e := by_name.get(f"bits per byte, {main}, against a bigram")):
            found.append(Claim(stage, "beats a bigram model trained on the tokens it saw", e, _below(e, 0)))
        if stage.kind == "continue":
            if e := by_name.get(f"bits per byte, {main}"):
                found.append(Claim(stage, f"at least 10 % fewer bits per byte on {main}", e, _below(e, CODE_DROP)))
            costs = [e for c in life.corpora if c != main and (e := by_name.get(f"bits per byte, {c}"))]
            found += [Claim(stage, f"what that costs on {e.name.split(', ')[1]}", e, STATED) for e in costs]
        if stage.kind == "sft":
            found += _sft(stage, by_name)
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


def _below(effect: Effect, mark: float) -> str:
    """Whether a number that should be below a mark is: with its whole interval, with its middle only, or not."""
    if effect.high < mark:
        return CAME_OUT
    return PARTLY if effect.value < mark else DID_NOT
