"""Shapes by name: the GPT-2s as released, a Llama of a billion, the pocket ones; and one rule for all between."""

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from journey.model.config import GPTConfig

SizeName: TypeAlias = Literal["pocket-1m", "pocket-12m", "gpt2-124m", "gpt2-355m", "gpt2-774m", "gpt2-1.5b", "llama-1b"]

HEAD_DIM = 64  # of `by_depth`
# In the place of a checkpoint's path: fresh weights, to try a recipe. GPT-2's are 124M, Llama's a few million.
RANDOM = ("random-gpt2", RANDOM_LLAMA := "random-llama-3.1")


def _gpt2(n_layer: int, n_embd: int, n_head: int) -> dict[str, Any]:
    """Radford et al. 2019, table 2; the names say the parameters as counted since, embeddings included."""
    return {"family": "gpt2", "n_layer": n_layer, "n_embd": n_embd, "n_head": n_head, "n_ctx": 1024}


# The settings of pretrain that each name stands for. A pocket model's own parameters depend most on its vocabulary: the
# names are for 4,096 entries.
SIZES: dict[str, dict[str, Any]] = {
    "pocket-1m": {"family": "qwen3", "n_layer": 4, "n_embd": 128, "n_head": 4, "n_ctx": 256},
    "pocket-12m": {"family": "qwen3", "n_layer": 6, "n_embd": 384, "n_head": 12, "n_ctx": 256},
    "gpt2-124m": _gpt2(12, 768, 12),
    "gpt2-355m": _gpt2(24, 1024, 16),
    "gpt2-774m": _gpt2(36, 1280, 20),
    "gpt2-1.5b": _gpt2(48, 1600, 25),
    # Llama 3.2 1B, with a context that one GPU trains on.
    "llama-1b": {
        "family": "llama",
        "n_layer": 16,
        "n_embd": 2048,
        "n_head": 32,
        "n_kv_head": 8,
        "n_inner": 8192,
        "rope_theta": 500_000.0,
        "n_ctx": 2048,
    },
}


def by_depth(n_layer: int) -> dict[str, Any]:
    """Width 64 a layer, in heads of 64: near the shapes that train best (Kaplan et al. 2020, figure 5, finds the loss
    flat for widths of 10 to 100 a layer), so that one number chooses the rest."""
    return {"n_layer": n_layer, "n_embd": HEAD_DIM * n_layer, "n_head": n_layer}


def llama_31_8b() -> "GPTConfig":
    """Llama 3.1 8B (Dubey et al. 2024, table 3; config.json of meta-llama/Llama-3.1-8B)."""
    from journey.model.config import GPTConfig, RopeScaling

    return GPTConfig(
        family="llama",
        vocab_size=128_256,
        n_ctx=131_072,
        n_layer=32,
        n_head=32,
        n_kv_head=8,
        head_dim=128,
        n_embd=4096,
        n_inner=14_336,
        rope_theta=500_000.0,
        rope_scaling=RopeScaling("llama3", 8.0, original_n_ctx=8192),
        norm_eps=1e-5,
        tied=False,
    )
