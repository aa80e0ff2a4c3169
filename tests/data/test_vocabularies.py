"""Where a tokenizer is found: beside its checkpoint, or GPT-2's in each of its forms, wherever it may be."""

import argparse
import base64
import inspect
import json
import os
from pathlib import Path

import pytest

from journey.data import vocabularies
from journey.errors import JourneyError
from journey.tokenizer import bpe
from journey.tokenizer.codec import unspell
from journey.tokenizer.formats import BOS, Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))


@pytest.fixture(scope="module")
def base():
    """A tokenizer as a pre-trained GPT-2 has one: its only special token is <|endoftext|>."""
    words = bpe.count_words([inspect.getsource(argparse)], "gpt2")
    return Tokenizer.from_merges(bpe.train(words, 400, 1), "gpt2", [BOS])


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without GPT-2's tokenizer anywhere, and offline."""
    import huggingface_hub.constants

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.delenv("JOURNEY_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def public(base, monkeypatch):
    """A small tokenizer in the place of GPT-2's."""
    monkeypatch.setattr(vocabularies, "GPT2", vocabularies.fingerprint(base))
    state = json.loads(base.backend.to_str())["model"]
    merges = "".join(f"{left} {right}\n" for left, right in state["merges"])
    ranks = {token: i for token, i in state["vocab"].items() if token != BOS}
    lines = (
        f"{base64.b64encode(unspell(token)).decode()} {i}\n" for token, i in sorted(ranks.items(), key=lambda x: x[1])
    )
    return {
        "encoder.json": json.dumps(state["vocab"]),
        "vocab.bpe": f"#version: 0.2\n{merges}",
        "gpt2.tiktoken": "".join(lines),
        "tokenizer.json": base.backend.to_str(),
    }


def test_gpt2s_tokenizer_when_it_is_nowhere(nowhere):
    with pytest.raises(JourneyError, match=r"nowhere on this machine .* give --tokenizer, a folder with encoder.json"):
        vocabularies.find(nowhere / "ckpt.pt")
    with pytest.raises(JourneyError, match="no tokenizer at not/there: give --tokenizer"):
        vocabularies.find(nowhere / "ckpt.pt", "not/there")
    with pytest.raises(JourneyError, match=r"no tokenizer.json beside it, and a llama's can be anything: give"):
        vocabularies.find(nowhere / "ckpt.pt", family="llama")


FILES, RANKS, JSON = ("encoder.json", "vocab.bpe"), ("gpt2.tiktoken",), ("tokenizer.json",)
# tiktoken caches OpenAI's forms alone, and the Hub's folder is read by its tokenizer.json.
PLACES = [(form, place) for form in (FILES, RANKS, JSON) for place in ("given", "given file", "beside", "JOURNEY_DATA")]
PLACES += [(FILES, "tiktoken"), (RANKS, "tiktoken"), (JSON, "hub")]


@pytest.mark.parametrize(("form", "place"), PLACES)
def test_gpt2s_tokenizer_wherever_it_is_in_each_of_its_forms(nowhere, monkeypatch, public, base, form, place):
    monkeypatch.setenv("JOURNEY_DATA", str(nowhere))
    (nowhere / "out").mkdir()
    names = dict(zip(form, form, strict=True))
    where = {"beside": nowhere / "out", "JOURNEY_DATA": nowhere / "tokenizer" / "gpt2"}.get(place, nowhere / "some")
    if place == "tiktoken":
        where = nowhere / "tiktoken"
        # The names that tiktoken 0.14 gives the files in its cache: SHA-1 of OpenAI's addresses.
        names = {
            "encoder.json": "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
            "vocab.bpe": "6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
            "gpt2.tiktoken": "0ea1e91bbb3a60f729a8dc8f777fd2fc07cd8df4",
        }
    if place == "hub":
        commit = "0123456789abcdef0123456789abcdef01234567"
        repository = nowhere / "hub" / "models--openai-community--gpt2"
        where = repository / "snapshots" / commit
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
    where.mkdir(parents=True, exist_ok=True)
    for name in form:
        (where / names[name]).write_text(public[name])
    given = {"given": str(where), "given file": str(where / form[0])}.get(place, "auto")
    tokenizer, _ = vocabularies.find(nowhere / "out" / "ckpt.pt", given)
    assert vocabularies.fingerprint(tokenizer) == vocabularies.fingerprint(base)
    text = "def parse_args(self):\n    'Straße' 12"
    assert tokenizer.encode(text) == base.encode(text)


def test_what_lies_where_gpt2s_tokenizer_should_be_must_be_it(nowhere, monkeypatch, public):
    """A cache that anyone can write to: other ids would be silent nonsense."""
    monkeypatch.setenv("JOURNEY_DATA", str(nowhere))
    place = nowhere / "tokenizer" / "gpt2"
    place.mkdir(parents=True)
    changed = json.loads(public["encoder.json"])
    changed["a"], changed["b"] = changed["b"], changed["a"]
    (place / "encoder.json").write_text(json.dumps(changed))
    (place / "vocab.bpe").write_text(public["vocab.bpe"])
    with pytest.raises(JourneyError, match="nowhere on this machine"):
        vocabularies.find(nowhere / "ckpt.pt")


@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
def test_gpt2s_own_files_have_the_fingerprint_that_is_looked_for():
    for form in ("", "gpt2.tiktoken"):
        tokenizer, _ = vocabularies.find(None, str(DATA / "tokenizer" / "gpt2" / form))
        assert vocabularies.fingerprint(tokenizer) == vocabularies.GPT2
