"""The Transformer of "Attention Is All You Need" (Vaswani et al. 2017, arXiv:1706.03762): an encoder that reads, and a
decoder that writes and looks at what was read.

It is built of the GPT's attention. What is older than in the GPTs here: each norm stands *after* its residual sum, the
positions are fixed sines, and the MLP has a ReLU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model.config import MOST
from journey.model.layers import Attention, Cache, Trace

SIZES = ("vocab_size", "n_ctx", "encoder_layers", "decoder_layers", "n_head", "n_embd", "n_inner")


@dataclass(frozen=True)
class Seq2SeqConfig:
    """What decides an encoder–decoder's tensors."""

    vocab_size: int  # of both languages: they share one embedding, which is the output head too
    n_ctx: int  # the longest source, and the longest target
    encoder_layers: int
    decoder_layers: int
    n_head: int
    n_embd: int
    n_inner: int
    pad: int  # the id that fills a batch's shorter rows: it is never looked at, and never written
    dropout: float = 0.0  # of each part's output and of the embeddings, while training
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in SIZES:
            if not 1 <= (value := getattr(self, name)) <= MOST:
                raise JourneyError(f"{name} is {f'{value:,}':.30}: it must be from 1 to {MOST:,}")
        if self.n_embd % self.n_head:
            raise JourneyError(f"n_embd {self.n_embd} is no multiple of n_head {self.n_head}: choose a divisor")
        if self.n_embd % 2:
            raise JourneyError(f"n_embd {self.n_embd} is odd: one half of a position is sines, the other cosines")
        if not 0 <= self.pad < self.vocab_size:
            raise JourneyError(f"pad is {self.pad}: it must be an id below vocab_size {self.vocab_size:,}")
        if not 0 <= self.dropout < 1:
            raise JourneyError(f"dropout is {self.dropout}: it must be at least 0 and below 1")

    @property
    def n_kv_head(self) -> int:
        """Every head has its own key and value."""
        return self.n_head

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.n_embd // self.n_head

    def flops(self, S: float, T: float) -> float:
        """Forward and backward, of a pair of S source and T target tokens: 6 for each parameter of a matrix and token
        that it multiplies, and attention in full, as `GPTConfig.flops_per_token` has it."""
        C, inner = self.n_embd, 2 * self.n_embd * self.n_inner
        encoder = self.encoder_layers * (S * (4 * C * C + inner) + 2 * C * S * S)
        decoder = self.decoder_layers * (T * (6 * C * C + inner) + S * 2 * C * C + 2 * C * T * (T + S))
        return 6 * (encoder + decoder + T * self.vocab_size * C)


def sinusoids(n: int, n_embd: int) -> Tensor:
    """(n, n_embd): sines and cosines of each position at wavelengths from 2π to 10000·2π, in one half each.

    The paper interleaves them; Marian, as whose model ours is saved, has halves: the same up to an order of channels.
    On the CPU even while parameters are built on the meta device.
    """
    power = torch.arange(0, n_embd, 2, device="cpu", dtype=torch.float64) / n_embd
    angle = torch.arange(n, device="cpu", dtype=torch.float64)[:, None] / 10000**power  # (n, n_embd / 2)
    return torch.cat([angle.sin(), angle.cos()], -1).float()


class ReLU(nn.Module):
    """The MLP between two matrices, with max(0, x)."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, config.n_inner)
        self.down = nn.Linear(config.n_inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)))


class EncoderBlock(nn.Module):
    """Attention of all to all, then the MLP; each is added to what it read, and the sum is normed."""

    def __init__(self, config: Seq2SeqConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer, bias=True)
        self.attention_norm = nn.LayerNorm(config.n_embd, config.norm_eps)
        self.mlp = ReLU(config)
        self.mlp_norm = nn.LayerNorm(config.n_embd, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention_norm(x + self.drop(self.attention(x, None, mask, None, None)))
        return self.mlp_norm(x + self.drop(self.mlp(x)))


class DecoderBlock(nn.Module):
    """Causal attention to what is written, attention to what was read, then the MLP."""

    def __init__(self, config: Seq2SeqConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer, bias=True)
        self.attention_norm = nn.LayerNorm(config.n_embd, config.norm_eps)
        self.cross = Attention(config, layer, bias=True)
        self.cross_norm = nn.LayerNorm(config.n_embd, config.norm_eps)
        self.mlp = ReLU(config)
        self.mlp_norm = nn.LayerNorm(config.n_embd, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        read: tuple[Tensor, Tensor],
        seen: Tensor,
        mask: Tensor | None,
        cache: Cache | None,
        trace: Trace | None,
    ) -> Tensor:
        x = self.attention_norm(x + self.drop(self.attention(x, None, mask, cache, None)))
        x = self.cross_norm(x + self.drop(self.cross.across(x, read, seen, trace)))
        return self.mlp_norm(x + self.drop(self.mlp(x)))


@dataclass(frozen=True)
class Memory:
    """What the decoder needs of what was read: each of its layers' keys and values, and which are no padding."""

    read: list[tuple[Tensor, Tensor]]  # a layer: (B, S, H, head_dim) each
    seen: Tensor  # (B, 1, 1, S)

    def rows(self, rows: Sequence[int]) -> "Memory":
        """The memory of these rows, each as often as it is named."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.seen.device)
        return Memory([(k[index], v[index]) for k, v in self.read], self.seen[index])


class Seq2Seq(nn.Module):
    """Source ids and the target's so far in, logits or a loss of the target's next ids out.

    Matrices begin as Glorot and Bengio (2010) have them, embeddings with deviation 1 / sqrt(n_embd), so that times
    sqrt(n_embd) they are as large as the positions; norms 1, biases 0.
    """

    positions: Tensor

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.n_embd)
        self.register_buffer("positions", sinusoids(config.n_ctx, config.n_embd), persistent=False)
        self.encoder = nn.ModuleList([EncoderBlock(config, layer) for layer in range(config.encoder_layers)])
        self.decoder = nn.ModuleList([DecoderBlock(config, layer) for layer in range(config.decoder_layers)])
        self.drop = nn.Dropout(config.dropout)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.embed.weight, std=config.n_embd**-0.5)

    @property
    def n_params(self) -> int:
        """All parameters, the embedding, which is the head too, counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, source: Tensor, written: Tensor, targets: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
        """Logits (B, T, V) of what follows each id of `written` (B, T), of the source (B, S); both filled with pad on
        the right. With targets (B, T) their mean cross-entropy in nats, -100 not counted.

        With `smoothing` ε the wanted distribution is 1 - ε on the target and ε spread evenly over all ids (label
        smoothing, Szegedy et al. 2016, arXiv:1512.00567, section 7).
        """
        logits = self.decode(written, self.encode(source))
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing)

    def encode(self, source: Tensor) -> Memory:
        """Read sources (B, S). Each row needs one id at least that is not pad."""
        seen = (source != self.config.pad)[:, None, None]  # (B, 1, 1, S)
        x = self._embedded(source, torch.arange(source.size(1), device=source.device))  # (B, S, C)
        for block in self.encoder:
            x = block(x, seen)
        return Memory([block.cross.read(x) for block in cast(list[DecoderBlock], list(self.decoder))], seen)

    def decode(self, written: Tensor, memory: Memory, cache: Cache | None = None, trace: Trace | None = None) -> Tensor:
        """Logits (B, T, V) of what follows each id of `written` (B, T). `cache` holds the keys and values of what was
        written before, and takes in these; `trace` gets ("cross", layer): (B, n_head, T, S) of each layer."""
        positions, mask = torch.arange(written.size(1), device=written.device), None  # (T,), plain causal
        if cache is not None:
            positions, mask = cache.extend(written.size(1))  # (B, T), (B, 1, T, S)
        x = self._embedded(written, positions)
        for block, read in zip(self.decoder, memory.read, strict=True):
            x = block(x, read, memory.seen, mask, cache, trace)
        return x @ self.embed.weight.t()

    def _embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        if ids.size(1) > self.config.n_ctx:
            raise JourneyError(
                f"{ids.size(1)} tokens do not fit in the model's {self.config.n_ctx} positions: shorten the text"
            )
        return self.drop(self.embed(ids) * math.sqrt(self.config.n_embd) + self.positions[positions])


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows of ids as one tensor (B, T), the shorter ones filled on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])
