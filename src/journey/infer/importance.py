"""Which weights matter on a text: llama.cpp's importance matrix, made by our own model.

An error of a weight costs what its input is squared, so each column of a matrix is weighed by the mean square of the
input that it meets. Like llama.cpp's own, this is of the blocks' matrices; embedding and head are rounded without.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model import families
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer

_ROW = 512  # tokens that see each other at most, as in llama.cpp
_LARGEST = 1e20  # ggml multiplies these with weights, in f32


@dataclass(frozen=True)
class Importance:
    """Mean squares of what the matrices of a model read."""

    squares: Mapping[str, np.ndarray]  # llama.cpp's name of a matrix (out, in) -> (in,), float32, positive
    unused: int  # inputs that were always 0, as of a neuron that GELU never lets through
    text: str  # its name
    documents: int
    tokens: int
    rows: int


def importance(
    model: GPT,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    name: str,
    most: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Importance:
    """Let the model read documents of a text called `name`, drawn at random where they are more than `most` tokens, and
    see what each matrix of its blocks is given. `progress` is told the tokens done and in all.

    An input that is always 0 counts as the least of the others. Raises JourneyError for no documents, for inputs that
    are no numbers, and where all of a matrix are 0.
    """
    if not any(texts):
        raise JourneyError(f"{name} has no documents in its dev split: name another text for importance")
    ids: list[int] = []
    read = 0
    for text in random.Random(0).sample(texts, len(texts)):
        ids += [tokenizer.bos, *tokenizer.encode(text)]
        read += 1
        if len(ids) >= most:
            break
    width = min(_ROW, model.config.n_ctx)
    rows = [ids[start : start + width] for start in range(0, min(len(ids), most), width)]
    n_tokens = sum(map(len, rows))
    sums = _sums(model, rows, tokenizer.bos, lambda done: progress(done, n_tokens))
    squares = {matrix: (total / n_tokens).float().cpu().numpy() for matrix, total in sums.items()}
    unused = 0
    for matrix, found in squares.items():
        if not (found < _LARGEST).all():
            raise JourneyError(f"what {matrix} reads of {name} is no number, or too large: the model is damaged")
        used = found > 0
        if not used.any():
            raise JourneyError(f"what {matrix} reads of {name} is always 0: leave out importance, or name another text")
        # With no weight at all ggml would round a block of them to 0, which another text would feel.
        found[~used] = found[used].min()
        unused += int((~used).sum())
    return Importance(squares, unused, name, read, n_tokens, len(rows))


@torch.inference_mode()
def _sums(model: GPT, rows: Sequence[Sequence[int]], mark: int, progress: Callable[[int], None]) -> dict[str, Tensor]:
    """Sum over all tokens of the square of each input of each matrix, in float64; documents do not see each other."""
    sums: dict[str, Tensor] = {}
    modules = dict(model.named_modules())

    def watch(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        square = given[0].double().square().flatten(0, -2).sum(0)  # (in,)
        sums[name] = sums[name] + square if name in sums else square

    device = next(model.parameters()).device
    with ExitStack() as watched:
        for stored in families.get(model.config.family).layout(model.config):
            # Of matrices that are stacked all read the same.
            module = modules[stored.ours[0].rpartition(".")[0]]
            if stored.gguf.startswith("blk.") and isinstance(module, nn.Linear) and stored.gguf.endswith("weight"):
                hook = module.register_forward_pre_hook(lambda *seen, name=stored.gguf: watch(name, *seen))
                watched.callback(hook.remove)
        done = 0
        for row in rows:
            tokens = torch.tensor([row], device=device)  # (1, T)
            model.hidden(tokens, documents=(tokens == mark).cumsum(1))
            done += len(row)
            progress(done)
    return sums
