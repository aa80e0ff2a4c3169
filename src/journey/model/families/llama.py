"""Llama (Touvron et al. 2023): RMSNorm, rotary positions, no bias, a gated MLP, keys and values shared by heads."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model.config import GPTConfig, RopeScaling
from journey.model.families.family import Family, Stored, flag, number, whole
from journey.model.layers import Attention, Block, RMSNorm, SwiGLU, rope_frequencies, rope_table

ATTENTION: tuple[Stored, ...] = (
    Stored("input_layernorm", "attn_norm", ("attention_norm",)),
    Stored("self_attn.q_proj", "attn_q", ("attention.q",)),
    Stored("self_attn.k_proj", "attn_k", ("attention.k",)),
    Stored("self_attn.v_proj", "attn_v", ("attention.v",)),
    Stored("self_attn.o_proj", "attn_output", ("attention.o",)),
)
MLP: tuple[Stored, ...] = (
    Stored("post_attention_layernorm", "ffn_norm", ("mlp_norm",)),
    Stored("mlp.gate_proj", "ffn_gate", ("mlp.gate",)),
    Stored("mlp.up_proj", "ffn_up", ("mlp.up",)),
    Stored("mlp.down_proj", "ffn_down", ("mlp.down",)),
)


class Llama(Family):
    """llama, saved as LlamaForCausalLM; qwen2 and qwen3 say what they have otherwise."""

    name = model_type = gguf = "llama"
    architecture = "LlamaForCausalLM"
    norm_eps = 1e-5
    gguf_interleaved = True  # llama.cpp turns the pairs (2i, 2i + 1) of a head, not Hugging Face's (i, i + head_dim/2)
    gguf_factors = True  # its graph of the family divides each rotary frequency by a factor of its own

    base, blocks = "model.", "model.layers."
    embedding, norm = "model.embed_tokens", "model.norm"
    parts = ATTENTION + MLP
    computed: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "use_sliding_window": (False,),
    }

    def block(self, config: GPTConfig, layer: int) -> Block:
        attention = Attention(config, layer)
        return Block(self.make_norm(config), attention, self.make_norm(config), SwiGLU(config))

    def make_norm(self, config: GPTConfig) -> nn.Module:
        return RMSNorm(config.n_embd, eps=config.norm_eps)

    def rope(self, config: GPTConfig, n: int) -> Tensor:
        return rope_table(n, rope_frequencies(config.head_dim, config.rope_theta, config.rope_scaling))

    def check(self, config: GPTConfig) -> None:
        if config.head_dim % 2:
            raise JourneyError(f"head_dim {config.head_dim} is odd, rotary positions turn pairs: change n_head")

    def usual_inner(self, n_embd: int) -> int:
        """SwiGLU has three matrices where GELU has two: 8/3 keeps the parameters equal (Shazeer 2020)."""
        return -(-8 * n_embd // (3 * 64)) * 64

    def n_matmul(self, config: GPTConfig) -> int:
        C = config.n_embd
        attention = 2 * C * (config.n_head + config.n_kv_head) * config.head_dim
        return config.n_layer * (attention + 3 * C * config.n_inner) + config.vocab_size * C

    def n_params(self, config: GPTConfig) -> int:
        C = config.n_embd
        embedding = 0 if config.tied else config.vocab_size * C
        return self.n_matmul(config) + embedding + (2 * config.n_layer + 1) * C  # the norms

    def config_json(self, config: GPTConfig) -> dict[str, Any]:
        return {
            "max_position_embeddings": config.n_ctx,
            "hidden_size": config.n_embd,
            "num_hidden_layers": config.n_layer,
            "num_attention_heads": config.n_head,
            "num_key_value_heads": config.n_kv_head,
            "head_dim": config.head_dim,
            "intermediate_size": config.n_inner,
            "hidden_act": "silu",
            "rms_norm_eps": config.norm_eps,
            **_rope_json(config),
            "attention_bias": False,
            "attention_dropout": 0.0,
        }

    def read_config(self, saved: Mapping[str, Any]) -> GPTConfig:
        rope = saved.get("rope_scaling") or saved.get("rope_parameters") or {}
        if not isinstance(rope, dict):
            raise JourneyError(f"rope_parameters is {rope!r:.60}, where an object belongs")
        if any(isinstance(value, dict) for value in rope.values()):
            raise JourneyError(f"rotary positions differ by layer ({rope!s:.200}), which we do not compute")
        if (part := rope.get("partial_rotary_factor", saved.get("partial_rotary_factor", 1))) not in (1, None):
            raise JourneyError(f"partial_rotary_factor is {part!r:.60}, we turn the whole of every head")
        kinds = saved.get("layer_types") or []
        if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
            raise JourneyError("layer_types has layers of other than full_attention, which we do not compute")
        n_head, C = whole(saved, "num_attention_heads"), whole(saved, "hidden_size")
        return GPTConfig(
            family=self.name,
            vocab_size=whole(saved, "vocab_size"),
            n_ctx=whole(saved, "max_position_embeddings"),
            n_layer=whole(saved, "num_hidden_layers"),
            n_head=n_head,
            n_kv_head=whole(saved, "num_key_value_heads", n_head),
            head_dim=whole(saved, "head_dim", C // n_head if n_head else 0),
            n_embd=C,
            n_inner=whole(saved, "intermediate_size"),
            rope_theta=number(rope if "rope_theta" in rope else saved, "rope_theta", 10000.0),
            rope_scaling=_rope_scaling(rope, saved),
            norm_eps=number(saved, "rms_norm_eps", 1e-6),
            tied=flag(saved, "tie_word_embeddings", False),
        )

    def gguf_shape(self, config: GPTConfig) -> dict[str, int | float | str]:
        shape: dict[str, int | float | str] = {
            "vocab_size": config.vocab_size,
            "context_length": config.n_ctx,
            "embedding_length": config.n_embd,
            "block_count": config.n_layer,
            "feed_forward_length": config.n_inner,
            "attention.head_count": config.n_head,
            "attention.head_count_kv": config.n_kv_head,
            "attention.key_length": config.head_dim,
            "attention.value_length": config.head_dim,
            "rope.dimension_count": config.head_dim,
            "rope.freq_base": float(config.rope_theta),
            "attention.layer_norm_rms_epsilon": float(config.norm_eps),
        }
        if (scaling := config.rope_scaling) and scaling.kind == "linear":
            shape |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling.factor)}
        return shape

    def gguf_rows(self, config: GPTConfig, name: str, tensor: Tensor) -> Tensor:
        turned = self.gguf_interleaved and name.endswith(("attn_q.weight", "attn_k.weight"))
        return interleaved(tensor, config.head_dim) if turned else tensor

    def to_gguf(self, config: GPTConfig, ours: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        scaling = config.rope_scaling
        if scaling and scaling.kind == "llama3":
            if not self.gguf_factors:
                raise JourneyError(f"llama.cpp does not scale the rotary positions of a {self.name} as llama3: no GGUF")
            plain, scaled = (rope_frequencies(config.head_dim, config.rope_theta, each) for each in (None, scaling))
            yield "rope_freqs.weight", plain / scaled
        yield from super().to_gguf(config, ours)


def _rope_scaling(rope: Mapping[str, Any], saved: Mapping[str, Any]) -> RopeScaling | None:
    """What transformers reads of a config.json's rope_scaling or rope_parameters."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", number(rope, "factor"))
    if kind != "llama3":
        said = f"rotary positions are scaled ({rope!s:.200}), which we do not compute"
        raise JourneyError(f"{said}: possible are linear and llama3")
    key = "original_max_position_embeddings"
    first = whole(rope, key, whole(saved, "max_position_embeddings"))
    low, high = number(rope, "low_freq_factor"), number(rope, "high_freq_factor")
    return RopeScaling("llama3", number(rope, "factor"), low, high, whole(saved, key, first))


def _rope_json(config: GPTConfig) -> dict[str, Any]:
    """For transformers 5 as rope_parameters, for transformers 4 and llama.cpp's converter as rope_theta and
    rope_scaling; that converter looks for the first context beside them."""
    theta, scaling = {"rope_theta": config.rope_theta}, config.rope_scaling
    if scaling is None:
        return {"rope_parameters": {"rope_type": "default", **theta}, **theta}
    said: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    first: dict[str, Any] = {}
    if scaling.kind == "llama3":
        first = {"original_max_position_embeddings": scaling.original_n_ctx}
        said |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor, **first}
    return {"rope_parameters": {**said, **theta}, "rope_scaling": said, **theta, **first}


def interleaved(weight: Tensor, head_dim: int) -> Tensor:
    """Rows of each head of a projection (n_head head_dim, C) reordered from (i, i + head_dim/2) to (2i, 2i + 1)."""
    return weight.view(-1, 2, head_dim // 2, weight.size(1)).transpose(1, 2).reshape(weight.shape)


FAMILY = Llama()
