import argparse
import heapq
import json
import re

import pytest
import torch

from journey.data.sources import Document
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

TEXTS = [module.__doc__ for module in (argparse, heapq, json, re)]
N_CTX = 64


@pytest.fixture(scope="session")
def documents():
    return [Document(f"d{i}", text[:500]) for i, text in enumerate([*TEXTS, "a short one"])]


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), 400, len(SPECIALS)))


@pytest.fixture(scope="session", params=["qwen3", "gpt2"])
def pair(request, tokenizer):
    """A parent with large random weights, and the same with a little noise on them."""
    torch.manual_seed(0)
    parent, child = (GPT(GPTConfig.make(request.param, tokenizer.vocab_size, N_CTX, 3, 32, n_head=4)) for _ in range(2))
    with torch.no_grad():
        for before, after in zip(parent.parameters(), child.parameters(), strict=True):
            if before.dim() > 1:
                before.mul_(8)
            after.copy_(before + 0.02 * torch.randn_like(before))
    return parent, child


@pytest.fixture(scope="session")
def references(pair, tmp_path_factory):
    """Both opened by transformers, with attention that can be looked at."""
    from transformers import AutoModelForCausalLM

    models = []
    for model in pair:
        folder = tmp_path_factory.mktemp("node")
        huggingface.save(model, folder)
        models.append(AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval())
    return models
