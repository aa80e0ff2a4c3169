"""The fast path: where a batch goes to tiktoken, its ids are those of the `tokenizers` library."""

import argparse
import inspect
import json
import random
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from journey.tokenizer import bpe
from journey.tokenizer.codec import PATTERNS, Merge
from journey.tokenizer.formats import Tokenizer
from journey.tokenizer.ranks import is_safe, ranks_of

FRAGMENTS = [
    "don't",
    "'\u017f",
    " ",
    " \n",
    "\r\n",
    "\u3000",
    "\x1c",
    "\x85",
    "é",
    "e\u0301",
    "中文",
    "👍🏽",
    "123",
    "<|end|>",
]


@cache
def tokenizer(pattern: str) -> Tokenizer:
    words = bpe.count_words([inspect.getsource(argparse), "é 中文 don't 👍"], pattern)
    return Tokenizer.from_merges(bpe.train(words, 700, 7), pattern)


def both(made: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The ids of a batch, which are the same as lists and as arrays."""
    ids = made.encode_batch(texts)
    arrays = made.encode_arrays(texts)
    assert [found.tolist() for found in arrays] == ids and all(found.dtype == np.uint32 for found in arrays)
    return ids


def by_the_library(made: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [made.backend.encode(text, add_special_tokens=False).ids for text in texts]


@given(
    texts=st.lists(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5)).map("".join), max_size=5),
    pattern=st.sampled_from(list(PATTERNS)),
)
@settings(max_examples=200, deadline=None)
def test_a_batch_has_the_ids_of_the_library(texts: list[str], pattern: str) -> None:
    made = tokenizer(pattern)
    assert made._tiktoken
    assert both(made, texts) == by_the_library(made, texts)


@given(seed=st.integers(0, 10_000), text=st.text("abc", max_size=12))
@settings(max_examples=300, deadline=None)
def test_merges_that_ranks_cannot_say_are_left_to_the_library(seed: int, text: str) -> None:
    """Merges in any order, tokens that no merge reaches, one token of two merges."""
    rng = random.Random(seed)
    merges: list[Merge] = []
    tokens = ["a", "b", "c"]
    for _ in range(rng.randrange(1, 8)):
        pair = (rng.choice(tokens), rng.choice(tokens))
        if "".join(pair) not in tokens:
            merges.append(pair)
            tokens.append("".join(pair))
    if rng.random() < 0.5:
        rng.shuffle(merges)
    made = Tokenizer.from_merges(merges, specials=[])
    assert both(made, [text]) == by_the_library(made, [text])


def test_an_order_that_ranks_cannot_say_is_seen() -> None:
    # The library makes "ab" and "c" of "abc", for "bc" comes later; by ranks "ab" + "c" would be joined.
    made = Tokenizer.from_merges([("a", "b"), ("b", "c"), ("a", "bc")], specials=[])
    assert made._tiktoken is None
    assert both(made, ["abc"]) == by_the_library(made, ["abc"]) == [[256, made.encode("c")[0]]]


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
    ],
)
def test_more_than_split_and_merge_is_left_to_the_library(change: dict) -> None:
    state = json.loads(tokenizer("gpt2").backend.to_str())
    made = Tokenizer(Backend.from_str(json.dumps(state | change)), "gpt2")
    texts = ["cafe\u0301", "word", " word"]
    assert made._tiktoken is None
    assert both(made, texts) == by_the_library(made, texts) != tokenizer("gpt2").encode_batch(texts)


def test_tokens_added_that_are_not_special_are_left_to_the_library() -> None:
    backend = Backend.from_str(tokenizer("gpt2").backend.to_str())
    backend.add_tokens([AddedToken("<think>", special=False)])
    made = Tokenizer(backend, "gpt2")
    assert ranks_of(backend, backend.pre_tokenizer) is None
    assert both(made, ["a<think>b"]) == by_the_library(made, ["a<think>b"])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_million_spaces_do_not_end_the_process(pattern: str) -> None:
    made = tokenizer(pattern)
    text = "a" + " " * 1_200_000 + "b"
    assert not is_safe(text) and is_safe(text[:50_000]) and is_safe("a " * 100_000)
    assert made.encode_batch(["c", text]) == by_the_library(made, ["c", text])
