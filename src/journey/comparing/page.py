"""The page of `journey tokenizer compare`: what tokenizers do to the same texts, in one HTML file."""

from collections.abc import Sequence
from math import isfinite

from journey.comparing.counts import ENGLISH, MEASURES, PROBES, Comparison
from journey.comparing.lines import MARKS, TITLES, measured, shared, spelled
from journey.evaluate.statistics import Estimate
from journey.report.blocks import (
    Block,
    Cell,
    Dot,
    Dots,
    Fold,
    Heading,
    Mark,
    Page,
    Prose,
    Sample,
    Samples,
    Section,
    Table,
    Text,
)
from journey.report.format import join, number
from journey.report.render import render
from journey.tokenizer.foreign import Vocabulary, is_text

LANGUAGES = {
    **{"ar": "Arabic", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "hi": "Hindi"},
    **{"ro": "Romanian", "ru": "Russian", "th": "Thai", "tr": "Turkish", "vi": "Vietnamese", "zh": "Chinese"},
}
LONGEST = 2000  # characters of a sample's text that are shown
PARITY = (
    "The same paragraphs in each language, counted in tokens against English. At 2, a context holds half as much and a "
    "text costs twice as much. English is each tokenizer's own, so a tokenizer that is poor at English looks better "
    "here than it is: read it with bytes per token."
)


def page(comparison: Comparison, texts: Sequence[str] = (), note: str = "") -> str:
    """The whole HTML; `texts` are shown under every tokenizer, before those of the samples; `note` is for the head."""
    names, n = comparison.names, sum(len(sample.texts) for sample in comparison.samples)
    on = f" on {n:,} texts of {join([s.name for s in comparison.samples])}" if n else ""
    facts: list[Block] = [_facts(comparison), *([_overlap(comparison)] if len(names) > 1 else [])]
    sections = [Section("facts", "Digits, white space, vocabularies", facts)]
    if comparison.samples:
        numbers = [block for measure in measured(comparison) for block in _measure(comparison, measure)]
        said = "Each with its 95 % interval over the texts."
        sections.insert(0, Section("numbers", "The numbers", numbers, said))
        sections.append(Section("cut", "The same text, cut", _samples(comparison)))
    if comparison.is_parallel:
        sections.insert(0, Section("parity", "What a language costs", [parity(comparison)], PARITY))
    if texts:
        cut = [side_by_side(comparison.vocabularies, text) for text in texts]
        sections.insert(0, Section("text", "Your text", cut))
    return render(
        Page(
            title=f"{join(names)}: tokenizers compared",
            heading=join(names),
            lede=f"{len(names)} tokenizers side by side{on}. {note}",
            sections=sections,
            made_by="journey tokenizer compare",
        )
    )


def parity(comparison: Comparison) -> Dots:
    """One row a language, cheapest first over all tokenizers; one dot with its 95 % whisker for each tokenizer."""
    of, names = comparison.measures, comparison.names
    rows = [s.name for s in comparison.samples if s.name != ENGLISH]
    rows.sort(key=lambda language: sum(of[name][language]["parity"].value for name in names))
    found = [
        Dot(LANGUAGES.get(language, language), of[name][language]["parity"], k, name)
        for language in rows
        for k, name in enumerate(names)
    ]
    return Dots("Tokens against English by language", "tokens, × English", found, [Mark(1.0, "as English")])


def side_by_side(vocabularies: Sequence[Vocabulary], text: str) -> Samples:
    """One text under each tokenizer, its tokens in colours."""
    cuts = [(v.name, v.pieces(text)) for v in vocabularies]
    return Samples(
        [
            Sample(name, "", k, f"{len(pieces):,} tokens", [_token(piece) for piece in pieces])
            for k, (name, pieces) in enumerate(cuts)
        ]
    )


def _token(piece: bytes) -> str:
    """A token with its white space; bytes of a character that lies in several tokens in hex."""
    if not is_text(piece):
        return Prose(f"`{' '.join(f'{byte:02X}' for byte in piece)}`")
    return piece.decode().replace("\t", "→\t").replace("\r", "←").replace("\n", "↵\n")


def _measure(comparison: Comparison, measure: str) -> list[Block]:
    found = [e for of in comparison.measures.values() for s in of.values() if (e := s.get(measure))]
    low, high = min(e.value for e in found), max(e.value for e in found)

    def cell(e: Estimate | None) -> Cell | None:
        if e is None:
            return None
        said = e if isfinite(e.low) and e.low < e.high else number(e.value)
        return Cell(said, heat=(e.value - low) / (high - low) if high > low else 0.0)

    rows = [
        [
            LANGUAGES.get(sample.name, sample.name) if comparison.is_parallel else sample.name,
            *(cell(comparison.measures[name][sample.name].get(measure)) for name in comparison.names),
        ]
        for sample in comparison.samples
    ]
    return [Table(TITLES[measure], ["", *comparison.names], rows), Text(f"{MEASURES[measure]}.", "caption")]


def _facts(comparison: Comparison) -> Table:
    vocabularies, names = comparison.vocabularies, comparison.names
    rows: list[Sequence[str | Cell]] = [
        ["kind", *(v.kind for v in vocabularies)],
        ["tokens", *(f"{len(v.tokens):,}" for v in vocabularies)],
        ["ways to cut 1000–9999", *(str(comparison.digits[name].ways) for name in names)],
        ["digits in a token", *(f"up to {comparison.digits[name].longest}" for name in names)],
    ]
    if comparison.code_against_prose:
        rows.append(["bytes per token of code ÷ prose", *(number(comparison.code_against_prose[n]) for n in names)])
    if comparison.speed:
        rows.append(["MB/s on one thread, rough", *(number(comparison.speed[n], decimals=1) for n in names)])
    for probe in PROBES:
        cuts = [[spelled(piece) for piece in v.pieces(probe) if piece] for v in vocabularies]
        rows.append([Cell(probe.translate(MARKS), code=True), *(Cell(None, pieces=cut) for cut in cuts)])
    said = "What each one is, and how it cuts (· a space, → a tab, ↵ a new line)"
    return Table(said, ["", *names], rows, "plain")


def _overlap(comparison: Comparison) -> Table:
    names = comparison.names
    rows = [
        [a, *(None if a == b else Cell(share := shared(comparison, a, b), heat=float(share) / 100) for b in names)]
        for a in names
    ]
    return Table("Of the tokens at the left, as byte strings, the percentage that is also in …", ["", *names], rows)


def _samples(comparison: Comparison) -> list[Block]:
    """A text of each sample: of parallel ones the same, the shortest in English."""
    first = comparison.samples[0]
    if comparison.is_parallel:
        first = next(sample for sample in comparison.samples if sample.name == ENGLISH)
    at = min(range(len(first.texts)), key=lambda i: len(first.texts[i]))
    blocks: list[Block] = []
    for sample in [first, *(s for s in comparison.samples if s is not first)]:
        chosen = sample.texts[at] if comparison.is_parallel else min(sample.texts, key=len)
        shown = side_by_side(comparison.vocabularies, chosen[:LONGEST])
        name = LANGUAGES.get(sample.name, sample.name) if comparison.is_parallel else sample.name
        blocks += [Heading(name), shown] if sample is first else [Fold(name, [shown])]
    return blocks
