"""From a question to an answer: retrieve, put what was found into the prompt as SFT did, and generate."""

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from journey import chat
from journey.data.conversations import question_messages
from journey.data.questions import Question
from journey.errors import JourneyError
from journey.evaluate.answers import MAX_NEW_TOKENS
from journey.infer.engine import GREEDY, stream
from journey.infer.sampling import Sampling
from journey.model.gpt import GPT
from journey.retrieve.index import Hit, Index
from journey.tokenizer.formats import Tokenizer

SHOWN = 5  # sources
_RANKINGS = {"bm25": "BM25", "vectors": "vectors"}


@dataclass(frozen=True)
class Reply:
    """A question with what was found for it, ready to be answered: `stream` writes."""

    question: str
    sources: list[Hit]  # best first
    used: int  # how many of them, from the first, are in the prompt
    cut: bool  # whether the last of those lost its end
    notes: list[str]  # what a reader of the answer should know
    prompt: list[int]
    milliseconds: float  # of the search

    def text(self) -> str:
        """The sources with score and rankings, and the notes, as lines for a person."""
        width = min(50, max((len(hit.passage.title) for hit in self.sources), default=0))
        lines = []
        for number, hit in enumerate(self.sources, 1):
            found = ", ".join(f"{_RANKINGS[name]} {rank}" for name, rank in hit.ranks.items())
            piece = f"[{number}] {hit.passage.title:<{width}}  {hit.score:.4f}  {found}"
            if number <= self.used:
                piece += "  in the prompt" + (", its end cut off" if self.cut and number == self.used else "")
            lines.append(piece)
        return "\n".join([*lines, *(f"({note})" for note in self.notes)])

    def json(self) -> dict[str, Any]:
        """The same for a program."""
        sources = [
            {"title": h.passage.title, "text": h.passage.text, "score": h.score, **h.ranks} for h in self.sources
        ]
        return {"sources": sources, "used": self.used, "notes": self.notes, "search_ms": self.milliseconds}

    def stream(
        self, model: GPT, tokenizer: Tokenizer, max_new_tokens: int = MAX_NEW_TOKENS, sampling: Sampling = GREEDY
    ) -> Iterator[int]:
        """The ids of the answer, each as soon as it is known, the stop token included."""
        return stream(model, self.prompt, max_new_tokens=max_new_tokens, stop=tokenizer.stop, sampling=sampling)


def ask(
    question: str,
    index: Index,
    model: GPT,
    tokenizer: Tokenizer,
    *,
    passages: int = 1,
    max_new_tokens: int = MAX_NEW_TOKENS,
    seen: Set[str] | None = None,
) -> Reply:
    """Retrieve for a question. `passages` go into the prompt, at most as many as the context has room for beside the
    question and an answer of `max_new_tokens`; SFT trained with one. `seen` are the ids of the texts that the model's
    ancestors were trained on. JourneyError for an empty question, or one that is too long."""
    if not question.strip():
        raise JourneyError('the question is empty: ask something, as in journey ask "What does heapq.heappop do?"')
    if passages < 0 or max_new_tokens < 1:
        raise JourneyError(f"passages {passages} and max_new_tokens {max_new_tokens}: at least 0 and at least 1")
    start = time.perf_counter()
    hits = index.search(question, max(SHOWN, passages))
    milliseconds = 1000 * (time.perf_counter() - start)
    texts = [hit.passage.text for hit in hits[:passages]]
    ids, used, cut = fit(question, texts, tokenizer, model.config.n_ctx - max_new_tokens)
    notes = []
    if not hits:
        notes.append("nothing in the index has to do with this question: the answer comes from the weights alone")
    elif texts and not used:
        notes.append("the question leaves no room for a passage: the answer comes from the weights alone")
    text = index.facts["text"]
    if seen is not None and text["id"] not in seen:
        notes.append(f'the index was built from "{text["name"]}", a text that this model was never trained on')
    return Reply(question, hits, used, cut, notes, ids, milliseconds)


def fit(question: str, passages: Sequence[str], tokenizer: Tokenizer, limit: int) -> tuple[list[int], int, bool]:
    """The ids of a prompt of at most `limit` tokens, how many of the passages are in it, and whether the last of those
    was cut: as many whole ones as fit and the beginning of the next. JourneyError if not even the question fits."""
    tokenizer.eos  # noqa: B018  (a tokenizer that was not made for chat says so here)
    ids = prompt(question, "", tokenizer)
    if len(ids) > limit:
        raise JourneyError(
            f"the question is {len(ids) - limit} tokens too long: beside the answer the context leaves {limit}: "
            "shorten it, or ask for a shorter answer"
        )
    for used, passage in enumerate(passages):

        def with_first(n: int, before: Sequence[str] = passages[:used], passage: str = passage) -> list[int]:
            return prompt(question, "\n\n".join([*before, passage[:n].rstrip()]), tokenizer)

        if len(with_first(len(passage))) > limit:
            n = bisect_right(range(1, len(passage)), limit, key=lambda n: len(with_first(n)))  # characters that fit
            return (with_first(n), used + 1, True) if passage[:n].strip() else (ids, used, False)
        ids = with_first(len(passage))
    return ids, len(passages), False


def prompt(question: str, passage: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a question as SFT trained on it: the passage first, if there is one, then a blank line."""
    asked = Question(id="", question=question, answer="", passage=passage, named=False)
    return chat.encode_prompt(question_messages(asked, with_passage=bool(passage))[:-1], tokenizer)
