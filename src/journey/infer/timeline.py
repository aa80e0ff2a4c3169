"""How one answer was made: each pass through the model with its time, its arithmetic and the memory it had to move."""

import time
from statistics import median
from typing import Any

from journey.errors import JourneyError
from journey.infer.engine import cache_bytes_per_token, stream
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer

CONVENTION = (
    "greedy, one prompt, with a key/value cache; milliseconds: median of the repeats after a warm-up; FLOPs: 2 for "
    "each weight that multiplies a token (the head only at the position read) and 4 n_layer n_head head_dim for "
    "each key that a query sees; bytes: every weight once a pass (of a table that is only looked up, the rows of the "
    "tokens), keys and values written for the new tokens and read for all so far"
)


def timeline(
    model: GPT, tokenizer: Tokenizer, prompt_ids: list[int], *, max_new_tokens: int, stop: set[int], repeats: int = 3
) -> dict[str, Any]:
    """The passes of one greedy answer, by `CONVENTION`: {"answer", "prefill", "steps", "parameters", "convention"}.

    `prefill` reads the prompt's tokens at once and writes the first token; each of `steps` reads the token before and
    writes the next: {"text" (the token written), "tokens" (read), "ms", "flops", "bytes", "cache_bytes" (after it)}.
    Raises JourneyError for a prompt that is empty or leaves no room in the context, and for no token to write.
    """
    if max_new_tokens < 1:
        raise JourneyError(f"max_new_tokens is {max_new_tokens}: a timeline needs at least 1")
    runs = [_timed(model, prompt_ids, max_new_tokens, stop) for _ in range(1 + repeats)][1:]
    ids = runs[0][0]
    passes = []
    read, seen = len(prompt_ids), 0
    for i, token in enumerate(ids):
        seen += read
        passes.append(
            {
                "text": tokenizer.decode([token]),
                "tokens": read,
                "ms": median(times[i] for _, times in runs),
                "flops": flops(model.config, read, seen),
                "bytes": moved(model, read, seen),
                "cache_bytes": seen * cache_bytes_per_token(model),
            }
        )
        read = 1
    return {
        "answer": tokenizer.decode([i for i in ids if i not in stop]),
        "prefill": passes[0],
        "steps": passes[1:],
        "parameters": model.config.n_params,
        "convention": CONVENTION,
    }


def flops(config: GPTConfig, T: int, S: int) -> int:
    """FLOPs of a forward pass that reads T tokens, S being in the cache after it, and asks for one position's logits.

    2 (n_matmul - V C) T + 2 V C, and flops_per_key for each (query, key it sees): the last query sees S keys, the one
    before S - 1, and so on. Norms, activations and the softmax are not counted.
    """
    head = config.vocab_size * config.n_embd
    seen = sum(range(S - T + 1, S + 1))
    return 2 * (config.n_matmul - head) * T + 2 * head + config.flops_per_key * seen


def moved(model: GPT, T: int, S: int) -> int:
    """Bytes that a pass over T tokens has to move at the least, S tokens being in the cache after it.

    Each weight once, but of a table that is only looked up (positions; an embedding that is not also the head) T rows;
    the cache written for T tokens and read for S. Activations are not counted.
    """
    shared = model.head._parameters.get("weight") is model.embed.weight  # a quantized head is a matrix of its own
    tables = [model.positions, None if shared else model.embed]
    looked_up = sum(
        (t.weight.numel() - T * t.weight.size(1)) * t.weight.element_size() for t in tables if t is not None
    )
    return weight_bytes(model) - looked_up + (T + S) * cache_bytes_per_token(model)


def weight_bytes(model: GPT) -> int:
    """Of all weights, rounded ones as they are kept."""
    rounded = [kept for name, kept in model.named_buffers() if name != "rope"]
    return sum(kept.nbytes for kept in (*model.parameters(), *rounded))


def _timed(model: GPT, prompt_ids: list[int], max_new_tokens: int, stop: set[int]) -> tuple[list[int], list[float]]:
    """The ids that the engine writes, and the milliseconds each took: an id on the host has waited for its pass."""
    ids, times = [], []
    before = time.perf_counter()
    for token in stream(model, prompt_ids, max_new_tokens=max_new_tokens, stop=stop):
        now = time.perf_counter()
        ids.append(token)
        times.append(1000 * (now - before))
        before = now
    return ids, times
