"""Small models of every family, as transformers makes them, nothing in them zero or one by default."""

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

V, T, C, LAYERS, HEADS = 97, 32, 32, 2, 4


def make_theirs(family, tied=True, **more):
    """A model of transformers; `more` goes into its config."""
    torch.manual_seed(0)
    if family == "gpt2":
        shape = {"vocab_size": V, "n_positions": T, "n_embd": C, "n_layer": LAYERS, "n_head": HEADS}
        model = GPT2LMHeadModel(GPT2Config(tie_word_embeddings=tied, **shape | more)).eval()
    else:
        kind, config = {
            "llama": (LlamaForCausalLM, LlamaConfig),
            "qwen2": (Qwen2ForCausalLM, Qwen2Config),
            "qwen3": (Qwen3ForCausalLM, Qwen3Config),
        }[family]
        shape = {"vocab_size": V, "max_position_embeddings": T, "hidden_size": C, "intermediate_size": 80}
        shape |= {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": 2, "head_dim": 8}
        shape |= {"rms_norm_eps": 1e-5 if family == "llama" else 1e-6}
        model = kind(config(tie_word_embeddings=tied, **shape | more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="session")
def theirs():
    return make_theirs
