"""The tokenizer stage: learned from the training split alone, and saved for everyone."""

import collections
import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Theirs
from tokenizers import models, pre_tokenizers, trainers

from journey.data.corpus import Corpus
from journey.errors import JourneyError
from journey.stages.run import Run, Stopped
from journey.stages.tokenizer import TokenizerConfig, tokenizer
from journey.tokenizer.formats import SPECIALS, Tokenizer


def run(life, folder):
    return Run(folder, seed=3, given={"data": life.node("prose")})


def test_the_merges_are_those_of_tokenizers_on_the_training_split(life):
    """On the training split: a tokenizer that has seen held-out text would compress it too well."""
    theirs = Theirs(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400 - len(SPECIALS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    theirs.train_from_iterator(Corpus(life.node("prose").path).texts("train"), trainer)
    expected = json.loads(theirs.to_str())["model"]["merges"]
    ours = json.loads((life.node("tokenizer").path / "tokenizer.json").read_text())["model"]["merges"]
    assert [list(pair) for pair in ours] == [list(pair) for pair in expected]


def test_the_vocabulary_is_as_large_as_asked(life):
    made = Tokenizer.load(life.node("tokenizer").path)
    assert made.vocab_size == 400 and len(made.special) == len(SPECIALS)
    assert life.node("tokenizer").lineage["tokenizer_hash"] == made.hash


def test_bytes_per_token_are_of_the_dev_split(life):
    made, texts = Tokenizer.load(life.node("tokenizer").path), Corpus(life.node("prose").path).texts("dev")
    counts = collections.Counter(
        tokens=sum(map(len, made.encode_batch(texts))), bytes=sum(len(t.encode()) for t in texts)
    )
    value = life.node("tokenizer").lineage["metrics"]["bytes_per_token"]["value"]
    assert value == counts["bytes"] / counts["tokens"]


@pytest.mark.parametrize(("size", "said"), [(100_000, "too large for this corpus: at most"), (262, "too small")])
def test_a_vocabulary_that_cannot_be_is_told(life, tmp_path, size, said):
    with pytest.raises(JourneyError, match=said):
        tokenizer(None, TokenizerConfig(vocab_size=size), run(life, tmp_path / "tok"))
    assert not (tmp_path / "tok").exists()


def test_the_largest_that_is_named_can_be_made(life, tmp_path):
    import re

    with pytest.raises(JourneyError) as error:
        tokenizer(None, TokenizerConfig(vocab_size=100_000), run(life, tmp_path / "tok"))
    most = int(re.search(r"at most (\d+)", str(error.value))[1])
    node = tokenizer(None, TokenizerConfig(vocab_size=most), run(life, tmp_path / "tok"))
    assert Tokenizer.load(node.path).vocab_size == most


@pytest.mark.parametrize("pattern", ["gpt2", "llama3", "qwen2"])
def test_every_pattern_comes_back(life, tmp_path, pattern):
    node = tokenizer(None, TokenizerConfig(vocab_size=300, pattern=pattern), run(life, tmp_path / "tok"))
    made = Tokenizer.load(node.path)
    assert made.pattern == pattern and made.decode(made.encode("Straße 42, don't\n\n  x")) == "Straße 42, don't\n\n  x"


def test_ctrl_c_is_heard_by_a_stage_that_saves_no_state(life, tmp_path):
    stopping = run(life, tmp_path / "tok")
    stopping.console.stopping = True
    with pytest.raises(Stopped):
        tokenizer(None, TokenizerConfig(vocab_size=400), stopping)
    assert not (tmp_path / "tok").exists()


def test_a_special_token_spelled_out_is_told_or_refused(tmp_path):
    """It is learned as ordinary text: in what the tokenizer encodes it stays text."""
    from journey.stages.text import Text, text

    lines = [f"The mark <|end|> ends answer {i} of {i * i}; nothing else does." for i in range(300)]
    (tmp_path / "marks.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    marks = text(None, Text(source=str(tmp_path / "marks.jsonl")), Run(tmp_path / "text", seed=1))
    said = []
    learning = Run(tmp_path / "tok", seed=1, given={"data": marks})
    learning.console.say = said.append
    made = Tokenizer.load(tokenizer(None, TokenizerConfig(vocab_size=300), learning).path)
    assert "spells out special tokens such as <|endoftext|>" in said[0]
    assert made.eos not in made.encode(lines[0])
    strict = Run(tmp_path / "strict", seed=1, given={"data": marks})
    with pytest.raises(JourneyError, match="times: take them out, or leave --strict away"):
        tokenizer(None, TokenizerConfig(vocab_size=300, strict=True), strict)


def test_a_killed_training_goes_on_from_its_counts(life, tmp_path, monkeypatch):
    from journey.tokenizer import bpe, words

    monkeypatch.setattr(bpe, "train", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tokenizer(None, TokenizerConfig(vocab_size=400), run(life, tmp_path / "tok"))
    monkeypatch.undo()
    monkeypatch.setattr(words, "WordCounter", None)  # nothing is counted again
    again, said = run(life, tmp_path / "tok"), []
    again.console.say = said.append
    node = tokenizer(None, TokenizerConfig(vocab_size=400), again)
    assert Tokenizer.load(node.path).hash == Tokenizer.load(life.node("tokenizer").path).hash
    assert said == ["tok: going on from the words that an interrupted run has counted"]


def test_the_training_split_is_never_held_in_memory(life, tmp_path, monkeypatch):
    held = Corpus.documents
    monkeypatch.setattr(Corpus, "documents", lambda self, split: held(self, {"dev": "dev"}[split]))
    node = tokenizer(None, TokenizerConfig(vocab_size=400), run(life, tmp_path / "tok"))
    assert Tokenizer.load(node.path).hash == Tokenizer.load(life.node("tokenizer").path).hash


def test_a_text_that_is_not_utf8_says_what_to_type(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9 " * 99)
    with pytest.raises(JourneyError) as error:
        tokenizer(None, TokenizerConfig(data=str(tmp_path / "bad.txt")), Run(tmp_path / "tok"))
    assert f"--source {tmp_path / 'bad.txt'} --errors replace --out DIR" in str(error.value)


def test_a_vocabulary_can_be_taken_instead_of_learned(life, tmp_path):
    """Its ids are kept, and the chat tokens stand behind them, as on an imported model; the id is of what it holds."""
    own = Tokenizer.from_merges([("t", "h"), ("th", "e"), ("Ġ", "the")])
    (tmp_path / "own").mkdir()
    own.save(tmp_path / "own")
    (tmp_path / "copy").mkdir()
    own.save(tmp_path / "copy")
    config = TokenizerConfig(vocabulary=str(tmp_path / "own"))
    node = tokenizer(None, config, run(life, tmp_path / "taken"))
    made = Tokenizer.load(node.path)
    text = "the thé 日本 <|end|>"
    assert made.encode(text) == own.encode(text) and made.special == own.special
    assert "distinct_words" not in node.lineage["metrics"]
    assert config.inputs() == TokenizerConfig(vocabulary=str(tmp_path / "copy")).inputs()
    assert TokenizerConfig().inputs() == {}
    with pytest.raises(JourneyError, match="no tokenizer at nowhere: name in its place a folder with"):
        TokenizerConfig(vocabulary="nowhere").inputs()


@pytest.mark.skipif("JOURNEY_DATA" not in os.environ, reason="needs GPT-2's files")
def test_gpt2s_own_vocabulary_has_its_ids(life, tmp_path):
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    folder = Path(os.environ["JOURNEY_DATA"]) / "tokenizer" / "gpt2"
    node = tokenizer(None, TokenizerConfig(vocabulary=str(folder)), run(life, tmp_path / "gpt2"))
    made = Tokenizer.load(node.path)
    ranks = load_tiktoken_bpe(str(next(folder.glob("*.tiktoken"))))
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    theirs = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    text = "Hello, numpy.mean(a, axis=0)\n\n  naïve 日本 <|endoftext|>"
    assert made.encode(text) == theirs.encode(text, disallowed_special=())
    assert made.bos == 50_256 and made.n_ids == 50_257 + len(SPECIALS) - 1
