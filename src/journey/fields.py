"""The settings of a config: as the types that its fields have, and those that are not their defaults."""

import dataclasses
import types
import typing
from typing import Any, Literal

from journey.errors import nearest


def fit(value: Any, kind: Any) -> Any:
    """A value of a recipe as the type that a config field wants. Errors: ValueError saying what it should be."""
    origin = typing.get_origin(kind)
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
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 3e-4 as a string
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"must be a number, not {value!r}") from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise ValueError(f"must be {words[kind]}, not {value!r}")
    return value


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
