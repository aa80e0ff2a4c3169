"""Byte-level BPE, readable: text is cut into pieces, pieces become bytes, bytes are merged by rank into ids.

`formats.Tokenizer` gives the same ids several times faster through the `tokenizers` library.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise

import regex

from journey.errors import JourneyError, nearest

Merge = tuple[str, str]

# How text is cut before any merge: a token never spans two pieces. These three and no other, because they are
# what llama.cpp knows. Qwen's own tokenizer also normalises to NFC; ours does not, so texts come back whole.
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST,
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST,
}


@cache
def splitter(pattern: str) -> regex.Pattern[str]:
    """The split pattern of this name, compiled; the pieces that its `findall` gives join to the text."""
    if pattern not in PATTERNS:
        names = ", ".join(PATTERNS)
        raise JourneyError(f'no split pattern "{pattern}"{nearest(pattern, PATTERNS)} (one of {names})')
    return regex.compile(PATTERNS[pattern])


def _byte_characters() -> list[str]:
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


# GPT-2 writes each byte as one visible character (a space is Ġ), so that a vocabulary is readable text.
BYTE_TO_CHAR = _byte_characters()
CHAR_TO_BYTE = {char: byte for byte, char in enumerate(BYTE_TO_CHAR)}
ALPHABET = sorted(BYTE_TO_CHAR)
_SPELLING = dict(enumerate(BYTE_TO_CHAR))
MOST = 0x110000  # ids that fit into a character, of which `bpe.train` makes use


def check_size(vocab_size: int, n_special: int) -> None:
    """A vocabulary smaller than the bytes and special tokens, or larger than any trainer's, raises JourneyError."""
    least, most = len(ALPHABET) + n_special, MOST + n_special
    if vocab_size < least:
        raise JourneyError(f"vocab_size {vocab_size} is too small: bytes and special tokens are {least}")
    if vocab_size > most:
        raise JourneyError(f"vocab_size {vocab_size} is too large: at most {most}")


def check(text: str) -> str:
    """The text itself; a lone surrogate, half a character that has no bytes, raises JourneyError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise JourneyError(
            f"the text holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start}), "
            'which is half a character: clean it with text.encode("utf-8", "replace").decode()'
        ) from None
    return text


def spell(text: str) -> str:
    """The UTF-8 bytes of the text, each as its visible character: `spell(" é") == "ĠÃ©"`."""
    return check(text).encode().decode("latin-1").translate(_SPELLING)


def unspell(token: str) -> bytes:
    """The bytes that a token's visible characters stand for."""
    return bytes(CHAR_TO_BYTE[char] for char in token)


def vocabulary(merges: Iterable[Merge], specials: Iterable[str] = ()) -> dict[str, int]:
    """Token -> id: the 256 bytes as their characters sort, the merges as learned, the special tokens."""
    return {token: i for i, token in enumerate([*ALPHABET, *map("".join, merges), *specials])}


class Codec:
    """Text to ids and back by merges; in `encode` the spelling of a special token is ordinary text."""

    def __init__(self, merges: Sequence[Merge], pattern: str = "gpt2", specials: Sequence[str] = ()) -> None:
        self.split = splitter(pattern)
        self.ids = vocabulary(merges, specials)
        self.bytes = [token.encode() if token in specials else unspell(token) for token in self.ids]
        self.ranks = {merge: rank for rank, merge in enumerate(merges)}
        self.cache: dict[str, list[int]] = {}  # a text has far fewer different pieces than pieces

    def encode(self, text: str) -> list[int]:
        """The ids of a text, nothing added; a lone surrogate raises JourneyError."""
        ids: list[int] = []
        for piece in self.split.findall(check(text)):
            if piece not in self.cache:
                self.cache[piece] = [self.ids[token] for token in self.merge(list(spell(piece)))]
            ids += self.cache[piece]
        return ids

    def merge(self, tokens: list[str]) -> list[str]:
        """The tokens of one piece: the neighbours learned earliest are merged, until none were learned."""
        while len(tokens) > 1:
            pair = min(pairwise(tokens), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if pair not in self.ranks:
                break
            merged: list[str] = []
            for token in tokens:
                # In "aaa" the third "a" stays alone: what was just merged no longer equals the left half.
                if merged and (merged[-1], token) == pair:
                    merged[-1] += token
                else:
                    merged.append(token)
            tokens = merged
        return tokens

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; bytes that are not UTF-8, as of ids cut inside a character, become U+FFFD."""
        return b"".join(self.bytes[i] for i in ids).decode(errors="replace")
