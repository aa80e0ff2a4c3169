"""What preference training did: does the model prefer what was chosen, and how far did it go from where it began?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from journey import chat
from journey.data.conversations import question_messages
from journey.data.preferences import Pair, encode
from journey.data.questions import Question
from journey.evaluate.perplexity import batches, chunk, token_nats
from journey.infer.engine import generate
from journey.infer.sampling import Sampling
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer

MAX_NEW_TOKENS = 64
CONVENTION = (
    "margin: how much the log-probability of the chosen answer rose over the reference's, less how much the rejected "
    "one's did, in nats of the whole answer and its <|end|>; the pair counts as preferred where it is above 0, half "
    "where it is 0; kl: the sum over the tokens of the model's own answer (temperature 1, at most "
    f"{MAX_NEW_TOKENS} tokens) of KL(model ‖ reference) of the next token, over the whole vocabulary"
)


def measure(
    model: GPT,
    reference: GPT,
    tokenizer: Tokenizer,
    pairs: Sequence[Pair],
    questions: Sequence[Question],
    seed: int,
) -> dict[str, Any]:
    """{"items", "kl", "convention"}: each held-out pair's margin, and the KL of answers to the questions (asked without
    a passage; with no questions, to the pairs' prompts). What does not fit the context is left out."""
    asked = [(q.id, question_messages(q, with_passage=False)[:-1]) for q in questions]
    asked = asked or [(pair.id, pair.prompt) for pair in pairs]
    prompts = [(id, chat.encode_prompt(messages, tokenizer)) for id, messages in asked]
    return {
        "items": margins(model, reference, tokenizer, pairs),
        "kl": divergence(model, reference, prompts, tokenizer.stop, seed),
        "convention": CONVENTION,
    }


def margins(model: GPT, reference: GPT, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Each pair's {"id", "margin", "chosen_tokens", "rejected_tokens"}: the answers' tokens, <|end|> counted."""
    limit = min(model.config.n_ctx, reference.config.n_ctx) + 1  # the last id is only predicted
    kept, rows, known = [], [], []
    for pair in pairs:
        prompt, chosen, rejected = encode(pair, tokenizer)
        if len(prompt) + max(len(chosen), len(rejected)) <= limit:
            kept.append((pair.id, len(chosen), len(rejected)))
            rows += [prompt + chosen, prompt + rejected]
            known += [len(prompt)] * 2
    # Token by token: equal models give exactly 0, and no large sums are subtracted.
    losses = zip(token_nats(reference, rows, known), token_nats(model, rows, known), strict=True)
    rose = [float((before - after).sum()) for before, after in losses]
    return [
        {"id": id, "margin": rose[2 * i] - rose[2 * i + 1], "chosen_tokens": n_chosen, "rejected_tokens": n_rejected}
        for i, (id, n_chosen, n_rejected) in enumerate(kept)
    ]


def preferred(margins: Sequence[float] | np.ndarray) -> np.ndarray:
    """1 for a margin above 0, ½ for one of 0, else 0, (n,): their mean is the preference accuracy."""
    return np.heaviside(np.asarray(margins, dtype=float), 0.5)


def divergence(
    model: GPT, reference: GPT, prompts: Sequence[tuple[str, list[int]]], stop: set[int], seed: int
) -> list[dict[str, Any]]:
    """Each (id, prompt ids)'s {"id", "nats", "tokens"}: KL(model ‖ reference) summed along one answer of the model."""
    n_ctx = min(model.config.n_ctx, reference.config.n_ctx)
    max_new_tokens = min(MAX_NEW_TOKENS, n_ctx // 2)
    fitting = [(id, prompt) for id, prompt in prompts if len(prompt) + max_new_tokens <= n_ctx]
    completions = generate(
        model,
        [prompt for _, prompt in fitting],
        max_new_tokens=max_new_tokens,
        stop=stop,
        sampling=Sampling(temperature=1, seed=seed),
    )
    rows = [prompt + completion.ids for (_, prompt), completion in zip(fitting, completions, strict=True)]
    nats = _row_divergence(model, reference, rows, [len(prompt) for _, prompt in fitting])
    return [
        {"id": id, "nats": nats[i], "tokens": len(completion.ids)}
        for i, ((id, _), completion) in enumerate(zip(fitting, completions, strict=True))
    ]


@torch.inference_mode()
def _row_divergence(model: GPT, reference: GPT, rows: Sequence[Sequence[int]], known: Sequence[int]) -> list[float]:
    """KL of the next-token distributions at the positions that predict each row's ids after its first `known`."""
    result = [0.0] * len(rows)
    for places, ids, wanted in batches(model, rows, known):
        x, y = model.hidden(ids[:, :-1])[wanted], reference.hidden(ids[:, :-1])[wanted]  # (N, C)
        each = torch.cat(
            [
                F.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True).sum(-1)
                for p, q in (
                    (model.head(ours).double(), reference.head(theirs).double())
                    for ours, theirs in zip(x.split(chunk(model)), y.split(chunk(model)), strict=True)
                )
            ]
        )  # (N,)
        for i, row in zip(places, each.split(wanted.sum(1).tolist()), strict=True):
            result[i] = float(row.sum())
    return result
