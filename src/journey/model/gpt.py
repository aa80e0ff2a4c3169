"""The GPT: token ids in, logits or a loss out. The families are one skeleton with other parts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.utils.checkpoint import checkpoint

from journey.errors import JourneyError
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.layers import Cache, Trace
from journey.model.loss import linear_cross_entropy

_ROPE_AT_FIRST = 4096  # positions


class GPT(nn.Module):
    """A decoder of one of the families, initialised as Hugging Face's reference of the family is.

    All matrices and embeddings are normal, with the family's deviation, norms 1, biases 0.
    """

    rope: Tensor | None

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        family = families.get(config.family)
        self.embed = nn.Embedding(config.vocab_size, config.n_embd)
        rope = family.rope(config, min(config.n_ctx, _ROPE_AT_FIRST))
        self.positions = nn.Embedding(config.n_ctx, config.n_embd) if rope is None else None
        self.register_buffer("rope", rope, persistent=False)
        self.blocks = nn.ModuleList([family.block(config, layer) for layer in range(config.n_layer)])
        self.norm = family.make_norm(config)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.recompute = False  # keep each block's input alone, and compute the block again on the way back
        self.n_tokens = config.vocab_size  # ids that have a text: rows after them are padding, and never drawn
        if config.tied:
            self.head.weight = self.embed.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=family.init_std(config, name))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def matrices(self) -> list[nn.Parameter]:
        """The matrices inside the blocks, and stacks of matrices (…, rows, columns), in the order of the parameters."""
        return [parameter for parameter in self.blocks.parameters() if parameter.dim() >= 2]

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        *,
        documents: Tensor | None = None,
        blocks: BlockMask | None = None,
        cache: Cache | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of ids (B, T); with targets (B, T) their mean cross-entropy in nats, -100 not counted.

        `documents` (B, T) numbers each position's document: every document is computed as if it stood alone.
        `blocks`, from `document_blocks`, says the same once more, for a compiled model on a GPU: there it is faster.
        `cache` holds the keys and values of the tokens before, and takes in these.
        `trace`, a dict, is filled with ("resid", l): (B, T, C), l = 0 after the embedding and l after block l,
        and with ("pattern", l): (B, n_head, T, T), the attention probabilities of block l counted from 0.
        """
        x = self.hidden(ids, documents=documents, blocks=blocks, cache=cache, trace=trace)
        if targets is None:
            return self.head(x)
        return linear_cross_entropy(x.flatten(0, 1), self.head.weight, targets.flatten())

    def hidden(
        self,
        ids: Tensor,
        *,
        documents: Tensor | None = None,
        blocks: BlockMask | None = None,
        tree: tuple[Tensor, Tensor] | None = None,
        cache: Cache | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """What the head reads, (B, T, C): the last block's output, normed. For who needs few positions' logits.

        `tree` says of each token its position (B, T) and which tokens it sees (B, 1, T, T), where a row holds several
        texts that begin alike; then it is a position that has to be less than n_ctx, not T.
        """
        T = ids.size(1)
        if self.config.n_ctx < T and tree is None:
            raise JourneyError(f"{T} tokens do not fit in the model's context of {self.config.n_ctx}: shorten the text")
        if cache is not None and documents is not None:
            raise ValueError("a cached row is one document: pass cache or documents, not both")
        positions: Tensor = torch.arange(T, device=ids.device)  # (T,)
        mask: Tensor | BlockMask | None = None  # plain causal
        if cache is not None:
            positions, mask = cache.extend(T)  # (B, T), (B, 1, T, S)
        elif documents is not None:
            positions = positions - document_starts(documents)  # (B, T)
            mask = document_mask(documents) if blocks is None else blocks  # (B, 1, T, T)
        elif tree is not None:
            positions, mask = tree

        x = self.embed(ids)  # (B, T, C)
        if self.positions is not None:
            x = x + self.positions(positions)
        rope = None
        if self.rope is not None:
            n = T if cache is None or mask is None else mask.shape[-1]
            self.prepare_rope(min(n, self.config.n_ctx))
            rope = self.rope[:, positions].unsqueeze(-2)  # (2, [B,] T, 1, width turned)
        if trace is not None:
            trace["resid", 0] = x
        again = self.recompute and torch.is_grad_enabled() and cache is None and trace is None
        for layer, block in enumerate(self.blocks):
            if again:  # nothing in a block is drawn at random: no state to put back
                x = checkpoint(block, x, rope, mask, None, None, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, rope, mask, cache, trace)
            if trace is not None:
                trace["resid", layer + 1] = x
        return self.norm(x)

    def prepare_rope(self, n: int) -> None:
        """Know the rotary angles of n positions at least: of a context of a million they would fill a gigabyte."""
        if self.rope is not None and self.rope.size(1) < n:
            longer = min(self.config.n_ctx, max(n, 2 * self.rope.size(1)))
            rope = families.get(self.config.family).rope(self.config, longer)
            assert rope is not None
            self.rope = rope.to(self.rope)


def document_mask(documents: Tensor) -> Tensor:
    """True where a query may look: at keys not later, of its own document; (B, T) -> (B, 1, T, T)."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril().unsqueeze(1)


def document_blocks(documents: Tensor) -> BlockMask:
    """`document_mask` in blocks of 128 by 128, (B, T) -> (B, 1, T, T): what no query of a block sees is left out.

    A mask as a tensor keeps attention on a GPU from its fast kernels, which know none but the causal.
    """

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (documents[b, query] == documents[b, key])

    B, T = documents.shape
    return create_block_mask(sees, B, None, T, T, device=documents.device)


def document_starts(documents: Tensor) -> Tensor:
    """Where in its row each position's document begins; (B, T) -> (B, T)."""
    first = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0))
    return (first * torch.arange(documents.size(1), device=documents.device)).cummax(1).values
