"""GPT-2 (Radford et al. 2019): LayerNorm, learned positions, a bias everywhere, an MLP of GELU."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from journey.errors import JourneyError
from journey.model.config import GPTConfig
from journey.model.families.family import Family, Stored, flag, number, whole
from journey.model.layers import GELU, Attention, Block

ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}


class GPT2(Family):
    """gpt2, saved as GPT2LMHeadModel."""

    name = model_type = gguf = "gpt2"
    architecture = "GPT2LMHeadModel"
    norm_eps = 1e-5
    shares_keys = False
    tokenizer = "gpt2"
    gguf_remark = "llama.cpp looks gpt2's GELU up in a table of f16"

    base, blocks = "transformer.", "transformer.h."
    embedding, positions, norm = "transformer.wte", "transformer.wpe", "transformer.ln_f"
    parts = (
        Stored("ln_1", "attn_norm", ("attention_norm",)),
        Stored("attn.c_attn", "attn_qkv", ("attention.q", "attention.k", "attention.v"), transposed=True),
        Stored("attn.c_proj", "attn_output", ("attention.o",), transposed=True),
        Stored("ln_2", "ffn_norm", ("mlp_norm",)),
        Stored("mlp.c_fc", "ffn_up", ("mlp.up",), transposed=True),
        Stored("mlp.c_proj", "ffn_down", ("mlp.down",), transposed=True),
    )
    biases = True
    computed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    }

    def block(self, config: GPTConfig, layer: int) -> Block:
        attention = Attention(config, layer, bias=True)
        return Block(self.make_norm(config), attention, self.make_norm(config), GELU(config))

    def make_norm(self, config: GPTConfig) -> nn.Module:
        return nn.LayerNorm(config.n_embd, eps=config.norm_eps)

    def rope(self, config: GPTConfig, n: int) -> None:
        return None

    def init_std(self, config: GPTConfig, name: str) -> float:
        """Less by 1 / sqrt(2 n_layer) for the two matrices of a block that write into the residual stream, so that its
        variance stays the same with depth."""
        into_residual = name.endswith(("attention.o.weight", "mlp.down.weight"))
        return 0.02 / math.sqrt(2 * config.n_layer) if into_residual else 0.02

    def check(self, config: GPTConfig) -> None:
        if config.n_kv_head != config.n_head:
            raise JourneyError("gpt2 has a key and a value for every head: leave out n_kv_head, or use qwen3")
        if config.n_head * config.head_dim != config.n_embd:
            raise JourneyError(f"gpt2 needs n_head x head_dim = n_embd, not {config.n_head} x {config.head_dim}")

    def usual_inner(self, n_embd: int) -> int:
        return 4 * n_embd

    def n_matmul(self, config: GPTConfig) -> int:
        C = config.n_embd
        return config.n_layer * (4 * C * C + 2 * C * config.n_inner) + config.vocab_size * C

    def n_params(self, config: GPTConfig) -> int:
        C = config.n_embd
        tables = config.n_ctx * C + (0 if config.tied else config.vocab_size * C)
        biases = config.n_layer * (5 * C + config.n_inner)  # of q, k, v, o, down and up
        norms = (2 * config.n_layer + 1) * 2 * C
        return self.n_matmul(config) + tables + biases + norms

    def config_json(self, config: GPTConfig) -> dict[str, Any]:
        return {
            "n_positions": config.n_ctx,
            "n_ctx": config.n_ctx,  # llama.cpp's converter reads this one
            "n_embd": config.n_embd,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_inner": config.n_inner,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": config.norm_eps,
            # Hugging Face's default is 0.1: a later stage would then train with a dropout that we did not.
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }

    def read_config(self, saved: Mapping[str, Any]) -> GPTConfig:
        # transformers knows these by a second name, too.
        saved = {ours: saved[theirs] for theirs, ours in ALIASES.items() if theirs in saved} | {**saved}
        C, n_head = whole(saved, "n_embd"), whole(saved, "n_head")
        return GPTConfig(
            family=self.name,
            vocab_size=whole(saved, "vocab_size"),
            n_ctx=whole(saved, "n_positions"),
            n_layer=whole(saved, "n_layer"),
            n_head=n_head,
            n_kv_head=n_head,
            head_dim=C // n_head if n_head else 0,
            n_embd=C,
            n_inner=whole(saved, "n_inner", 4 * C),
            norm_eps=number(saved, "layer_norm_epsilon", 1e-5),
            tied=flag(saved, "tie_word_embeddings", True),
        )

    def gguf_shape(self, config: GPTConfig) -> dict[str, int | float | str]:
        return {
            "vocab_size": config.vocab_size,
            "context_length": config.n_ctx,
            "embedding_length": config.n_embd,
            "block_count": config.n_layer,
            "feed_forward_length": config.n_inner,
            "attention.head_count": config.n_head,
            "attention.layer_norm_epsilon": float(config.norm_eps),
        }


FAMILY = GPT2()
