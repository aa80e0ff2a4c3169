"""Numbers about all examples of some data: lengths, turns, languages, repetitions, and what of it is trained on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from journey.data.language import guess
from journey.metrics import Metric, metric
from journey.showing.examples import NO_ANSWER, TOO_LONG, Example

QUANTILES = {"least": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
_ENOUGH = 600  # characters by which a language is told


@dataclass
class Summary:
    """What was counted. `left_out` are rows that could not be read, by reason."""

    limit: int | None
    left_out: Mapping[str, int]
    lengths: list[int] = field(default_factory=list)  # tokens of each, whole; sorted
    shortened: int = 0
    unfit: Counter[str] = field(default_factory=Counter)  # read and not trained on, by reason
    tokens: int = 0  # of those that are trained on
    trained: int = 0
    turns: Counter[int] = field(default_factory=Counter)  # how many of the user's
    languages: Counter[str] = field(default_factory=Counter)
    told: int = 0  # whose row says its language
    schemas: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    repeated: int = 0

    @property
    def n(self) -> int:
        """How many examples."""
        return len(self.lengths)

    def quantiles(self) -> dict[str, int]:
        """Of the lengths: each is the length of an example."""
        return {name: self.lengths[round(q * (self.n - 1))] for name, q in QUANTILES.items()}

    def histogram(self) -> list[tuple[int, int, int]]:
        """(from, to, how many) of the lengths, each range twice as wide as the last."""
        counts = Counter((length - 1).bit_length() for length in self.lengths)
        ranges = range(min(counts), max(counts) + 1)
        return [((1 << k >> 1) + 1, 1 << k, counts[k]) for k in ranges]


def summarize(examples: Iterable[Example], limit: int | None, left_out: Mapping[str, int]) -> Summary:
    """Count them, one after the other: none is kept."""
    found = Summary(limit, left_out)
    rows, questions = set[str](), set[str]()
    for example in examples:
        found.lengths.append(example.length)
        found.schemas[example.schema] += 1
        found.turns[sum(message["role"] == "user" for message in example.messages)] += 1
        found.told += bool(example.language)
        text = "\n".join(message["content"] for message in example.messages if message["role"] != "system")
        found.languages[example.language or guess(text[:_ENOUGH]) or "unknown"] += 1
        key, question = example.key(), example.question.strip()
        if key in rows:
            found.duplicates += 1
        elif question in questions:
            found.repeated += 1
        rows.add(key)
        questions.add(question)
        if example.left_out:
            found.unfit[example.left_out] += 1
        else:
            found.shortened += bool(example.cut)
            found.tokens += example.tokens
            found.trained += example.trained
    found.lengths.sort()
    return found


def metrics(found: Summary) -> dict[str, Metric]:
    """The numbers as `--json` has them."""
    share = 100 * found.trained / found.tokens if found.tokens else 0.0
    lengths = {f"tokens_{name}": metric(n, "tokens", "of a row, whole") for name, n in found.quantiles().items()}
    return {
        "examples": metric(found.n),
        **lengths,
        "fit": metric(found.n - found.unfit.total() - found.shortened, "rows", f"in {found.limit or 'any'} tokens"),
        "shortened": metric(found.shortened, "rows"),
        "too_long": metric(found.unfit[TOO_LONG], "rows"),
        "no_answer": metric(found.unfit[NO_ANSWER], "rows"),
        "left_out": metric(sum(found.left_out.values()), "rows", "they cannot be read"),
        "trained_share": metric(share, "%", "of the tokens that the model sees"),
        "duplicates": metric(found.duplicates, "rows", "equal to another in roles and texts"),
        "repeated_questions": metric(found.repeated, "rows", "another with the same first question comes before"),
    }


def as_json(found: Summary) -> dict[str, Any]:
    """What is no single number."""
    return {
        "schemas": dict(found.schemas.most_common()),
        "languages": dict(found.languages.most_common()),
        "turns": {str(n): count for n, count in sorted(found.turns.items())},
        "left_out": dict(found.left_out),
        "histogram": [{"from": low, "to": high, "rows": n} for low, high, n in found.histogram()],
    }
