"""The trainer that ours is compared with."""

import json
from collections.abc import Callable

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from journey.tokenizer.codec import PATTERNS


@pytest.fixture(scope="session")
def library_merges() -> Callable[..., list[tuple[str, str]]]:
    """What the `tokenizers` library learns from texts: `library_merges(texts, vocab_size, pattern="gpt2")`."""

    def train(texts: list[str], vocab_size: int, pattern: str = "gpt2") -> list[tuple[str, str]]:
        tokenizer = tokenizers.Tokenizer(models.BPE())
        split = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]

    return train
