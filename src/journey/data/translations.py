"""Pairs of a text and its translation: from files of rows, or numbers as words and digits."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from journey.data.hub import local
from journey.data.numbers import drawn, words
from journey.data.records import excerpt, first_columns, read_back
from journey.data.rows import ENDINGS, READ, Say, Unusable, read, unheard
from journey.errors import JourneyError
from journey.files import read_json, write_lines

NUMBERS = "numbers"  # the source that needs no file
SPLITS = ("train", "dev", "test")
KNOWN = (("source", "target"), ("src", "tgt"))  # columns that say themselves what they are
TO_DIGITS, TO_WORDS = "words to digits", "digits to words"


@dataclass(frozen=True)
class Translation:
    """A text and what it is in the other language. `about` is what stands on one side of the split alone, a number or
    the source text; `kind` tells directions apart where there are several."""

    id: str
    source: str
    target: str
    about: str
    kind: str = ""


def numbers(pairs: int, seed: int) -> list[Translation]:
    """So many pairs, of half as many numbers: each as words to digits, and as digits to words."""
    found = []
    for n in drawn(-(-pairs // 2), seed):
        digits, said = str(n), words(n)
        found.append(Translation(f"{n}-digits", said, digits, digits, TO_DIGITS))
        found.append(Translation(f"{n}-words", digits, said, digits, TO_WORDS))
    return found


def load(
    source: str,
    target: str = "",
    source_field: str = "",
    target_field: str = "",
    strict: bool = False,
    say: Say = unheard,
) -> tuple[list[Translation], Counter[str]]:
    """The pairs of a file of rows (`rows.ENDINGS`), or of two whose rows have the same ids, and how many rows were left
    out for which reason.

    Of one file, a row holds both texts, in the columns named, under one of KNOWN, or as its only two texts; they may
    stand in an object "translation" ({"en": …, "de": …}), as in data sets of the Hub. Of two files, each row holds an
    "id" and one text. A repeated pair is left out. JourneyError for a file in which there is nothing.
    """
    for path in filter(None, (source, target)):
        if not local(path).is_file():
            raise JourneyError(f'no such file: {path}; give "{NUMBERS}" or a file of pairs ({READ})')
        if not path.lower().endswith(ENDINGS):
            raise JourneyError(f"{path}: pairs are read from {READ} files")
    if target:
        found, left_out = _joined(source, target, source_field, target_field or source_field, strict, say)
    else:
        found, left_out = read(
            source, lambda record, where: _pair(record, where, source_field, target_field), strict, say
        )
    different: dict[tuple[str, str], Texts] = {}
    for one in found:
        different.setdefault(one[1:], one)
    if repeated := len(found) - len(different):
        left_out["repeated"] += repeated
        say(f"{source}: {repeated:,} pairs left out that repeat another")
    return [Translation(*one, about=one[1]) for one in different.values()], left_out


Texts = tuple[str, str, str]  # id, source, target


def _pair(record: object, where: str, source: str, target: str) -> Texts:
    row = _row(record, where)
    inside = row.get("translation")
    texts = inside if isinstance(inside, dict) else row
    named = next((pair for pair in KNOWN if all(name in texts for name in pair)), ("", ""))
    names = [source or named[0], target or named[1]]
    if not all(names):
        both = [name for name, value in texts.items() if isinstance(value, str) and name not in ("id", *names)]
        if len(both) + sum(map(bool, names)) != 2:
            said = "say with source_field and target_field which are the texts"
            raise Unusable("which columns", f"{where}: holds {first_columns(texts)}: {said}")
        names = [name or both.pop(0) for name in names]
    return (_id(row, where), _text(texts, names[0], where), _text(texts, names[1], where))


def _joined(
    source: str, target: str, source_field: str, target_field: str, strict: bool, say: Say
) -> tuple[list[Texts], Counter[str]]:
    """The pairs of two files, by the ids of their rows."""
    sides, left_out = [], Counter[str]()
    for path, field in ((source, source_field or "text"), (target, target_field or "text")):

        def one(record: object, where: str, field: str = field) -> tuple[str, str]:
            row = _row(record, where)
            if not isinstance(row.get("id"), str | int):
                raise Unusable("no id", f'{where}: no "id", by which the rows of two files belong together')
            return str(row["id"]), _text(row, field, where)

        found, out = read(path, one, strict, say)
        sides.append(dict(found))
        left_out += out
    both = [(id, text, sides[1][id]) for id, text in sides[0].items() if id in sides[1]]
    if not both:
        raise JourneyError(f"{source} and {target} have no id in common: the rows of two files belong together by it")
    if alone := len(sides[0]) + len(sides[1]) - 2 * len(both):
        left_out["in one file alone"] += alone
        say(f"{source}: {alone:,} rows left out whose id the other file has not")
    return both, left_out


def _row(record: object, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise Unusable("no object", f"{where}: a row is an object with columns, not {type(record).__name__}")
    return record


def _id(row: dict[str, Any], where: str) -> str:
    return str(row["id"]) if isinstance(row.get("id"), str | int) else where.rpartition(", ")[2]


def _text(row: dict[str, Any], name: str, where: str) -> str:
    text = row.get(name)
    if not isinstance(text, str):
        holds = first_columns(row)
        raise Unusable("no text", f'{where}: "{excerpt(name)}" is no text here; the row holds {holds}')
    if not text.strip():
        raise Unusable("empty", f'{where}: "{excerpt(name)}" is empty')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unusable("no Unicode", f'{where}: "{excerpt(name)}" holds half a character') from None
    return text.strip()


def divided(
    pairs: Iterable[Translation], seed: int, held_out: int, most: int | None = None
) -> dict[str, list[Translation]]:
    """Train, dev and test, drawn by the seed, at most `most` pairs in all; those about the same stand on one side.

    About `held_out` pairs of test and half as many of dev, each at most a twentieth of all. JourneyError for less than
    three different texts, of which none could be held out.
    """
    groups: dict[str, list[Translation]] = {}
    for pair in pairs:
        groups.setdefault(pair.about, []).append(pair)
    every, n = list(groups.values()), sum(map(len, groups.values()))
    drawn = [every[i] for i in np.random.default_rng((seed, 4)).permutation(len(every))]
    while most is not None and len(drawn) > 1 and n > most:
        n -= len(drawn.pop())
    if len(drawn) < 3:
        raise JourneyError(f"{n} pairs of {len(drawn)} different texts are too few to hold some out: give more")
    wanted = {name: min(size, -(-n // 20)) for name, size in (("test", held_out), ("dev", -(-held_out // 2)))}
    parts: dict[str, list[Translation]] = {"train": drawn.pop(), "dev": [], "test": []}
    for group in drawn:
        where = next((name for name in ("test", "dev") if len(parts[name]) < wanted[name]), "train")
        parts[where] += group
    return parts


def save(pairs: Iterable[Translation], path: Path) -> None:
    """One JSON object a line."""
    write_lines(path, pairs)


def saved(path: Path) -> list[Translation]:
    """The pairs that `save` wrote."""

    def made(**columns: str) -> Translation:
        if not all(isinstance(value, str) for value in columns.values()):
            raise TypeError
        return Translation(**columns)

    return read_back(path, made)


class Translations:
    """The folder of a translations node: its pairs by split, and all of its text, for a tokenizer to learn from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = read_json(folder / "translations.json")
        self.name: str = self.facts["name"]

    def pairs(self, split: str) -> list[Translation]:
        """The pairs of "train", "dev" or "test"."""
        return saved(self.folder / f"translations-{split}.jsonl")

    def stream(self, split: str) -> Iterator[str]:
        """Source and target of each pair, one after the other."""
        for pair in self.pairs(split):
            yield from (pair.source, pair.target)

    def texts(self, split: str) -> list[str]:
        """The same, as a list."""
        return list(self.stream(split))
