import argparse
import heapq
import json
import random
import re
import textwrap

import pytest
import torch

from journey.data.sources import Document
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

TEXTS = [module.__doc__ for module in (argparse, heapq, json, random, re, textwrap)]


@pytest.fixture(scope="session")
def documents():
    texts = [*TEXTS, "Straße 中文 🙂 naïve café" * 3, "x"]
    return [Document(f"d{i}", text) for i, text in enumerate(texts)]


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), 500, len(SPECIALS)))


def make_model(family, tokenizer, n_ctx, seed=0):
    """A small GPT whose random weights are large enough for attention and logits to be far from uniform."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig.make(family, tokenizer.vocab_size, n_ctx, 2, 32, n_head=2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


@pytest.fixture(scope="session", params=["qwen3", "gpt2"])
def node(request, tokenizer, tmp_path_factory):
    """A checkpoint folder with a context of 32."""
    folder = tmp_path_factory.mktemp(request.param)
    model = make_model(request.param, tokenizer, 32)
    huggingface.save(model, folder, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def model(node):
    return huggingface.load(node)


@pytest.fixture(scope="session")
def reference(node):
    """The same folder opened by transformers."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(node, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def wide_models(tokenizer, tmp_path_factory):
    """A model with a context of 160, ours and as transformers opens it."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("wide")
    huggingface.save(make_model("qwen3", tokenizer, 160, seed=1), folder)
    return huggingface.load(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
