"""How a text becomes ids, merge by merge: what `journey tokenizer explain` shows.

The merges are made here in plain Python, one at a time and in the order in which the `tokenizers` library makes them.
`codec.Codec` is the shorter way to the same ids.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from journey.errors import JourneyError
from journey.tokenizer.codec import BYTE_TO_CHAR, Merge, check, unspell
from journey.tokenizer.formats import Tokenizer

if TYPE_CHECKING:
    from rich.text import Text

LONGEST = 4096  # bytes: a word of so many takes a second, and nobody reads more merges
AROUND = 16  # tokens of a long word that are shown on either side of a merge
Row = tuple[list[bytes], int | None]  # the tokens of a word, and which of them was just made


@dataclass(frozen=True)
class Step:
    """One merge: of the tokens `at` and `at + 1` of a word."""

    rank: int  # how many tokens were learned before the one that this merge makes
    at: int


@dataclass(frozen=True)
class Word:
    """A piece of the split pattern, and the merges that turn its bytes into ids."""

    text: str
    steps: list[Step]
    ids: list[int]
    whole: bool  # it is a token and was looked up, without a merge: tiktoken and Llama 3 begin with that

    def rows(self) -> Iterator[Row]:
        """The bytes, and then the tokens after each step; a word that was looked up stays its bytes."""
        tokens, made = [bytes([byte]) for byte in self.text.encode()], None
        yield [*tokens], made
        for step in self.steps:
            made = step.at
            tokens[made : made + 2] = [tokens[made] + tokens[made + 1]]
            yield [*tokens], made

    @property
    def tokens(self) -> list[bytes]:
        """The bytes of each id."""
        return [self.text.encode()] if self.whole else [*self.rows()][-1][0]


def explain(text: str, tokenizer: Tokenizer) -> list[Word]:
    """The words of a text with their merges in order; their ids, joined, are `tokenizer.encode(text)`.

    A special token's spelling is text. A lone surrogate, more than 4,096 bytes, or a tokenizer that does more than
    split and merge, as by tokens that were added to it, raises JourneyError.
    """
    if len(check(text).encode()) > LONGEST:
        raise JourneyError(
            f"this text has {len(text.encode()):,} bytes: explain shows every merge of at most {LONGEST:,}"
        )
    backend = tokenizer.backend
    ids = backend.get_vocab()
    order = {merge: i for i, merge in enumerate(tokenizer.merges)}
    ranks: dict[str, int] = {}  # from tiktoken's ranks there are several merges that make one token
    for merge in tokenizer.merges:
        ranks.setdefault("".join(merge), len(ranks))
    words = []
    given = backend.normalizer.normalize_str(text) if backend.normalizer else text
    # Cut by the library: which characters are letters depends on its version of Unicode.
    for spelled, _ in backend.pre_tokenizer.pre_tokenize_str(given):
        try:
            piece = unspell(spelled).decode()
        except (KeyError, UnicodeDecodeError):
            raise JourneyError("this tokenizer cuts inside characters: its merges cannot be shown") from None
        if backend.model.ignore_merges and spelled in ids:
            words.append(Word(piece, [], [ids[spelled]], whole=True))
            continue
        tokens = list(spelled)
        steps = [Step(ranks[tokens[at]], at) for at in _merge(tokens, order)]
        words.append(Word(piece, steps, [ids[token] for token in tokens], whole=False))
    if [id for word in words for id in word.ids] != tokenizer.encode(text):
        raise JourneyError(
            "this tokenizer does more than split and merge, as by tokens added to it: it gives other ids"
        )
    return words


def _merge(tokens: list[str], order: dict[Merge, int]) -> Iterator[int]:
    """Join the two neighbours learned first, the leftmost of equal ones, until none were; yields where, each time."""
    while len(tokens) > 1:
        at = min(range(len(tokens) - 1), key=lambda i: order.get((tokens[i], tokens[i + 1]), len(order)))
        if (tokens[at], tokens[at + 1]) not in order:
            return
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
        yield at


def label(token: bytes) -> str:
    r"""How a token is shown: a space as ␣, what cannot be seen as \n or \u{200B}, half a character as \xE2."""
    text = token.decode(errors="surrogateescape")
    alone = "◌" if text and unicodedata.category(text[0])[0] == "M" else ""  # an accent needs something to stand on
    return alone + "".join(map(_visible, text))


def _visible(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02X}"
    named = {" ": "␣", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return named.get(char) or (char if char.isprintable() else f"\\u{{{ord(char):X}}}")


def excerpt(row: Row) -> tuple[int, list[str], int | None, int]:
    """A row as a person can read it: tokens left out before, labels, which one is new, tokens left out after."""
    tokens, made = row
    start = max(0, (made or 0) - AROUND)
    if len(tokens) <= 2 * AROUND:
        start = 0
    shown = tokens[start : start + 2 * AROUND + 1]
    new = None if made is None else made - start
    return start, [*map(label, shown)], new, len(tokens) - start - len(shown)


def spelled_specials(text: str, tokenizer: Tokenizer) -> str:
    """What to say of special tokens that a text spells out; empty when it spells none."""
    found = [token for token in tokenizer.special if token in text]
    return f"{', '.join(found)}: spelled out in a text, that is ordinary text, not the special token" if found else ""


def _byte_characters(token: bytes) -> str:
    return "".join(BYTE_TO_CHAR[byte] for byte in token)


def as_json(words: list[Word]) -> dict[str, Any]:
    """The same for a program: the words with their merges, and all ids. Tokens are in GPT-2's byte characters."""
    found = []
    for word in words:
        rows = [[_byte_characters(token) for token in tokens] for tokens, _ in word.rows()]
        merges = [
            {"rank": step.rank, "left": row[step.at], "right": row[step.at + 1]}
            for step, row in zip(word.steps, rows, strict=False)
        ]
        tokens = [_byte_characters(token) for token in word.tokens]
        found.append({"text": word.text, "merges": merges, "tokens": tokens, "ids": word.ids})
    return {"words": found, "ids": [id for word in words for id in word.ids]}


def hexadecimal(word: Word) -> str:
    """The bytes of a word, the first 32 of a long one."""
    data = word.text.encode()
    return data[:32].hex(" ").upper() + " …" * (len(data) > 32)


def draw(words: list[Word]) -> Iterator[Text]:
    """The lines for a terminal; without their colours they say the same."""
    from rich.text import Text

    cut = [Text(label(word.text.encode()), "cyan" if i % 2 else "yellow") for i, word in enumerate(words)]
    yield Text.assemble(f"{len(words)} word{'s' * (len(words) != 1)}: ", Text(" ").join(cut))
    first: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        again = first.setdefault(word.text, number)
        said = hexadecimal(word) if again == number else f"as word {again}"
        yield Text()
        yield Text.assemble(f"{number:>3}  ", (label(word.text.encode()), "bold"), (f"   {said}", "dim"))
        if again == number:
            yield from _draw_word(word)
    ids = [id for word in words for id in word.ids]
    n_bytes = sum(len(word.text.encode()) for word in words)
    yield Text()
    yield Text(f"{n_bytes} bytes, {len(ids)} tokens. Rank: how many tokens were learned before; the lowest goes first.")
    yield Text.assemble("ids: ", (" ".join(map(str, ids)), "bold magenta"))


def _draw_word(word: Word) -> Iterator[Text]:
    from rich.cells import cell_len
    from rich.text import Text

    rows = [*word.rows()]
    pairs = [row[step.at : step.at + 2] for (row, _), step in zip(rows, word.steps, strict=False)]
    joins = [" + ".join(map(label, pair)) for pair in pairs]
    width = min(32, max(map(cell_len, joins), default=-3) + 3)
    for row, name, join in zip(rows, ["bytes", *(f"rank {s.rank}" for s in word.steps)], ["", *joins], strict=True):
        before, labels, new, after = excerpt(row)
        tokens = [Text(token, "bold green" if i == new else "") for i, token in enumerate(labels)]
        if before:
            tokens.insert(0, Text(f"… {before} more …", "dim"))
        if after:
            tokens.append(Text(f"… {after} more …", "dim"))
        gap = " " * max(width - cell_len(join), 2 if join else 0)
        yield Text.assemble((f"     {name:<11}", "dim"), join, gap, Text(" ").join(tokens))
    if word.whole:
        yield Text("     no merge   it is a token: looked up", "dim")
    named = zip(map(label, word.tokens), map(str, word.ids), strict=True)
    ids = [Text.assemble(token, " ", (id, "bold magenta")) for token, id in named]
    yield Text.assemble(("     ids        ", "dim"), Text("  ").join(ids))
