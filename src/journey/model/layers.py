"""The parts that families share: rotary positions, attention, two kinds of MLP, and the block around them."""

import math
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from journey.model.config import GPTConfig, RopeScaling

Trace: TypeAlias = dict[tuple[str, int], Tensor]  # (what, layer) -> what was there


class Cache(Protocol):
    """What a model asks of a key/value cache (infer.cache.KVCache is one)."""

    def extend(self, T: int) -> tuple[Tensor, Tensor]:
        """Make room for T more tokens a row: their positions (B, T), and what each sees (B, 1, T, S)."""

    def update(self, layer: int, *new: Tensor) -> tuple[Tensor, ...]:
        """Put in what a layer keeps of the new tokens, by `Family.cached`, each (B, T, ...); all so far (B, S, ...)."""


class Heads(Protocol):
    """What attention asks of a model's shape: a GPT's, or that of an encoder and decoder."""

    @property
    def n_embd(self) -> int: ...
    @property
    def n_head(self) -> int: ...
    @property
    def n_kv_head(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def norm_eps(self) -> float: ...


def rope_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> Tensor:
    """By how much a position turns each pair, in radians: (head_dim / 2,). On the CPU even while the parameters are
    built on the meta device, which keeps no values."""
    frequency = 1 / theta ** (torch.arange(0, head_dim, 2, device="cpu").float() / head_dim)
    if scaling is None:
        return frequency
    lowered = frequency / scaling.factor
    if scaling.kind == "linear":
        return lowered
    # Written as in transformers: far positions multiply what rounds differently.
    low, high, context = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_n_ctx
    wavelength = 2 * math.pi / frequency  # in positions
    share = (context / wavelength - low) / (high - low)  # of the frequency as it was
    between = (1 - share) * frequency / scaling.factor + share * frequency
    scaled = torch.where(wavelength > context / low, lowered, between)
    return torch.where(wavelength < context / high, frequency, scaled)


def rope_table(n: int, frequency: Tensor) -> Tensor:
    """Cosine and signed sine of the first n positions' angles (RoFormer, in Hugging Face's order): (2, n, head_dim),
    on the CPU."""
    angle = torch.arange(n, device="cpu").float()[:, None] * frequency  # (n, head_dim / 2)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i + head_dim/2}) by its position's angle.

    x (B, T, H, head_dim), rope (2, [B,] T, 1, head_dim) -> (B, T, H, head_dim).
    """
    cos, sin = rope
    return torch.addcmul(x * cos, x.roll(x.size(-1) // 2, -1), sin)


class RMSNorm(nn.RMSNorm):
    """torch's, but its weight follows the type of the input: beside an fp32 weight what autocast made bf16 would leave
    the fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Causal self-attention; heads may share keys and values, and each head's queries and keys may be normed. A decoder
    looks at another sequence through it by `read` and `across`.

    The three projections stay three matrices: Muon and the weight diff want them apart, and one fused product (so too
    for the MLP's gate and up) made the pocket model's step no faster.
    """

    def __init__(
        self, config: Heads, layer: int, bias: bool = False, qk_norm: bool = False, bias_out: bool | None = None
    ) -> None:
        """`bias_out` is for the last of the four projections, where it is not as the others."""
        super().__init__()
        self.config, self.layer, self.qk_norm = config, layer, qk_norm
        n_query, n_key = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
        self.q = nn.Linear(config.n_embd, n_query, bias=bias)
        self.k = nn.Linear(config.n_embd, n_key, bias=bias)
        self.v = nn.Linear(config.n_embd, n_key, bias=bias)
        self.o = nn.Linear(n_query, config.n_embd, bias=bias if bias_out is None else bias_out)
        if qk_norm:
            self.q_norm = RMSNorm(config.head_dim, eps=config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, eps=config.norm_eps)

    def forward(
        self, x: Tensor, rope: Tensor | None, mask: Tensor | BlockMask | None, cache: Cache | None, trace: Trace | None
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); mask (B, 1, T, S) says which keys a query sees, None is plain causal."""
        heads = (*x.shape[:2], -1, self.config.head_dim)
        q, k, v = self.q(x).view(heads), self.k(x).view(heads), self.v(x).view(heads)  # (B, T, H, head_dim)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, S, H, head_dim): those before, and these
        return self._attend(q, k, v, mask, trace, "pattern")

    def read(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of another sequence (B, S, C), each (B, S, H, head_dim): once, for all queries to come."""
        heads = (*memory.shape[:2], -1, self.config.head_dim)
        return self.k(memory).view(heads), self.v(memory).view(heads)

    def across(self, x: Tensor, read: tuple[Tensor, Tensor], mask: Tensor, trace: Trace | None) -> Tensor:
        """Cross-attention (Bahdanau et al. 2015): queries of x (B, T, C), keys and values as `read` gave them; the mask
        (B, 1, 1 or T, S) says which are seen. In the trace as ("cross", layer)."""
        q = self.q(x).view(*x.shape[:2], -1, self.config.head_dim)  # (B, T, H, head_dim)
        return self._attend(q, *read, mask, trace, "cross")

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | BlockMask | None, trace: Trace | None, name: str
    ) -> Tensor:
        """Each (B, T or S, H, head_dim) -> (B, T, C)."""
        B, T = q.shape[:2]
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, T or S, head_dim)
        gqa = self.config.n_kv_head < self.config.n_head
        if isinstance(mask, BlockMask):  # of one type, which autocast does not see to here: rope has made q and k fp32
            y = flex_attention(q.to(v.dtype), k.to(v.dtype), v, block_mask=mask, enable_gqa=gqa)
        elif trace is not None:
            y, trace[name, self.layer] = explicit_attention(q, k, v, mask)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=gqa)
        return self.o(y.transpose(1, 2).reshape(B, T, -1))


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention written out, for its pattern: output (B, H, T, head_dim), probabilities (B, H, T, S)."""
    group = q.size(1) // k.size(1)
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    if mask is None:
        mask = torch.ones(q.size(2), k.size(2), dtype=torch.bool, device=q.device).tril()
    scores = q @ k.mT / math.sqrt(q.size(-1))
    pattern = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return pattern @ v, pattern


class GELU(nn.Module):
    """GPT-2's MLP, with the tanh form of GELU that its weights were trained with."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, config.n_inner)
        self.down = nn.Linear(config.n_inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class SwiGLU(nn.Module):
    """The gated MLP of Llama (Shazeer 2020)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.n_inner, bias=False)
        self.up = nn.Linear(config.n_embd, config.n_inner, bias=False)
        self.down = nn.Linear(config.n_inner, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention, then the MLP, each reading a normed copy of the residual stream and adding to it."""

    def __init__(self, attention_norm: nn.Module, attention: nn.Module, mlp_norm: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.mlp_norm, self.mlp = mlp_norm, mlp

    def forward(
        self, x: Tensor, rope: Tensor | None, mask: Tensor | BlockMask | None, cache: Cache | None, trace: Trace | None
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rope, mask, cache, trace)
        return x + self.mlp(self.mlp_norm(x))
