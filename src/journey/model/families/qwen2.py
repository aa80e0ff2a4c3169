"""Qwen2 and Qwen2.5 (Yang et al. 2024): a llama whose queries, keys and values have a bias."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from journey.errors import JourneyError
from journey.model.config import GPTConfig
from journey.model.families.llama import ATTENTION, MLP, Llama
from journey.model.layers import Attention, Block, SwiGLU

NORM, QUERY, KEY, VALUE, OUT = ATTENTION


class Qwen2(Llama):
    """qwen2, saved as Qwen2ForCausalLM."""

    name = model_type = gguf = "qwen2"
    architecture = "Qwen2ForCausalLM"
    norm_eps = 1e-6
    gguf_interleaved = gguf_factors = False

    parts = (NORM, *(replace(part, bias=True) for part in (QUERY, KEY, VALUE)), OUT, *MLP)
    # The biases are the architecture's: no key of its config.json says so.
    computed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        key: values for key, values in Llama.computed.items() if key != "attention_bias"
    }

    def block(self, config: GPTConfig, layer: int) -> Block:
        attention = Attention(config, layer, bias=True, bias_out=False)
        return Block(self.make_norm(config), attention, self.make_norm(config), SwiGLU(config))

    def check(self, config: GPTConfig) -> None:
        super().check(config)
        if config.n_head * config.head_dim != config.n_embd:  # transformers would take it, llama.cpp not
            raise JourneyError(f"qwen2 needs n_head x head_dim = n_embd, not {config.n_head} x {config.head_dim}")

    def n_params(self, config: GPTConfig) -> int:
        biases = (config.n_head + 2 * config.n_kv_head) * config.head_dim
        return super().n_params(config) + config.n_layer * biases

    def config_json(self, config: GPTConfig) -> dict[str, Any]:
        said = super().config_json(config) | {"use_sliding_window": False}
        del said["attention_bias"]
        return said


FAMILY = Qwen2()
