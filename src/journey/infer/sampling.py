"""How the next token is drawn from the logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.infer import build


@dataclass(frozen=True)
class Sampling:
    """Penalties, then the temperature, then the top_k likeliest, of those the smallest set of probability top_p, of
    those the ones at least min_p times as likely as the likeliest: Hugging Face's order."""

    temperature: float = 1.0  # 0 is greedy: always the likeliest
    top_k: int = 0  # 0 is all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    """Logits of tokens that stand in the prompt or the text are divided by it where positive, else multiplied (Keskar
    et al. 2019, CTRL)."""
    presence_penalty: float = 0.0  # taken from the logit of a token that stands in the text (OpenAI's)
    frequency_penalty: float = 0.0  # and this for each time that it stands there
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise JourneyError(f"temperature is {self.temperature}: it must be 0 (greedy) or more")
        if self.top_k < 0:
            raise JourneyError(f"top_k is {self.top_k}: it must be 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise JourneyError(f"top_p is {self.top_p}: it must be above 0 and at most 1 (all)")
        if not 0 <= self.min_p <= 1:
            raise JourneyError(f"min_p is {self.min_p}: it must be from 0 (all) to 1")
        if not 0 < self.repetition_penalty < float("inf"):
            raise JourneyError(f"repetition_penalty is {self.repetition_penalty}: it must be above 0 (1: none)")
        for name in ("presence_penalty", "frequency_penalty"):
            if not -float("inf") < (value := getattr(self, name)) < float("inf"):
                raise JourneyError(f"{name} is {value}: it must be a number (0: none)")
        if self.seed < 0:
            raise JourneyError(f"sampling seed is {self.seed}: it must be 0 or more")

    @property
    def penalizes(self) -> bool:
        """Whether what has been written changes what is likely."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    @property
    def restricts(self) -> bool:
        """Whether some tokens may not be drawn."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


GREEDY = Sampling(temperature=0)


def penalize(logits: Tensor, sampling: Sampling, prompt: Sequence[int], written: Sequence[int]) -> None:
    """Take the penalties from one row of logits (V,), in place."""
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted({*prompt, *written}), device=logits.device)
        values = logits[seen]
        by = sampling.repetition_penalty
        logits[seen] = torch.where(values > 0, values / by, values * by)
    if written and (sampling.presence_penalty or sampling.frequency_penalty):
        ids, counts = np.unique(written, return_counts=True)
        taken = sampling.presence_penalty + sampling.frequency_penalty * torch.from_numpy(counts).to(logits)
        logits[torch.from_numpy(ids).to(logits.device)] -= taken


def restrict(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits (B, V) over the temperature, -inf where top_k, top_p or min_p exclude; ties with the k-th are all kept."""
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.size(-1):
        kth = logits.topk(sampling.top_k).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if sampling.top_p < 1:
        logits = _top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        probabilities = logits.softmax(-1)
        most = probabilities.amax(-1, keepdim=True)
        logits = logits.masked_fill(probabilities < sampling.min_p * most, -torch.inf)
    return logits


def _top_p(logits: Tensor, top_p: float) -> Tensor:
    """-inf where not among the likeliest of probability top_p. What is summed, from the unlikeliest up, is what stays
    out, as in Hugging Face's warper: of equal tokens at the edge the same ones go."""
    ascending, order = logits.sort()
    excluded = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
    excluded[:, -1] = False  # the likeliest always stays
    return logits.masked_fill(excluded.scatter(-1, order, excluded), -torch.inf)


def sample(logits: Tensor, sampling: Sampling, generators: Sequence[np.random.Generator]) -> list[int]:
    """One token id a row, from fp32 logits (B, V), -1 for a row that holds NaN or nothing below infinity; above
    temperature 0 each row draws one number from its own generator."""
    if sampling.temperature == 0:
        most, likeliest = logits.max(-1)
        return likeliest.where(most.isfinite(), -1).tolist()
    # In (0, 1], so that the first token to reach it has a probability above 0: an excluded one is never drawn.
    uniform = [1 - generator.random() for generator in generators]
    if not sampling.restricts and build.usable(logits):
        return build.draw(logits, sampling.temperature, uniform)
    cumulative = restrict(logits, sampling).double().softmax(-1).cumsum(-1)  # (B, V)
    reached = torch.tensor(uniform).to(cumulative)[:, None] * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, reached).squeeze(1)
    return found.where(cumulative[:, -1].isfinite() & logits.amax(-1).isfinite(), -1).tolist()
