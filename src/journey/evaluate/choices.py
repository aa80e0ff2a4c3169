"""Multiple choice by likelihood: of several continuations, which does the model find the least surprising?"""

from collections.abc import Sequence
from typing import Any

from journey.data.questions import Choice
from journey.evaluate.perplexity import token_nats
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer

CONVENTION = (
    "zero-shot, the document mark first; acc picks the option of the highest log-probability, acc_norm that of the "
    "highest per character of the option, as lm-evaluation-harness does"
)


def score(model: GPT, tokenizer: Tokenizer, choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """Each item's {"id", "gold", "logprobs", "picked", "picked_norm"}: ln p of every option, and the option it picks
    by that and by that per character (the first of equals). A context too long loses its beginning."""
    rows, known = [], []
    for choice in choices:
        for option in choice.options:
            context, continuation = encode_pair(tokenizer, choice.context, option)
            row = (context + continuation)[-(model.config.n_ctx + 1) :]
            rows.append(row)
            known.append(max(1, len(row) - len(continuation)))
    logprobs = (-float(nats.sum()) for nats in token_nats(model, rows, known))
    items = []
    for choice in choices:
        scores = [next(logprobs) for _ in choice.options]
        per_character = [score / len(option) for score, option in zip(scores, choice.options, strict=True)]
        items.append(
            {
                "id": choice.id,
                "gold": choice.gold,
                "logprobs": scores,
                "picked": scores.index(max(scores)),
                "picked_norm": per_character.index(max(per_character)),
            }
        )
    return items


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a context (behind the document mark) and of its continuation, split as lm-evaluation-harness does.

    White space at the end of the context goes to the continuation, and both are encoded as one text: " word" is one
    token, and a model has hardly seen a space that stands alone. The cut falls after as many ids as the context
    alone has, even where the two would merge across it.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    n = len(tokenizer.encode(stripped))
    ids = tokenizer.encode(stripped + continuation)
    return [tokenizer.bos, *ids[:n]], ids[n:]
