"""The settings of a config: as the types that its fields have, in their ranges, and those that are not their defaults.

A number's range stands beside it: `lr: NonNegative = 0.02`, or `margin: Annotated[float, Within(above=0, most=1)]`.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from journey.errors import JourneyError, nearest


@dataclasses.dataclass(frozen=True)
class Within:
    """The range of a number, its limits inside (`least`, `most`) or outside (`above`, `below`)."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def check(self, value: float) -> None:
        """ValueError for a number outside, and for one that is none."""
        if not (math.isfinite(value) and self.least <= value <= self.most and self.above < value < self.below):
            raise ValueError(f"must be {self}, not {value}")

    def __str__(self) -> str:
        limits = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {limit:,g}" for word, limit in limits.items() if math.isfinite(limit))


@dataclasses.dataclass(frozen=True)
class Mapped:
    """Of a text that a recipe may write as a mapping: it is kept as JSON."""


Settings = Annotated[str, Mapped()]
Count = Annotated[int, Within(least=1)]
Several = Annotated[int, Within(least=2)]  # items of which an interval is to be made
Amount = Annotated[int, Within(least=0)]
Seed = Annotated[int, Within(least=0, most=2**63 - 1)]  # torch's
Positive = Annotated[float, Within(above=0)]
NonNegative = Annotated[float, Within(least=0)]
Share = Annotated[float, Within(least=0, most=1)]


def fit(value: Any, kind: Any) -> Any:
    """A value of a recipe as the type that a config field wants. Errors: ValueError saying what it should be."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        if Mapped() in kind.__metadata__ and isinstance(value, dict):
            return json.dumps(value, sort_keys=True)
        made = fit(value, typing.get_args(kind)[0])
        for within in _declared(kind):
            within.check(made)
        return made
    if origin is Literal:
        if value not in typing.get_args(kind):
            options = [str(option) for option in typing.get_args(kind)]
            raise ValueError(f"must be one of {', '.join(options)}, not {value!r}{nearest(str(value), options)}")
        return value
    if origin is tuple:  # of any length, all of one type
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(fit(item, typing.get_args(kind)[0]) for item in items)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in typing.get_args(kind):
            return None
        return fit(value, next(k for k in typing.get_args(kind) if k is not type(None)))
    if kind in (int, float) and isinstance(value, str):  # YAML 1.1 reads 3e-4 and 1e6 as text
        value = _number(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1023 else math.inf if value > 0 else -math.inf
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise ValueError(f"must be {words[kind]}, not {value!r}")
    return value


def _number(text: str) -> int | float | str:
    """A number written as text; text that is none as it is, for the message."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _ranges(kind: Any) -> list[Within]:
    """The ranges that an annotation declares; of `Count | None` those of the number."""
    bare = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    inside = typing.get_args(bare) if typing.get_origin(bare) in (types.UnionType, typing.Union) else ()
    return [*_declared(kind), *(within for each in inside for within in _ranges(each))]


def _declared(kind: Any) -> list[Within]:
    return [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Within)]


def check(values: Mapping[str, Any], owner: Any) -> None:
    """JourneyError naming the first number that is outside the range that its owner, a class or a function, declares
    beside it."""
    for name, kind in typing.get_type_hints(owner, include_extras=True).items():
        for within in _ranges(kind):
            if (value := values.get(name)) is not None:
                try:
                    within.check(value)
                except ValueError as error:
                    raise JourneyError(f"{name}: {error}") from None


def check_config(config: Any) -> None:
    """JourneyError naming the first setting of a config that is outside its range."""
    check(vars(config), type(config))


def check_multiple(config: Any, number: str, divisor: str) -> None:
    """JourneyError where one setting does not divide another; what is out of its own range `check` tells."""
    of, by = getattr(config, number), getattr(config, divisor)
    if of and by and of % by:
        raise JourneyError(f"{number} {of} is not a multiple of {divisor} {by}: choose a divisor")


def defaults(config: Any) -> dict[str, Any]:
    """What each setting of a config, or of its class, is when nobody says otherwise."""
    fields = dataclasses.fields(config)
    return {f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory() for f in fields}


def chosen(config: Any) -> dict[str, Any]:
    """The settings that are not their defaults: what ids hold of a config.

    So a setting that comes with a later Journey, and under whose default all is as it was, makes nothing anew. A
    default that changes has to raise the version: versions.lock holds them.
    """
    usual = defaults(config)
    return {name: value for name, value in dataclasses.asdict(config).items() if value != usual[name]}


def differing(before: dict[str, Any], now: dict[str, Any], config: Any) -> str:
    """What differs between the chosen settings of two configs of one class: `lr 0.02, now 0.01`."""
    usual = defaults(config)
    names = [name for name in usual if before.get(name, usual[name]) != now.get(name, usual[name])]
    return ", ".join(f"{name} {before.get(name, usual[name])}, now {now.get(name, usual[name])}" for name in names)
