"""What a person writes for a field of a config, as the type that the field has."""

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
