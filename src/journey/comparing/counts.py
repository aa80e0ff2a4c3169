"""What tokenizers do to the same texts, side by side, each number with its interval over the texts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite

import numpy as np
import regex

from journey.data.samples import Sample
from journey.errors import JourneyError
from journey.evaluate import statistics
from journey.evaluate.statistics import Estimate
from journey.scores import scaled
from journey.tokenizer.foreign import Vocabulary

ENGLISH = "en"
MOST = 6  # tokenizers at once: as many as a page has colours and a terminal has room
MEASURES = {  # name -> how it is counted
    "bytes_per_token": "UTF-8 bytes of the texts over their tokens; scripts differ in bytes per character (Latin 1, "
    "Cyrillic 2, Thai 3), so between languages read parity instead",
    "parity": "tokens of the translations over tokens of the same paragraphs in English",
    "tokens_per_word": "tokens over words between white space, punctuation with them; none for scripts that write "
    "without spaces",
    "words_split": "of runs of letters those cut into two or more tokens, digits left out; none for scripts that "
    "write without spaces",
    "byte_fallback": "tokens that spell a character byte by byte: SentencePiece's byte pieces, and in a byte-level "
    "vocabulary those that are no whole character by themselves",
    "unknown": "tokens that stand for what the vocabulary cannot write",
    "whole": "texts that decoding gives back exactly",
}
UNITS = {"bytes_per_token": "bytes/token", "parity": "× English", "tokens_per_word": "tokens/word"}
PROBES = ("1234567", "3.14", " 2026-11-22", "    x", "\tx", "\t\tx", "\n\n\n", "a  b", "x \n", "don't", "HTTPServer")
SPEED_BYTES = 300_000
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}'’]*(?<=[\p{L}\p{M}])")
_UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}\p{Balinese}]"
)
_LETTER = regex.compile(r"\p{L}")


@dataclass(frozen=True)
class Digits:
    """How the numbers from 1000 to 9999 are cut, each after a space, as in a text."""

    ways: int
    """In how many different ways; one means that arithmetic always sees the same columns."""
    longest: int
    """Digits in the longest token."""


@dataclass(frozen=True)
class Comparison:
    """All that was measured; `Vocabulary.name` and `Sample.name` are the keys."""

    vocabularies: Sequence[Vocabulary]
    samples: Sequence[Sample]
    measures: dict[str, dict[str, dict[str, Estimate]]]
    """Vocabulary, sample, measure -> its number."""
    overlap: dict[str, dict[str, int]]
    """Vocabulary, vocabulary -> how many tokens, as byte strings, are in both."""
    digits: dict[str, Digits]
    speed: dict[str, float]
    """MB/s on one thread, best of three; empty when there were no texts."""
    code_against_prose: dict[str, float]
    """Bytes per token of all code over that of all prose; empty unless there are both."""

    @property
    def names(self) -> list[str]:
        return [vocabulary.name for vocabulary in self.vocabularies]

    @property
    def is_parallel(self) -> bool:
        return any("parity" in m for of in self.measures.values() for m in of.values())

    def metrics(self) -> dict[str, Estimate]:
        """Every number by name, as in `gpt2.de.parity`, with how it was counted."""
        found = {
            f"{vocabulary}.{sample}.{measure}": estimate
            for vocabulary, of in self.measures.items()
            for sample, measures in of.items()
            for measure, estimate in measures.items()
        }
        for vocabulary in self.vocabularies:
            name = vocabulary.name
            n = len(vocabulary.content)
            found[f"{name}.tokens"] = _exact(len(vocabulary.tokens), "tokens", "with special tokens", n=1)
            for other, both in self.overlap[name].items():
                said = f"of the tokens of {name}, as byte strings, those that {other} has"
                found[f"{name}.in.{other}"] = _exact(100 * both / max(1, n), "%", said, n)
            said = "different ways in which the numbers from 1000 to 9999 are cut, each after a space"
            found[f"{name}.digit_cuts"] = _exact(self.digits[name].ways, "ways", said, 9000)
            if name in self.code_against_prose:
                said = "bytes per token of all code over bytes per token of all prose"
                found[f"{name}.code_against_prose"] = _exact(self.code_against_prose[name], "×", said, 1)
            if name in self.speed:
                said = "encoding on one thread, best of three: rough, and of this machine"
                found[f"{name}.speed"] = _exact(self.speed[name], "MB/s", said, 3)
        return found


def compare(
    vocabularies: Sequence[Vocabulary],
    samples: Sequence[Sample],
    parallel: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Measure each tokenizer on each sample; parity only where the samples are `parallel`, text i a translation.

    `say` hears which tokenizer is at work. Errors: JourneyError for more than MOST tokenizers.
    """
    if len(vocabularies) > MOST:
        raise JourneyError(f"{len(vocabularies)} tokenizers are too many to see side by side: name at most {MOST}")
    counts = dict[str, dict[str, _Counts]]()
    for v in vocabularies:
        if samples:
            say(f"{v.name}: {len(samples)} samples, {sum(len(sample.texts) for sample in samples):,} texts")
        counts[v.name] = {sample.name: _count(v, sample) for sample in samples}
    both = {sample.code for sample in samples} == {True, False}
    return Comparison(
        vocabularies,
        samples,
        {v.name: _measure(v, samples, counts[v.name], parallel) for v in vocabularies},
        {a.name: {b.name: len(a.content & b.content) for b in vocabularies if a is not b} for a in vocabularies},
        {v.name: digits(v) for v in vocabularies},
        {v.name: speed(v, samples) for v in vocabularies} if samples else {},
        {name: _code_against_prose(samples, of) for name, of in counts.items()} if both else {},
    )


def ends(estimate: Estimate) -> tuple[float | None, float | None]:
    """The interval of a number, None for what has none."""
    return (estimate.low, estimate.high) if isfinite(estimate.low) else (None, None)


def digits(vocabulary: Vocabulary) -> Digits:
    """How four-digit numbers are cut."""
    cuts = {tuple(len(p.strip()) for p in vocabulary.pieces(f" {n}") if p.strip()) for n in range(1000, 10_000)}
    return Digits(len(cuts), max(max(cut, default=0) for cut in cuts))


def speed(vocabulary: Vocabulary, samples: Sequence[Sample]) -> float:
    """MB/s of text to ids on this thread, over texts of every sample."""
    texts, size = list[str](), 0
    most = max(len(sample.texts) for sample in samples)
    for i in range(most):  # a text of each in turn, so that every language is in it
        for sample in samples:
            if i < len(sample.texts) and size < SPEED_BYTES:
                texts.append(sample.texts[i])
                size += len(sample.texts[i].encode())
    return size / 1e6 / min(_seconds(lambda: [vocabulary.encode(text) for text in texts]) for _ in range(3))


def is_spaced(texts: Sequence[str]) -> bool:
    """Whether these are written with spaces between words: not Chinese, Japanese, Thai, Lao, Khmer or Burmese."""
    letters = sum(len(_LETTER.findall(text)) for text in texts)
    return sum(len(_UNSPACED.findall(text)) for text in texts) < letters / 2


def words(text: str) -> np.ndarray:
    """Where each run of letters and marks begins and ends, in UTF-8 bytes: (n, 2)."""
    at = np.array([0, *accumulate(len(char.encode()) for char in text)])
    return at[np.array([match.span() for match in _WORD.finditer(text)], dtype=int).reshape(-1, 2)]


@dataclass
class _Counts:
    """One number a text."""

    bytes: list[int]
    tokens: list[int]
    spaced: list[int]  # words between white space
    words: list[int]  # runs of letters
    split: list[int]
    fallback: list[int]
    unknown: list[int]
    whole: list[bool]


def _measure(
    vocabulary: Vocabulary, samples: Sequence[Sample], counts: dict[str, _Counts], parallel: bool
) -> dict[str, dict[str, Estimate]]:
    found = dict[str, dict[str, Estimate]]()
    for sample in samples:
        c = counts[sample.name]
        measures = {"bytes_per_token": _ratio(c.bytes, c.tokens, "bytes_per_token")}
        if parallel:
            measures["parity"] = _ratio(c.tokens, counts[ENGLISH].tokens, "parity")
        if is_spaced(sample.texts):
            measures["tokens_per_word"] = _ratio(c.tokens, c.spaced, "tokens_per_word")
            if any(c.words):
                measures["words_split"] = _ratio(c.split, c.words, "words_split", 100)
        measures["byte_fallback"] = _ratio(c.fallback, c.tokens, "byte_fallback", 100)
        if vocabulary.unknown is not None:
            measures["unknown"] = _ratio(c.unknown, c.tokens, "unknown", 100)
        said = MEASURES["whole"]
        share = statistics.proportion(c.whole, "", said) if len(c.whole) > 1 else _exact(c.whole[0], "", said, 1)
        measures["whole"] = scaled(share, 100, "%")
        found[sample.name] = measures
    return found


def _code_against_prose(samples: Sequence[Sample], counts: dict[str, _Counts]) -> float:
    sums = np.zeros((2, 2))  # (prose, code) × (bytes, tokens)
    for sample in samples:
        sums[int(sample.code)] += sum(counts[sample.name].bytes), sum(counts[sample.name].tokens)
    rates = sums[:, 0] / sums[:, 1]
    return float(rates[1] / rates[0])


def _count(vocabulary: Vocabulary, sample: Sample) -> _Counts:
    c = _Counts([], [], [], [], [], [], [], [])
    fallback = np.zeros(len(vocabulary.tokens), bool)
    fallback[list(vocabulary.fallback)] = True
    for text in sample.texts:
        ids = vocabulary.encode(text)
        ends = np.array([*accumulate(map(len, vocabulary.pieces(text, ids)))])
        place = words(text)
        inside = np.searchsorted(ends, place[:, 0], "right") < np.searchsorted(ends, place[:, 1], "left")
        c.bytes.append(len(text.encode()))
        c.tokens.append(len(ids))
        c.spaced.append(len(text.split()))
        c.words.append(len(place))
        c.split.append(int(inside.sum()))
        c.fallback.append(int(fallback[ids].sum()))
        c.unknown.append(ids.count(vocabulary.unknown) if vocabulary.unknown is not None else 0)
        c.whole.append(vocabulary.decode(ids) == text)
    return c


def _ratio(num: Sequence[int], den: Sequence[int], name: str, times: int = 1) -> Estimate:
    """Σnum / Σden with its interval, or without one where a single text leaves nothing to resample."""
    top, unit = times * np.array(num, dtype=float), UNITS.get(name, "%")
    if len(num) > 1:
        return statistics.ratio(top, den, unit, MEASURES[name])
    return Estimate(float(top[0] / den[0]), float("nan"), float("nan"), 1, unit, MEASURES[name])


def _exact(value: float, unit: str, convention: str, n: int) -> Estimate:
    """A count, not an estimate: it has no interval."""
    return Estimate(float(value), float("nan"), float("nan"), n, unit, convention)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
