"""Conversations from the schemas that instruction data comes in, as lists of {"role", "content"} messages."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from journey import chat
from journey.chat import ROLES
from journey.data.hub import local
from journey.data.questions import Question
from journey.data.sources import decode, json_lines, parquet_rows
from journey.errors import JourneyError, nearest

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

Messages = list[dict[str, str]]
Item = TypeVar("Item")

HELD_OUT = {"test": 200, "dev": 128}  # of a file at most, and at most a twentieth of it each
ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "prompter": "user"}
# The columns of a schema: what is asked, what it is asked about, what is answered. The first that fits is used.
SCHEMAS = (
    ("question", "passage", "answer"),
    ("instruction", "input", "output"),
    ("instruction", "context", "response"),
    ("prompt", "", "completion"),
    ("prompt", "", "response"),
)


def load(path: str | Path) -> list[Messages]:
    """The conversations of a .jsonl, .jsonl.gz, .json (a list) or .parquet file.

    A record holds `messages` or `conversations` (ShareGPT's from and value too), or one of SCHEMAS. A record that fits
    none, or holds no answer, raises JourneyError with the file and the line (or the record's number).
    """
    path = Path(path)
    found = [conversation(record, f"{path}, {where}") for where, record in records(path)]
    if not found:
        raise JourneyError(f"{path}: no conversations in this file")
    return found


def records(path: Path) -> Iterator[tuple[str, object]]:
    """(where it stands, record) of each record in a file, or in a file of the Hub (`data.hub`)."""
    path = local(str(path))
    if not path.is_file():
        raise JourneyError(f"no such file: {path}; conversations come from {', '.join(ENDINGS)} files")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from ((f"line {line}", record) for line, record in json_lines(path))
    elif path.suffix == ".parquet":
        yield from ((f"row {number}", row) for number, row in enumerate(parquet_rows(path), 1))
    elif path.suffix == ".json":
        try:
            whole = json.loads(decode(path.read_bytes(), path))
        except json.JSONDecodeError as error:
            raise JourneyError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
        if not isinstance(whole, list):
            raise JourneyError(f"{path}: holds one {type(whole).__name__}; conversations are a JSON list of records")
        yield from ((f"record {number}", record) for number, record in enumerate(whole, 1))
    else:
        raise JourneyError(f"{path}: cannot read conversations from this kind of file; use one of {', '.join(ENDINGS)}")


def conversation(record: object, where: str) -> Messages:
    """One record as messages; `where` opens the error message."""
    if not isinstance(record, dict):
        raise JourneyError(f"{where}: a record is an object with columns, not {type(record).__name__}")
    turns = record.get("messages") or record.get("conversations")
    if turns:
        messages = [turn(item, f"{where}, message {number}") for number, item in enumerate(turns, 1)]
        if not any(message["role"] == "assistant" for message in messages):
            raise JourneyError(f"{where}: no message is the assistant's, so there is nothing to learn")
        return messages
    for asked, about, answered in SCHEMAS:
        if asked in record and answered in record:
            question, answer = text(record, asked, where), text(record, answered, where)
            context = text(record, about, where) if record.get(about) else ""
            # The passage first, as question_messages has it; an instruction's input after it, as Alpaca has it.
            parts = [context, question] if asked == "question" else [question, context]
            if not answer.strip():
                raise JourneyError(f'{where}: "{answered}" is empty')
            return exchange("\n\n".join(part for part in parts if part), answer)
    columns = ", ".join(record) or "nothing"
    raise JourneyError(
        f"{where}: holds {columns}; expected messages, question and answer, instruction and output, "
        f"or prompt and completion"
    )


def turn(item: Any, where: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise JourneyError(f'{where}: a message is {{"role": ..., "content": ...}}, not {type(item).__name__}')
    said_by = str(item.get("role", item.get("from", "")))
    role = SPEAKERS.get(said_by, said_by)
    if role not in ROLES:
        raise JourneyError(f'{where}: the role "{said_by}" is none of {", ".join(ROLES)}{nearest(said_by, ROLES)}')
    return {"role": role, "content": text(item, "content" if "content" in item else "value", where)}


def text(record: dict[str, Any], column: str, where: str) -> str:
    value = record.get(column)
    if not isinstance(value, str):
        raise JourneyError(f'{where}: "{column}" is {type(value).__name__}, not text')
    return value


def exchange(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


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


def question_messages(question: Question, with_passage: bool) -> Messages:
    """A question and its answer; with the passage, that comes first in the same turn, before a blank line."""
    asked = f"{question.passage}\n\n{question.question}" if with_passage else question.question
    return exchange(asked, question.answer)


def fit(messages: Messages, tokenizer: "Tokenizer", limit: int) -> tuple[tuple[list[int], list[int]], bool] | None:
    """Ids and mask within the limit, and whether nothing was taken away; None where that cannot be.

    An answer is never cut: without its <|end|> it would teach the model not to stop.
    """
    shorter: Messages | None = messages
    while shorter is not None:
        ids, mask = chat.render(shorter, tokenizer)
        if len(ids) <= limit:
            return (ids, mask), shorter is messages
        shorter = _shorten(shorter, len(ids) - limit)
    return None


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
