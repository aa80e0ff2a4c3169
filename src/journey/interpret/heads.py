"""What attention heads do on text that repeats itself: random tokens, then the same tokens again.

Random tokens cannot be guessed, so the first copy costs a model all it has (ln V and more); the second is free for one
that looks up what followed before. The heads that do so are induction heads (Elhage et al. 2021, Olsson et al. 2022).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from journey.model.gpt import GPT
from journey.model.layers import Trace
from journey.tokenizer.formats import Tokenizer

PERIOD = 48
_SEQUENCES_AT_ONCE = 8
CONVENTION = (
    "the document mark, then random ordinary tokens, each different, twice; losses are nats per token of a copy, "
    "without its first token, which nothing announces; head scores are mean attention probabilities: induction from a "
    "token of the second copy to the token after its first occurrence, duplicate to that occurrence itself, previous "
    "from every token to the one before it"
)


@torch.inference_mode()
def repeat(model: GPT, tokenizer: Tokenizer, n: int = 32, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The model on n repeated sequences, by the definitions of `CONVENTION`:
    {"repeat": {"first", "second": nats per token of each sequence},
    "heads": {"induction", "previous", "duplicate": [n_layer x n_head]}}."""
    ids = sequences(tokenizer, model.config.n_ctx, n, seed)  # (n, 1 + 2L)
    L = ids.shape[1] // 2
    n_layer, n_head = model.config.n_layer, model.config.n_head
    scores = {name: torch.zeros(n_layer, n_head) for name in ("induction", "previous", "duplicate")}
    first, second = [], []
    for batch in ids.to(next(model.parameters()).device).split(_SEQUENCES_AT_ONCE):
        trace: Trace = {}
        logits = model(batch, trace=trace)  # (B, 1 + 2L, V)
        losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch[:, 1:], reduction="none")  # (B, 2L)
        first += losses[:, 1:L].mean(1).tolist()
        second += losses[:, L + 1 :].mean(1).tolist()
        for layer in range(n_layer):
            for name, score in head_scores(trace["pattern", layer]).items():
                scores[name][layer] += score.sum(0).cpu() / n
    return {
        "repeat": {"first": first, "second": second},
        "heads": {name: score.tolist() for name, score in scores.items()},
    }


def sequences(tokenizer: Tokenizer, n_ctx: int, n: int, seed: int) -> Tensor:
    """n rows of the document mark and twice the same L random tokens, (n, 1 + 2L); L is 48, less in a small context."""
    ordinary = np.setdiff1d(list(tokenizer.backend.get_vocab().values()), list(tokenizer.special.values()))
    L = min(PERIOD, (n_ctx - 1) // 2)
    rng = np.random.default_rng(seed)
    # Without replacement: each token has one earlier occurrence, so "the token after it" is one place.
    copies = [rng.choice(ordinary, L, replace=False) for _ in range(n)]
    return torch.tensor(np.array([[tokenizer.bos, *copy, *copy] for copy in copies]))


def head_scores(pattern: Tensor) -> dict[str, Tensor]:
    """Each head's scores (B, n_head) from its attention on repeated sequences, pattern (B, n_head, 1 + 2L, 1 + 2L)."""
    L = pattern.shape[-1] // 2

    def attention(back: int) -> Tensor:
        """From every position that has one to the position `back` before it: (B, n_head, 1 + 2L - back)."""
        return pattern.diagonal(-back, dim1=-2, dim2=-1)

    return {
        "induction": attention(L - 1)[..., -L:].mean(-1),
        "previous": attention(1).mean(-1),
        "duplicate": attention(L)[..., -L:].mean(-1),
    }
