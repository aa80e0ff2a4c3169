"""What a row was taken for, in words: the columns that were read, and whose they are where that is known."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from journey.data.openassistant import is_tree
from journey.data.schemas import (
    AFTER,
    BEFORE,
    CONTENT,
    CONVERSATIONS,
    EXCHANGES,
    PREFERRED_FOR,
    SPEAKER,
    SYSTEMS,
    TOOLS,
    TRANSCRIBED,
    Row,
    asked_and_answered,
    given,
    is_preference,
    names_of_answers,
)

KNOWN = {
    "instruction, context -> response": "Dolly-15k",
    "instruction, input -> output": "Alpaca",
    "system_prompt, question -> response": "OpenOrca",
    "conversations of from, value": "ShareGPT, SlimOrca",
    "messages of role, content": "OpenAI",
    "messages of role, content, tool_calls": "OpenAI",
    "prompt -> completion": "TRL",
    "prompt -> chosen, rejected": "UltraFeedback, TRL",
    "transcripts -> chosen, rejected": "HH-RLHF",
    "a tree of replies -> its best-ranked path": "OpenAssistant",
}


def schema_of_conversation(row: Row) -> str:
    """Of a row, its columns in lower case, that `conversations.conversation` could read."""
    if is_tree(row):
        return _known("a tree of replies -> its best-ranked path")
    if is_preference(row):
        return schema_of_pair(row)
    around = [name for name in (*SYSTEMS, "history", *TOOLS) if name in row]
    if name := given(row, CONVERSATIONS):
        return _known(", ".join([*around, f"{name} of {_keys(row[name])}"]))
    asked, answered = asked_and_answered(row)
    before, after = (
        [name for name in names.get(asked, ()) if name in row and name != answered] for names in (BEFORE, AFTER)
    )
    return _known(f"{', '.join([*around, *before, asked, *after])} -> {answered}")


def schema_of_pair(row: Row) -> str:
    """Of a row that `preferences.pair` could read."""
    names = names_of_answers(row)
    answer = row[names[0]]
    inside = "transcripts" if isinstance(answer, str) and TRANSCRIBED.match(answer) else "conversations"
    asked = given(row, (*PREFERRED_FOR, *CONVERSATIONS)) or inside
    around = [name for name in (*SYSTEMS, "history", *TOOLS) if name in row]
    return _known(f"{', '.join([*around, asked])} -> {', '.join(names)}")


def counted(schemas: Sequence[str], what: str) -> str:
    """`instruction, context -> response (Dolly-15k): 15,003 conversations`; of several schemas the number of each."""
    counts = Counter(schemas)
    each = "; ".join(f"{schema}: {n:,}" for schema, n in counts.most_common())
    return f"{each} {what}" if len(counts) == 1 else f"{len(schemas):,} {what}: {each}"


def _known(schema: str) -> str:
    return f"{schema} ({KNOWN[schema]})" if schema in KNOWN else schema


def _keys(messages: Any) -> str:
    """The keys of messages that were read."""
    if isinstance(messages, str):
        return "messages as JSON"
    known = [*SPEAKER, *CONTENT, *(name for pair in EXCHANGES for name in pair), "tool_calls"]
    some = [message for message in messages if isinstance(message, dict)]
    return ", ".join(dict.fromkeys(key for key in known if any(message.get(key) is not None for message in some)))
