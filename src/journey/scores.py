"""What a measure finds: items, the scores that are counted from them, and what follows from scores.

Estimates with their intervals, the change from one node to another, and the comparison with a mark or with another
column of the same items are computed here and nowhere else: `journey eval`, `journey diff`, `--json`, sweeps, the
expectations of a recipe and the page read them from the scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from journey.errors import JourneyError
from journey.evaluate import formulas, statistics
from journey.evaluate.statistics import RESAMPLES, Estimate
from journey.metrics import Metric
from journey.report.blocks import Shown
from journey.report.format import number, places

Value: TypeAlias = float | int | bool | str | None
JSON: TypeAlias = "Value | list[JSON] | dict[str, JSON]"

SIZE = "a size"  # the verdict of what is neither better nor worse
VERSUS = " vs "  # between a score's key and what it is compared with: `bits_per_byte.docs vs bigram`


@dataclass(frozen=True)
class Items:
    """One row an item: its id, and columns of equal length."""

    ids: Sequence[str] = ()
    columns: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Value]]) -> "Items":
        """From dicts that share their keys; "id" names the item."""
        rows = list(rows)
        names = [name for name in rows[0] if name != "id"] if rows else []
        return cls([str(row["id"]) for row in rows], {name: [row[name] for row in rows] for name in names})

    def __len__(self) -> int:
        return len(self.ids)

    def numbers(self, name: str) -> np.ndarray:
        """A column as floats, (n,)."""
        return np.array(self.columns[name], dtype=np.float64)

    def rows(self) -> list[dict[str, Value]]:
        """Each item as a dict."""
        return [
            {"id": id} | dict(zip(self.columns, values, strict=True))
            for id, *values in zip(self.ids, *self.columns.values(), strict=True)
        ]

    def taken(self, places: Sequence[int]) -> "Items":
        """The items at these places."""
        return Items(
            [self.ids[i] for i in places], {k: [column[i] for i in places] for k, column in self.columns.items()}
        )

    def where(self, name: str | None) -> "Items":
        """The items of which a column holds; all of them without a name."""
        if name is None or not len(self):  # of no items there are no columns
            return self
        return self.taken([i for i, holds in enumerate(self.columns[name]) if holds])

    def paired(self, other: "Items") -> "tuple[Items, Items]":
        """The items that both have (by their ids and, where they are counted, equal bytes), in one order."""
        ours, theirs = (
            [*zip(items.ids, items.columns.get("bytes", items.ids), strict=True)] for items in (self, other)
        )
        place = {key: i for i, key in enumerate(theirs)}
        both = [(i, place[key]) for i, key in enumerate(ours) if key in place]
        return self.taken([i for i, _ in both]), other.taken([i for _, i in both])


@dataclass(frozen=True)
class Against:
    """What a score is compared with on its own items: a constant in the score's unit, or another column over the same
    denominator. `name` ends the key of the comparison, `said` a sentence: `1.459 here, 1.830 for the bigram`."""

    name: str
    said: str
    question: str
    value: float | None = None
    num: str = ""


@dataclass(frozen=True)
class Score:
    """One number of a measure: Σnum/Σden over the items, the mean of num, a share of them, or a formula of sums."""

    key: str  # the one stable name: `bits_per_byte.docs`
    label: str  # the same in words
    num: str  # a column of the items
    den: str | None = None  # another; none: each item counts once
    items: str = "items"  # which of the measure's items
    where: str | None = None  # a column: only the items of which it holds
    share: bool = False  # num is 0 or 1 (or ½): Wilson's interval
    formula: Literal["", "bleu", "chrf", "perplexity"] = ""  # instead: of the sums of the columns num.0, num.1, …
    unit: str = ""  # "%": the number is shown times 100, its changes in points
    better: Literal["lower", "higher"] | None = None
    parent: bool = False  # compared with the parent's
    change: Literal["difference", "percent"] = "difference"
    against: tuple[Against, ...] = ()
    stated: str | None = None  # shown as a size by itself, with these words for comparison
    question: str = ""  # of the change from {parent}, or of the size
    item: str = "items"  # what is drawn anew for the interval
    cluster: str = ""  # a column: whole clusters are drawn, as the questions of a subject
    convention: str = ""  # how the number was counted
    compared: str = ""  # how it was counted, where its comparison says it otherwise
    full: float | None = None  # the change that has the full colour in the matrix of changes; none: not in it
    brief: bool = False  # among the few numbers in a line of the terminal

    @property
    def times(self) -> float:
        """Percent are counted as fractions."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def change_unit(self) -> str:
        """Of its changes."""
        return "%" if self.change == "percent" else "points" if self.unit == "%" else self.unit


@dataclass(frozen=True)
class Taken:
    """What a measure found at a node; nothing where it did not apply."""

    items: Mapping[str, Items] = field(default_factory=dict)
    scores: Sequence[Score] = ()
    facts: Mapping[str, JSON] = field(default_factory=dict)  # what else there is to show
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.scores or self.facts)

    def of(self, score: Score) -> Items:
        """The items that a score counts."""
        return self.items[score.items].where(score.where)

    def json(self) -> dict[str, JSON]:
        """For the disk."""
        return {
            "items": {name: {"id": list(items.ids), **_lists(items.columns)} for name, items in self.items.items()},
            "scores": [asdict(score) for score in self.scores],
            "facts": dict(self.facts),
        }

    @classmethod
    def read(cls, found: Mapping[str, JSON]) -> "Taken":
        """What `json` gave."""
        tables = cast(dict[str, dict[str, list[Value]]], found["items"])
        items = {
            name: Items(cast(list[str], of["id"]), {k: column for k, column in of.items() if k != "id"})
            for name, of in tables.items()
        }
        made = []
        for score in cast(list[dict[str, Any]], found["scores"]):
            against = tuple(Against(**each) for each in score["against"])
            known = {name: score[name] for name in Score.__dataclass_fields__ if name in score}
            made.append(Score(**known | {"against": against}))
        facts = cast(dict[str, JSON], found["facts"])
        return cls(items, made, facts, cast(float, found.get("seconds") or 0.0))


def _lists(columns: Mapping[str, Sequence[Value]]) -> dict[str, JSON]:
    return {name: list(column) for name, column in columns.items()}


@dataclass(frozen=True)
class Effect:
    """A change, or a size, with its 95 % interval; `here` and `there` are the two numbers it is the difference of."""

    key: str  # `bits_per_byte.docs`: from the parent; `bits_per_byte.docs vs bigram`; of a size the score's own
    score: Score
    node: str  # its name
    question: str
    size: Estimate
    verdict: str
    other: str  # what it is compared with, as a sentence ends: `for the bigram`, `in base`
    here: Estimate
    there: Estimate | None = None

    @property
    def signed(self) -> bool:
        """Whether it is a change, which has a plus or a minus, and not the size of something."""
        return self.there is not None

    @property
    def compare(self) -> str:
        """What to compare it with, in words."""
        return f"{self._number(self.here)} here, {self.than}" if self.there else self.other

    @property
    def than(self) -> str:
        """The other number alone."""
        return f"{self._number(self.there)} {self.other}" if self.there else self.other

    @property
    def shortly(self) -> str:
        """The other number without its unit."""
        if not self.there:
            return self.other
        return f"{self._number(self.there, '%' if self.score.unit == '%' else '')} {self.other}"

    def _number(self, e: Estimate, unit: str | None = None) -> str:
        """In decimals that tell the two apart."""
        ends = sorted([self.here.value, (self.there or self.here).value])
        decimals = places(ends[0], ends[1], self.score.unit)
        return number(e.value, self.score.unit if unit is None else unit, decimals=decimals)

    def metric(self) -> Metric:
        """In the shape that `--json` has for every number, with its verdict."""
        return self.size.metric() | {"verdict": self.verdict, "compare": self.compare}

    def shown(self, question: str = "", verdict: str = "") -> Shown:
        """As a page shows it; `verdict` judges an expectation instead."""
        tone = self.verdict if verdict else ""
        return Shown(question or self.question, self.size, verdict or self.verdict, self.compare, self.signed, tone)


def estimate(taken: Taken, score: Score) -> Estimate | None:
    """A score with its interval. With fewer than two items there is none: nothing can be drawn anew."""
    items = taken.of(score)
    return None if len(items) < 2 else _estimate(score, items, score.num)


def estimates(taken: Taken) -> dict[str, Estimate]:
    """Every score that has an interval, by its key."""
    return {score.key: found for score in taken.scores if (found := estimate(taken, score)) is not None}


def _estimate(score: Score, items: Items, num: str) -> Estimate:
    if score.formula:
        found = statistics.of_sums(
            _parts(score, items, num), formulas.FORMULAS[score.formula], score.unit, score.convention
        )
        return scaled(found, score.times, score.unit)
    column = items.numbers(num)
    if score.den is not None:
        found = statistics.ratio(column, items.numbers(score.den), score.unit, score.convention)
    elif clusters := _clusters(score, items):
        found = statistics.mean(column, score.unit, score.convention, clusters)
    elif score.share:
        found = statistics.proportion(column, score.unit, score.convention)
    else:
        found = statistics.mean(column, score.unit, score.convention)
    return scaled(found, score.times, score.unit)


def _clusters(score: Score, items: Items) -> Sequence[Value] | None:
    """The cluster of each item; none where there are no two to draw."""
    column = items.columns[score.cluster] if score.cluster else ()
    return column if len(set(column)) > 1 else None


def _parts(score: Score, items: Items, num: str) -> list[np.ndarray]:
    """The columns whose sums a formula is of, (n,) each."""
    return [items.numbers(f"{num}.{i}") for i in range(formulas.SIZES[score.formula])]


def scaled(e: Estimate, times: float, unit: str) -> Estimate:
    """A fraction as percent or points."""
    if times == 1.0:
        return replace(e, unit=unit)
    return replace(e, value=times * e.value, low=times * e.low, high=times * e.high, unit=unit)


def changes(before: Taken, after: Taken, parent: str, node: str) -> list[Effect]:
    """What differs from one node to another on the items that both were measured on; their names are for sentences.

    Errors: JourneyError when both have a score but share no item.
    """
    old = {score.key: score for score in before.scores if score.parent}
    return [
        effect
        for score in after.scores
        if score.parent and score.key in old and (effect := _change(before, after, old[score.key], score, parent, node))
    ]


def _change(before: Taken, after: Taken, old: Score, score: Score, parent: str, node: str) -> Effect | None:
    if not len(after.of(score)) or not len(before.of(old)):
        return None
    ours, theirs = after.of(score).paired(before.of(old))
    if not len(ours):
        raise JourneyError(f"the two measurements of {score.key} share no item: they were made on different texts")
    if len(ours) < 2:
        return None
    here, there = _estimate(score, ours, score.num), _estimate(score, theirs, score.num)
    size = _difference(score, ours, score.num, theirs, score.num)
    question = score.question.replace("{parent}", parent)
    return _effect(score.key, score, node, question, size, f"in {parent}", here, there)


def comparisons(taken: Taken, node: str) -> list[Effect]:
    """What needs no second node: each score against its marks and columns, and the sizes that stand by themselves."""
    found = []
    for score in taken.scores:
        items = taken.of(score)
        if len(items) < 2:
            continue
        here = _estimate(score, items, score.num)
        for other in score.against:
            if other.value is not None:
                there = Estimate(other.value, other.value, other.value, here.n, score.unit)
                less = {end: getattr(here, end) - other.value for end in ("value", "low", "high")}
                size = replace(here, unit=score.change_unit, **less)
            else:
                there = _estimate(score, items, other.num)
                size = _difference(score, items, score.num, items, other.num)
            key = f"{score.key}{VERSUS}{other.name}"
            found.append(_effect(key, score, node, other.question, size, other.said, here, there))
        if score.stated is not None:
            found.append(Effect(score.key, score, node, score.question, here, SIZE, score.stated, here))
    return found


def _difference(score: Score, ours: Items, num: str, theirs: Items, other: str) -> Estimate:
    """Of a column of ours from one of theirs, the same items, drawn together: in percent of theirs, or in the score's
    unit."""
    if score.formula:
        both = _parts(score, ours, num), _parts(score, theirs, other)
        found = statistics.difference_of_sums(*both, formulas.FORMULAS[score.formula])
    elif score.change == "percent":
        found = statistics.change(ours.numbers(num), theirs.numbers(other))
    else:
        den = None if score.den is None else ours.numbers(score.den)
        clusters = _clusters(score, ours)
        found = statistics.difference(ours.numbers(num), theirs.numbers(other), den, clusters=clusters)
    paired = f"paired bootstrap over {score.item}, {RESAMPLES:,} resamples"
    said = "; ".join(filter(None, [score.compared or score.convention, paired]))
    times = 100.0 if score.change == "percent" else score.times
    return replace(scaled(found, times, score.change_unit), convention=said)


def _effect(
    key: str, score: Score, node: str, question: str, size: Estimate, other: str, here: Estimate, there: Estimate
) -> Effect:
    verdict = statistics.verdict(size.low, size.high, score.better) if score.better else SIZE
    return Effect(key, score, node, question, size, verdict, other, here, there)
