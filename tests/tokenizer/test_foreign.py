"""Tokenizers of any kind, against the encoders that they are published with."""

import base64
import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiktoken.load
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from journey.errors import JourneyError
from journey.tokenizer import foreign
from journey.tokenizer.codec import unspell
from journey.tokenizer.formats import Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))
GPT2 = DATA / "tokenizer" / "gpt2"
TEXTS = [
    *("", " ", "a", " a", "  a ", "Hello wörld 1234567", "    x\n\n\t", "e\u0301 é ﬁ ½", "中文 👩‍👩‍👧 \x1c\x85\x00"),
    *("<s> [INST] <0x41> <unk>", "<|endoftext|>", "▁ ▁a", "ก็ไม่ใช่", "مرحبا", "x" * 300),
]
mistral_common = pytest.mark.skipif(not find_spec("mistral_common"), reason="mistral-common is not installed")
sentencepiece = pytest.mark.skipif(
    not (find_spec("mistral_common") and find_spec("sentencepiece")), reason="no mistral-common with sentencepiece"
)
gpt2_files = pytest.mark.skipif(not GPT2.is_dir(), reason="no JOURNEY_DATA")
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def package_file(glob):
    return max((Path(find_spec("mistral_common").submodule_search_locations[0]) / "data").glob(glob))


@pytest.fixture(scope="module")
def gpt2():
    return foreign.load(GPT2, "gpt2")


@pytest.fixture(scope="module")
def gpt2_oracle():
    ranks = tiktoken.load.load_tiktoken_bpe(str(GPT2 / "gpt2.tiktoken"))
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


@gpt2_files
@settings(max_examples=200, deadline=None)
@given(text=any_text)
def test_gpt2_is_tiktokens(gpt2, gpt2_oracle, text):
    ids = gpt2_oracle.encode_ordinary(text)
    assert gpt2.encode(text) == ids
    assert gpt2.pieces(text) == gpt2_oracle.decode_tokens_bytes(ids)
    assert gpt2.decode(ids) == text


@gpt2_files
def test_every_form_of_gpt2_is_the_same(gpt2):
    ranks = foreign.load(GPT2 / "gpt2.tiktoken", "ranks")  # its length says which pattern
    files = foreign.load(GPT2 / "vocab.bpe", "files")
    assert ranks.tokens == files.tokens == gpt2.tokens
    assert [v.kind for v in (ranks, files, gpt2)] == ["byte-level BPE"] * 3
    assert len(gpt2.content) == 50256


@pytest.fixture(scope="module")
def tekken():
    return foreign.mistral("tekken")


@pytest.fixture(scope="module")
def tekken_oracle():
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    return Tekkenizer.from_file(package_file("tekken_*.json"))


@mistral_common
def test_tekken_is_mistrals_own(tekken, tekken_oracle):
    shift = tekken_oracle.num_special_tokens
    for text in TEXTS:
        ids = [id - shift for id in tekken_oracle.encode(text, bos=False, eos=False)]
        assert tekken.encode(text) == ids
        assert b"".join(tekken.pieces(text)) == text.encode()
        assert tekken.decode(ids) == text
    assert len(tekken.tokens) == tekken_oracle.n_words
    assert len(tekken.content) == tekken_oracle.n_words - shift


@pytest.fixture(scope="module")
def spm():
    return foreign.mistral("mistral-spm")


@sentencepiece
def test_the_sentencepiece_model_is_the_librarys(spm):
    from sentencepiece import SentencePieceProcessor

    oracle = SentencePieceProcessor(model_file=str(package_file("tokenizer.model.v1")))
    for text in TEXTS:
        ids = oracle.encode(text)
        assert spm.encode(text) == ids
        assert b"".join(spm.pieces(text)) == text.encode()
        assert len(spm.pieces(text)) == len(ids)
        assert spm.decode(ids) == oracle.decode(ids)
    assert len(spm.tokens) == oracle.vocab_size() == 32000
    assert len(spm.fallback) == 256
    assert spm.pieces("a\n") == [b"a", b"\n"]
    assert spm.fallback & {*spm.encode("a\n")}  # a new line has no piece of its own


@sentencepiece
@settings(max_examples=100, deadline=None)
@given(text=any_text)
def test_pieces_always_join_to_the_text(spm, tekken, text):
    for vocabulary in (spm, tekken):
        pieces = vocabulary.pieces(text)
        assert b"".join(pieces) == text.encode()
        assert len(pieces) == len(vocabulary.encode(text))


def wordpiece():
    vocabulary = {"[UNK]": 0, "un": 1, "##believ": 2, "##able": 3, "story": 4}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    return made


def test_wordpiece_which_is_not_byte_level_and_loses_text(tmp_path):
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    made = foreign.load(tmp_path, "bert")
    assert made.kind == "WordPiece"
    assert made.content == {b"un", b"believ", b"able", b"story"}
    text = "UNbelievable  story é"
    assert made.pieces(text) == [b"UN", b"believ", b"able", b"  story", " é".encode()]  # as it stood, nothing lost
    assert made.encode(text)[-1] == made.unknown == 0
    assert made.decode(made.encode(text)) != text


def test_unigram_with_byte_fallback(tmp_path):
    words = [("<unk>", 0.0), ("▁", -2.0), ("▁the", -1.0), ("x", -3.0), *((f"<0x{b:02X}>", -9.0) for b in range(256))]
    made = tokenizers.Tokenizer(models.Unigram(words, 0, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    made.save(str(tmp_path / "tokenizer.json"))
    read = foreign.load(tmp_path / "tokenizer.json", "unigram")
    assert read.pieces("the é") == [b"the", b" ", b"\xc3", b"\xa9"]
    assert len(read.fallback) == 256 and read.unknown == 0
    assert [i in read.fallback for i in read.encode("the é")] == [False, False, True, True]


def test_special_tokens_spelled_out_are_ordinary_text():
    made = foreign.of(Tokenizer.from_merges([("a", "b")]).backend, "ours")
    assert b"".join(made.pieces("ab<|end|>")) == b"ab<|end|>"
    assert made.pieces("ab<|end|>")[0] == b"ab"
    assert None in made.tokens and b"<|end|>" not in made.content


def test_ranks_need_a_pattern_when_their_length_tells_nothing(tmp_path):
    file = tmp_path / "tokenizer.model"  # as Llama 3 names it
    file.write_bytes(b"".join(base64.b64encode(bytes([b])) + f" {b}\n".encode() for b in range(256)))
    with pytest.raises(JourneyError, match="add --pattern"):
        foreign.load(file, "mine")
    assert foreign.load(tmp_path, "mine", "llama3").pieces("ab") == [b"a", b"b"]
    assert foreign.RANKS == {50256: "gpt2", 128000: "llama3", 151643: "qwen2"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", b"", "is empty"),
        ("tokenizer.json", b"{", "damaged or no tokenizer.json"),
        ("tokenizer.json", b'{"version": "1.0"}', "damaged or no tokenizer.json"),
        ("tekken.json", b'{"config": {"default_vocab_size": 3}, "vocab": [{"token_bytes": "?"}]}', "damaged Tekken"),
        ("some.model", b"\x0a\x01binary", "no tokenizer.json, SentencePiece model"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, said):
    if name.endswith(".model"):
        pytest.importorskip("sentencepiece")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(JourneyError, match=said) as error:
        foreign.load(tmp_path / name, "bad")
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_a_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(JourneyError, match="no tokenizer in this folder"):
        foreign.load(tmp_path, "x")


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr(foreign, "find_spec", lambda name: None)
    with pytest.raises(JourneyError, match=r"mistral-common, which is not installed: .*journey-gpt\[compare\]"):
        foreign.mistral("tekken")


def test_a_lone_surrogate_is_refused():
    made = foreign.of(wordpiece(), "bert")
    with pytest.raises(JourneyError, match="lone surrogate"):
        made.encode("a\ud800")


def test_tokens_beyond_the_model_are_kept_as_they_are_spelled():
    state = json.loads(Tokenizer.from_merges([("a", "b")]).backend.to_str())
    state["added_tokens"].append(
        {"id": 600, "content": "    ", "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": False}
    )
    made = foreign.of(tokenizers.Tokenizer.from_str(json.dumps(state)), "spaces")
    assert made.pieces("ab    x") == [b"ab", b"    ", b"x"]
    assert unspell("Ġ") == b" "
