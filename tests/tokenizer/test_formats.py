"""The files of a tokenizer, opened by what users trust."""

import argparse
import base64
import inspect
import json
import os
from pathlib import Path

import pytest
import tiktoken
import tiktoken.load
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from journey import chat
from journey.errors import JourneyError
from journey.tokenizer import bpe
from journey.tokenizer.codec import PATTERNS
from journey.tokenizer.formats import BOS, EOS, PAD, SPECIALS, Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))
TEXTS = ["", " a", "Hello wörld  \n\n x='e\u0301' 're ", "中文 👩‍👩‍👧 \x1c\x85", "tab\there\r\n", "if x:\n    y = 1234"]


@pytest.fixture(scope="module", params=list(PATTERNS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    words = bpe.count_words([inspect.getsource(argparse)], request.param)
    return Tokenizer.from_merges(bpe.train(words, 600, len(SPECIALS)), request.param)


# A folder with no config.json is a tokenizer's own node; the others are every family that a model is saved as.
@pytest.fixture(params=[None, "gpt2", "llama", "qwen3", "qwen3_moe", "deepseek_v3"])
def foreign(request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path: Path) -> PreTrainedTokenizerBase:
    tokenizer.save(tmp_path)
    if request.param:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": request.param}))
    return AutoTokenizer.from_pretrained(tmp_path)


def test_transformers_reads_the_same_tokenizer(foreign: PreTrainedTokenizerBase, tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        assert foreign(text)["input_ids"] == foreign.encode(text) == tokenizer.encode(text)  # nothing is added
        assert foreign.decode(tokenizer.encode(text)) == text
    ids = (foreign.bos_token_id, foreign.eos_token_id, foreign.pad_token_id)
    assert ids == (tokenizer.bos, tokenizer.eos, tokenizer.pad)
    assert (foreign.bos_token, foreign.eos_token, foreign.pad_token) == (BOS, EOS, PAD)
    assert len(foreign) == foreign.vocab_size == tokenizer.vocab_size
    assert set(foreign.all_special_tokens) == set(SPECIALS)
    assert foreign.get_vocab() == tokenizer.backend.get_vocab()
    assert foreign.chat_template == chat.TEMPLATE
    assert foreign.decode(list(tokenizer.special.values()), skip_special_tokens=True) == ""


def test_a_folder_saved_by_transformers_has_the_same_hash(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").hash == tokenizer.hash


def test_save_and_load_keep_everything(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path)):
        loaded = Tokenizer.load(path)
        assert loaded.hash == tokenizer.hash
        assert (loaded.special, loaded.pattern) == (tokenizer.special, tokenizer.pattern)
        assert loaded.encode_batch([*TEXTS, EOS]) == [tokenizer.encode(text) for text in [*TEXTS, EOS]]


def test_special_tokens_come_last_and_count_into_the_vocabulary(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 600
    assert tokenizer.special == {token: 593 + i for i, token in enumerate(SPECIALS)}
    assert (tokenizer.bos, tokenizer.pad, tokenizer.eos) == (593, 594, 599)
    assert tokenizer.stop == {593, 599}


def test_the_spelling_of_a_special_token_is_ordinary_text(tokenizer: Tokenizer) -> None:
    for token in SPECIALS:
        for ids in (tokenizer.encode(f"a{token}b"), *tokenizer.encode_batch([f"a{token}b"])):
            assert max(ids) < tokenizer.bos
            assert tokenizer.decode(ids) == f"a{token}b"
        assert tokenizer.decode([tokenizer.special[token]]) == token


def test_the_hash_is_of_what_decides_ids() -> None:
    merges = [("a", "b"), ("c", "d")]
    same = Tokenizer.from_merges(merges).hash
    assert Tokenizer.from_merges(list(merges)).hash == same
    others = [
        Tokenizer.from_merges(merges[::-1]),
        Tokenizer.from_merges(merges[:1]),
        Tokenizer.from_merges(merges, "qwen2"),
        Tokenizer.from_merges(merges, "gpt2", SPECIALS[::-1]),
    ]
    assert len({same, *(other.hash for other in others)}) == 5


def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(JourneyError, match="lone surrogate"):
        tokenizer.encode("\ud83d")
    with pytest.raises(JourneyError, match="lone surrogate"):
        tokenizer.encode_batch(["a", "\ud83d"])
    with pytest.raises(JourneyError, match="lone surrogate"):
        tokenizer.encode_arrays(["a", "\ud83d"])


@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
def test_gpt2s_own_files_load(tmp_path: Path) -> None:
    for path in (DATA / "tokenizer" / "gpt2", DATA / "tokenizer" / "gpt2" / "gpt2.tiktoken"):
        tokenizer = Tokenizer.load(path)
        assert tokenizer.encode("Hello, world!") == [15496, 11, 995, 0]
        assert (tokenizer.vocab_size, tokenizer.bos, tokenizer.stop) == (50257, 50256, {50256})
        with pytest.raises(JourneyError, match=r"has no <\|end\|> token"):
            tokenizer.eos  # noqa: B018
        with pytest.raises(JourneyError, match=r"has no <\|pad\|> token"):
            tokenizer.save(tmp_path)


def test_a_tiktoken_token_that_no_merge_makes_is_still_used(tmp_path: Path) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256}
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    (tmp_path / "some.tiktoken").write_bytes(b"".join(lines))
    encoding = tiktoken.Encoding("some", pat_str=PATTERNS["llama3"], mergeable_ranks=ranks, special_tokens={})
    tokenizer = Tokenizer.load(tmp_path / "some.tiktoken", "llama3")
    for text in ("abc", "abc1abc", "abcd"):
        assert tokenizer.encode(text) == encoding.encode_ordinary(text)


def test_truncation_and_padding_in_a_file_are_put_off(tokenizer: Tokenizer, tmp_path: Path) -> None:
    backend = Backend.from_str(tokenizer.backend.to_str())
    backend.enable_truncation(3)
    backend.enable_padding(length=2)
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode_batch(["a", "a b c d e"]) == tokenizer.encode_batch(["a", "a b c d e"])


def test_damaged_files_are_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match=r"tokenizer\.json does not exist"):
        Tokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    whole = file.read_bytes()
    for damaged in (b"", b"\xff", whole[: len(whole) // 2], b"[]"):
        file.write_bytes(damaged)
        with pytest.raises(JourneyError, match=r"tokenizer\.json is damaged"):
            Tokenizer.load(tmp_path)
    ranks = tmp_path / "some.tiktoken"
    ranks.write_bytes(b"IQ== 0\nIg== one\n")
    with pytest.raises(JourneyError, match=r"some\.tiktoken, line 2"):
        Tokenizer.load(ranks)
    ranks.write_bytes(b"IQ== 0\n")
    with pytest.raises(JourneyError, match="lacks 255 of the 256 bytes"):
        Tokenizer.load(ranks)
    file.unlink()
    (tmp_path / "encoder.json").write_text('{"a": 0, "b": 1, "<|endoftext|>": 2}')
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\na b\n")
    with pytest.raises(JourneyError, match=r"vocab\.bpe, line 2"):
        Tokenizer.load(tmp_path)


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    alphabet = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE(alphabet, []))
    for other in (pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(use_regex=False)):
        backend.pre_tokenizer = other
        backend.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(JourneyError, match="no byte-level BPE with the split pattern of gpt2, llama3, qwen2"):
            Tokenizer.load(tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
@pytest.mark.parametrize("form", ["", "gpt2.tiktoken"])
def test_gpt2_with_chat_tokens_gives_the_ids_of_tiktoken(form: str, tmp_path: Path) -> None:
    own = Tokenizer.load(DATA / "tokenizer" / "gpt2" / form)
    chatty = own.with_chat_tokens()
    chatty.save(tmp_path)
    lines = (DATA / "tokenizer" / "gpt2" / "gpt2.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    theirs = tiktoken.Encoding("gpt2", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens={BOS: 50256})
    opened = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, inspect.getsource(argparse)[:20_000]]:
        assert theirs.encode_ordinary(text) == chatty.encode(text) == opened.encode(text)
    assert chatty.encode("a<|user|>b<|endoftext|>") == theirs.encode_ordinary("a<|user|>b<|endoftext|>")
    assert own.vocab_size == 50257 and (chatty.vocab_size, chatty.bos) == (50263, 50256)
    assert sorted(chatty.special.values()) == list(range(50256, 50263))


def test_chat_tokens_are_added_after_a_tokenizers_own(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Llama's and Qwen's have specials of their own, one of them a mark of ours, and put one before every text."""
    assert tokenizer.with_chat_tokens().hash == tokenizer.hash  # nothing lacks
    words = bpe.count_words([inspect.getsource(argparse)], tokenizer.pattern)
    names = ["<|begin_of_text|>", "<|im_start|>", PAD]
    own = Tokenizer.from_merges(bpe.train(words, 500, len(names)), tokenizer.pattern, names)
    start = own.special["<|begin_of_text|>"]
    own.backend.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", start)]
    )
    chatty = own.with_chat_tokens()
    before, after = own.backend.get_vocab(), chatty.backend.get_vocab()
    assert before.items() <= after.items() and chatty.pad == own.special[PAD]
    assert sorted(after.values()) == list(range(500 + len(SPECIALS) - 1)) and chatty.vocab_size == len(after)
    assert own.vocab_size == 500 and BOS not in own.special  # the one it was made of is as it was
    chatty.save(tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert opened.encode(text) == chatty.encode(text) == own.encode(text)
    assert chat.render([{"role": "user", "content": "a"}], chatty)[0] == [chatty.special["<|user|>"], *own.encode("a")]


def test_gpt2s_files_as_the_hub_names_them(tmp_path: Path) -> None:
    ids = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))} | {"ab": 256, BOS: 257}
    for names in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        folder = tmp_path / names[0]
        folder.mkdir()
        (folder / names[0]).write_text(json.dumps(ids))
        with pytest.raises(JourneyError, match=f"{names[1]} does not exist: {names[0]} needs it"):
            Tokenizer.load(folder)
        (folder / names[1]).write_text("#version: 0.2\na b\n")
        assert Tokenizer.load(folder).encode("ab") == [256]
        for wrong in ("[]", '{"a": 0}'):
            (folder / names[0]).write_text(wrong)
            with pytest.raises(JourneyError, match="is not GPT-2's vocabulary"):
                Tokenizer.load(folder)


def opened_by_tiktoken(file: Path, monkeypatch: pytest.MonkeyPatch) -> tiktoken.Encoding:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # by default it keeps a copy of every file that it reads
    ranks = tiktoken.load.load_tiktoken_bpe(str(file))
    return tiktoken.Encoding(mergeable_ranks=ranks, **json.loads(Path(f"{file}.json").read_text()))


def test_tiktoken_reads_what_was_written_for_it(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.save_tiktoken(tmp_path / "mine.tiktoken")
    encoding = opened_by_tiktoken(tmp_path / "mine.tiktoken", monkeypatch)
    again = Tokenizer.load(tmp_path / "mine.tiktoken")  # with the pattern and the special tokens beside it
    assert (encoding.name, encoding.n_vocab) == ("mine", tokenizer.vocab_size)
    assert (again.pattern, again.special) == (tokenizer.pattern, tokenizer.special)
    assert again.backend.get_vocab() == tokenizer.backend.get_vocab()
    allowing = Backend.from_str(tokenizer.backend.to_str())  # takes a special token's spelling for the token

    @given(text=st.lists(st.sampled_from([*TEXTS, *SPECIALS, "don't", "\x00"]) | st.text(max_size=6)).map("".join))
    @settings(max_examples=150, deadline=None)
    def check(text: str) -> None:
        ids = tokenizer.encode(text)
        assert encoding.encode_ordinary(text) == ids == again.encode(text)
        assert encoding.decode(ids) == text
        assert encoding.encode(text, allowed_special="all") == allowing.encode(text).ids

    check()


@pytest.mark.skipif(not DATA.is_dir(), reason="JOURNEY_DATA is not set")
def test_gpt2s_ranks_are_written_as_openai_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for form in ("", "gpt2.tiktoken"):
        own = Tokenizer.load(DATA / "tokenizer" / "gpt2" / form)
        own.save_tiktoken(tmp_path / "gpt2.tiktoken")
        theirs = (DATA / "tokenizer" / "gpt2" / "gpt2.tiktoken").read_bytes()
        assert (tmp_path / "gpt2.tiktoken").read_bytes().split() == theirs.split()
        assert opened_by_tiktoken(tmp_path / "gpt2.tiktoken", monkeypatch).n_vocab == 50257
        own.with_chat_tokens().save_tiktoken(tmp_path / "gpt2.tiktoken")
        chatty = opened_by_tiktoken(tmp_path / "gpt2.tiktoken", monkeypatch)
        assert chatty.encode_single_token(PAD) == 50257 and chatty.n_vocab == 50263


def test_what_tiktoken_cannot_be_is_not_written(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in ("mine.json", "nowhere/mine.tiktoken"):
        with pytest.raises(JourneyError, match=r"name a file in a folder that exists, ending in \.tiktoken"):
            tokenizer.save_tiktoken(tmp_path / name)
    state = json.loads(tokenizer.backend.to_str())
    normalising = Backend.from_str(json.dumps(state | {"normalizer": {"type": "NFC"}}))
    state["model"]["merges"].reverse()
    unordered = Backend.from_str(json.dumps(state))
    for backend in (normalising, unordered):
        with pytest.raises(JourneyError, match="tiktoken knows only a split pattern and ranks"):
            Tokenizer(backend, tokenizer.pattern).save_tiktoken(tmp_path / "mine.tiktoken")
    assert list(tmp_path.iterdir()) == []


def test_a_description_that_does_not_fit_its_ranks_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save_tiktoken(tmp_path / "mine.tiktoken")
    beside = tmp_path / "mine.tiktoken.json"
    said = json.loads(beside.read_text())
    for wrong in ([], said | {"pat_str": "."}, said | {"special_tokens": {EOS: 5}}, said | {"special_tokens": None}):
        beside.write_text(json.dumps(wrong))
        with pytest.raises(JourneyError, match=r"mine\.tiktoken\.json does not fit mine\.tiktoken"):
            Tokenizer.load(tmp_path / "mine.tiktoken")
    beside.write_text("{")
    with pytest.raises(JourneyError, match=r"mine\.tiktoken\.json, line \d+: not JSON"):
        Tokenizer.load(tmp_path / "mine.tiktoken")
