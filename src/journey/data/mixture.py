"""Weighted mixtures of texts: how one is written, and whose turn each row is.

`docs=0.7,code=0.3` gives docs seven rows of ten. Of any first n rows each text has its share of n to within one row,
and row i is a pure function of the weights, the seed and i.
"""

import math
import os
from array import array
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property

import numpy as np

from journey.data.stream import TokenStream
from journey.errors import JourneyError

_AS_IN = "write TEXT=WEIGHT,TEXT=WEIGHT, as in docs=0.7,code=0.3"


def is_mixture(value: str) -> bool:
    """Whether a value is meant as a mixture: it has the signs of one, and no file or folder is called so."""
    return ("=" in value or "," in value) and not os.path.lexists(os.path.expanduser(value))


def parse(value: str) -> dict[str, Fraction]:
    """The texts of a mixture with their shares, which sum to exactly one. Weights need not.

    Errors: JourneyError for a mixture of fewer than two texts, a text that stands twice, and what is no weight.
    """
    weights: dict[str, Fraction] = {}
    said = f'"{_shown(value)}"'
    for part in value.split(","):
        text, equals, weight = (word.strip() for word in part.rpartition("="))
        if not text or not equals:
            raise JourneyError(f'{said}: "{_shown(part.strip())}" is no text with a weight: {_AS_IN}')
        if text in weights:
            raise JourneyError(f"{said}: {_shown(text)} stands there twice: give each text one weight")
        if (number := _weight(weight)) is None:
            wrong = f'the weight of {_shown(text)} must be a number above 0, not "{_shown(weight)}"'
            raise JourneyError(f"{said}: {wrong}: {_AS_IN}")
        weights[text] = number
    if len(weights) < 2:
        raise JourneyError(f"{said} is a mixture of one text: name the text alone, without a weight")
    total = sum(weights.values())
    return {text: weight / total for text, weight in weights.items()}


def _weight(text: str) -> Fraction | None:
    """A weight as it is written, 0.1 and not the binary number nearest to it; None for what is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return Fraction(repr(number)) if math.isfinite(number) and number > 0 else None


def _shown(text: str) -> str:
    """The beginning of what somebody wrote, fit for a line."""
    return repr(text[:200])[1:-1]


def spelled(weights: Mapping[object, object]) -> str:
    """A mapping of texts to weights as it is written on the command line. Errors: ValueError for one of none."""
    if not weights:
        raise ValueError(f"a mixture of no texts: {_AS_IN}")
    for text in weights:
        if {"=", ","} & {*str(text)}:
            raise ValueError(f'"{text}" cannot stand in a mixture, for its "=" or ",": give its text stage a name')
    return ",".join(f"{text}={weight}" for text, weight in weights.items())


class Turns:
    """Whose turn it is: an order of rows in which every part keeps to its share.

    A part's n-th row may come no sooner than its share lets n rows begin, and no later than it lets them end; of those
    that may, the one that must soonest has its turn. On one line that always works out (earliest deadline first), so
    no part is ever a whole row away from its share.
    """

    def __init__(self, shares: Sequence[Fraction]) -> None:
        """`shares` sum to one."""
        self.period = math.lcm(*(share.denominator for share in shares))  # after so many rows all begins anew
        self._each = [int(share * self.period) for share in shares]  # rows of each part in a period
        self._counts = [0] * len(shares)  # of the rows that are known
        self._part, self._rank = array("H"), array("q")

    def at(self, i: int) -> tuple[int, int]:
        """The part that row i comes from, and how many rows before it came from there."""
        laps, place = divmod(i, self.period)
        self._extend(place + 1)
        part = self._part[place]
        return part, laps * self._each[part] + self._rank[place]

    def counts(self, n: int) -> list[int]:
        """How many of the first n rows come from each part."""
        laps, rest = divmod(n, self.period)
        self._extend(rest)
        beside = np.bincount(np.array(self._part[:rest], dtype=np.int64), minlength=len(self._each)).tolist()
        return [laps * each + more for each, more in zip(self._each, beside, strict=True)]

    def _extend(self, n: int) -> None:
        each, counts, period = self._each, self._counts, self.period
        while (row := len(self._part)) < n:
            soonest = [
                (-(-(count + 1) * period // share), part)
                for part, (count, share) in enumerate(zip(counts, each, strict=True))
                if count * period < (row + 1) * share
            ]
            part = min(soonest)[1]
            self._part.append(part)
            self._rank.append(counts[part])
            counts[part] += 1


class Weighted:
    """Streams of which each gives its share of the rows, from the first row on, and repeats by its own epochs."""

    def __init__(self, streams: Mapping[str, TokenStream], shares: Sequence[Fraction]) -> None:
        """`streams` by the suffix that numbers of theirs have (`_docs`); their shares sum to one."""
        self._streams, self._exact = streams, shares

    @cached_property
    def _turns(self) -> Turns:
        return Turns(self._exact)

    def __len__(self) -> int:
        """Tokens in one epoch of every stream."""
        return sum(map(len, self._streams.values()))

    @property
    def shares(self) -> dict[str, float]:
        """The share of each stream, by its suffix."""
        return dict(zip(self._streams, map(float, self._exact), strict=True))

    def row(self, i: int) -> np.ndarray:
        """The T+1 tokens of row i."""
        part, n = self._turns.at(i)
        return [*self._streams.values()][part].row(n)

    def epochs(self, n_rows: int) -> dict[str, float]:
        """How many times the first `n_rows` rows read each stream, by its suffix."""
        counts = self._turns.counts(n_rows)
        return {suffix: stream.epochs(n)[""] for (suffix, stream), n in zip(self._streams.items(), counts, strict=True)}
