"""What the files of a tokenizer say, checked: its tokens and their ids, its merges, or a whole tokenizer.json."""

import base64
import codecs
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from journey.errors import JourneyError
from journey.files import parse_json, read_json
from journey.tokenizer.codec import BYTE_TO_CHAR, Merge

MOST_IDS = 1 << 24  # thirty times the largest vocabulary known; a table of so many still fits in memory


def check_ids(ids: Mapping[str, Any], file: Path) -> dict[str, int]:
    """The same, if each token is text and has an id of its own; an id twice, or one that can be none, raises
    JourneyError."""
    owners: dict[int, str] = {}
    for token, i in ids.items():
        check_token(token, file)
        check_id(i, token, file)
        if i in owners:
            raise JourneyError(f"{file}: {owners[i]!r:.60} and {token!r:.60} both have the id {i}: give each its own")
        owners[i] = token
    return dict(ids)


def check_id(i: Any, token: str, file: Path) -> None:
    """JourneyError for what can be no token's id."""
    if type(i) is not int or not 0 <= i < MOST_IDS:
        raise JourneyError(
            f"{file}: the id of {token!r:.60} is {i!r:.40}: it should be a number from 0 to {MOST_IDS:,}"
        )


def check_token(token: Any, file: Path) -> str:
    """The token itself; what is no text, and half a character, which JSON can spell, raises JourneyError."""
    if not isinstance(token, str) or any("\ud800" <= char <= "\udfff" for char in token):
        raise JourneyError(f"{file}: {token!r:.60} is no token: write its text")
    return token


def read_ids(file: Path, what: str) -> dict[str, int]:
    """Token -> id, as vocab.json, encoder.json and added_tokens.json have it; `what` is what the file should be."""
    ids = read_json(file)
    if not isinstance(ids, dict):
        raise JourneyError(f"{file} is not {what}: it should be an object of tokens and their ids")
    return check_ids(ids, file)


def read_merges(file: Path, ids: Mapping[str, int]) -> list[Merge]:
    """The pairs that are merged, one a line, of tokens in `ids`: merges.txt or vocab.bpe.

    Only a first line that says which version the file has is no pair ("#" is a token too); empty lines at the end are
    none either. Another line that is no pair of tokens which make a third raises JourneyError.
    """
    try:
        text = file.read_text(encoding="utf-8-sig").rstrip()
    except UnicodeDecodeError as error:
        raise JourneyError(f"{file}: byte {error.start} is not UTF-8") from None
    merges: list[Merge] = []
    for number, line in enumerate(text.split("\n") if text else (), 1):
        if number == 1 and line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        if not {left, right, left + right} <= ids.keys():
            raise JourneyError(f"{file}, line {number}: not two tokens that merge to a third")
        merges.append((left, right))
    return merges


def read_ranks(file: Path) -> dict[str, int]:
    """Token -> rank of tiktoken's file: a token in base64 and its rank on each line."""
    ids: dict[str, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            encoded, rank = line.split()
            token = "".join(BYTE_TO_CHAR[byte] for byte in base64.b64decode(encoded, validate=True))
            twice = token in ids
            ids[token] = int(rank)
        except ValueError:
            raise JourneyError(f"{file}, line {number}: not a token in base64 and its rank") from None
        if twice:
            raise JourneyError(f"{file}, line {number}: the token {encoded.decode()} has a rank already")
    return check_ids(ids, file)


def open_backend(data: bytes, file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of the `tokenizers` library that a tokenizer.json describes, of any kind, tried once.

    What the library cannot read raises JourneyError, also where it panics, and also an id that is not the one it gives.
    """
    try:
        state = parse_json(data, str(file), "file")
    except JourneyError as error:
        raise JourneyError(
            f"{file} is damaged or no tokenizer.json ({str(error).removeprefix(str(file))[2:]})"
        ) from None
    _check_model(state, file)
    try:
        backend = tokenizers.Tokenizer.from_buffer(data.removeprefix(codecs.BOM_UTF8))
        backend.no_truncation()
        backend.no_padding()
        backend.decode(backend.encode("a 1é", add_special_tokens=False).ids)
    except BaseException as error:  # the library raises nothing narrower, and its panics are no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise JourneyError(f"{file} is damaged or no tokenizer.json ({error})") from None
    _check_added(state, backend, file)
    return backend


def _check_model(state: Any, file: Path) -> None:
    """JourneyError for an id up to which the library would count, for many seconds, and for the two things at which it
    is known to panic, with lines of its own on stderr: a merge of what are no tokens that make a third, and an empty
    text to be replaced."""
    state = state if isinstance(state, dict) else {}
    model = state["model"] if isinstance(state.get("model"), dict) else {}
    merges, vocab = model.get("merges"), model["vocab"] if isinstance(model.get("vocab"), dict) else {}
    for token, i in vocab.items():
        check_id(i, token, file)
    prefix = str(model.get("continuing_subword_prefix") or "")
    for merge in merges if isinstance(merges, list) else ():
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(token, str) for token in pair):
            raise JourneyError(f"{file} is damaged: {merge!r:.60} among its merges is no pair of tokens")
        if not pair[1].startswith(prefix) or pair[0] + pair[1].removeprefix(prefix) not in vocab:
            raise JourneyError(f"{file} is damaged: its merge {merge!r:.60} makes no token of the vocabulary")
    normalizer = json.dumps(state.get("normalizer"))
    if '{"String": ""}' in normalizer or '{"Regex": ""}' in normalizer:
        raise JourneyError(f"{file} is damaged: its normalizer replaces an empty text")


def _check_added(state: dict[str, Any], backend: tokenizers.Tokenizer, file: Path) -> None:
    """The library gives added tokens the next free ids, whatever ids the file says."""
    for token in state.get("added_tokens") or ():
        given = backend.token_to_id(token["content"])
        if given != token["id"]:
            raise JourneyError(
                f"{file}: the added token {token['content']!r:.60} has the id {token['id']}, but every reader of the "
                f"file gives it {given}: write it into model.vocab too, with the id that the model was trained with"
            )
