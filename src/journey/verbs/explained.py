"""One text under one tokenizer, merge by merge, as a page that needs no network and no script."""

from collections.abc import Sequence

from journey.report.blocks import Block, Fold, Merges, Page, Pieces, Prose, Section, Text, plain
from journey.report.render import render
from journey.tokenizer.explain import Word, excerpt, hexadecimal, label

MERGING = (
    "Each word begins as its UTF-8 bytes. Of all neighbours that the tokenizer has learned to join, the pair learned "
    "first is joined, again and again, until none is left. The rank says how many tokens had been learned before. A "
    "word that occurs again ends in the same ids."
)
SIGNS = (
    "␣ is a space, ◌ carries a mark that has no letter in its token, `\\xE2` is a byte of a character that lies in "
    "several tokens."
)


def page(words: Sequence[Word], tokenizer: str, pattern: str, note: str = "") -> str:
    """The HTML of `explain(text, tokenizer)`; `tokenizer` names it, `note` is a further sentence."""
    n_bytes = sum(len(word.text.encode()) for word in words)
    numbered = {word.text: (number, word) for number, word in reversed(list(enumerate(words, 1)))}  # first of a text
    folds = [_word(number, word) for number, word in sorted(numbered.values(), key=lambda found: found[0])]
    tokens = [token for word in words for token in word.tokens]
    ids = [id for word in words for id in word.ids]
    said = f"The {pattern} pattern cuts the text; no token spans two words.{f' {note}.' if note else ''}"
    cut = Pieces([label(word.text.encode()) for word in words])
    return render(
        Page(
            title=f"{tokenizer}: from text to ids",
            heading="From text to ids",
            kicker=f"Tokenizer: {tokenizer}",
            lede=f"{n_bytes:,} bytes, {len(words):,} words, {len(ids):,} tokens.",
            sections=[
                Section("words", "1. Cut into words", [cut], said),
                Section("merges", "2. Merge", folds, MERGING),
                Section("ids", "3. The ids", [_numbered(tokens, ids)]),
            ],
            made_by="journey tokenizer explain",
            footer=Prose(SIGNS),
        )
    )


def _word(number: int, word: Word) -> Fold:
    names = ["bytes", *(f"rank {step.rank:,}" for step in word.steps)]
    rows = []
    for name, row in zip(names, word.rows(), strict=True):
        before, labels, new, after = excerpt(row)
        rows.append((name, labels, -1 if new is None else new, (before, after)))
    blocks: list[Block] = [Merges(rows)]
    if word.whole:
        blocks.append(Text("No merge: this word is a token, it is looked up.", "caption"))
    blocks.append(_numbered(word.tokens, word.ids))
    summary = Prose(f"`{plain(label(word.text.encode()))}`")
    return Fold(summary, blocks, open=True, small=f"word {number}, bytes {hexadecimal(word)}")


def _numbered(tokens: Sequence[bytes], ids: Sequence[int]) -> Pieces:
    return Pieces([label(token) for token in tokens], notes=[str(id) for id in ids])
