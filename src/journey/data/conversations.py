"""Conversations from the schemas that instruction data comes in, as lists of {"role", "content"} messages."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from journey import chat
from journey.data.detected import counted, schema_of_conversation
from journey.data.instructions import language_of, read
from journey.data.openassistant import best_path, is_tree
from journey.data.order import Mend, Mended, ordered, unmended
from journey.data.preferences import pair
from journey.data.questions import Question
from journey.data.rows import Say, unheard
from journey.data.schemas import (
    CONVERSATIONS,
    Messages,
    checked,
    columns,
    exchange,
    given,
    is_preference,
    masked,
    question_and_answer,
    told,
    turns,
)
from journey.errors import JourneyError

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

Item = TypeVar("Item")

HELD_OUT = {"test": 200, "dev": 128}  # of a file at most, and at most a twentieth of it each


class Placed(NamedTuple):
    """A conversation, where it stands (file and line), the schema of its row, and the language that its row says."""

    messages: Messages
    where: str
    schema: str
    language: str


def load(path: str | Path, strict: bool = False, say: Say = unheard) -> tuple[list[Messages], Counter[str]]:
    """The conversations of a file or a named set (`instructions.named`), and how many rows were left out for which
    reason.

    A row holds messages under one of CONVERSATIONS, a question and its answer (`schemas`), two answers of which one is
    preferred (`preferences`), or a tree of replies (`openassistant`); an answer with "weight" 0 is not to be trained
    on. Said are the schemas found, what is left out, and what was put in order (`order`). JourneyError for a file with
    nothing left, and when `strict` for the first row that cannot be used as it is, with file and line.
    """
    found, left_out = placed(path, strict, say)
    return [one.messages for one in found], left_out


def placed(path: str | Path, strict: bool = False, say: Say = unheard) -> tuple[list[Placed], Counter[str]]:
    """The same, each with what is known of its row."""
    mended = Mended(strict)

    def make(record: object, where: str) -> Placed:
        messages = conversation(record, where, mended.note)
        return Placed(messages, where, schema_of_conversation(columns(record, where)), language_of(record))

    found, left_out = read(path, make, strict, say, lambda some: counted([one.schema for one in some], "conversations"))
    if not found:
        raise JourneyError(f"{path}: no conversations in this file")
    mended.tell(path, say)
    return found, left_out


def conversation(record: object, where: str, mend: Mend = unmended) -> Messages:
    """One record as messages; `where`, its file and line, opens the message of Unusable. `mend` is told of what was put
    in order."""
    row = columns(record, where)
    if is_tree(row):
        said = turns(best_path(row, where), where)
    elif is_preference(row):
        preferred = pair(record, where)
        # The earlier answers were not the ones compared.
        said = [m | {"weight": 0} if m["role"] == "assistant" else m for m in preferred.prompt] + preferred.chosen
        return ordered(said, where, mend)
    elif name := given(row, CONVERSATIONS):
        said = masked(turns(row[name], where), row.get("loss_mask"), where)
    else:
        said = question_and_answer(row, where)
    return ordered(checked(told(row, said, where), where), where, mend)


def first_question(messages: Messages) -> str:
    """What the user says first: conversations that begin alike belong on one side of a split."""
    return next((message["content"] for message in messages if message["role"] == "user"), "")


def split(items: Sequence[Item], seed: int, question: Callable[[Any], str] = first_question) -> dict[str, list[Item]]:
    """Conversations as "train", "dev" and "test", drawn by the seed; those with the same first question stay together.

    Whoever trains on a file and whoever measures on it hold out the same. JourneyError when too few questions differ.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(question(item), []).append(item)
    if len(groups) < 3:
        raise JourneyError(f"{len(items)} records ask {len(groups)} different questions: too few to hold some out")
    wanted = {name: min(most, math.ceil(len(items) / 20)) for name, most in HELD_OUT.items()}
    parts: dict[str, list[Item]] = {"train": [], "dev": [], "test": []}
    alike = list(groups.values())
    drawn = [alike[i] for i in np.random.default_rng((seed, 2)).permutation(len(alike))]
    parts["train"] += drawn.pop()  # so that there is something to learn, however large the other groups are
    for group in drawn:
        where = next((name for name in ("test", "dev") if len(parts[name]) < wanted[name]), "train")
        parts[where] += group
    return parts


def question_both_ways(questions: Iterable[Question]) -> list[Messages]:
    """Each question with its passage, from which a model learns to read, and without, to remember."""
    return [question_messages(question, passage) for question in questions for passage in (True, False)]


def question_messages(question: Question, with_passage: bool) -> Messages:
    """A question and its answer; with the passage, that comes first in the same turn, before a blank line."""
    asked = f"{question.passage}\n\n{question.question}" if with_passage else question.question
    return exchange(asked, question.answer)


class Fitted(NamedTuple):
    """A conversation as a model of some context sees it: its ids and what of them is trained on, and how many tokens it
    had whole. No `messages` where it does not fit, however much is taken away."""

    messages: Messages | None
    ids: list[int]
    mask: list[int]
    length: int


def fitted(messages: Messages, tokenizer: "Tokenizer", limit: int) -> Fitted:
    """A conversation of at most `limit` tokens. An answer is never cut: without its <|end|> it would teach the model
    not to stop."""
    shorter: Messages | None = messages
    length = 0
    while shorter is not None:
        ids, mask = chat.render(shorter, tokenizer)
        length = length or len(ids)
        if len(ids) <= limit:
            return Fitted(shorter, ids, mask, length)
        shorter = _shorten(shorter, len(ids) - limit)
    return Fitted(None, [], [], length)


def fit(messages: Messages, tokenizer: "Tokenizer", limit: int) -> tuple[tuple[list[int], list[int]], bool] | None:
    """Ids and mask of `fitted`, and whether nothing was taken away; None where it does not fit."""
    found = fitted(messages, tokenizer, limit)
    return None if found.messages is None else ((found.ids, found.mask), found.messages is messages)


def _shorten(messages: Messages, excess: int) -> Messages | None:
    """Without the oldest exchange, as a chat forgets; of the last one, with the end of the text it is about cut off.

    That text is the longer side of the last blank line: a passage before its question, or what an instruction is for.
    """
    asked = [i for i, message in enumerate(messages) if message["role"] == "user"]
    if len(asked) > 1:
        return messages[: asked[0]] + messages[asked[1] :]
    if not asked:
        return None
    before, blank, after = messages[asked[0]]["content"].rpartition("\n\n")
    if not blank:
        return None
    # A token is rarely less than a character, so too little is cut, and then more.
    if len(before) >= len(after):
        before = before[:-excess].rstrip()
    else:
        after = after[:-excess].rstrip()
    content = blank.join(part for part in (before, after) if part)
    return [*messages[: asked[0]], {"role": "user", "content": content}, *messages[asked[0] + 1 :]]
