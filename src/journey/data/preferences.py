"""Preferences from the schemas that they come in: what was asked, the answer chosen and the one rejected."""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from journey import chat
from journey.data.detected import counted, schema_of_pair
from journey.data.instructions import language_of, read
from journey.data.records import read_back
from journey.data.rows import Say, Unusable, unheard
from journey.data.schemas import (
    CONVERSATIONS,
    PREFERRED_FOR,
    TRANSCRIBED,
    Messages,
    Row,
    as_messages,
    checked,
    columns,
    expected,
    given,
    names_of_answers,
    question,
    told,
    turns,
)
from journey.errors import JourneyError
from journey.files import digest, write_lines

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Pair:
    """Messages that end where the assistant is to answer, and two answers of one message each."""

    id: str
    prompt: Messages
    chosen: Messages
    rejected: Messages
    chosen_score: float | None = None
    rejected_score: float | None = None


def load(path: str | Path, strict: bool = False, say: Say = unheard) -> tuple[list[Pair], Counter[str]]:
    """The pairs of a file or a named set (`instructions.named`), and how many rows were left out for which reason.

    A row holds two answers, under one of PREFERRED, as text, as messages or as transcripts ("\\n\\nHuman: …
    \\n\\nAssistant: …"), and what was asked under one of PREFERRED_FOR, as messages, or both answers begin with it.
    Left out, and said, are rows that cannot be used, two equal answers and repetitions among them. JourneyError for a
    file with nothing left, and when `strict` for the first row that cannot be used, with file and line.
    """
    found, left_out = placed(path, strict, say)
    different: dict[str, Pair] = {}
    for one in found:
        different.setdefault(digest([one.pair.prompt, one.pair.chosen, one.pair.rejected]), one.pair)
    if repeated := len(found) - len(different):
        left_out["repeated"] = repeated
        say(f"{path}: {repeated:,} preferences left out that repeat another")
    return [*different.values()], left_out


class Placed(NamedTuple):
    """A pair, where it stands (file and line), the schema of its row, and the language that its row says."""

    pair: Pair
    where: str
    schema: str
    language: str


def placed(path: str | Path, strict: bool = False, say: Say = unheard) -> tuple[list[Placed], Counter[str]]:
    """The pairs of a file as `load` reads them, repeated ones among them, each with what is known of its row."""

    def make(record: object, where: str) -> Placed:
        return Placed(pair(record, where), where, schema_of_pair(columns(record, where)), language_of(record))

    found, left_out = read(path, make, strict, say, lambda some: counted([one.schema for one in some], "preferences"))
    if not found:
        raise JourneyError(f"{path}: no preferences in this file")
    return found, left_out


def pair(record: object, where: str) -> Pair:
    """One record as a Pair; `where`, its file and line, opens the message of Unusable."""
    row = columns(record, where)
    names = names_of_answers(row)
    if not names[0]:
        raise expected(row, where, "chosen and rejected, and a prompt or an instruction")
    asked = _asked(row, where)
    chosen, rejected = _without_question(asked, *(_answer(row, name, where) for name in names))
    both: Messages = []
    while chosen and rejected and _same(chosen[0], rejected[0]):
        both, chosen, rejected = [*both, chosen[0]], chosen[1:], rejected[1:]
    if not chosen and not rejected:
        raise Unusable("equal answers", f"{where}: the two answers are equal")
    if not asked and not both and (name := given(row, CONVERSATIONS)):
        asked = turns(row[name], f"{where}, {name}")
    if not (asked := _joined(asked, both, where)):
        raise Unusable(
            "nothing asked",
            f"{where}: says nowhere what was asked; give a prompt, or answers that begin with it",
        )
    asked = told(row, asked, where)
    if [m["role"] for m in chosen] != ["assistant"] or [m["role"] for m in rejected] != ["assistant"]:
        raise Unusable("not one answer each", f"{where}: the answers are not one message each after the same ones")
    if asked[-1]["role"] == "assistant":
        raise Unusable(
            "nothing asked last", f"{where}: the prompt ends with the assistant's own message: end it with the user's"
        )
    asked, chosen, rejected = map(_unweighed, (asked, chosen, rejected))
    for answer in (chosen, rejected):
        checked([*(message | {"weight": 0} for message in asked), *answer], where)
    chosen_score, rejected_score = (_score(row, column) for column in ("chosen", "rejected"))
    named = isinstance(record, dict) and record.get("id")
    id = str(named) if named and isinstance(named, str | int | float) else digest([asked, chosen, rejected])[:16]
    return Pair(id, asked, chosen, rejected, chosen_score, rejected_score)


def _asked(row: Row, where: str) -> Messages:
    """What the columns ask, if any does."""
    name = given(row, PREFERRED_FOR)
    if name is None:
        return []
    if isinstance(row[name], dict) and "messages" in row[name]:  # OpenAI's
        inside = columns(row[name], where)
        return told(inside, turns(inside["messages"], f"{where}, {name}"), where)
    if said := _transcript(row[name]):
        # "… \n\nAssistant:" is how a transcript asks for the answer.
        return said[:-1] if said[-1] == {"role": "assistant", "content": ""} else said
    return question(row, name, where)


def _answer(row: Row, column: str, where: str) -> Messages:
    return _transcript(row[column]) or as_messages(row[column], "assistant", where, column)


def _transcript(value: object) -> Messages:
    """The messages of "\\n\\nHuman: … \\n\\nAssistant: …", none for anything else."""
    before, *turns = TRANSCRIBED.split(value) if isinstance(value, str) else ("",)
    if before:
        return []
    messages: Messages = []
    for speaker, said in zip(turns[::2], turns[1::2], strict=True):
        if messages and messages[-1]["role"] == _ROLES[speaker]:  # spoke twice in a row
            messages[-1]["content"] += "\n\n" + said.strip()
        else:
            messages.append({"role": _ROLES[speaker], "content": said.strip()})
    return messages


def _same(chosen: Row, rejected: Row) -> bool:
    """Whether two messages are one that both answers begin with; two answers may differ in white space alone."""
    return chosen == rejected or (chosen["role"] != "assistant" and _alike(chosen, rejected))


def _alike(one: Row, other: Row) -> bool:
    """Equal but for white space around."""
    return one["role"] == other["role"] and one["content"].strip() == other["content"].strip()


def _joined(asked: Messages, both: Messages, where: str) -> Messages:
    """What was asked, each message once: the columns may say what both answers begin with, or a part of it."""
    systems = [some[0] for some in (asked, both) if some and some[0]["role"] == "system"]
    if len(systems) == 2 and not _alike(*systems):
        raise Unusable("two system messages", f"{where}: the prompt and the answers begin with different ones")
    before, after = (some[1:] if some and some[0]["role"] == "system" else some for some in (asked, both))
    return [*systems[:1], *_overlapped(before, after, where)]


def _overlapped(before: Messages, after: Messages, where: str) -> Messages:
    """Two conversations as one: where the second holds the first, or goes on from its end."""

    def alike(some: Messages, others: Messages) -> bool:
        return len(some) == len(others) and all(map(_alike, some, others))

    if any(alike(before, after[start : start + len(before)]) for start in range(len(after))):
        return after
    for common in range(min(len(before), len(after)), 0, -1):
        if alike(before[-common:], after[:common]):
            return [*before[:-common], *after]
    if before and after and before[-1]["role"] == after[0]["role"] == "user":
        raise Unusable("two questions", f"{where}: the prompt asks something else than the answers begin with")
    return [*before, *after]


def _without_question(asked: Messages, chosen: Messages, rejected: Messages) -> tuple[Messages, Messages]:
    """The answers, without the question where both begin with it. (One word may begin them by chance.)"""
    question = asked[-1]["content"].strip() if asked else ""
    answers = [answer[0]["content"].strip() for answer in (chosen, rejected) if len(answer) == 1]
    rest = [answer[len(question) :] for answer in answers if answer.startswith(question)]
    if len(question.split()) < 2 or len(rest) < 2 or not all(some[:1].isspace() for some in rest):
        return chosen, rejected
    cut = [[answer[0] | {"content": some.strip()}] for answer, some in zip((chosen, rejected), rest, strict=True)]
    return cut[0], cut[1]


def _unweighed(messages: Messages) -> Messages:
    """Without the weights of training on conversations: here the chosen and the rejected answer alone are weighed."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _score(row: Row, column: str) -> float | None:
    """A score by its name in our own files and TRL's, or in UltraFeedback's."""
    metadata = row.get("metadata")
    for place in (row, metadata if isinstance(metadata, dict) else {}):
        for name in (f"{column}_score", f"score_{column}"):
            score = place.get(name)
            if isinstance(score, int | float) and abs(score) <= sys.float_info.max:
                return float(score)
    return None


def save(pairs: Iterable[Pair], path: Path) -> None:
    """One JSON object a line, in TRL's conversational preference format."""
    write_lines(path, pairs)


def saved(path: Path) -> list[Pair]:
    """The pairs that `save` wrote, as they were: of a model's own answers one may be empty."""
    return read_back(path, Pair)


def encode(pair: Pair, tokenizer: "Tokenizer") -> tuple[list[int], list[int], list[int]]:
    """Ids of the prompt, up to where the answer begins, and of the two answers, each with its <|end|>."""
    prompt = chat.encode_prompt(pair.prompt, tokenizer)
    chosen, rejected = (
        chat.render([*pair.prompt, *answer], tokenizer)[0][len(prompt) :] for answer in (pair.chosen, pair.rejected)
    )
    return prompt, chosen, rejected
