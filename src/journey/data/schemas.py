"""The columns that instruction data and preferences come in, as messages: {"role", "content"} and, where an answer is
not to be trained on, "weight": 0.

TRL's formats, OpenAI's, ShareGPT's, Alpaca's and those of LLaMA-Factory, axolotl and ms-swift. What a column tells the
model is kept, or the row is unusable: a model trained without it learns to answer what it was never asked.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from journey.chat import ROLES
from journey.data.calls import call_text, calls_of, is_calls, tools_text
from journey.data.records import excerpt, first_columns
from journey.data.rows import Unusable
from journey.errors import JourneyError, nearest
from journey.files import parse_json

Messages = list[dict[str, Any]]
Row = dict[str, Any]

SPEAKERS = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",  # ShareGPT's and ms-swift's: the call as the assistant writes it
    "tool_call": "assistant",
    "observation": "tool",
    "function": "tool",
    "tool_response": "tool",
    "developer": "system",
}
CONVERSATIONS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "contents")
SYSTEMS = ("system", "system_prompt", "system_message", "systeminstruction", "system_instruction")
TOOLS = ("tools", "functions")
BESIDE = ("image", "images", "video", "videos", "audio", "audios")  # the chat format has no place
SPEAKER, CONTENT = ("role", "from"), ("content", "value", "text", "parts")
# Two turns in one object: Capybara's and XTuner's, Firefly's.
EXCHANGES = (("input", "output"), ("human", "assistant"), ("user", "assistant"))
# OpenAI's, Mistral's and SlimOrca's; axolotl's; ChatGLM's and ms-swift's; verl's; LLaMA-Factory's.
WEIGHTS = ("weight", "train", "training", "train_on_turn", "loss", "loss_mask", "trainable", "loss_weight")
WEIGHTS_OF_PARTS = ("train_detail", "training_detail")  # axolotl's
# Question and answer: the first that fits is used, the usual ones before all others.
ASKED = ("question", "instruction", "prompt", "query", "input")
ANSWERED = ("answer", "output", "completion", "response")
FITS = (
    ("question", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    *product(ASKED, ANSWERED),
)
# What a question is about stands before it, as `conversations.question_messages` has it; an instruction's input after.
BEFORE = dict.fromkeys(("question", "query", "prompt"), ("passage", "context", "article"))
AFTER = {"instruction": ("input", "context"), "prompt": ("input",)}

# Two answers: TRL's, Argilla's and axolotl's, OpenAI's, ms-swift's; and what they answer.
PREFERRED = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
    ("response", "rejected_response"),
)
PREFERRED_FOR = ("prompt", "instruction", "question", "query", "input")
TRANSCRIBED = re.compile(r"\n\n(Human|Assistant):")  # before each turn of HH-RLHF's transcripts


def columns(record: object, where: str) -> Row:
    """A record's columns by their names in lower case; `where` opens each error message."""
    if isinstance(record, list) and record and isinstance(record[0], dict):
        record = {"messages": record}  # a conversation with nothing around it
    if not isinstance(record, dict):
        raise Unusable("no object", f"{where}: a record is an object with columns, not {type(record).__name__}")
    row = {name.lower(): value for name, value in record.items()}
    row |= {name: value for name, value in record.items() if name in row}  # of "Text" and "text" the second counts
    for name in BESIDE:
        if row.get(name) and row[name] not in ("[]", "{}", "null"):
            raise Unusable(
                "images or sound", f'{where}: the chat format has no place for "{name}", which the model is to see'
            )
    return row


def given(row: Row, names: Iterable[str]) -> str | None:
    """The first of these columns that holds something."""
    return next((name for name in names if row.get(name) and not _blank(row[name])), None)


def expected(row: Row, where: str, what: str) -> Unusable:
    """The error for columns that fit no schema."""
    also = ' ("text" is taken to be rendered already: say who says what)' if "text" in row else ""
    return Unusable("unknown columns", f"{where}: holds {first_columns(row)}; expected {what}{also}")


def told(row: Row, said: Messages, where: str) -> Messages:
    """Messages after what the columns beside them tell: a system message, which names the tools that there are, and the
    exchanges of a history."""
    name = given(row, SYSTEMS)
    system = [m | {"role": "system"} for m in as_messages(row[name], "system", where, name)] if name else []
    if system and said[:1] and said[0]["role"] == "system":
        if said[0]["content"].strip() != system[0]["content"].strip():
            raise Unusable("two system messages", f'{where}: "{name}" and the first message are two system messages')
        system = []
    if not system and said and said[0]["role"] == "system":
        system, said = said[:1], said[1:]
    if (name := given(row, TOOLS)) and row[name] not in ("[]", "{}", "null"):
        content = system[0]["content"] if system else ""
        if "<tools>" not in content:  # some list them there already
            parts = [part for part in (content, tools_text(row[name], f"{where}, {name}")) if part]
            system = [{"role": "system", "content": "\n\n".join(parts)}]
    return [*system, *_history(row, where), *said]


def _history(row: Row, where: str) -> Messages:
    """[[question, answer], ...] or messages."""
    history = _listed(row.get("history") or [], f"{where}, history")
    found: Messages = []
    for number, item in enumerate(history, 1):
        place = f"{where}, history {number}"
        if isinstance(item, dict):
            found += _said(item, place)
        elif isinstance(item, list | tuple) and len(item) == 2:
            found += exchange(text(item[0], place, "question"), text(item[1], place, "answer"))
        else:
            raise Unusable("unknown history", f"{place}: a history is [[question, answer], ...]")
    return found


def exchange(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def fits_of(row: Row) -> list[tuple[str, str]]:
    """The columns of a question and of its answer that a row has, the usual ones first."""
    return [pair for pair in FITS if pair[0] in row and pair[1] in row]


def asked_and_answered(row: Row) -> tuple[str, str]:
    """Those of them that hold something."""
    fits = fits_of(row)
    return next((pair for pair in fits if all(row[name] is not None for name in pair)), fits[0])


def names_of_answers(row: Row) -> tuple[str, str]:
    """The columns of the chosen and of the rejected answer; empty where a row has none."""
    return next((names for names in PREFERRED if names[0] in row and names[1] in row), ("", ""))


def is_preference(row: Row) -> bool:
    """Whether a row holds two answers, and no question with its own answer besides."""
    return bool(names_of_answers(row)[0]) and not fits_of(row)


def question_and_answer(row: Row, where: str) -> Messages:
    """The messages of a question's column and of its answer's, each a text or messages."""
    if not fits_of(row):
        if empty := next((name for name in CONVERSATIONS if name in row), None):
            raise Unusable("no messages", f'{where}: "{empty}" is empty')
        what = "messages, question and answer, instruction and output, or prompt and completion"
        raise expected(row, where, what)
    asked, answered = asked_and_answered(row)
    before = question(row, asked, where)
    if not before:
        raise Unusable("nothing asked", f'{where}: "{asked}" is empty')
    # An assistant's message in it is not trained on: TRL trains on the completion alone.
    before = [m | {"weight": 0} if m["role"] == "assistant" else m for m in before]
    return [*before, *as_messages(row[answered], "assistant", where, answered)]


def question(row: Row, asked: str, where: str) -> Messages:
    """What a column asks: messages, which say all themselves, or the user's text with what that is about."""
    said = as_messages(row[asked], "user", where, asked)
    if not isinstance(row[asked], str) or said != [{"role": "user", "content": row[asked]}]:
        return said
    before, after = (
        [text(row[name], where, name) for name in names.get(asked, ()) if row.get(name)] for names in (BEFORE, AFTER)
    )
    if asked == "prompt":  # is often rendered already
        before, after = ([about for about in some if about not in row[asked]] for some in (before, after))
    return [{"role": "user", "content": "\n\n".join(part for part in (*before, row[asked], *after) if part)}]


def as_messages(value: Any, role: str, where: str, column: str) -> Messages:
    """A column as messages: a list of them, one alone, either as JSON in a text, or a text that this role says."""
    if isinstance(value, str) and (parsed := _messages_in(value)) is not None:
        value = parsed
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and not _parts(value):
        return turns(value, f"{where}, {column}")
    if role == "assistant" and (value is None or _blank(value)):
        raise Unusable("empty answer", f'{where}: "{column}" is {"null" if value is None else "empty"}')
    return [{"role": role, "content": text(value, where, column)}]


def turns(value: object, where: str) -> Messages:
    """The messages of a list of them, perhaps as JSON in a text."""
    said = (_said(item, f"{where}, message {number}") for number, item in enumerate(_listed(value, where), 1))
    return [message for some in said for message in some]


def masked(messages: Messages, mask: object, where: str) -> Messages:
    """With weight 0 where LLaMA-Factory's and verl's list, one number for each message, says so."""
    if isinstance(mask, str) and not _blank(mask):
        mask = _listed(mask, f"{where}, loss_mask")
    if not isinstance(mask, list):
        return messages
    first = len(messages) - len(mask)  # a list may leave the system message out
    if first not in (0, 1) or (first and messages[0]["role"] != "system"):
        raise Unusable("unknown weight", f'{where}: "loss_mask" has {len(mask)} numbers for {len(messages)} messages')
    weights = [_weight({"loss_mask": one}, f"{where}, message {n}") for n, one in enumerate(mask, first + 1)]
    pairs = zip(messages, [{}] * first + weights, strict=True)
    return [message | weight if message["role"] == "assistant" else message for message, weight in pairs]


def checked(messages: Messages, where: str) -> Messages:
    """The messages, which `chat.render` can render and somebody can learn from."""
    for number, message in enumerate(messages, 1):
        if message["role"] == "system" and number > 1:
            raise Unusable(
                "system message not first",
                f"{where}: message {number} is a system message: it comes first or not at all",
            )
    if not any(message["role"] == "assistant" for message in messages):
        raise Unusable("no answer", f"{where}: no message is the assistant's, so there is nothing to learn")
    trained = [message for message in messages if message["role"] == "assistant" and message.get("weight") != 0]
    if not trained:
        raise Unusable("no answer of weight 1", f"{where}: no answer is to be trained on: each has weight 0")
    if any(not message["content"].strip() for message in trained):
        raise Unusable("empty answer", f"{where}: an answer is empty")
    asked = [message["content"] for message in messages if message["role"] == "user"]
    if asked and not any(content.strip() for content in asked):
        raise Unusable("nothing asked", f"{where}: what the user says is empty")
    return messages


def _said(item: Any, where: str) -> Messages:
    """One item of a conversation: a message, or an exchange of two."""
    if isinstance(item, dict):
        if any(item.get(name) is not None for name in SPEAKER):
            return [turn(item, where)]
        for asked, answered in EXCHANGES:
            if asked in item and answered in item:
                both = exchange(text(item[asked], where, asked), text(item[answered], where, answered))
                return [*as_messages(item["system"], "system", where, "system"), *both] if item.get("system") else both
    kind = "an object without a role" if isinstance(item, dict) else type(item).__name__
    raise Unusable("no message", f'{where}: a message is {{"role": ..., "content": ...}}, not {kind}')


def turn(item: Row, where: str) -> dict[str, Any]:
    """A message of any spelling in ours."""
    said_by = next(item[name] for name in SPEAKER if item.get(name) is not None)
    name = said_by.strip().lower() if isinstance(said_by, str) else type(said_by).__name__
    role = SPEAKERS.get(name, name)
    if role not in ROLES:
        hint = nearest(name[:40], ROLES)
        raise Unusable("unknown role", f'{where}: the role "{excerpt(name)}" is none of {", ".join(ROLES)}{hint}')
    calls = next((item[name] for name in ("tool_calls", "function_call") if item.get(name)), None)
    if calls and role != "assistant":
        raise Unusable("malformed tool call", f"{where}: calls a tool, which only the assistant can")
    column = next((name for name in CONTENT if item.get(name) is not None), CONTENT[0])
    content = item.get(column)
    weight = _weight(item, where) if role == "assistant" else {}
    if role == "assistant" and content is None and not calls:
        raise Unusable("empty answer", f'{where}: "{column}" is null')
    content = text("" if content is None and calls else content, where, column)
    if name in ("function_call", "tool_call") and is_calls(content):
        content, calls = "", content
    return {"role": role, "content": call_text(content, calls_of(calls, where)) if calls else content} | weight


def _weight(item: Row, where: str) -> dict[str, int]:
    """{"weight": 0} for an answer that is not to be trained on, else nothing."""
    if any(item.get(name) for name in WEIGHTS_OF_PARTS):
        raise Unusable("unknown weight", f"{where}: weighs parts of an answer, which is trained on whole or not at all")
    weights = {name: item[name] for name in WEIGHTS if item.get(name) is not None}
    for name, weight in weights.items():
        if weight not in (0, 1) and name != "loss":  # a loss of another value was measured
            raise Unusable("unknown weight", f'{where}: "{name}" is neither 0 nor 1')
    return {"weight": 0} if 0 in weights.values() else {}


def text(value: Any, where: str, column: str) -> str:
    """A text, perhaps in parts as OpenAI's and Gemini's; without halves of characters, which have no bytes."""
    if isinstance(value, list) and _parts(value):
        value = "".join(part["text"] for part in value)
    if value is None or not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        if isinstance(value, list):
            kind = "a list with parts that are no text"
        raise Unusable("not text", f'{where}: "{column}" is {kind}, not text')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(value[error.start]):04X} at character {error.start}"
        raise Unusable("half a character", f'{where}: "{column}" holds half a character ({half})') from None
    return value


def _parts(value: list[Any]) -> bool:
    """Whether a list is a text in parts, [{"type": "text", "text": ...}]."""
    return bool(value) and all(
        isinstance(part, dict)
        and isinstance(part.get("text"), str)
        and part.get("type", "text") in ("text", "input_text", "output_text")
        and not any(name in part for name in SPEAKER)
        for part in value
    )


def _listed(value: object, where: str) -> Sequence[Any]:
    """A list, perhaps as JSON in a text."""
    if isinstance(value, str):
        try:
            value = parse_json(value, where)
        except JourneyError as error:
            raise Unusable("no message", f"{error}; it should be a list of messages") from None
    if not isinstance(value, list):
        raise Unusable("no message", f"{where}: is {type(value).__name__}, not a list of messages")
    return value


def _messages_in(value: str) -> Any:
    """The messages that a text spells as JSON, else None: an answer may be any JSON."""
    if not value.lstrip().startswith(("[", "{")):
        return None
    try:
        found = parse_json(value, "")
    except JourneyError:
        return None
    some = found if isinstance(found, list) else [found]
    return found if some and all(map(_is_message, some)) else None


def _is_message(item: object) -> bool:
    if not isinstance(item, dict) or not any(name in item for name in CONTENT):
        return False
    speakers = [item[name].lower() for name in SPEAKER if isinstance(item.get(name), str)]
    return any(speaker in (*ROLES, *SPEAKERS) for speaker in speakers)


def _blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()
