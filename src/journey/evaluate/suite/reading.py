"""A suite: a YAML file of prompts with checks, read so that a mistake is told by its line."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journey.errors import JourneyError, nearest
from journey.evaluate.suite.checks import KINDS, Contains, Exact, Json, Judged, NotContains, Rule
from journey.evaluate.suite.checks import Choice as ChoiceRule
from journey.evaluate.suite.lines import Lines, Place, one_line
from journey.evaluate.suite.variants import KINDS as PERTURBATIONS
from journey.files import check_file, digest

MAX_NEW_TOKENS = 64
_SUITE = ("name", "template", "chat", "max_new_tokens", "shots", "robustness", "toxic", "items")
_ITEM = ("id", "prompt", "template", "checks", "choices", "swap", "tags", "max_new_tokens", "robustness")
Pattern = re.Pattern[str]


@dataclass(frozen=True)
class Check:
    """One check of an item: its kind, its rule, and the file and line where it stands."""

    kind: str
    rule: Rule
    where: str


@dataclass(frozen=True)
class Item:
    """A prompt with checks. `swaps` are the fillings of its {words}, the first one the usual."""

    id: str
    prompt: str
    template: str
    checks: tuple[Check, ...]
    choices: tuple[str, ...] = ()
    swaps: tuple[Mapping[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    max_new_tokens: int = MAX_NEW_TOKENS
    robustness: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shot:
    """An answered example."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Suite:
    """Items in the order of the file. `shots` come before every prompt; `chat` says
    whether a model that was taught the chat format is asked in it; `toxic` are the user's own patterns."""

    name: str
    items: tuple[Item, ...]
    shots: tuple[Shot, ...] = ()
    chat: bool = True
    toxic: tuple[Pattern, ...] = ()


def read(path: Path) -> Suite:
    """Read and check a suite. Errors: JourneyError naming the file, the line and the nearest valid key."""
    lines = Lines(path, "a suite")
    if not isinstance(lines.value, dict):
        raise JourneyError(f"{path}: a suite is a mapping with items: `journey eval init` writes an example")
    top = lines.only(lines.value, _SUITE, ())
    name = lines.text(top["name"], ("name",)) if "name" in top else path.stem
    entries = top.get("items")
    if not isinstance(entries, list) or not entries:
        raise lines.error(("items",), "items must be a list of at least one prompt with checks")
    shots = top.get("shots", [])
    if not isinstance(shots, list):
        raise lines.error(("shots",), "shots must be a list of {prompt: …, answer: …}")
    items, places = [], dict[str, str]()
    for i, entry in enumerate(entries):
        item = _item(lines, entry, ("items", i), top)
        if item.id in places:
            what = f'the id "{item.id}"' if "id" in entry else "the prompt"
            raise lines.error(("items", i), f"{what} stands at {places[item.id]} too: give each item an id of its own")
        places[item.id] = lines.at(("items", i))
        items.append(item)
    return Suite(
        name=name,
        items=tuple(items),
        shots=tuple(lines.fields(shot, Shot, ("shots", i)) for i, shot in enumerate(shots)),
        chat=_flag(lines, top, "chat"),
        toxic=_toxic(lines, path, top) if "toxic" in top else (),
    )


def _item(lines: Lines, entry: Any, at: Place, top: dict[str, Any]) -> Item:
    lines.only(entry, _ITEM, at)
    if "prompt" not in entry:
        raise lines.error(at, "prompt is missing")
    prompt = lines.text(entry["prompt"], (*at, "prompt"))
    if not prompt.strip():
        raise lines.error((*at, "prompt"), "prompt is empty")
    choices = lines.texts(entry["choices"], (*at, "choices")) if "choices" in entry else ()
    if len(choices) == 1 or len(set(choices)) < len(choices):
        raise lines.error((*at, "choices"), "choices must be two or more different texts")
    swaps = _swaps(lines, entry["swap"], (*at, "swap"), prompt) if "swap" in entry else ()
    checks = _checks(lines, entry, at, choices)
    if not checks and not (swaps and choices):
        raise lines.error(at, "checks are missing: without one there is nothing to pass or fail")
    owner, template_at = (entry, (*at, "template")) if "template" in entry else (top, ("template",))
    template = lines.text(owner["template"], template_at) if "template" in owner else "{prompt}"
    if template.count("{prompt}") != 1:
        raise lines.error(template_at, "template must have {prompt} in it, once")
    return Item(
        id=lines.text(entry["id"], (*at, "id")) if "id" in entry else _name_of(prompt, choices),
        prompt=prompt,
        template=template,
        checks=checks,
        choices=choices,
        swaps=swaps,
        tags=lines.texts(entry["tags"], (*at, "tags")) if "tags" in entry else (),
        max_new_tokens=_count(lines, entry, at, _count(lines, top, (), MAX_NEW_TOKENS)),
        robustness=_robustness(lines, entry, at, _robustness(lines, top, (), PERTURBATIONS)),
    )


def _checks(lines: Lines, entry: dict[str, Any], at: Place, choices: tuple[str, ...]) -> tuple[Check, ...]:
    given = entry.get("checks", [])
    if not isinstance(given, list) or ("checks" in entry and not given):
        raise lines.error((*at, "checks"), "checks must be a list of at least one check, as in [{contains: Paris}]")
    made = []
    for i, one in enumerate(given):
        place = (*at, "checks", i)
        if isinstance(one, str):
            one = {one: None}  # - no_repetition
        if not isinstance(one, dict) or len(one) != 1:
            raise lines.error(place, "a check is one kind and what it wants, as in {contains: Paris}: one a list entry")
        [(kind, wanted)] = one.items()
        if kind not in KINDS:
            hint = nearest(kind, KINDS)
            raise lines.error(place, f'unknown check "{kind}"{hint} (there are: {", ".join(KINDS)})')
        rule = _rule(lines, kind, wanted, (*place, kind))
        if isinstance(rule, ChoiceRule) and rule.option not in choices:
            hint = nearest(rule.option, choices)
            known = ", ".join(f'"{choice}"' for choice in choices) or "none: give the item choices"
            raise lines.error(place, f'choice "{rule.option}" is none of the choices{hint} (there are: {known})')
        made.append(Check(kind, rule, lines.at(place)))
    return tuple(made)


def _rule(lines: Lines, kind: str, wanted: Any, at: Place) -> Rule:
    """The rule of a check: from a mapping of its fields, or from the value of the field that goes without saying."""
    rule: Any = KINDS[kind]
    if rule is Json:
        if wanted is None:
            raise lines.error(at, "json needs a JSON schema, or true for any JSON")
        try:
            return Json(wanted)
        except JourneyError as error:
            raise lines.error(at, error) from None
    if kind == "no_repetition" and (wanted is None or wanted is True):
        return rule()
    if isinstance(wanted, dict):
        return lines.fields(wanted, rule, at)
    made: Rule = lines.short(wanted, rule, at)
    return made


def _swaps(lines: Lines, given: Any, at: Place, prompt: str) -> tuple[Mapping[str, str], ...]:
    if not isinstance(given, dict) or not given:
        raise lines.error(at, "swap must be a mapping from a word of the prompt to its fillings: {name: [Mary, John]}")
    columns = {}
    for word, fillings in given.items():
        columns[word] = lines.texts(fillings, (*at, word))
        if "{" + word + "}" not in prompt:
            raise lines.error((*at, word), f"{{{word}}} does not stand in the prompt: swapping it changes nothing")
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1 or lengths == {1}:
        raise lines.error(at, "every word of swap needs as many fillings as the others, two or more")
    rows = [dict(zip(columns, filling, strict=True)) for filling in zip(*columns.values(), strict=True)]
    if any(row in rows[:i] for i, row in enumerate(rows)):
        raise lines.error(at, "the same filling stands there twice")
    return tuple(rows)


def _robustness(lines: Lines, mapping: dict[str, Any], at: Place, default: tuple[str, ...]) -> tuple[str, ...]:
    """Which perturbations an item is asked under: true is all, false is none."""
    place = (*at, "robustness")
    given = mapping.get("robustness", default)
    if given is default or isinstance(given, bool):
        return default if given is default else PERTURBATIONS if given else ()
    names = lines.texts(given, place)
    for name in names:
        if name not in PERTURBATIONS:
            hint = nearest(name, PERTURBATIONS)
            raise lines.error(place, f'unknown perturbation "{name}"{hint} (there are: {", ".join(PERTURBATIONS)})')
    return tuple(dict.fromkeys(names))


def _count(lines: Lines, mapping: dict[str, Any], at: Place, default: int) -> int:
    found = mapping.get("max_new_tokens", default)
    if type(found) is not int or found < 1:
        raise lines.error((*at, "max_new_tokens"), f"max_new_tokens must be a whole number from 1, not {found!r}")
    return found


def _flag(lines: Lines, mapping: dict[str, Any], key: str) -> bool:
    if not isinstance(found := mapping.get(key, True), bool):
        raise lines.error((key,), f"{key} must be true or false, not {found!r}")
    return found


def _toxic(lines: Lines, path: Path, top: dict[str, Any]) -> tuple[Pattern, ...]:
    """Patterns of a file, from the suite's folder: a word or phrase a line, /a regular expression/, # a comment."""
    file = path.parent / lines.text(top["toxic"], ("toxic",))
    try:
        check_file(file)
        rows = file.read_text(encoding="utf-8-sig").splitlines()
    except (JourneyError, UnicodeDecodeError) as error:
        raise lines.error(("toxic",), f"{error}: give a text file with a word or /pattern/ a line") from None
    patterns = []
    for number, row in enumerate(map(str.strip, rows), 1):
        if not row or row.startswith("#"):
            continue
        try:
            source = row[1:-1] if len(row) > 2 and row[0] == row[-1] == "/" else rf"\b{re.escape(row)}\b"
            patterns.append(re.compile(source, re.IGNORECASE))
        except re.error as error:
            raise JourneyError(f"{file}:{number}: {one_line(row, 60)} is no regular expression: {error}") from None
    return tuple(patterns)


def _name_of(prompt: str, choices: tuple[str, ...]) -> str:
    """An id that stays when items are put before this one: the first words, and a digest of all."""
    words = re.findall(r"\w+", prompt.lower())[:4]
    return "-".join([*words, digest([prompt, *choices])[:6]])


def filled(text: str, filling: Mapping[str, str]) -> str:
    """A text with the {words} of a swap replaced; other braces are text."""
    if not filling:
        return text
    words = "|".join(map(re.escape, filling))
    return re.sub(rf"\{{({words})\}}", lambda match: filling[match[1]], text)


def filled_rule(rule: Rule, filling: Mapping[str, str]) -> Rule:
    """The texts of exact, contains, not_contains and judge with the same {words} replaced; braces of a regular
    expression are its own."""
    if isinstance(rule, Exact):
        return Exact(filled(rule.text, filling), rule.ignore_case)
    if isinstance(rule, Contains | NotContains):
        texts = {
            key: tuple(filled(one, filling) for one in getattr(rule, key))
            for key in ("any", "all")
            if hasattr(rule, key)
        }
        return type(rule)(**texts, ignore_case=rule.ignore_case)
    if isinstance(rule, Judged):
        return Judged(filled(rule.criterion, filling), rule.least)
    return rule
