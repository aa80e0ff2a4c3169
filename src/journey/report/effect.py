"""One change with its interval, and how two measurements are paired: what every effect is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from journey.errors import JourneyError
from journey.evaluate.statistics import Estimate, verdict
from journey.report.estimates import Item

Measurement = Mapping[str, Any]

SIZE = "a size"  # the verdict of an effect that is neither better nor worse: how far a model moved
PAIRED = "paired bootstrap over {what}, 2,000 resamples"


@dataclass(frozen=True)
class Effect:
    """One change with its 95 % interval. `here` and `there` are the two numbers it is the difference of."""

    stage: str  # name of the node
    name: str  # short and stable: what a program looks it up by
    question: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    verdict: str
    compare: str  # what the reader should compare it with, in words
    convention: str
    here: Estimate
    there: Estimate | None = None

    @property
    def signed(self) -> bool:
        """Whether it is a change, which has a plus or a minus, and not the size of something."""
        return self.verdict != SIZE or self.there is not None

    def line(self) -> str:
        """The effect as one line of plain text."""
        size = f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] {self.unit}"
        return f"{self.name:<44} {size:<44} {self.verdict:<30} {self.compare} (n = {self.n:,})"

    def metric(self) -> dict[str, Any]:
        """The effect in the shape that `--json` has for every number, with its verdict."""
        keys = ("value", "low", "high", "n", "unit", "convention", "verdict", "compare")
        return {key: getattr(self, key) for key in keys}


def effect(
    m: Measurement,
    name: str,
    question: str,
    size: Estimate,
    better: str | None,
    compare: str,
    convention: str,
    here: Estimate,
    there: Estimate | None = None,
) -> Effect:
    """An effect with its verdict; `better` is "lower", "higher", or None for what is neither."""
    word = verdict(size.low, size.high, better) if better else SIZE
    numbers = (size.value, size.low, size.high, size.n, size.unit)
    return Effect(m["name"], name, question, *numbers, word, compare, convention, here, there)


def pair(here: Iterable[Item], there: Iterable[Item], what: str) -> list[tuple[Item, Item]]:
    """The items of two measurements that have the same id (and, where counted, the same bytes or tokens)."""
    by_id = {item["id"]: item for item in there}
    pairs = [(item, by_id[item["id"]]) for item in here if item["id"] in by_id]
    same = [(a, b) for a, b in pairs if a.get("bytes") == b.get("bytes")]
    if not same:
        raise JourneyError(f"the two measurements of {what} share no item: they were made on different texts")
    return same


def sides(pairs: Sequence[tuple[Item, Item]]) -> tuple[list[Item], list[Item]]:
    """The pairs' first items, and their second."""
    return [a for a, _ in pairs], [b for _, b in pairs]
