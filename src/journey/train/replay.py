"""Replay: a share of plain text beside the rows of every step, so that fine-tuning forgets less of what the model knew.

The text's loss is the pre-training loss: every token is predicted, documents kept apart.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from journey.train.trl import answer_nats

if TYPE_CHECKING:
    from journey.data.stream import TokenStream


@dataclass
class Replay:
    """Rows of text for each step; which ones is a function of the step, so that a resumed training reads on."""

    stream: "TokenStream"
    rows: int  # a step
    mark: int  # the id that begins a document
    weight: float  # of a text's token, beside a weight of 1 - `weight` of an answer's
    done: tuple[int, int] = (-1, 0)  # the step that is worked through, and how many of its parts are

    @property
    def tokens(self) -> int:
        """Of text a step."""
        return self.rows * self.stream.T

    def nats(self, model: Any, step: int, parts: int, device: Any) -> Any:
        """Nats per token of the step's text, as much of it as belongs to the next of `parts` parts of the step: over
        all of them it adds up to the mean."""
        import torch

        part = self.done[1] if self.done[0] == step else 0
        self.done = (step, part + 1)
        numbers = range(step * self.rows + part, (step + 1) * self.rows, parts)
        if not numbers:
            return torch.zeros((), device=device)
        ids = torch.from_numpy(np.stack([self.stream.row(i) for i in numbers]).astype(np.int64)).to(device)  # (b, T+1)
        return text_nats(model, ids, self.mark, "sum") / self.tokens


def text_nats(model: Any, ids: Any, mark: int, reduction: str) -> Any:
    """Cross-entropy of every token but the first of rows (B, T + 1) of packed documents, each behind its mark and
    seeing itself alone: of each, (B T,), or their sum."""
    import torch

    every = torch.ones_like(ids[:, 1:], dtype=torch.bool)
    return answer_nats(model, ids, every, reduction, positions(ids == mark))


def positions(begins: Any) -> Any:
    """Positions (B, T) that begin at 0 in every row and wherever `begins` (B, T) is true."""
    import torch

    place = torch.arange(begins.size(1), device=begins.device).expand(begins.shape)
    return place - torch.where(begins, place, 0).cummax(1).values


def shares(per_step: float, replay: float, limit: int) -> tuple[int, int]:
    """How many rows of text a step, and how long each is, at most `limit`: so that of the tokens that a step reads,
    those of its rows (`per_step`) and these, about `replay` are text."""
    text = per_step * replay / (1 - replay)
    rows = max(1, -(-int(text) // limit))
    return rows, min(limit, max(1, round(text / rows)))
