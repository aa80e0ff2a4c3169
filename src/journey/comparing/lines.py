"""A comparison of tokenizers in a terminal: tables in plain characters, and texts cut up, in colour if it has some."""

import sys
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from journey.comparing.counts import MEASURES, PROBES, Comparison
from journey.evaluate.statistics import Estimate
from journey.report.format import MISSING, columns, number, places
from journey.tokenizer.foreign import Vocabulary, is_text

TITLES = {
    "bytes_per_token": "Bytes per token",
    "parity": "Parity: tokens against English on the same paragraphs (1 is as cheap as English)",
    "tokens_per_word": "Tokens per word",
    "words_split": "Words split, %",
    "byte_fallback": "Tokens spelled byte by byte, %",
    "unknown": "Unknown tokens, %",
    "whole": "Texts that come back exactly, %",
}
MARKS = str.maketrans({" ": "·", "\n": "↵", "\t": "→", "\r": "←"})
SHADES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")


def measured(comparison: Comparison) -> list[str]:
    """The measures that say something: no unknown tokens, or all texts whole, needs no table."""
    quiet = {"unknown": 0.0, "whole": 100.0}
    values = {m: [e for of in comparison.measures.values() for s in of.values() if (e := s.get(m))] for m in MEASURES}
    return [m for m, found in values.items() if found and not all(e.value == quiet.get(m) for e in found)]


def lines(comparison: Comparison) -> Iterator[str]:
    """Every table, as lines of plain text."""
    names = comparison.names
    for measure in measured(comparison):
        rows = [
            [s.name, *(_estimate(comparison.measures[name][s.name].get(measure)) for name in names)]
            for s in comparison.samples
        ]
        yield from columns(TITLES[measure], names, rows)
    facts = [
        ["kind", *(v.kind for v in comparison.vocabularies)],
        ["tokens", *(f"{len(v.tokens):,}" for v in comparison.vocabularies)],
        ["ways to cut 1000-9999", *(str(comparison.digits[name].ways) for name in names)],
        ["digits in a token", *(f"up to {comparison.digits[name].longest}" for name in names)],
    ]
    if comparison.code_against_prose:
        facts.append(["code against prose", *(f"{comparison.code_against_prose[name]:.2f}" for name in names)])
    if comparison.speed:
        facts.append(["MB/s, one thread, rough", *(f"{comparison.speed[name]:.1f}" for name in names)])
    facts += [[repr(probe)[1:-1], *(_probe(v, probe) for v in comparison.vocabularies)] for probe in PROBES]
    yield from columns("What each one is, and how it cuts", names, facts)
    if len(names) > 1:
        rows = [[a, *(shared(comparison, a, b) for b in names)] for a in names]
        yield from columns("Of the tokens of the one at the left, % that are in …", names, rows)


def shared(comparison: Comparison, a: str, b: str) -> str:
    """The share of a's tokens that b has too."""
    if a == b:
        return MISSING
    size = next(len(v.content) for v in comparison.vocabularies if v.name == a)
    return f"{100 * comparison.overlap[a][b] / max(1, size):.1f}"


def show_text(vocabularies: Sequence[Vocabulary], text: str) -> None:
    """Print one text under each tokenizer: coloured tokens in a terminal, bars between them elsewhere."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    for vocabulary in vocabularies:
        pieces = vocabulary.pieces(text)
        print(f"{vocabulary.name}: {len(pieces)} tokens, {len(text.encode()) / max(1, len(pieces)):.2f} bytes a token")
        if not console.is_terminal:
            print("  " + "|".join(map(spelled, pieces)))
            continue
        line = Text()
        for i, piece in enumerate(pieces):
            line.append(spelled(piece), SHADES[i % len(SHADES)])
        console.print(line)


def pieces(vocabularies: Sequence[Vocabulary], text: str | None) -> dict[str, Any]:
    """What `--json` says beyond numbers: what each tokenizer is, and how it cuts the probes and the text."""
    texts = [*PROBES, *([] if text is None else [text])]
    about = [{"name": v.name, "kind": v.kind, "tokens": len(v.tokens)} for v in vocabularies]
    cuts = [{"text": t, "cut": {v.name: [*map(spelled, v.pieces(t))] for v in vocabularies}} for t in texts]
    return {"vocabularies": about, "texts": cuts}


def spelled(piece: bytes) -> str:
    """A token in visible characters: white space as marks, half a character as its bytes in hex."""
    if not is_text(piece):
        return "".join(f"‹{byte:02X}›" for byte in piece)
    marked = piece.decode().translate(MARKS)
    return "".join(char if char.isprintable() else f"‹{ord(char):X}›" for char in marked)


def _probe(vocabulary: Vocabulary, probe: str) -> str:
    return "|".join(spelled(piece) for piece in vocabulary.pieces(probe) if piece)


def _estimate(e: Estimate | None) -> str:
    if e is None:
        return MISSING
    if not isfinite(e.low) or e.low == e.high:
        return number(e.value)
    decimals = places(e.low, e.high, e.unit)
    return " ".join([number(e.value, decimals=decimals), f"[{e.low:.{decimals}f}, {e.high:.{decimals}f}]"])
