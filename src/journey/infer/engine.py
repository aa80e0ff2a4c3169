"""Generation: read the prompts once, then one token a row and step, until each row stops."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from journey.errors import JourneyError
from journey.infer.cache import KVCache
from journey.infer.sampling import Sampling, row_generators, sample
from journey.model.gpt import GPT

GREEDY = Sampling(temperature=0)


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt: its ids, the stop id included when the model ended by itself."""

    ids: list[int]
    ended: bool


def generate(
    model: GPT,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    stop: set[int],
    sampling: Sampling = GREEDY,
    batch_size: int = 32,
    numbers: Sequence[int] | None = None,
    until: Callable[[list[int]], bool] | None = None,
) -> list[Completion]:
    """Each prompt's completion: up to the first stop id (which it includes), max_new_tokens, or the end of n_ctx, or
    until that holds of its ids. Its number, else its place, says which random numbers it draws.

    Raises JourneyError for a prompt that is empty or leaves no room in the context.
    """
    written: list[list[int]] = [[] for _ in prompts]
    generators = row_generators(sampling, len(prompts) if numbers is None else numbers)
    halted = set[int]()
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # like lengths, little padding
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch, own = [prompts[row] for row in rows], [generators[row] for row in rows]
        halted.clear()
        for row, token in steps(model, batch, max_new_tokens, stop, sampling, own, halted):
            written[rows[row]].append(token)
            if until and until(written[rows[row]]):
                halted.add(row)
    return [Completion(ids, ended=bool(ids) and ids[-1] in stop) for ids in written]


def stream(
    model: GPT, prompt: list[int], *, max_new_tokens: int, stop: set[int], sampling: Sampling = GREEDY
) -> Iterator[int]:
    """The ids of `generate` for one prompt, each as soon as it is known."""
    for _, token in steps(model, [prompt], max_new_tokens, stop, sampling, row_generators(sampling, 1)):
        yield token


@torch.inference_mode()
def steps(
    model: GPT,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop: set[int],
    sampling: Sampling,
    generators: list[np.random.Generator],
    halted: Container[int] = (),
) -> Iterator[tuple[int, int]]:
    """Pairs (row, id) in the order in which they are made: one batch, its prompts in one prefill, equal ones once. A
    row that is among the halted when its id has been taken is not gone on with."""
    n_ctx, device = model.config.n_ctx, model.embed.weight.device
    for prompt in prompts:
        if not prompt:
            raise JourneyError("the prompt is empty: begin with the bos token")
        if len(prompt) >= n_ctx:
            raise JourneyError(f"the prompt has {len(prompt)} tokens, the context {n_ctx}: shorten the prompt")
    left = [min(max_new_tokens, n_ctx - len(prompt)) for prompt in prompts]  # tokens to write
    rows = [row for row in range(len(prompts)) if left[row] > 0]
    if not rows:
        return

    different = list(dict.fromkeys(tuple(prompts[row]) for row in rows))
    lengths = torch.tensor([len(prompt) for prompt in different], device=device)
    longest = int(lengths.max())
    cache = KVCache(model.config, len(different), max(len(prompts[row]) + left[row] for row in rows), device)
    # Padded on the right, where no query of the row looks.
    padded = [[*prompt, *[0] * (longest - len(prompt))] for prompt in different]
    x = model.hidden(torch.tensor(padded, device=device), cache=cache)  # (different prompts, T, C)
    cache.truncate(lengths)
    place = {prompt: i for i, prompt in enumerate(different)}
    own = [place[tuple(prompts[row])] for row in rows]
    cache.keep(own)  # several samples of a prompt each go on from a copy of its keys and values
    x = x[torch.arange(len(different), device=device), lengths - 1][own]  # (B, C)
    while True:
        ids = sample(model.head(x)[:, : model.n_tokens], sampling, [generators[row] for row in rows])  # (B,)
        going = []
        for i, token in enumerate(ids.tolist()):
            yield rows[i], token
            left[rows[i]] -= 1
            if token not in stop and left[rows[i]] > 0 and rows[i] not in halted:
                going.append(i)
        if not going:
            return
        if len(going) < len(rows):
            rows, ids = [rows[i] for i in going], ids[going]
            cache.keep(going)
        x = model.hidden(ids[:, None], cache=cache)[:, 0]  # (B, C)
