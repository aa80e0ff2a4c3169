"""What a model answers: how surprised it is by the documented answer, whether it stops by itself, and what it says.

A model that was never fine-tuned is asked in the same chat format: what the format costs it is part of the comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from journey import chat
from journey.data.conversations import question_messages
from journey.data.questions import Question
from journey.evaluate.agreement import f1
from journey.evaluate.perplexity import token_nats
from journey.infer.engine import generate
from journey.infer.sampling import Sampling
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer

MAX_NEW_TOKENS = 64
CONVENTION = (
    "nats of the whole documented answer and its <|end|>, given the question in the chat format: with its passage, "
    "with the passage of another held-out question, and with none; a passage that does not fit loses its end"
)


def answer_losses(
    model: GPT, tokenizer: Tokenizer, questions: Sequence[Question], seed: int = 0
) -> list[dict[str, Any]]:
    """Each question's {"id", "named", "tokens", "right", "shuffled", "none"}, by `CONVENTION`.

    `tokens` are the answer's. A question that does not fit the context even without a passage is left out.
    """
    passages = {
        "right": [question.passage for question in questions],
        "shuffled": other_passages(questions, seed),
        "none": [""] * len(questions),
    }
    return losses_given(model, tokenizer, questions, passages)


def losses_given(
    model: GPT, tokenizer: Tokenizer, questions: Sequence[Question], passages: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """As `answer_losses`, with passages of any kinds: each kind has one for each question, "" for none."""
    limit = model.config.n_ctx + 1
    asked, rows, known = [], [], []
    for i, question in enumerate(questions):
        if len(_render(replace(question, passage=""), tokenizer, limit)[0]) > limit:
            continue
        rendered = [_render(replace(question, passage=kind[i]), tokenizer, limit) for kind in passages.values()]
        asked.append(question)
        rows += [ids for ids, _ in rendered]
        known += [mask.index(1) for _, mask in rendered]  # the answer comes last
    losses = token_nats(model, rows, known)
    n = len(passages)
    return [
        {"id": question.id, "named": question.named, "tokens": len(losses[n * i])}
        | {kind: float(losses[n * i + k].sum()) for k, kind in enumerate(passages)}
        for i, question in enumerate(asked)
    ]


def other_passages(questions: Sequence[Question], seed: int) -> list[str]:
    """For each question the passage of another, never an equal one: the different passages form one random ring and
    each question gets the next on it. With a single passage there is no other: it gets none."""
    passages = sorted({question.passage for question in questions})
    if len(passages) < 2:
        return [""] * len(questions)
    ring = np.random.default_rng(seed).permutation(len(passages))
    following = {passages[here]: passages[there] for here, there in zip(ring, np.roll(ring, -1), strict=True)}
    return [following[question.passage] for question in questions]


def endings(
    model: GPT, tokenizer: Tokenizer, questions: Sequence[Question], max_new_tokens: int = MAX_NEW_TOKENS
) -> list[dict[str, Any]]:
    """Each question's greedy answer without a passage, {"id", "ended", "tokens", "text", "f1"}: `ended` when the model
    itself wrote <|end|> or <|endoftext|> within `max_new_tokens` (half the context at most), `f1` its words against the
    documented answer's. Prompts too long are left out."""
    max_new_tokens = min(max_new_tokens, model.config.n_ctx // 2)
    prompts = [chat.encode_prompt(question_messages(q, with_passage=False)[:-1], tokenizer) for q in questions]
    asked = [i for i, ids in enumerate(prompts) if len(ids) + max_new_tokens <= model.config.n_ctx]
    completions = generate(
        model,
        [prompts[i] for i in asked],
        max_new_tokens=max_new_tokens,
        stop=tokenizer.stop,
        sampling=Sampling(temperature=0),
    )
    return [
        {
            "id": questions[i].id,
            "ended": completion.ended,
            "tokens": len(completion.ids),
            "text": (text := _text(completion.ids, tokenizer)),
            "f1": f1(text, questions[i].answer),
        }
        for i, completion in zip(asked, completions, strict=True)
    ]


def samples(
    model: GPT, tokenizer: Tokenizer, prompts: Sequence[tuple[str, str]], seed: int = 0
) -> list[dict[str, str]]:
    """{"prompt", "kind", "text"} of each (kind, prompt): a "text" is gone on with, a "chat" answered. Temperature 0.8,
    top-k 50, 64 tokens (half the context at most); the same seed and prompts draw alike from every model. A prompt too
    long loses its beginning."""
    max_new_tokens = min(MAX_NEW_TOKENS, model.config.n_ctx // 2)
    ids = [
        [tokenizer.bos, *tokenizer.encode(prompt)]
        if kind == "text"
        else chat.encode_prompt([{"role": "user", "content": prompt}], tokenizer)
        for kind, prompt in prompts
    ]
    completions = generate(
        model,
        [row[-(model.config.n_ctx - max_new_tokens) :] for row in ids],
        max_new_tokens=max_new_tokens,
        stop=tokenizer.stop,
        sampling=Sampling(temperature=0.8, top_k=50, seed=seed),
    )
    return [
        {"prompt": prompt, "kind": kind, "text": _text(completion.ids, tokenizer)}
        for (kind, prompt), completion in zip(prompts, completions, strict=True)
    ]


def _render(question: Question, tokenizer: Tokenizer, limit: int) -> tuple[list[int], list[int]]:
    """Ids and answer mask of a question, its passage cut at the end until `limit` ids are enough."""
    while True:
        ids, mask = chat.render(question_messages(question, with_passage=bool(question.passage)), tokenizer)
        if len(ids) <= limit or not question.passage:
            return ids, mask
        question = replace(question, passage=question.passage[: -(len(ids) - limit)])  # a token is a character or more


def _text(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """What was written, without the token that ended it."""
    return tokenizer.decode([i for i in ids if i not in tokenizer.stop])
