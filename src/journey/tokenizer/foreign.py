"""Tokenizers of any kind behind one face, to be compared: what they cut a text into, as bytes of that text.

Byte-level BPE, SentencePiece, WordPiece and Unigram write their tokens each in their own way (`Ġthe`, `▁the`, `##the`);
here a token is the bytes that it stands for. `formats.Tokenizer` is what models are trained with.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import tokenizers

from journey.errors import JourneyError
from journey.files import read_json
from journey.tokenizer.beside import add, read_beside
from journey.tokenizer.codec import CHAR_TO_BYTE, check, unspell
from journey.tokenizer.formats import GPT2_FILES, Tokenizer
from journey.tokenizer.reading import check_ids, open_backend

MISTRAL = {"mistral-spm": "tokenizer.model.v1", "tekken": "tekken_*.json"}  # name -> file inside `mistral-common`
RANKS = {50256: "gpt2", 128000: "llama3", 151643: "qwen2"}  # how many lines a well-known .tiktoken file has
_BYTE = re.compile("<0x([0-9A-F]{2})>")
INSTALL = 'install the extra: pip install "journey-gpt[compare]"'

Span = tuple[int, int]  # characters of the text that a token was made of: start, end


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer of any kind."""

    name: str
    kind: str
    tokens: Sequence[bytes | None]
    """Id -> the bytes that it stands for; None for special tokens."""
    encode: Callable[[str], list[int]]
    """The ids of a text, nothing added, special tokens' spellings as ordinary text. A lone surrogate: JourneyError."""
    decode: Callable[[list[int]], str]
    spans: Callable[[str], list[Span]] | None = None
    """For tokenizers that change a text before they cut it: where each token came from."""
    unknown: int | None = None
    """The id that stands for whatever has no token."""

    @cached_property
    def content(self) -> frozenset[bytes]:
        """The tokens as byte strings, without the special ones."""
        return frozenset(token for token in self.tokens if token)

    @cached_property
    def fallback(self) -> frozenset[int]:
        """The ids that spell a character byte by byte: SentencePiece's byte pieces, and where every token is bytes
        those that are no whole characters by themselves."""
        if self.kind.startswith("byte-level"):
            return frozenset(i for i, token in enumerate(self.tokens) if token and not is_text(token))
        return frozenset(self.byte_pieces)

    byte_pieces: frozenset[int] = frozenset()

    def pieces(self, text: str, ids: Sequence[int] | None = None) -> list[bytes]:
        """The text's UTF-8 bytes cut as the tokenizer cuts it, a piece for each token (`ids`, if known already).

        The space that SentencePiece puts before a text belongs to none. What a tokenizer drops or rewrites is shown as
        it stood in the text, with the token that came of it; of two tokens from one character the second is empty.
        """
        ids = self.encode(text) if ids is None else ids
        whole = text.encode()
        parts = [self.tokens[i] or b"" for i in ids]
        joined = b"".join(parts)
        if joined == b" " + whole:
            parts[0] = parts[0][1:]
        elif joined != whole and self.spans:
            return _cut(text, self.spans(text))
        return parts


def is_text(token: bytes) -> bool:
    """Whether bytes are whole UTF-8 characters."""
    try:
        token.decode()
    except UnicodeDecodeError:
        return False
    return True


def mistral(name: str) -> Vocabulary:
    """`mistral-spm`, the Llama-style SentencePiece model of Mistral 7B, or `tekken`, Mistral Nemo's multilingual BPE.

    Both are files of the PyPI package mistral-common, which need not be imported. JourneyError without it.
    """
    spec = find_spec("mistral_common")
    folders = [Path(place) / "data" for place in (spec and spec.submodule_search_locations) or ()]
    found = sorted(file for folder in folders for file in folder.glob(MISTRAL[name]))
    if not found:
        state = f"has no {MISTRAL[name]}" if spec else "is not installed"
        raise JourneyError(f'"{name}" is in the package mistral-common, which {state}: {INSTALL}')
    return load(found[-1], name)


def load(path: Path, name: str, pattern: str | None = None) -> Vocabulary:
    """Read a tokenizer: a folder or its tokenizer.json (of any kind), GPT-2's two files, a .tiktoken file, a
    SentencePiece .model, or a Tekken json.

    `pattern` is how a .tiktoken file splits text, where its length does not tell. Raises JourneyError for other files.
    """
    file = path
    if path.is_dir():
        known = ("tokenizer.json", *(first for first, _ in GPT2_FILES), "tokenizer.model", "tekken.json", "*.tiktoken")
        found = [file for glob in known for file in sorted(path.glob(glob))]
        if not found:
            raise JourneyError(f"{path}: no tokenizer in this folder; it should hold a {known[0]} or tokenizer.model")
        file = found[0]
    data = file.read_bytes()
    if not data.strip():
        raise JourneyError(f"{file} is empty: no tokenizer")
    pair = next((pair for pair in GPT2_FILES if file.name in pair), None)
    if pair:
        return of(Tokenizer.from_gpt2_files(file.with_name(pair[0]), file.with_name(pair[1])).backend, name)
    if data[:1] != b"{":
        return _of_ranks(file, data, name, pattern) if _are_ranks(data) else _of_sentencepiece(file, data, name)
    if b'"default_vocab_size"' in data[:100_000] and b'"token_bytes"' in data[:100_000]:
        return _of_tekken(file, name)
    backend = open_backend(data, file)
    check_ids(backend.get_vocab(), file)
    return of(add(backend, read_beside(path, {}), path) if path.is_dir() else backend, name)


def of(backend: tokenizers.Tokenizer, name: str) -> Vocabulary:
    """A tokenizer of the `tokenizers` library, of any model."""
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    state = json.loads(backend.to_str())
    model = state["model"]
    steps = json.dumps([state[step] for step in ("normalizer", "pre_tokenizer", "decoder")], ensure_ascii=False)
    byte_level = '"ByteLevel"' in steps
    kind = f"byte-level {model['type']}" if byte_level else model["type"]
    added = backend.get_added_tokens_decoder()
    ids = backend.get_vocab(with_added_tokens=True)
    tokens: list[bytes | None] = [None] * (max(ids.values(), default=-1) + 1)
    pieces = set()
    before, after = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    for token, i in ids.items():
        if i in added:
            tokens[i] = None if added[i].special else token.encode()
        elif byte_level and all(char in CHAR_TO_BYTE for char in token):
            tokens[i] = unspell(token)
        elif match := _BYTE.fullmatch(token):
            tokens[i] = bytes([int(match[1], 16)])
            pieces.add(i)
        else:
            word = token.removeprefix(before)
            word = word.removesuffix(after) + " " if after and word.endswith(after) else word
            tokens[i] = (word.replace("▁", " ") if "▁" in steps else word).encode()
    unknown = model.get("unk_token")
    unknown_id = model.get("unk_id") if unknown is None else ids.get(unknown)
    if unknown_id is not None:
        tokens[unknown_id] = None

    def encoding(text: str) -> Any:
        return backend.encode(check(text), add_special_tokens=False)

    return Vocabulary(
        name,
        kind,
        tokens,
        lambda text: encoding(text).ids,
        lambda ids: backend.decode(ids, skip_special_tokens=False),
        lambda text: encoding(text).offsets,
        unknown_id,
        frozenset(pieces),
    )


def _of_ranks(file: Path, data: bytes, name: str, pattern: str | None) -> Vocabulary:
    """tiktoken's file, which Llama 3 ships as tokenizer.model."""
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    pattern = pattern or RANKS.get(lines)
    if not pattern:
        raise JourneyError(f"{file} does not say how it splits text: add --pattern gpt2, llama3 or qwen2")
    return of(Tokenizer.from_ranks(file, pattern).backend, name)


def _are_ranks(data: bytes) -> bool:
    first, _, rank = data.partition(b"\n")[0].strip().partition(b" ")
    try:
        return bool(base64.b64decode(first, validate=True)) and rank.isdigit()
    except binascii.Error:
        return False


def _of_sentencepiece(file: Path, data: bytes, name: str) -> Vocabulary:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise JourneyError(f'"{name}" is a SentencePiece model, which needs sentencepiece: {INSTALL}') from None
    try:
        model = SentencePieceProcessor(model_proto=data)
    except (RuntimeError, TypeError):
        raise JourneyError(f"{file} is no tokenizer.json, SentencePiece model or .tiktoken file") from None
    ids = range(model.vocab_size())
    special = {i for i in ids if model.is_control(i) or model.is_unknown(i) or model.is_unused(i)}
    tokens = [None if i in special else _sentencepiece_bytes(model.id_to_piece(i), model.is_byte(i)) for i in ids]

    def spans(text: str) -> list[Span]:
        return cast(list[Span], model.encode(text, return_type="offset_mapping")["offsets"])

    return Vocabulary(
        name,
        "SentencePiece",
        tokens,
        lambda text: cast(list[int], model.encode(check(text))),
        lambda ids: cast(str, model.decode(ids)),
        spans,
        model.unk_id(),
        frozenset(i for i in ids if model.is_byte(i)),
    )


def _sentencepiece_bytes(piece: str, is_byte: bool) -> bytes:
    return bytes([int(piece[3:5], 16)]) if is_byte else piece.replace("▁", " ").encode()


def _of_tekken(file: Path, name: str) -> Vocabulary:
    """Ranks and a split pattern; ids are those of the ordinary tokens, without the special ones that stand before."""
    try:
        from tiktoken import Encoding
    except ImportError:
        raise JourneyError(f'"{name}" is a Tekken file, which needs tiktoken: {INSTALL}') from None
    state = read_json(file)
    try:
        config = state["config"]
        size = config["default_vocab_size"] - config["default_num_special_tokens"]
        tokens = [base64.b64decode(entry["token_bytes"]) for entry in state["vocab"][:size]]
        ranks = {token: rank for rank, token in enumerate(tokens)}
        encoding = Encoding(name, pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})
    except (KeyError, TypeError, ValueError) as error:
        raise JourneyError(f"{file} is a damaged Tekken file ({type(error).__name__}: {error})") from None
    special = [None] * config["default_num_special_tokens"]
    return Vocabulary(
        name,
        "byte-level BPE",
        [*tokens, *special],
        lambda text: encoding.encode_ordinary(check(text)),
        encoding.decode,
    )


def _cut(text: str, spans: Iterable[Span]) -> list[bytes]:
    """The text's bytes, a piece for each span, with what lies between two spans at the later one."""
    pieces, at = list[bytes](), 0
    for _, end in spans:
        end = max(at, end)
        pieces.append(text[at:end].encode())
        at = end
    if pieces:
        pieces[-1] += text[at:].encode()
    return pieces
