"""A YAML file that knows the line of each of its values, and each scalar as it was written.

YAML 1.1 reads `yes` as true, `010` as 8 and `2026-01-01` as a date. Here only true and false are truth values, a date
is text, and where text is wanted it is taken as it stands: `exact: 1.10` wants 1.10, not 1.1.
"""

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import yaml

from journey.errors import JourneyError, nearest
from journey.fields import fit
from journey.files import check_file

Place = tuple[Any, ...]  # keys and indices that lead to a value
_LARGEST, _MOST = 5_000_000, 200_000  # bytes of a file, keys and values in it
_MARKS = ("on", "off", "yes", "no", "y", "n")  # truth values to YAML 1.1 alone


class Lines:
    """`value` is what the file says: mappings, lists, text, numbers, true, false and None."""

    def __init__(self, path: Path, what: str) -> None:
        """Errors: JourneyError with the file and the line, for what is no YAML or cannot be meant; `what` it is."""
        self.path = path
        self._lines: dict[Place, int] = {}
        self._written: dict[Place, str] = {}
        check_file(path)
        if path.stat().st_size > _LARGEST:
            raise JourneyError(f"{path}: {what} of more than {_LARGEST / 1e6:.0f} MB is not read: is it another file?")
        try:
            text = path.read_text(encoding="utf-8-sig")
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            self.value = self._build(root, ()) if root else None
        except yaml.reader.ReaderError as error:  # a control character
            line = text.count("\n", 0, error.position) + 1
            raise JourneyError(f"{path}:{line}: the character U+{error.character:04X} cannot be in YAML") from None
        except yaml.MarkedYAMLError as error:
            where = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else str(path)
            problem = str(error.problem).partition("\n")[0]
            raise JourneyError(
                f"{where}: not valid YAML: {problem} (text with : # ? or braces in it wants quotes)"
            ) from None
        except UnicodeDecodeError as error:
            raise JourneyError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
        except RecursionError:
            raise JourneyError(f"{path}: nested too deeply to be {what}") from None

    def at(self, place: Place) -> str:
        """`file:line` of a value, or of the nearest thing around it."""
        while place not in self._lines and place:
            place = place[:-1]
        return f"{self.path}:{self._lines.get(place, 1)}"

    def error(self, place: Place, problem: object) -> JourneyError:
        """The error to raise for a problem of the value at a place."""
        return JourneyError(f"{self.at(place)}: {problem}")

    def only(self, mapping: Any, known: tuple[str, ...], place: Place) -> dict[str, Any]:
        """The mapping at a place. Errors: JourneyError for what is no mapping, and for a key that is not known."""
        if not isinstance(mapping, dict):
            raise self.error(place, f"give a mapping with {', '.join(known)}, not {_short(mapping)}")
        for key in mapping:
            if key not in known:
                hint = nearest(key, known)
                raise self.error((*place, key), f'unknown key "{key}"{hint} (there are: {", ".join(known)})')
        return mapping

    def text(self, value: Any, place: Place) -> str:
        """The text at a place as it was written. Errors: JourneyError for nothing, and for what is no text."""
        if value is None or isinstance(value, dict | list) or (isinstance(value, str) and not value):
            name = next((part for part in reversed(place) if isinstance(part, str)), "this")
            found = "nothing" if value is None or value == "" else "a list" if isinstance(value, list) else "a mapping"
            raise self.error(place, f"{name} must be text, and {found} stands there")
        return self._written[place]

    def texts(self, value: Any, place: Place) -> tuple[str, ...]:
        """One text, or a list of at least one."""
        if not isinstance(value, list):
            return (self.text(value, place),)
        if not value:
            raise self.error(place, f"{place[-1]} is an empty list: give a text or leave it out")
        return tuple(self.text(one, (*place, i)) for i, one in enumerate(value))

    def fields(self, mapping: dict[str, Any], kind: type, place: Place) -> Any:
        """A dataclass of the mapping at a place, each value of the type and in the range that its field wants."""
        hints = typing.get_type_hints(kind, include_extras=True)
        values = {
            key: self._field(value, hints[key], (*place, key))
            for key, value in self.only(mapping, tuple(hints), place).items()
        }
        return self._made(kind, values, place)

    def short(self, value: Any, kind: type, place: Place) -> Any:
        """The same of the value of the one field that goes without saying, `kind.SHORT`."""
        hint = typing.get_type_hints(kind, include_extras=True)[kind.SHORT]  # type: ignore[attr-defined]
        return self._made(kind, {kind.SHORT: self._field(value, hint, place)}, place)  # type: ignore[attr-defined]

    def _field(self, value: Any, hint: Any, place: Place) -> Any:
        if hint == tuple[str, ...]:
            return self.texts(value, place)
        try:
            return fit(value if isinstance(value, bool) and hint is bool else self.text(value, place), hint)
        except ValueError as error:
            raise self.error(place, f"{place[-1]}: {error}") from None

    def _made(self, kind: type, values: dict[str, Any], place: Place) -> Any:
        missing = [
            f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in values
        ]
        if missing:
            raise self.error(place, f"{missing[0]} is missing")
        try:
            return kind(**values)
        except JourneyError as error:
            raise self.error(place, error) from None

    def _build(self, node: yaml.Node, place: Place) -> Any:
        self._lines[place] = node.start_mark.line + 1
        if len(self._lines) > _MOST:  # nine lines of anchors, each naming the one before nine times, are 400 million
            raise self.error(place, f"more than {_MOST:,} keys and values, anchors written out")
        if isinstance(node, yaml.MappingNode):
            made: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key, line = key_node.value, key_node.start_mark.line + 1
                if not isinstance(key, str):
                    raise JourneyError(f"{self.path}:{line}: a key must be a word (text in braces wants quotes)")
                if key in made:
                    raise JourneyError(f'{self.path}:{line}: "{key}" stands here twice')
                made[key] = self._build(value_node, (*place, key))
                self._lines[*place, key] = line
            return made
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*place, i)) for i, child in enumerate(node.value)]
        self._written[place] = node.value
        return self._scalar(node, place)

    def _scalar(self, node: yaml.Node, place: Place) -> str | int | float | bool | None:
        kind = node.tag.rpartition(":")[2]
        if kind in ("str", "timestamp") or (kind == "bool" and node.value.lower() in _MARKS):
            if "\0" in node.value:
                raise self.error(place, "a NUL character can be in no text")
            return node.value
        if kind not in ("null", "bool", "int", "float"):
            raise self.error(place, f"a value of the kind {kind} has no meaning here")
        try:
            value: int | float | bool | None = yaml.SafeLoader("").construct_object(node, deep=True)
        except ValueError as error:  # !!int and no number, or one of thousands of digits
            raise self.error(place, f"{_short(node.value)}: {error}") from None
        return value


def one_line(text: str, longest: int = 160) -> str:
    """A text as one line: white space of any kind as one space, the end cut where it is long, and what a terminal
    would obey, such as the codes that move its cursor, made harmless."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", re.sub(r"\s+", " ", text).strip())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _short(value: Any) -> str:
    return one_line(repr(value), 60)
