"""The shape of a model: one frozen dataclass for the three families."""

from dataclasses import dataclass

from journey.errors import JourneyError, nearest

FAMILIES = ("gpt2", "llama", "qwen3")
SIZES = ("vocab_size", "n_ctx", "n_layer", "n_head", "n_kv_head", "head_dim", "n_embd", "n_inner")


@dataclass(frozen=True)
class GPTConfig:
    """What decides a GPT's tensors; `make` fills in what a family usually has."""

    family: str  # gpt2 | llama | qwen3
    vocab_size: int
    n_ctx: int  # the longest sequence
    n_layer: int
    n_head: int
    n_kv_head: int  # fewer than n_head: n_head / n_kv_head query heads share a key and a value (GQA)
    head_dim: int
    n_embd: int
    n_inner: int  # width inside the MLP
    rope_theta: float = 10000.0  # not used by gpt2, whose positions are learned
    norm_eps: float = 1e-6
    tied: bool = True  # the output head is the token embedding

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            guess = nearest(self.family, FAMILIES) or f": choose one of {', '.join(FAMILIES)}"
            raise JourneyError(f'unknown model family "{self.family}"{guess}')
        for name in SIZES:
            if getattr(self, name) < 1:
                raise JourneyError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.n_head % self.n_kv_head:
            raise JourneyError(f"n_head {self.n_head} is no multiple of n_kv_head {self.n_kv_head}: choose a divisor")
        if self.family == "gpt2" and self.n_kv_head != self.n_head:
            raise JourneyError("gpt2 has a key and a value for every head: leave out n_kv_head, or use qwen3")
        if self.family == "gpt2" and self.n_head * self.head_dim != self.n_embd:
            raise JourneyError(f"gpt2 needs n_head x head_dim = n_embd, not {self.n_head} x {self.head_dim}")
        if self.family != "gpt2" and self.head_dim % 2:
            raise JourneyError(f"head_dim {self.head_dim} is odd, rotary positions turn pairs: change n_head")

    @classmethod
    def make(
        cls,
        family: str,
        vocab_size: int,
        n_ctx: int,
        n_layer: int,
        n_embd: int,
        n_head: int | None = None,
        n_kv_head: int | None = None,
        tied: bool = True,
    ) -> "GPTConfig":
        """The family's usual shape: heads of 64 (of 32 below n_embd 512), its MLP width and its epsilon."""
        if n_head is None:
            n_head = max(1, n_embd // (64 if n_embd >= 512 else 32))
        if n_head < 1 or n_embd % n_head:
            raise JourneyError(f"n_embd {n_embd} is no multiple of n_head {n_head}: choose a divisor")
        # SwiGLU has three matrices where GELU has two: 8/3 keeps the parameters equal (Shazeer 2020).
        n_inner = 4 * n_embd if family == "gpt2" else -(-8 * n_embd // (3 * 64)) * 64
        return cls(
            family=family,
            vocab_size=vocab_size,
            n_ctx=n_ctx,
            n_layer=n_layer,
            n_head=n_head,
            n_kv_head=n_head if n_kv_head is None else n_kv_head,
            head_dim=n_embd // n_head,
            n_embd=n_embd,
            n_inner=n_inner,
            norm_eps=1e-6 if family == "qwen3" else 1e-5,
            tied=tied,
        )

    @property
    def n_matmul(self) -> int:
        """Parameters that multiply every token: the blocks' matrices and the output head, tied or not."""
        attention = 2 * self.n_embd * (self.n_head + self.n_kv_head) * self.head_dim
        mlp = (2 if self.family == "gpt2" else 3) * self.n_embd * self.n_inner
        return self.n_layer * (attention + mlp) + self.vocab_size * self.n_embd

    @property
    def n_params(self) -> int:
        """All parameters, a tied matrix counted once."""
        C, n_norm = self.n_embd, 2 * self.n_layer + 1
        n = self.n_matmul + (0 if self.tied else self.vocab_size * C)
        if self.family == "gpt2":  # also positions, a bias for each matrix of a block, and a shift for each norm
            return n + self.n_ctx * C + self.n_layer * (5 * C + self.n_inner) + n_norm * 2 * C
        qk_norm = self.n_layer * 2 * self.head_dim if self.family == "qwen3" else 0
        return n + n_norm * C + qk_norm

    def flops_per_token(self, T: int) -> float:
        """Forward and backward: 6 n_matmul + 12 n_layer n_head head_dim T.

        PaLM's formula (appendix B): attention is counted in full, the causal half not deducted.
        """
        return 6 * self.n_matmul + 12 * self.n_layer * self.n_head * self.head_dim * T
