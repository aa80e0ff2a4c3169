"""How well an index finds the passage that a question was made from, and what the found passage does for the answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from journey.data.questions import Question
from journey.evaluate.agreement import f1
from journey.evaluate.answers import MAX_NEW_TOKENS, losses_given, other_passages
from journey.infer.engine import generate
from journey.model.gpt import GPT
from journey.retrieve.answer import fit, prompt
from journey.retrieve.index import Index, fuse, rank
from journey.retrieve.passages import gold
from journey.tokenizer.formats import Tokenizer

CONVENTION = (
    "rank: of the question's own passage among the first 10, of all passages of the text, held-out ones included; "
    "nats of the whole documented answer and its <|end|>, given the first passage of the hybrid (retrieved), the "
    "question's own (right), another question's (shuffled) or none; f1: SQuAD's word F1 of the greedy answer "
    f"(at most {MAX_NEW_TOKENS} tokens, half the context at most) with the documented one; "
    "a passage that does not fit loses its end"
)


def measure(
    index_folder: Path, model: GPT, tokenizer: Tokenizer, questions: Sequence[Question], seed: int
) -> dict[str, Any]:
    """The "retrieval" measurement: items by question, and how they were made. Questions about another text than the
    index's are left out, and those that do not fit the context beside an answer."""
    index = Index(index_folder, model, tokenizer)
    rows = index.rows_of(gold(question) for question in questions)
    limit = model.config.n_ctx - new_tokens(model)
    asked = [q for q in questions if gold(q) in rows and len(prompt(q.question, "", tokenizer)) <= limit]
    ranks, retrieved = {}, []
    for question in asked:
        rankings = index.rankings(question.question)
        hybrid = [row for row, _ in fuse(rankings, {"bm25": 1.0, "vectors": index.weight})]
        row = rows[gold(question)]
        ranks[question.id] = {name: rank(row, found) for name, found in (rankings | {"hybrid": hybrid}).items()}
        retrieved.append(index.passage(hybrid[0]).text if hybrid else "")
    passages = {
        "retrieved": retrieved,
        "right": [question.passage for question in asked],
        "shuffled": other_passages(asked, seed),
        "none": [""] * len(asked),
    }
    items = losses_given(model, tokenizer, asked, passages)
    agreement = _agreement(model, tokenizer, asked, passages)
    return {
        "items": [item | {"rank": ranks[item["id"]], "f1": agreement[item["id"]]} for item in items],
        "passages": index.facts["passages"],
        "embedder": index.embedder(),
        "fusion": index.fusion(),
        "convention": CONVENTION,
    }


def new_tokens(model: GPT) -> int:
    """How long an answer may get."""
    return min(MAX_NEW_TOKENS, model.config.n_ctx // 2)


def _agreement(
    model: GPT, tokenizer: Tokenizer, questions: Sequence[Question], passages: dict[str, list[str]]
) -> dict[str, dict[str, float]]:
    """Question id -> F1 of the greedy answer by kind of passage."""
    n_new = new_tokens(model)
    limit = model.config.n_ctx - n_new
    prompts = {
        kind: [
            tuple(fit(question.question, [text], tokenizer, limit)[0])
            for question, text in zip(questions, texts, strict=True)
        ]
        for kind, texts in passages.items()
    }
    # What was retrieved is mostly the right passage: one prompt, answered once.
    different = list(dict.fromkeys(ids for of in prompts.values() for ids in of))
    completions = generate(model, [list(ids) for ids in different], max_new_tokens=n_new, stop=tokenizer.stop)
    answers = {
        ids: tokenizer.decode([i for i in completion.ids if i not in tokenizer.stop])
        for ids, completion in zip(different, completions, strict=True)
    }
    return {
        question.id: {kind: f1(answers[of[i]], question.answer) for kind, of in prompts.items()}
        for i, question in enumerate(questions)
    }
