"""Preferences from the schemas that they come in: what was asked, the answer chosen and the one rejected."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey import chat
from journey.data.conversations import Messages, records, text, turn
from journey.errors import JourneyError
from journey.files import digest, write_text

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
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


def load(path: str | Path) -> tuple[list[Pair], dict[str, int]]:
    """The pairs of a .jsonl, .jsonl.gz, .json or .parquet file, and how many were left out for which reason.

    A record holds `chosen` and `rejected`, as text, as messages or as transcripts ("\\n\\nHuman: … \\n\\nAssistant: …")
    and what was asked as `prompt` (text or messages) or `instruction` and `input`; where it holds neither, the answers
    begin with it. Left out: two equal answers, two that are not one message each after the same messages, repetitions.
    A record that fits no schema raises JourneyError with the file and the line; so does a file with nothing left.
    """
    path = Path(path)
    pairs: list[Pair] = []
    left_out = {"equal answers": 0, "not one answer each": 0, "repeated": 0}
    seen: set[str] = set()
    for where, record in records(path):
        found = pair(record, f"{path}, {where}")
        if isinstance(found, str):
            left_out[found] += 1
        elif (content := digest([found.prompt, found.chosen, found.rejected])) in seen:
            left_out["repeated"] += 1
        else:
            seen.add(content)
            pairs.append(found)
    if not pairs:
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in left_out.items() if n) or "it is empty"
        raise JourneyError(f"{path}: no preference to learn from ({reasons}); each needs two different answers")
    return pairs, left_out


def pair(record: object, where: str) -> Pair | str:
    """One record as a Pair, or why it is none; `where` opens the error message."""
    if not isinstance(record, dict):
        raise JourneyError(f"{where}: a record is an object with columns, not {type(record).__name__}")
    if "chosen" not in record or "rejected" not in record:
        columns = ", ".join(record) or "nothing"
        raise JourneyError(f"{where}: holds {columns}; expected chosen and rejected, and a prompt or an instruction")
    asked = _asked(record, where)
    chosen, rejected = (_messages(record, column, "assistant", where) for column in ("chosen", "rejected"))
    if asked and chosen[: len(asked)] == asked and rejected[: len(asked)] == asked:  # the whole conversation again
        chosen, rejected = chosen[len(asked) :], rejected[len(asked) :]
    if chosen == rejected:
        return "equal answers"
    while chosen and rejected and chosen[0] == rejected[0]:
        asked, chosen, rejected = [*asked, chosen[0]], chosen[1:], rejected[1:]
    if not asked:
        raise JourneyError(f"{where}: says nowhere what was asked; give a prompt, or answers that begin with it")
    if [m["role"] for m in chosen] != ["assistant"] or [m["role"] for m in rejected] != ["assistant"]:
        return "not one answer each"
    if asked[-1]["role"] == "assistant":
        raise JourneyError(f"{where}: the prompt ends with the assistant's own message: end it with the user's")
    chosen_score, rejected_score = (_score(record, column) for column in ("chosen", "rejected"))
    id = str(record.get("id") or digest([asked, chosen, rejected])[:16])
    return Pair(id, asked, chosen, rejected, chosen_score, rejected_score)


def _asked(record: dict[str, Any], where: str) -> Messages:
    if record.get("prompt"):
        return _messages(record, "prompt", "user", where)
    if record.get("instruction"):
        about = text(record, "input", where) if record.get("input") else ""
        asked = "\n\n".join(part for part in (text(record, "instruction", where), about) if part)
        return [{"role": "user", "content": asked}]
    return []


def _messages(record: dict[str, Any], column: str, role: str, where: str) -> Messages:
    """A column as messages: a list of them, a transcript, or a text that is one message of this role."""
    value = record[column]
    if isinstance(value, list):
        return [turn(item, f"{where}, {column}, message {number}") for number, item in enumerate(value, 1)]
    value = text(record, column, where)
    before, *turns = _SPEAKER.split(value)
    if before or not turns:
        return [{"role": role, "content": value}]
    messages: Messages = []
    for speaker, said in zip(turns[::2], turns[1::2], strict=True):
        if messages and messages[-1]["role"] == _ROLES[speaker]:  # spoke twice in a row
            messages[-1]["content"] += "\n\n" + said.strip()
        else:
            messages.append({"role": _ROLES[speaker], "content": said.strip()})
    # "… \n\nAssistant:" is how a transcript asks for the answer.
    return messages[:-1] if role == "user" and messages[-1] == {"role": "assistant", "content": ""} else messages


def _score(record: dict[str, Any], column: str) -> float | None:
    """A score by its name in our own files and TRL's, or in UltraFeedback's."""
    metadata = record.get("metadata")
    for place in (record, metadata if isinstance(metadata, dict) else {}):
        for name in (f"{column}_score", f"score_{column}"):
            if isinstance(place.get(name), int | float):
                return float(place[name])
    return None


def save(pairs: Iterable[Pair], path: Path) -> None:
    """One JSON object a line, in TRL's conversational preference format."""
    write_text(path, "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs))


def encode(pair: Pair, tokenizer: "Tokenizer") -> tuple[list[int], list[int], list[int]]:
    """Ids of the prompt, up to where the answer begins, and of the two answers, each with its <|end|>."""
    prompt = chat.encode_prompt(pair.prompt, tokenizer)
    chosen, rejected = (
        chat.render([*pair.prompt, *answer], tokenizer)[0][len(prompt) :] for answer in (pair.chosen, pair.rejected)
    )
    return prompt, chosen, rejected
