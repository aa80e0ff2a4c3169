"""Qwen3 (Yang et al. 2025): a llama whose attention norms each head's queries and keys. Our modern default."""

from journey.model.config import GPTConfig
from journey.model.families.family import Stored
from journey.model.families.llama import ATTENTION, MLP, Llama
from journey.model.layers import Attention, Block, SwiGLU

QK_NORM: tuple[Stored, ...] = (
    Stored("self_attn.q_norm", "attn_q_norm", ("attention.q_norm",)),
    Stored("self_attn.k_norm", "attn_k_norm", ("attention.k_norm",)),
)


class Qwen3(Llama):
    """qwen3, saved as Qwen3ForCausalLM."""

    name = model_type = gguf = "qwen3"
    architecture = "Qwen3ForCausalLM"
    norm_eps = 1e-6
    gguf_interleaved = gguf_factors = False

    parts = ATTENTION + QK_NORM + MLP

    def block(self, config: GPTConfig, layer: int) -> Block:
        attention = Attention(config, layer, qk_norm=True)
        return Block(self.make_norm(config), attention, self.make_norm(config), SwiGLU(config))

    def n_params(self, config: GPTConfig) -> int:
        return super().n_params(config) + config.n_layer * 2 * config.head_dim


FAMILY = Qwen3()
