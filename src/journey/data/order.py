"""Who speaks when: one rule for conversations whose roles are out of order, which loses little and is told.

A turn is what one role says until another speaks: messages of the user in a row, or of the assistant, are joined by a
blank line, as in HH-RLHF's transcripts. An answer before anybody asked is read and not trained on.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from journey.data.rows import SHOWN, Say, Unusable, reasons
from journey.data.schemas import Messages
from journey.errors import JourneyError

Mend = Callable[[str, str], None]  # the kind of what was put in order, and file, line and what it was
JOINED, FIRST = "joined what one says in a row", "an answer before any question not trained on"


def unmended(kind: str, said: str) -> None:
    """Tells nobody."""


class Mended:
    """How many rows were put in order, and where the first of them stand."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.counts: Counter[str] = Counter()
        self.shown: list[str] = []

    def note(self, kind: str, said: str) -> None:
        """Count a row. Errors: JourneyError when rows are to be taken as they are or not at all."""
        if self.strict:
            raise JourneyError(f"{said} (without strict: {kind})")
        self.counts[kind] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(said)

    def tell(self, path: str | Path, say: Say) -> None:
        """Say what was counted."""
        if self.counts:
            say(f"{path}: roles out of order ({reasons(self.counts)})")
            for line in self.shown:
                say(f"  put in order: {line}")


def ordered(messages: Messages, where: str, mend: Mend = unmended) -> Messages:
    """The messages by the rule above; answers of which one is not to be trained on stay apart. Unusable where nothing
    is left to train on."""
    said: Messages = []
    in_a_row = 0
    for number, message in enumerate(messages, 1):
        before = said[-1] if said else {}
        alike = (message["role"], message.get("weight")) == (before.get("role"), before.get("weight"))
        if not alike or message["role"] == "tool":
            said.append(message)
            continue
        in_a_row = in_a_row or number
        parts = [content for content in (before["content"], message["content"]) if content.strip()]
        said[-1] = before | {"content": "\n\n".join(parts)}
    if in_a_row:
        role = messages[in_a_row - 1]["role"]
        mend(JOINED, f"{where}: messages {in_a_row - 1} and {in_a_row} are both the {role}'s")
    first = 1 if said[0]["role"] == "system" else 0
    if said[first]["role"] == "assistant" and said[first].get("weight") != 0:
        said[first] = said[first] | {"weight": 0}
        if all(message.get("weight") == 0 for message in said if message["role"] == "assistant"):
            raise Unusable("roles out of order", f"{where}: the assistant speaks first, and answers nobody later")
        mend(FIRST, f"{where}: the assistant speaks first")
    return said
