"""The chapters across all stages: what was measured, by one code path, on the same items."""

from collections.abc import Callable
from dataclasses import dataclass

from journey.report import words
from journey.report.chapters.answering import answering
from journey.report.chapters.changed import changed
from journey.report.chapters.inside import against_parent, repeats
from journey.report.chapters.language import answers, bits, choices
from journey.report.chapters.preferences import preferences
from journey.report.chapters.quantized import quantized
from journey.report.chapters.retrieval import retrieval
from journey.report.chapters.samples import samples
from journey.report.effect import Effect
from journey.report.life import Life
from journey.report.lists import Notes


@dataclass(frozen=True)
class Chapter:
    """A section of the page; `stage` names the kind of stage without which there is no such chapter."""

    id: str
    title: str
    said: str
    body: Callable[[Life, list[Effect], Notes], str]
    stage: str = ""

    def belongs(self, life: Life) -> bool:
        """Whether this life has something to say about it, or will have once a planned stage has run."""
        return bool(life.measured) and (not self.stage or any(s.kind == self.stage for s in life.stages))


FIRST = (  # before the stages one by one: what a reader wants to see
    Chapter("forgetting", "What each stage changed", words.CHANGED, lambda life, found, _: changed(life, found)),
    Chapter("samples", "Samples side by side", words.SAMPLES, lambda life, *_: samples(life)),
    Chapter("answering", "How it answered", words.ANSWERING, lambda life, _, notes: answering(life, notes), "index"),
)
THEN = (
    Chapter("bits", "Bits per byte", words.BITS, lambda life, _, notes: bits(life, notes)),
    Chapter("choices", "Multiple choice", words.CHOICES, lambda life, *_: choices(life)),
    Chapter("answers", "Answers", words.ANSWERS, lambda life, *_: answers(life)),
    Chapter("preferences", "Preferences", words.PREFERENCES, lambda life, _, notes: preferences(life, notes), "dpo"),
    Chapter("quantized", "Quantized, in llama.cpp", words.QUANTIZED, quantized, "quantize"),
    Chapter(
        "retrieval", "Retrieval and answers", words.RETRIEVAL, lambda life, _, notes: retrieval(life, notes), "index"
    ),
    Chapter("repeats", "Repeated tokens and heads", words.REPEATS, lambda life, found, _: repeats(life, found)),
    Chapter("parent", "Inside, against the parent", words.INSIDE, lambda life, *_: against_parent(life)),
)
