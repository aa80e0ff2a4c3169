import argparse
import heapq
import inspect
import json
import random
import re
import shutil
import textwrap

import numpy as np
import pytest
import torch

from journey.data.corpus import Corpus
from journey.data.documents import write_parquet
from journey.data.questions import questions
from journey.data.sources import Document
from journey.files import write_json, write_lines
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.retrieve import embed, passages
from journey.retrieve import index as built
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

MODULES = (argparse, heapq, inspect, json, random, re, shutil, textwrap)


def documentation():
    """The documented functions and classes of some modules, as the corpus of installed documentation has them."""
    for module in MODULES:
        for name, thing in sorted(vars(module).items()):
            doc = inspect.getdoc(thing) if inspect.isfunction(thing) or inspect.isclass(thing) else None
            if doc and not name.startswith("_") and thing.__module__ == module.__name__:
                full = f"{module.__name__}.{name}"
                kind = "class" if inspect.isclass(thing) else "function"
                parameters = () if kind == "class" else tuple(inspect.signature(thing).parameters)
                heading = full if kind == "class" else f"{full}({', '.join(parameters)})"
                yield Document(full, f"{heading}\n\n{doc}\n", doc, full, kind, parameters)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A small corpus of real documentation with its questions."""
    folder = tmp_path_factory.mktemp("docs")
    documents = list(documentation())
    splits = {"train": documents[::2], "dev": documents[1::4], "test": documents[3::4]}
    asked = questions(splits, seed=0)
    for split, held in splits.items():
        write_parquet(folder / f"{split}.parquet", held)
        write_lines(folder / f"questions-{split}.jsonl", asked[split])
    counts = {split: {"questions": len(asked[split])} for split in splits}
    write_json(folder / "corpus.json", {"name": "docs", "fingerprint": "0f" * 32, "splits": counts})
    return Corpus(folder)


@pytest.fixture(scope="session")
def tokenizer(corpus):
    return Tokenizer.from_merges(bpe.train(bpe.count_words(corpus.texts("train")), 600, len(SPECIALS)))


@pytest.fixture(scope="session")
def make_model(tokenizer):
    def make(n_embd=32, seed=0, n_ctx=256):
        torch.manual_seed(seed)
        return GPT(GPTConfig.make("qwen3", tokenizer.vocab_size, n_ctx, 2, n_embd, n_head=2)).eval()

    return make


@pytest.fixture(scope="session")
def model(make_model):
    return make_model()


def write_index(folder, found, model, tokenizer, weight=0.5):
    """What the stage writes, of any passages, with the vectors of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    built.write_words(folder / "index.sqlite", found, lambda done: None)
    texts = [passage.searched for passage in found]
    encoder = embed.NodeEncoder.fit(texts, model, tokenizer, "tiny", seed=0)
    encoder.save(folder / "encoder.npz")
    np.save(folder / "vectors.npy", encoder.encode(texts))
    made = encoder.facts() | {"width": encoder.table.shape[1]}
    text = {"id": "ab" * 32, "name": "docs", "fingerprint": "0f" * 32}
    fusion = {"weight": weight, "questions": 0, "tried": []}
    built.write_facts(folder, {"passages": len(found), "text": text, "embedder": made, "fusion": fusion})
    return folder


@pytest.fixture(scope="session")
def make_index(model, tokenizer):
    return lambda folder, found, weight=0.5: write_index(folder, found, model, tokenizer, weight)


@pytest.fixture(scope="session")
def folder(corpus, model, tokenizer, tmp_path_factory):
    """An index of the corpus. Tests that change it copy it."""
    return write_index(tmp_path_factory.mktemp("index"), list(passages.read(corpus)), model, tokenizer)


@pytest.fixture(scope="session")
def index(folder, model, tokenizer):
    return built.Index(folder, model, tokenizer)
