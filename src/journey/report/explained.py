"""One text under one tokenizer, merge by merge, as a page that needs no network and no script."""

from collections.abc import Sequence

from journey.report.markup import escape
from journey.report.page import STYLE
from journey.tokenizer.explain import Row, Word, excerpt, hexadecimal, label

CSS = """
.pieces span, .row-of span { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.pieces small { color: var(--soft); font: .7em var(--sans); margin: 0 .5em 0 .15em; }
.merges { list-style: none; margin: .4rem 0; padding: 0; font: .9rem/1.4 var(--mono); }
.merges li { display: grid; grid-template-columns: 6rem minmax(0, 1fr); gap: .1rem .8rem; padding: .3rem 0; border-top: 1px solid var(--line); }
.merges b { font: 500 .8rem/1.7 var(--sans); color: var(--soft); font-variant-numeric: tabular-nums; }
.row-of { display: flex; flex-wrap: wrap; gap: .25rem; min-width: 0; }
.row-of span { border: 1px solid var(--line); border-radius: 3px; background: var(--card); padding: 0 .3em; min-width: 0; }
.row-of .new { border-color: var(--good); color: var(--good); font-weight: 700; background: color-mix(in srgb, var(--good-heat) 16%, var(--card)); }
.row-of i { color: var(--soft); }
summary code { font-size: 1.05rem; unicode-bidi: isolate; overflow-wrap: anywhere; } summary small { font-weight: 400; color: var(--soft); margin-left: .6em; }
@media (max-width: 30rem) { .merges li { grid-template-columns: minmax(0, 1fr); } }
@media print { details { display: block; } }
"""  # noqa: E501


def page(words: Sequence[Word], tokenizer: str, pattern: str, note: str = "") -> str:
    """The HTML of `explain(text, tokenizer)`; `tokenizer` names it, `note` is a further sentence."""
    n_bytes = sum(len(word.text.encode()) for word in words)
    ids = [id for word in words for id in word.ids]
    cut = " ".join(f"<span>{escape(label(word.text.encode()))}</span>" for word in words)
    sections, first = [], dict[str, int]()
    for number, word in enumerate(words, 1):
        if first.setdefault(word.text, number) == number:
            sections.append(_word(number, word))
    tokens = [(token, id) for word in words for token, id in zip(word.tokens, word.ids, strict=True)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(tokenizer)}: from text to ids</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}{CSS}</style></head><body>"
        f'<header class="top"><p class="kicker">Tokenizer: {escape(tokenizer)}</p><h1>From text to ids</h1>'
        f'<p class="lede">{n_bytes:,} bytes, {len(words):,} words, {len(ids):,} tokens.</p></header><main>'
        f"<section><h2>1. Cut into words</h2><p>The {escape(pattern)} pattern cuts the text; no token spans two words."
        f'{" " + escape(note) + "." if note else ""}</p><p class="pieces">{cut}</p></section>'
        "<section><h2>2. Merge</h2><p>Each word begins as its UTF-8 bytes. Of all neighbours that the tokenizer has "
        "learned to join, the pair learned first is joined, again and again, until none is left. The rank says how "
        "many tokens had been learned before. A word that occurs again ends in the same ids.</p>"
        f"{''.join(sections)}</section>"
        f'<section><h2>3. The ids</h2><p class="pieces">{_numbered(tokens)}</p></section>'
        "</main><footer><p>Made by <code>journey tokenizer explain</code>. ␣ is a space, ◌ carries a mark that has no "
        "letter in its token, <code>\\xE2</code> is a byte of a character that lies in several tokens.</p></footer>"
        "</body></html>\n"
    )


def _word(number: int, word: Word) -> str:
    ranks = ["bytes", *(f"rank {step.rank:,}" for step in word.steps)]
    items = [f"<li><b>{rank}</b>{_row(row)}</li>" for rank, row in zip(ranks, word.rows(), strict=True)]
    if word.whole:
        items.append("<li><b>no merge</b>this word is a token: it is looked up</li>")
    ids = _numbered(list(zip(word.tokens, word.ids, strict=True)))
    return (
        f"<details open><summary><code>{escape(label(word.text.encode()))}</code>"
        f"<small>word {number}, bytes {hexadecimal(word)}</small></summary>"
        f'<ol class="merges">{"".join(items)}</ol><p class="pieces">{ids}</p></details>'
    )


def _row(row: Row) -> str:
    before, labels, new, after = excerpt(row)
    marks = ["", ' class="new"']
    spans = [f"<span{marks[i == new]}>{escape(token)}</span>" for i, token in enumerate(labels)]
    left_out = [f"<i>… {n} more …</i>" if n else "" for n in (before, after)]
    return f'<div class="row-of">{left_out[0]}{"".join(spans)}{left_out[1]}</div>'


def _numbered(tokens: Sequence[tuple[bytes, int]]) -> str:
    return " ".join(f"<span>{escape(label(token))}</span><small>{id}</small>" for token, id in tokens)
