"""What the files beside a vocabulary say: which tokens were added to it, under which ids, and how text is cut.

Older tokenizers saved them in added_tokens.json and special_tokens_map.json, newer ones in tokenizer_config.json. They
are read in the order in which transformers 5 reads them. Two things differ: an id that a file gives is kept, where
transformers counts on from the vocabulary's size, and all tokens that a file calls special are.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import AddedToken

from journey.errors import JourneyError
from journey.files import read_json
from journey.tokenizer.reading import check_ids, check_token, read_ids

CONFIG, SPECIALS_MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA = ("extra_special_tokens", "additional_special_tokens")  # the newer name first
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Kind(NamedTuple):
    """What a class of transformers takes for granted where it reads vocab.json and merges.txt."""

    pattern: str
    nfc: bool
    """Whether text is brought to NFC."""
    named: dict[str, str]
    """The special tokens that it has where no file names others."""
    space_before: bool = False
    """Whether a space is put before every text, which the folder says, not the class."""


_GPT2 = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_QWEN2 = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
_ROBERTA = dict(zip(_NAMED, ("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"), strict=True))
KINDS = {
    "GPT2Tokenizer": Kind("gpt2", False, _GPT2),
    "CodeGenTokenizer": Kind("gpt2", False, _GPT2),
    "RobertaTokenizer": Kind("gpt2", False, _ROBERTA),
    "Qwen2Tokenizer": Kind("qwen2", True, _QWEN2),
}
_OF_MODELS = {"roberta": "RobertaTokenizer"} | dict.fromkeys(("qwen2", "qwen3", "qwen3_moe"), "Qwen2Tokenizer")
_SAY_NOTHING = ("TokenizersBackend", "PreTrainedTokenizer", "PreTrainedTokenizerFast", "PythonBackend")


class Beside(NamedTuple):
    """The tokens beside a vocabulary, in the order in which they are added to it."""

    tokens: list[AddedToken]
    ids: dict[str, int]
    """Of those that a file gives one; the others have only a name, and no row in any model."""
    flags: bool
    """Whether what is said of them also holds for tokens that were added already."""


def kind_of(folder: Path) -> Kind:
    """How a folder without a tokenizer.json is read: GPT-2's way where nothing is said.

    A class whose vocab.json means something else raises JourneyError.
    """
    config, model = _object(folder / CONFIG), _object(folder / "config.json")
    said = config.get("tokenizer_class") or model.get("tokenizer_class")
    by_model = _OF_MODELS.get(str(model.get("model_type")), "GPT2Tokenizer")
    name = by_model if not said or said in _SAY_NOTHING else str(said).removesuffix("Fast")
    if name not in KINDS:
        raise JourneyError(
            f"{folder}: its tokenizer_class {name:.60} is none of {', '.join(KINDS)}: save it with a tokenizer.json, "
            "as AutoTokenizer.from_pretrained(folder).save_pretrained(folder) does"
        )
    return KINDS[name]._replace(space_before=config.get("add_prefix_space") is True)


def read_beside(folder: Path, named: Mapping[str, str]) -> Beside:
    """The tokens that tokenizer_config.json, special_tokens_map.json and added_tokens.json add; `named` are special
    tokens by their names, for those that no file names. A damaged file raises JourneyError."""
    config, older = _object(folder / CONFIG), dict[str, Any]()
    extra = config.get(_EXTRA[0]) or config.get(_EXTRA[1])
    newer = "added_tokens_decoder" in config  # then the two older files are not read
    if not newer:
        older = _object(folder / SPECIALS_MAP)
        extra = older.get(_EXTRA[0]) or extra or older.get(_EXTRA[1])
    by_name = {**named, **_named(config), **_named(older)}
    own = {name: said for name, said in (_named(older) | _named(config)).items() if name not in _NAMED}
    said = [*(by_name[name] for name in _NAMED if name in by_name), *own.values(), *_listed(extra)]
    special = {token.content: token for token in (_token(value, folder, special=True) for value in said)}
    given = _decoder(config["added_tokens_decoder"], folder) if newer else _added(folder, special)
    for token in given.values():
        token.special = token.special or token.content in special
    found = {token.content: token for token in given.values()}
    if len(found) < len(given):
        raise JourneyError(f"{folder / CONFIG}: added_tokens_decoder gives one token two ids: leave one")
    ids = check_ids({token.content: i for i, token in given.items()}, folder / CONFIG)
    found |= {content: token for content, token in special.items() if content not in found}
    return Beside([token for token in found.values() if token.content], ids, newer)


def add(backend: tokenizers.Tokenizer, beside: Beside, folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer with the tokens beside it. Those of its vocabulary keep their ids, the others have the one that a
    file gives, or, where none does, come above the largest. An id that is taken raises JourneyError."""
    known = backend.get_vocab()
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    tokens = [
        token for token in beside.tokens if token.content not in added or (beside.flags and token.content in beside.ids)
    ]
    new = {token: i for token, i in beside.ids.items() if token not in known}
    above = 1 + max([*known.values(), *new.values()], default=-1)
    unknown = [token.content for token in tokens if token.content not in known and token.content not in new]
    check_ids(known | new, folder)
    return with_tokens(backend, tokens, new | {token: above + n for n, token in enumerate(unknown)})


def with_tokens(
    backend: tokenizers.Tokenizer, tokens: Sequence[AddedToken], new: Mapping[str, int]
) -> tokenizers.Tokenizer:
    """The tokenizer with these tokens added; those of them that it lacks get the ids of `new`.

    The library counts on from the vocabulary's size. Where that would give other ids, as above a gap, the tokens are
    put into the vocabulary itself first, for there every tool leaves ids as they are.
    """
    if not tokens:
        return backend
    n = backend.get_vocab_size()
    dense = sorted([*backend.get_vocab().values(), *new.values()]) == [*range(n + len(new))]
    if new and not dense:
        state = json.loads(backend.to_str())
        if not isinstance(state["model"]["vocab"], dict):  # a Unigram's is a list, where no id can be left out
            raise JourneyError(
                f"the added token {min(new)!r:.60} has an id above a gap: give added tokens the next ids"
            )
        state["model"]["vocab"] |= new
        backend = tokenizers.Tokenizer.from_str(json.dumps(state))
    backend.add_tokens(sorted(tokens, key=lambda token: new.get(token.content, -1)))
    return backend


def _decoder(said: Any, folder: Path) -> dict[int, AddedToken]:
    """The tokens of added_tokens_decoder by their ids, in order."""
    if not isinstance(said, dict) or not all(i.isascii() and i.isdecimal() and len(i) < 10 for i in said):
        raise JourneyError(f"{folder / CONFIG}: added_tokens_decoder should be an object of ids and their tokens")
    return {i: _token(value, folder, special=False) for i, value in sorted((int(i), said[i]) for i in said)}


def _added(folder: Path, special: Iterable[str]) -> dict[int, AddedToken]:
    """The tokens of added_tokens.json by their ids, in order."""
    ids = read_ids(folder / ADDED, "a list of added tokens") if (folder / ADDED).is_file() else {}
    plain = {i: AddedToken(token, normalized=token not in special) for token, i in ids.items()}
    return dict(sorted(plain.items()))


def _token(said: Any, folder: Path, special: bool) -> AddedToken:
    """A token, given as its text or as an object with its text and its flags."""
    said = {"content": said} if isinstance(said, str) else said
    if not isinstance(said, dict):
        raise JourneyError(f"{folder}: {said!r:.60} beside the vocabulary is no token: write its text")
    flags = {name: bool(said[name]) for name in _FLAGS if name in said}
    flags["special"] = special = special or flags.get("special", False)
    return AddedToken(check_token(said.get("content"), folder), **{"normalized": not special} | flags)


def _named(said: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens that have a name: pad_token, but not add_bos_token, which is a yes or no."""
    return {name: said[name] for name in said if name.endswith("_token") and isinstance(said[name], str | dict)}


def _listed(said: Any) -> list[Any]:
    return [*said.values()] if isinstance(said, dict) else said if isinstance(said, list) else []


def _object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no file."""
    said = read_json(file) if file.is_file() else {}
    if not isinstance(said, dict):
        raise JourneyError(f"{file} should hold an object: restore or delete it")
    return said
