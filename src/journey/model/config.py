"""The shape of a model: one frozen dataclass. What depends on the family, it asks the family."""

import math
from dataclasses import dataclass
from typing import Literal

from journey.errors import JourneyError
from journey.model import families

SIZES = ("vocab_size", "n_ctx", "n_layer", "n_head", "n_kv_head", "head_dim", "n_embd", "n_inner")
# No tensor's size overflows below, and float32, in which rotary positions are counted, knows all whole numbers.
MOST = 1 << 24


@dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies lowered for a context longer than the one of the first training.

    `linear` (Chen et al. 2023) divides all of them by the factor. `llama3` (Dubey et al. 2024) divides those that turn
    less than `low_freq_factor` times in the first context, leaves those that turn more than `high_freq_factor` times,
    and goes over from the one to the other between.
    """

    kind: Literal["linear", "llama3"]
    factor: float
    # Of llama3 alone:
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_n_ctx: int = 8192  # the first context

    def __post_init__(self) -> None:
        if not 1 <= self.factor < math.inf:
            raise JourneyError(f"the factor of rotary positions is {self.factor}: it must be a number, at least 1")
        if not 0 < self.low_freq_factor < self.high_freq_factor < math.inf:
            said = f"low_freq_factor is {self.low_freq_factor}, high_freq_factor {self.high_freq_factor}"
            raise JourneyError(f"{said}: both must be numbers above 0, the second the larger")
        if not 1 <= self.original_n_ctx <= MOST:
            said = f"{self.original_n_ctx:,}"
            raise JourneyError(f"original_max_position_embeddings is {said:.30}: it must be from 1 to {MOST:,}")


@dataclass(frozen=True)
class GPTConfig:
    """What decides a GPT's tensors; `make` fills in what a family usually has."""

    family: str  # a name of families.FAMILIES
    vocab_size: int
    n_ctx: int  # the longest sequence
    n_layer: int
    n_head: int
    n_kv_head: int  # fewer than n_head: n_head / n_kv_head query heads share a key and a value (GQA)
    head_dim: int
    n_embd: int
    n_inner: int  # width inside the MLP
    rope_theta: float = 10000.0  # not used where positions are learned
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-6
    tied: bool = True  # the output head is the token embedding

    def __post_init__(self) -> None:
        family = families.get(self.family)
        for name in SIZES:
            if not 1 <= (value := getattr(self, name)) <= MOST:
                raise JourneyError(f"{name} is {f'{value:,}':.30}: it must be from 1 to {MOST:,}")
        if (wide := self.n_head * self.head_dim) > MOST:
            raise JourneyError(f"n_head x head_dim is {wide:,}: it must be at most {MOST:,}")
        if not 0 < self.rope_theta < math.inf:
            raise JourneyError(f"rope_theta is {self.rope_theta}: it must be a number above 0")
        if not 0 <= self.norm_eps < math.inf:
            raise JourneyError(f"norm_eps is {self.norm_eps}: it must be a number, at least 0")
        if self.n_head % self.n_kv_head:
            raise JourneyError(f"n_head {self.n_head} is no multiple of n_kv_head {self.n_kv_head}: choose a divisor")
        family.check(self)

    @staticmethod
    def make(
        family: str,
        vocab_size: int,
        n_ctx: int,
        n_layer: int,
        n_embd: int,
        n_head: int | None = None,
        n_kv_head: int | None = None,
        tied: bool = True,
    ) -> "GPTConfig":
        """The family's usual shape: its number of heads for this width, its MLP's width and its epsilon."""
        usual = families.get(family)
        if n_head is None:
            n_head = usual.usual_heads(n_embd)
        if n_head < 1 or n_embd % n_head:
            raise JourneyError(f"n_embd {n_embd} is no multiple of n_head {n_head}: choose a divisor")
        return usual.config(
            family=family,
            vocab_size=vocab_size,
            n_ctx=n_ctx,
            n_layer=n_layer,
            n_head=n_head,
            n_kv_head=n_head if n_kv_head is None else n_kv_head,
            head_dim=n_embd // n_head,
            n_embd=n_embd,
            n_inner=usual.usual_inner(n_embd),
            norm_eps=usual.norm_eps,
            tied=tied,
        )

    @property
    def n_matmul(self) -> int:
        """Parameters that multiply every token: the blocks' matrices and the output head, tied or not."""
        return families.get(self.family).n_matmul(self)

    @property
    def n_params(self) -> int:
        """All parameters, a tied matrix counted once."""
        return families.get(self.family).n_params(self)

    @property
    def flops_per_key(self) -> int:
        """Of a forward pass, for each key that a query sees: 4 n_layer n_head head_dim, where all heads are stored."""
        return families.get(self.family).flops_per_key(self)

    @property
    def n_cached(self) -> int:
        """Numbers that a cache keeps of a token, in all layers."""
        return self.n_layer * sum(math.prod(shape) for shape in families.get(self.family).cached(self))

    def flops_per_token(self, T: int) -> float:
        """Forward and backward, of a row of T tokens: 6 n_matmul + 3 flops_per_key T.

        PaLM's formula (appendix B): attention is counted in full, the causal half not deducted.
        """
        return 6 * self.n_matmul + 3 * self.flops_per_key * T
