"""What a recipe expects of its stages before they run, and whether it came out.

expect:
  coder: {bits_per_byte.code: "<= -10 %"}                 the change from the model before
  chat: {ends_by_itself: "is >= 90 %"}                    the number itself
  base: {bits_per_byte.docs: "vs bigram < 0"}             against another of the same items
  gguf: {bits_per_byte.q8_0: "vs fp32 within 0.5 %"}      either way
  preferred: {bits_per_byte.docs: cost}                   nothing is expected; it is to be seen beside the others
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from journey.errors import JourneyError
from journey.evaluate.statistics import Estimate
from journey.report.blocks import Prose, Shown, plain
from journey.scores import SIZE, VERSUS, Effect, Taken, estimates

CAME_OUT, PARTLY, DID_NOT, COST = "came out", "not surely", "did not come out", "the cost"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_FORM = re.compile(rf"(?:(is)|vs\s+(\S+))?\s*(?:(<=|>=|<|>|within)\s*({_NUMBER})\s*([^\s\d.]\S*)?|(cost|size))")
_WORDS = {"<=": "at most", ">=": "at least", "<": "below", ">": "above", "within": "within"}


@dataclass(frozen=True)
class Expected:
    """One expectation: of the score's own number (`itself`), of its change from the parent, or against another."""

    key: str
    itself: bool = False
    against: str = ""
    sign: str = ""  # <= >= < > within; nothing: a cost or a size
    bound: float = 0.0
    unit: str = ""
    word: str = ""  # cost | size

    def concerns(self, effect: Effect) -> bool:
        """Whether an effect is the one that is expected, or the change of the number that is."""
        return effect.key == self.key + (f"{VERSUS}{self.against}" if self.against else "")

    def said(self) -> str:
        """In words, after the name of the score: `lower than before by at least 10 %`."""
        if self.word:
            return "the cost" if self.word == "cost" else ""
        bound = _number(self.bound, self.unit)
        if self.itself:
            return f"{_WORDS[self.sign]} {bound}"
        than = self.against or "before"
        if self.sign == "within":
            return f"within ±\u00a0{bound} of {than}"
        lower, size = self.sign in ("<", "<="), _number(abs(self.bound), self.unit)
        if self.bound == 0:
            return f"{'lower' if lower else 'higher'} than {than}"
        if lower == (self.bound < 0):  # further from zero than the bound
            return f"{'lower' if lower else 'higher'} than {than} by at least {size}"
        return f"{'higher' if lower else 'lower'} than {than} by at most {size}"

    def mark(self) -> str:
        """The bound in a word or two; nothing where none is set but zero."""
        if self.word or (self.bound == 0 and not self.itself):
            return ""
        sign = "" if self.itself else "\u00b1" if self.sign == "within" else "+" if self.bound > 0 else ""
        return f"the mark is {sign}{_number(self.bound, self.unit)}"


def parse(key: str, text: str) -> Expected:
    """Read one expectation. Errors: JourneyError saying how one is written."""
    found = _FORM.fullmatch(str(text).strip())
    if not found:
        raise JourneyError(
            f'{key}: "{text}" is no expectation: write a change as "<= -10 %", the number itself as "is >= 90 %", '
            'against another "vs bigram < 0", either way "within 0.5 %", or cost'
        )
    itself, against, sign, bound, unit, word = found.groups()
    return Expected(key, bool(itself), against or "", sign or "", float(bound or 0), unit or "", word or "")


def judged(
    expected: Sequence[Expected], name: str, taken: Mapping[str, Taken], effects: Sequence[Effect]
) -> list[Shown]:
    """The expectations of a node that was measured, each with its number and what became of it; the outcome is judged
    by the whole interval, not by its middle."""
    found = []
    numbers = {
        key: (score, e)
        for t in taken.values()
        for key, e in estimates(t).items()
        for score in t.scores
        if score.key == key
    }
    for each in expected:
        effect = next((effect for effect in effects if each.concerns(effect)), None)
        if each.itself:
            if each.key not in numbers:
                continue
            score, e = numbers[each.key]
            question, compare, signed, tone = score.label, "", False, SIZE
        elif effect:
            score, e, compare, signed, tone = effect.score, effect.size, effect.compare, effect.signed, effect.verdict
            question = score.label
        else:
            continue
        if each.unit and each.unit != e.unit:
            compare = f"expected in {each.unit}, but counted in {e.unit}"
        words = f"{plain(question)}: {plain(each.said())}" if each.said() else plain(question)
        said = Prose(f"**{plain(name)}:** {words}")
        found.append(Shown(said, e, outcome(each, e), compare or score.convention, signed, tone))
    return found


def outcome(expected: Expected, e: Estimate) -> str:
    """Whether a number is where it should be: with its whole interval, with its middle only, or not."""
    if expected.word:
        return COST if expected.word == "cost" else SIZE
    if expected.unit and expected.unit != e.unit:  # per cent of points say nothing
        return PARTLY

    def holds(value: float) -> bool:
        match expected.sign:
            case "<=":
                return value <= expected.bound
            case ">=":
                return value >= expected.bound
            case "<":
                return value < expected.bound
            case ">":
                return value > expected.bound
        return abs(value) <= expected.bound

    if holds(e.low) and holds(e.high):
        return CAME_OUT
    return PARTLY if holds(e.value) else DID_NOT


def _number(value: float, unit: str) -> str:
    return f"{value:g}".replace("-", "\u2212") + (f"\u00a0{unit}" if unit else "")
