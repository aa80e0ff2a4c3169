"""What the tests of stages that train with TRL share: small parents of every family, as transformers saves them, and
questions to ask them."""

import json

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from journey.tokenizer.formats import Tokenizer

FAMILIES = ("qwen3", "llama", "gpt2")  # that these stages are tested with
CLASSES = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("e", "r")]


class Killed(Exception):
    """In the place of a kill."""


class FakeText:
    """The part of a corpus that these stages read: questions of any split, or by split."""

    def __init__(self, questions):
        self._questions = questions

    def questions(self, split):
        return self._questions[split] if isinstance(self._questions, dict) else self._questions


def history(run):
    return json.loads((run.folder / "history.json").read_text())


def small_model(family, vocab_size, n_ctx, dropout, tied=True):
    torch.manual_seed(1)
    if family == "gpt2":
        shape = {"n_positions": n_ctx, "n_ctx": n_ctx, "n_embd": 32, "n_layer": 2, "n_head": 2}
        dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **shape, **dropouts))
    config, model = CLASSES[family]
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": n_ctx, "tie_word_embeddings": tied}
    return model(config(vocab_size=vocab_size, **shape))


@pytest.fixture(scope="module")
def tokenizer(request):
    """A small one, of the module's MERGES if it has any."""
    return Tokenizer.from_merges(getattr(request.module, "MERGES", MERGES))


@pytest.fixture(scope="module")
def parents(request, tmp_path_factory, tokenizer):
    """Family -> a folder of its own for each module, whose N_CTX and DROPOUT (of GPT-2) the models have."""
    folders = {}
    for family in (*CLASSES, "gpt2"):
        folders[family] = tmp_path_factory.mktemp(family)
        model = small_model(family, tokenizer.vocab_size, request.module.N_CTX, request.module.DROPOUT)
        model.save_pretrained(folders[family])
        tokenizer.save(folders[family])
    return folders
