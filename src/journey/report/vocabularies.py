"""The page of `journey tokenizer compare`: what tokenizers do to the same texts, in one HTML file."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from journey.evaluate.statistics import Estimate
from journey.evaluate.vocabularies import ENGLISH, MEASURES, PROBES, Comparison
from journey.report.markup import MISSING, Cell, escape, estimate, folded, heat, join, number, table
from journey.report.svg import WIDTH, line, scale, svg, text, tick, ticks
from journey.report.vocabulary_lines import MARKS, TITLES, measured, shared, spelled
from journey.tokenizer.foreign import Vocabulary, is_text

STYLE = Path(__file__).with_name("style.css")
LANGUAGES = {
    **{"ar": "Arabic", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "hi": "Hindi"},
    **{"ro": "Romanian", "ru": "Russian", "th": "Thai", "tr": "Turkish", "vi": "Vietnamese", "zh": "Chinese"},
}
LONGEST = 2000  # characters of a sample's text that are shown
# The report's own style knows two tones of tokens; side by side three read better, and a cell of bytes is marked.
_STYLE = """
.tokens { font: .95rem/1.9 var(--mono); overflow-wrap: anywhere; white-space: pre-wrap; margin: 0; }
.tokens span { border-radius: 3px; padding: .12em 0; background: color-mix(in srgb, var(--s0) 24%, var(--card)); }
.tokens span:nth-of-type(3n+2) { background: color-mix(in srgb, var(--s1) 26%, var(--card)); }
.tokens span:nth-of-type(3n) { background: color-mix(in srgb, var(--s2) 26%, var(--card)); }
.tokens .part { font-size: .7em; margin-inline-end: 2px; padding: .2em .15em; unicode-bidi: isolate; direction: ltr; }
.sample h4 small { font-weight: 400; color: var(--soft); }
td code { white-space: pre; }
"""


def page(comparison: Comparison, texts: Sequence[str] = (), note: str = "") -> str:
    """The whole HTML; `texts` are shown under every tokenizer, before those of the samples; `note` is for the head."""
    body = [_headline(comparison, note)]
    if texts:
        body.append(
            f"<section><h2>Your text</h2>{''.join(side_by_side(comparison.vocabularies, t) for t in texts)}</section>"
        )
    if comparison.is_parallel:
        body.append(
            "<section><h2>What a language costs</h2><p>The same paragraphs in each language, counted in tokens against "
            "English. At 2, a context holds half as much and a text costs twice as much. English is each tokenizer's "
            "own, so a tokenizer that is poor at English looks better here than it is: read it with bytes per token."
            f"</p><figure>{parity(comparison)}</figure></section>"
        )
    if comparison.samples:
        tables = "".join(_measure(comparison, measure) for measure in measured(comparison))
        body.append(
            f"<section><h2>The numbers</h2><p>Each with its 95 % interval over the texts.</p>{tables}</section>"
        )
    body.append(
        f"<section><h2>Digits, white space, vocabularies</h2>{_facts(comparison)}{_overlap(comparison)}</section>"
    )
    if comparison.samples:
        body.append(f"<section><h2>The same text, cut</h2>{_samples(comparison)}</section>")
    title = f"{join([escape(name) for name in comparison.names])}: tokenizers compared"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{STYLE.read_text(encoding='utf-8')}{_STYLE}</style></head><body>"
        f"<main>{''.join(body)}</main><footer><p>Made by <code>journey tokenizer compare</code>. "
        "This page needs no network and no script.</p></footer></body></html>\n"
    )


def parity(comparison: Comparison) -> str:
    """One row a language, cheapest first over all tokenizers; one dot with its 95 % whisker for each tokenizer."""
    names = comparison.names
    of = comparison.measures
    rows = [s.name for s in comparison.samples if s.name != ENGLISH]
    rows.sort(key=lambda language: sum(of[name][language]["parity"].value for name in names))
    ends = [
        end for name in names for row in rows for e in (of[name][row]["parity"],) for end in (e.low, e.high, e.value)
    ]
    grid = ticks(min([1.0, *filter(isfinite, ends)]), max(filter(isfinite, ends)), 5)
    left, right, top, height = 96.0, 14.0, 24.0, 8.0 * len(names) + 10
    bottom = top + height * len(rows)
    x = scale(grid[0], grid[-1], left, WIDTH - right)
    parts = [line(x(t), top, x(t), bottom, "grid") for t in grid]
    parts += [text(x(t), bottom + 16, tick(t, grid), "tick", "middle") for t in grid]
    parts.append(text((left + WIDTH - right) / 2, bottom + 34, "tokens, × English", "axis", "middle"))
    parts += [line(x(1), 8, x(1), bottom, "mark"), text(x(1) + 5, 17, "as English", "name", "start")]
    for i, language in enumerate(rows):
        middle = top + height * (i + 0.5)
        parts.append(line(left, middle + height / 2, WIDTH - right, middle + height / 2, "grid"))
        parts.append(text(left - 8, middle + 4, LANGUAGES.get(language, language), "label", "end"))
        for k, name in enumerate(names):
            e, y = of[name][language]["parity"], middle + 8 * (k - (len(names) - 1) / 2)
            said = f"{name}, {LANGUAGES.get(language, language)}: {number(e.value)} × English"
            whisker = line(x(e.low), y, x(e.high), y, "whisker") if isfinite(e.low) else ""
            dot = f'<circle cx="{x(e.value):.1f}" cy="{y:.1f}" r="3.4"/>'
            parts.append(f'<g class="s{k}"><title>{escape(said)}</title>{whisker}{dot}</g>')
    keys = "".join(f'<li class="s{k}"><i></i>{escape(name)}</li>' for k, name in enumerate(names))
    worst = "; ".join(f"{n} up to {number(max(of[n][row]['parity'].value for row in rows))} times" for n in names)
    return f'<ul class="legend">{keys}</ul>' + svg(f"Tokens against English by language. {worst}", bottom + 42, parts)


def side_by_side(vocabularies: Sequence[Vocabulary], text: str) -> str:
    """One text under each tokenizer, its tokens in colours."""
    cards = []
    for k, vocabulary in enumerate(vocabularies):
        pieces = vocabulary.pieces(text)
        cards.append(
            f'<div class="sample s{k}"><h4>{escape(vocabulary.name)} <small>{len(pieces):,} tokens</small></h4>'
            f'<p class="tokens" dir="auto">{"".join(map(_token, pieces))}</p></div>'
        )
    return f'<div class="side">{"".join(cards)}</div>'


def _token(piece: bytes) -> str:
    if not is_text(piece):
        return f'<span class="part">{escape(" ".join(f"{byte:02X}" for byte in piece))}</span>'
    shown = piece.decode()
    marked = shown.replace("\t", "→\t").replace("\r", "←").replace("\n", "↵\n")
    return f"<span>{escape(marked)}</span>"


def _headline(comparison: Comparison, note: str) -> str:
    n = sum(len(sample.texts) for sample in comparison.samples)
    on = f" on {n:,} texts of {join([escape(s.name) for s in comparison.samples])}" if n else ""
    return (
        f'<header class="top"><h1>'
        f"{join([escape(name) for name in comparison.names])}</h1>"
        f'<p class="lede">{len(comparison.names)} tokenizers side by side{on}. {escape(note)}</p></header>'
    )


def _measure(comparison: Comparison, measure: str) -> str:
    found = [e for of in comparison.measures.values() for s in of.values() if (e := s.get(measure))]
    low, high = min(e.value for e in found), max(e.value for e in found)

    def cell(e: Estimate | None) -> Cell:
        if e is None:
            return MISSING
        said = estimate(e) if isfinite(e.low) and e.low < e.high else number(e.value)
        return heat(said, (e.value - low) / (high - low) if high > low else 0.0)

    rows = [
        [
            escape(LANGUAGES.get(sample.name, sample.name) if comparison.is_parallel else sample.name),
            *(cell(comparison.measures[name][sample.name].get(measure)) for name in comparison.names),
        ]
        for sample in comparison.samples
    ]
    body = table(TITLES[measure], ["", *map(escape, comparison.names)], rows, style="numbers")
    return body + f'<p class="caption">{escape(MEASURES[measure])}.</p>'


def _facts(comparison: Comparison) -> str:
    vocabularies, names = comparison.vocabularies, comparison.names
    rows: list[list[Cell]] = [
        ["kind", *(escape(v.kind) for v in vocabularies)],
        ["tokens", *(f"{len(v.tokens):,}" for v in vocabularies)],
        ["ways to cut 1000–9999", *(str(comparison.digits[name].ways) for name in names)],
        ["digits in a token", *(f"up to {comparison.digits[name].longest}" for name in names)],
    ]
    if comparison.code_against_prose:
        rows.append(["bytes per token of code ÷ prose", *(number(comparison.code_against_prose[n]) for n in names)])
    if comparison.speed:
        rows.append(["MB/s on one thread, rough", *(number(comparison.speed[n], decimals=1) for n in names)])
    for probe in PROBES:
        cuts = ["".join(_token_marked(piece) for piece in v.pieces(probe) if piece) for v in vocabularies]
        shown = f"<code>{escape(probe.translate(MARKS))}</code>"
        rows.append([shown, *(f'<span class="tokens">{cut}</span>' for cut in cuts)])
    return table(
        "What each one is, and how it cuts (· a space, → a tab, ↵ a new line)", ["", *map(escape, names)], rows
    )


def _token_marked(piece: bytes) -> str:
    return f"<span>{escape(spelled(piece))}</span>"


def _overlap(comparison: Comparison) -> str:
    names = comparison.names
    if len(names) < 2:
        return ""
    rows = [
        [
            escape(a),
            *(MISSING if a == b else heat(share := shared(comparison, a, b), float(share) / 100) for b in names),
        ]
        for a in names
    ]
    said = "Of the tokens at the left, as byte strings, the percentage that is also in …"
    return table(said, ["", *map(escape, names)], rows, style="numbers")


def _samples(comparison: Comparison) -> str:
    """A text of each sample: of parallel ones the same, the shortest in English."""
    first = comparison.samples[0]
    if comparison.is_parallel:
        first = next(sample for sample in comparison.samples if sample.name == ENGLISH)
    at = min(range(len(first.texts)), key=lambda i: len(first.texts[i]))
    parts = []
    for sample in [first, *(s for s in comparison.samples if s is not first)]:
        chosen = sample.texts[at] if comparison.is_parallel else min(sample.texts, key=len)
        shown = side_by_side(comparison.vocabularies, chosen[:LONGEST])
        name = escape(LANGUAGES.get(sample.name, sample.name) if comparison.is_parallel else sample.name)
        parts.append(f"<h3>{name}</h3>{shown}" if sample is first else folded(name, shown))
    return "".join(parts)
