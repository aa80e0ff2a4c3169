"""nanoGPT's vocabulary of characters, which `prepare.py` writes as meta.pkl, as byte-level BPE.

Every character keeps the id that it was trained with: one of ASCII is a single byte, any other the merge of its bytes.
The bytes that are no characters there, and the parts of longer characters, get ids after them, so that any text can be
encoded; a text of known characters becomes nanoGPT's ids.
"""

from typing import Any

from journey.errors import JourneyError
from journey.tokenizer.codec import ALPHABET, BYTE_TO_CHAR, Merge
from journey.tokenizer.formats import Tokenizer, byte_level

META = "meta.pkl"
_PATTERN = "gpt2"  # it cuts between characters alone, and so cuts none of them


class Characters(Tokenizer):
    """A byte-level BPE whose first `n_characters` ids are those of characters."""

    n_characters: int

    @classmethod
    def of(cls, meta: Any, where: str) -> "Characters":
        """The tokenizer of what a meta.pkl holds: {"vocab_size": 65, "itos": {0: "\\n", …}, "stoi": {"\\n": 0, …}}.

        Raises JourneyError for anything else.
        """
        known = _characters(meta, where)
        spelled = {character: [BYTE_TO_CHAR[byte] for byte in character.encode()] for character in known}
        ids = {"".join(spelled[character]): i for i, character in enumerate(known)}
        merges: dict[Merge, None] = {}  # in order, each once: characters share their first bytes
        for symbols in spelled.values():
            merges |= {("".join(symbols[:end]), symbols[end]): None for end in range(1, len(symbols))}
        for part in [*ALPHABET, *(left + right for left, right in merges)]:
            ids.setdefault(part, len(ids))
        made = cls(byte_level(ids, list(merges), _PATTERN), _PATTERN)
        made.n_characters = len(known)
        return made


def _characters(meta: Any, where: str) -> list[str]:
    """The characters in the order of their ids."""
    itos, stoi = (meta.get(name) if isinstance(meta, dict) else None for name in ("itos", "stoi"))
    itos = dict(enumerate(itos)) if isinstance(itos, list) else itos
    if not isinstance(itos, dict) or not itos:
        raise JourneyError(f"{where} is no meta.pkl of nanoGPT: it has no itos, a character for every id")
    characters: list[str] = []
    for i in range(len(itos)):
        character = itos.get(i)
        if not isinstance(character, str) or len(character) != 1 or "\ud800" <= character <= "\udfff":
            raise JourneyError(f"{where}: its id {i} is {character!r:.40}, where a character belongs")
        characters.append(character)
    if len(set(characters)) < len(characters):
        raise JourneyError(f"{where}: two of its ids are the same character: it is damaged")
    if stoi is not None and stoi != {character: i for i, character in enumerate(characters)}:
        raise JourneyError(f"{where}: its stoi and its itos do not say the same: it is damaged")
    if meta.get("vocab_size", len(itos)) != len(itos):
        raise JourneyError(f"{where}: it has {len(itos):,} characters, its vocab_size is another: it is damaged")
    return characters
