"""What an output can be checked for. Each kind is one dataclass: its fields are what a suite may say, and `check` gives
whether the output passes, None where that cannot be told, and why not, in a line."""

import json
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException
from typing import Annotated, Any, ClassVar, Literal

import regex

from journey.data.language import LANGUAGES, guess
from journey.errors import JourneyError, nearest
from journey.evaluate.suite.lines import one_line
from journey.fields import Amount, Count, NonNegative, Share, Within

Verdict = tuple[bool | None, str]  # whether it passed, None where that is not known; why it did not
PATIENCE = 2.0  # seconds for one regular expression: some need longer than anyone lives
Grade = Annotated[int, Within(least=1, most=10)]
_EXACT = Context(prec=100, traps=[])  # a number beyond its range is infinitely far away
_NUMBER = regex.compile(
    r"(?:(?<![\w)])[-+−])?(?<!\w)(?:(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
)
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]+")


@dataclass(frozen=True)
class Exact:
    """The whole output is this text, white space around both left aside."""

    SHORT: ClassVar = "text"
    text: str
    ignore_case: bool = False

    def check(self, output: str) -> Verdict:
        same = _cased(output.strip(), self.ignore_case) == _cased(self.text.strip(), self.ignore_case)
        return same, "" if same else f"expected exactly {_quoted(self.text)}, found {_quoted(output)}"


@dataclass(frozen=True)
class Contains:
    """Every text of `all` stands in the output, and at least one of `any`."""

    SHORT: ClassVar = "all"
    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    ignore_case: bool = False

    def __post_init__(self) -> None:
        if not (self.all or self.any):
            raise JourneyError("contains needs a text: give one, or all or any with a list")

    def check(self, output: str) -> Verdict:
        searched = _cased(output, self.ignore_case)
        for text in self.all:
            if _cased(text, self.ignore_case) not in searched:
                return False, f"expected {_quoted(text)} in it, found {_quoted(output)}"
        if self.any and not any(_cased(text, self.ignore_case) in searched for text in self.any):
            return False, f"expected one of {', '.join(map(_quoted, self.any))} in it, found {_quoted(output)}"
        return True, ""


@dataclass(frozen=True)
class NotContains:
    """No one of these texts stands in the output."""

    SHORT: ClassVar = "any"
    any: tuple[str, ...]
    ignore_case: bool = False

    def check(self, output: str) -> Verdict:
        searched = _cased(output, self.ignore_case)
        found = [text for text in self.any if _cased(text, self.ignore_case) in searched]
        return not found, f"expected no {_quoted(found[0])}, found {_quoted(output)}" if found else ""


@dataclass(frozen=True)
class Regex:
    """The pattern is found somewhere in the output; `^` and `$` are its beginning and end."""

    SHORT: ClassVar = "pattern"
    pattern: str
    ignore_case: bool = False

    def __post_init__(self) -> None:
        try:
            self._compiled()
        except regex.error as error:
            raise JourneyError(f"regex {_quoted(self.pattern)} is none: {error}") from None

    def _compiled(self) -> Any:
        return regex.compile(self.pattern, regex.IGNORECASE if self.ignore_case else 0)

    def check(self, output: str) -> Verdict:
        try:
            found = self._compiled().search(output, timeout=PATIENCE)
        except TimeoutError:
            return None, f"the regex was not done in {PATIENCE:.0f} s: {_quoted(self.pattern)}"
        return bool(found), "" if found else f"expected a match of {_quoted(self.pattern)}, found {_quoted(output)}"


@dataclass(frozen=True)
class Json:
    """The output, or the one fenced block that it is, is JSON and fits a JSON schema (`true` fits any)."""

    SHORT: ClassVar = "schema"
    schema: Any

    def __post_init__(self) -> None:
        from jsonschema.exceptions import SchemaError

        if _is_deep(self.schema):
            raise JourneyError("a JSON schema that is nested too deeply to be read")
        try:
            self._validator().check_schema(self.schema)
            outside = [ref for ref in _references(self.schema) if not ref.startswith("#")]
        except SchemaError as error:
            raise JourneyError(f"no JSON schema: {one_line(error.message)}") from None
        if outside:
            raise JourneyError(f'"$ref": {_quoted(outside[0])} lies outside of this schema, and nothing is fetched')

    def _validator(self) -> Any:
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing import Registry

        return validator_for(self.schema, default=Draft202012Validator)(self.schema, registry=Registry())

    def check(self, output: str) -> Verdict:
        from jsonschema.exceptions import best_match
        from referencing.exceptions import Unresolvable

        block = regex.fullmatch(r"```\w*\n(.*)\n```", output.strip(), regex.DOTALL)
        try:
            value = json.loads(block[1] if block else output, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            return False, f"expected JSON ({one_line(str(error), 60)}), found {_quoted(output)}"
        try:
            wrong = best_match(self._validator().iter_errors(value))
        except (Unresolvable, RecursionError, ArithmeticError) as error:  # a $ref to nothing, or to itself
            return None, f"the schema cannot be followed: {one_line(str(error), 60)}"
        return wrong is None, f"{wrong.json_path}: {one_line(wrong.message)}" if wrong else ""


@dataclass(frozen=True)
class Number:
    """The last number of the output is `value`, at most `tolerance` away. 1,234.5 has commas between thousands."""

    SHORT: ClassVar = "value"
    value: str  # as it was written: a float would lose the end of a long one
    tolerance: NonNegative = 0.0

    def __post_init__(self) -> None:
        written = self.value.replace("_", "")
        if last_number(written) is None or last_number(written) != _decimal(written):
            raise JourneyError(f"number must be a number, as in 4200 or 0.5, not {_quoted(self.value)}")

    def check(self, output: str) -> Verdict:
        wanted = f"{self.value}{f' ± {self.tolerance:g}' if self.tolerance else ''}"
        found = last_number(output)
        if found is None:
            return False, f"expected the number {wanted}, found no number in {_quoted(output)}"
        wanted_value = last_number(self.value.replace("_", ""))
        near = wanted_value is not None and abs(_EXACT.subtract(found, wanted_value)) <= Decimal(repr(self.tolerance))
        return near, "" if near else f"expected the number {wanted}, found {found} last in {_quoted(output)}"


@dataclass(frozen=True)
class Choice:
    """Of the item's `choices` this one has the highest log-probability (of the whole text, not per token)."""

    SHORT: ClassVar = "option"
    option: str

    def check(self, output: str) -> Verdict:
        same = output == self.option
        return same, "" if same else f"expected the choice {_quoted(self.option)}, found {_quoted(output)}"


@dataclass(frozen=True)
class NoRepetition:
    """At most the share `most` of the n-grams of words are repeats: 1 - different n-grams / all n-grams.

    A word is what stands between white space, in any case; of scripts that put none between, each character.
    """

    SHORT: ClassVar = "most"
    most: Share = 0.2
    n: Count = 4

    def check(self, output: str) -> Verdict:
        share = repetition(output, self.n)
        passed = share <= self.most
        said = f"{share:.0%} of its {self.n}-grams are repeats, expected {self.most:.0%} at most, found"
        return passed, "" if passed else f"{said} {_quoted(output)}"


@dataclass(frozen=True)
class Length:
    """The output, white space around it left aside, has at least and at most so many characters or words."""

    SHORT: ClassVar = "most"
    most: Count | None = None
    least: Amount = 0
    unit: Literal["characters", "words"] = "characters"

    def __post_init__(self) -> None:
        if not self.least and self.most is None:
            raise JourneyError("length needs least, most or both")
        if self.most is not None and self.least > self.most:
            raise JourneyError(f"no length is at least {self.least} and at most {self.most}")

    def check(self, output: str) -> Verdict:
        text = output.strip()
        n = len(text) if self.unit == "characters" else len(text.split())
        if n < self.least:
            return False, f"expected at least {self.least} {self.unit}, found {n}: {_quoted(output)}"
        if self.most is not None and n > self.most:
            return False, f"expected at most {self.most} {self.unit}, found {n}: {_quoted(output)}"
        return True, ""


@dataclass(frozen=True)
class Language:
    """The output is in this language, as far as its script and its commonest words tell."""

    SHORT: ClassVar = "code"
    code: str

    def __post_init__(self) -> None:
        if self.code not in LANGUAGES:
            hint = nearest(self.code, LANGUAGES)
            raise JourneyError(f'language "{self.code}" cannot be told{hint} (there are: {", ".join(LANGUAGES)})')

    def check(self, output: str) -> Verdict:
        found = guess(output)
        said = "could not tell the language of" if found is None else f"found {found}:"
        return found == self.code, "" if found == self.code else f"expected {self.code}, {said} {_quoted(output)}"


@dataclass(frozen=True)
class Judged:
    """A judge finds that the output meets the criterion or, with `least`, grades it so or better on 1 to 10."""

    SHORT: ClassVar = "criterion"
    criterion: str
    least: Grade | None = None


Rule = Exact | Contains | NotContains | Regex | Json | Number | Choice | NoRepetition | Length | Language | Judged
KINDS: dict[str, type[Rule]] = {
    "exact": Exact,
    "contains": Contains,
    "not_contains": NotContains,
    "regex": Regex,
    "json": Json,
    "number": Number,
    "choice": Choice,
    "no_repetition": NoRepetition,
    "length": Length,
    "language": Language,
    "judge": Judged,
}


def last_number(text: str) -> Decimal | None:
    """The last number in a text, commas between thousands read, or None. One inside a word (GPT2) is none; of 5-3 it
    is 3, of 1/2 it is 2, and of 1.2.3 there is no telling: 3."""
    found = [number for match in _NUMBER.finditer(text) if (number := _decimal(match[0])) is not None]
    return found[-1] if found else None


def repetition(text: str, n: int) -> float:
    """The share of a text's n-grams of words that stood there before; 0 where it has no n words."""
    words = _WORD.findall(text.casefold())
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _decimal(written: str) -> Decimal | None:
    try:
        number = Decimal(written.replace(",", "").replace("−", "-"))
    except DecimalException:  # an exponent beyond all
        return None
    return number if number.is_finite() else None


def _is_deep(schema: Any, most: int = 100) -> bool:
    """Whether more is nested than the library's recursion is sure to reach."""
    level = [schema]
    for _ in range(most):
        inside = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for some in inside for each in some]
        if not level:
            return False
    return True


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [ref for each in schema for ref in _references(each)]
    if not isinstance(schema, dict):
        return []
    own = [ref for key in ("$ref", "$dynamicRef") if isinstance(ref := schema.get(key), str)]
    return own + _references(list(schema.values()))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _cased(text: str, ignore_case: bool) -> str:
    return text.casefold() if ignore_case else text


def _quoted(text: str) -> str:
    return f'"{one_line(text, 100)}"'
