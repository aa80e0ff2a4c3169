"""Where the tokenizer of a checkpoint is: in a place given, beside it, or, GPT-2's, wherever this machine has it."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from journey.data import hub
from journey.errors import JourneyError
from journey.files import digest
from journey.model import families
from journey.tokenizer import foreign
from journey.tokenizer.characters import META, Characters
from journey.tokenizer.codec import PATTERNS
from journey.tokenizer.formats import GPT2_FILES, Tokenizer
from journey.tokenizer.split import steps_of

GPT2_REPOSITORY = "openai-community/gpt2"
# OpenAI's addresses, by whose hash tiktoken names the files in its cache.
_OPENAI = "https://openaipublic.blob.core.windows.net"
_ENCODER, _MERGES = (f"{_OPENAI}/gpt-2/encodings/main/{name}" for name in GPT2_FILES[0])
_RANKS = f"{_OPENAI}/encodings/r50k_base.tiktoken"
# `fingerprint` of GPT-2's tokenizer, from whichever of its three public forms it was read.
GPT2 = "d9157928c83c795161d4815ce59767f37cb95b98206ebd0c2e2521efc84f750c"
LLAMA3 = ("meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-1B")  # one tokenizer
NAMED = ("gpt2", "llama3", *foreign.MISTRAL)


def fingerprint(tokenizer: Tokenizer) -> str:
    """Hash of how text is split, of every token's id, and of which tokens are found in text before it is split: the
    same for each form that a tokenizer is published in."""
    state = json.loads(tokenizer.backend.to_str())
    split = tokenizer.pattern if tokenizer.pattern in PATTERNS else steps_of(state)
    found = sorted(token["content"] for token in state["added_tokens"] if not token["special"])
    return digest([split, tokenizer.backend.get_vocab(), *found])


def find(
    checkpoint: Path | None, given: str = "auto", family: str = "", ask: str = "give --tokenizer,"
) -> tuple[Tokenizer, str]:
    """The tokenizer of a checkpoint, and in a few words where it was found.

    `given` is a folder or file, or "auto": beside the checkpoint, else, where its `family` has GPT-2's or is not known,
    GPT-2's own, which "gpt2" means in any case: in the cache of tiktoken or Hugging Face, under JOURNEY_DATA, or from
    the Hub. Raises JourneyError when there is none; `ask` is how the caller is given one.
    """
    place = Path(given).expanduser()
    if given != "auto" and (given != "gpt2" or place.exists()):
        if not place.exists():
            raise JourneyError(f"no tokenizer at {given}: {ask} {_HELP}")
        return _load(place), given
    if checkpoint and given == "auto":
        folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
        if any((folder / name).is_file() for name in (*_KNOWN, META)) or any(folder.glob("*.tiktoken")):
            return _load(folder), "beside the checkpoint"
    known = families.find(family) if family else None  # only now: it needs torch
    if given == "auto" and family and (known is None or known.tokenizer != "gpt2"):
        problem = f"{checkpoint}: no tokenizer.json beside it, and a {family}'s can be anything"
        raise JourneyError(f"{problem}: {ask} {_HELP}")
    for where, read in _places():
        tokenizer = read()
        if fingerprint(tokenizer) == GPT2:
            return tokenizer, where
    try:
        file = hub.download(GPT2_REPOSITORY, "tokenizer.json", "model")
    except JourneyError:
        raise JourneyError(
            "GPT-2's tokenizer is nowhere on this machine (caches of tiktoken and Hugging Face, JOURNEY_DATA) and the "
            f"Hub did not give it: {ask} {_HELP}"
        ) from None
    return Tokenizer.load(file), "the Hub"


def foreign_vocabulary(name: str, label: str, pattern: str | None = None) -> foreign.Vocabulary | None:
    """A tokenizer to compare: one of NAMED, or a file or folder; None when `name` may be that of a node.

    Raises JourneyError for a known one that is not on this machine, and for a path where nothing is.
    """
    path = Path(name).expanduser()
    if name in foreign.MISTRAL:
        return foreign.mistral(name)
    if name == "gpt2":
        return foreign.of(find(None, name, ask="name in its place")[0].backend, label)
    if name == "llama3":
        return foreign.load(_llama3(), label)
    if path.exists():
        return foreign.load(path, label, pattern)
    if path.suffix or len(path.parts) > 1:
        raise JourneyError(f"no tokenizer at {name}: give a tokenizer.json, a .model or .tiktoken file, or its folder")
    return None


def label(name: str) -> str:
    """What a tokenizer is called in a table: of a file with a name that says nothing, its folder's."""
    path = Path(name).expanduser()
    if not path.exists() or name in NAMED:
        return name
    place = path.resolve()
    return place.parent.name if place.is_file() and place.stem in ("tokenizer", "encoder", "vocab") else place.name


def _llama3() -> Path:
    from huggingface_hub import try_to_load_from_cache

    for repository in LLAMA3:
        found = try_to_load_from_cache(repository, "tokenizer.json")
        if isinstance(found, str):
            return Path(found)
    raise JourneyError(
        f"Llama 3's tokenizer is not in Hugging Face's cache: accept {LLAMA3[0]}'s licence on the Hub and download "
        "its tokenizer.json, or give the path of yours"
    )


_KNOWN = ("tokenizer.json", *(first for first, _ in GPT2_FILES))
_HELP = "a folder with encoder.json and vocab.bpe, a .tiktoken file, a tokenizer.json, or nanoGPT's meta.pkl"


def _load(place: Path) -> Tokenizer:
    """In any of the three public forms, or nanoGPT's; also a folder that holds nothing but a .tiktoken file."""
    if place.suffix == ".pkl":
        return _characters(place)
    if (place / META).is_file() and not any((place / name).exists() for name in _KNOWN):
        return _characters(place / META)
    ranks = sorted(place.glob("*.tiktoken")) if place.is_dir() else []
    if len(ranks) == 1 and not any((place / name).exists() for name in _KNOWN):
        return Tokenizer.load(ranks[0])
    if any(place.name in pair for pair in GPT2_FILES):
        place = place.parent
    return Tokenizer.load(place)


def _characters(meta: Path) -> Characters:
    from journey.model.foreign import pickles  # needs torch

    return Characters.of(pickles.read(meta), str(meta))


def _places() -> Iterator[tuple[str, Callable[[], Tokenizer]]]:
    """Where GPT-2's tokenizer may already be, and how it is read there."""
    from huggingface_hub import try_to_load_from_cache

    chosen = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    cache = Path(chosen) if chosen else Path(tempfile.gettempdir()) / "data-gym-cache"
    ranks, encoder, merges = (cache / hashlib.sha1(url.encode()).hexdigest() for url in (_RANKS, _ENCODER, _MERGES))
    if ranks.is_file():
        yield "tiktoken's cache", lambda: Tokenizer.from_ranks(ranks, "gpt2")
    if encoder.is_file() and merges.is_file():
        yield "tiktoken's cache", lambda: Tokenizer.from_gpt2_files(encoder, merges)
    for repository in (GPT2_REPOSITORY, "gpt2"):
        found = try_to_load_from_cache(repository, "tokenizer.json")
        if isinstance(found, str):
            yield "Hugging Face's cache", lambda found=found: Tokenizer.load(found)  # type: ignore[misc]
    ours = Path(os.environ.get("JOURNEY_DATA", "absent")) / "tokenizer" / "gpt2"
    if ours.is_dir():
        yield "JOURNEY_DATA", lambda: _load(ours)
