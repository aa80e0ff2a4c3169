"""The GPT: token ids in, logits or a loss out. gpt2, llama and qwen3 are the same skeleton with other parts."""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model.config import GPTConfig
from journey.model.layers import Block, make_norm, rope_table


class KVCache(Protocol):
    """What the model asks of a cache (infer.cache.KVCache is one)."""

    def extend(self, T: int) -> tuple[Tensor, Tensor]:
        """Make room for T more tokens a row: their positions (B, T), and what they see (B, 1, T, S)."""

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put in a layer's new keys and values (B, T, n_kv_head, head_dim); all of them so far, (B, S, n_kv_head, head_dim)."""


class GPT(nn.Module):
    """A decoder of one of the three families, initialised as Hugging Face's reference of the family is.

    All matrices and embeddings are normal with deviation 0.02, norms 1, biases 0; gpt2 scales the two matrices of a block
    that write into the residual stream by 1 / sqrt(2 n_layer), so that its variance does not grow with depth (GPT-2 paper).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.n_embd)
        if config.family == "gpt2":
            self.positions = nn.Embedding(config.n_ctx, config.n_embd)
        else:
            self.register_buffer("rope", rope_table(config), persistent=False)
        self.blocks = nn.ModuleList([Block(config, layer) for layer in range(config.n_layer)])
        self.norm = make_norm(config)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embed.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                into_residual = config.family == "gpt2" and name.endswith(("attention.o.weight", "mlp.down.weight"))
                std = 0.02 / math.sqrt(2 * config.n_layer) if into_residual else 0.02
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        *,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
        trace: dict | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of ids (B, T); with targets (B, T), their mean cross-entropy in nats (a target of -100 is not counted).

        `documents` (B, T) numbers the document of each position: each is then computed as if it stood alone.
        `cache` holds the keys and values of the tokens before, and takes these in. `trace`, a dict, is filled with
        ("resid", l): (B, T, C), l = 0 after the embedding, l after block l; ("pattern", l): (B, n_head, T, T) of block l = 0, 1, ...
        """
        x = self.hidden(ids, documents=documents, cache=cache, trace=trace)
        if targets is None:
            return self.head(x)
        # On a CPU logits and their gradient are made some 4 MB at a time, to stay in the cache: for 1,024 tokens and a
        # vocabulary of 4,096, head and loss take 32 ms instead of 60 (matrix products alone: 29). A GPU's compiler fuses better.
        chunks = nn.LinearCrossEntropyOptions(batch_chunk_size=max(64, 2**20 // self.config.vocab_size), chunking_method=None)
        options = chunks if x.device.type == "cpu" else None
        return F.linear_cross_entropy(x.flatten(0, 1), self.head.weight, targets.flatten(), options=options)

    def hidden(
        self,
        ids: Tensor,
        *,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
        trace: dict | None = None,
    ) -> Tensor:
        """What the head reads: the last block's output, normed, (B, T, C). For callers who need few positions' logits."""
        if ids.size(1) > self.config.n_ctx:
            raise JourneyError(f"{ids.size(1)} tokens do not fit in the model's context of {self.config.n_ctx}: shorten the text")
        mask = None  # plain causal
        if cache is not None:
            positions, mask = cache.extend(ids.size(1))  # (B, T), (B, 1, T, S)
        else:
            positions = torch.arange(ids.size(1), device=ids.device)  # (T,)
        if documents is not None:
            mask = document_mask(documents)  # (B, 1, T, T)
            positions = positions - document_starts(documents)  # (B, T)

        x = self.embed(ids)  # (B, T, C)
        rope = None
        if self.config.family == "gpt2":
            x = x + self.positions(positions)
        else:
            rope = self.rope[:, positions].unsqueeze(-2)  # (2, [B,] T, 1, head_dim)
        if trace is not None:
            trace["resid", 0] = x
        for layer, block in enumerate(self.blocks):
            x = block(x, rope, mask, cache, trace)
            if trace is not None:
                trace["resid", layer + 1] = x
        return self.norm(x)


def document_mask(documents: Tensor) -> Tensor:
    """True where a query may look: the key is not later and of the same document; (B, T) -> (B, 1, T, T)."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril().unsqueeze(1)


def document_starts(documents: Tensor) -> Tensor:
    """The position at which each position's document begins in its row; (B, T) -> (B, T)."""
    first = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0))
    return (first * torch.arange(documents.size(1), device=documents.device)).cummax(1).values
