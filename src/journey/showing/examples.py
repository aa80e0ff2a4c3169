"""Examples as training makes them, by the code that it makes them with: their tokens, what is trained on, what was cut.

What fits and what is taken away is decided by `conversations.fitted`, as in sft; pairs are never cut, as in dpo.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from journey.data import conversations, preferences
from journey.files import digest

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

TOO_LONG = "too long"
NO_ANSWER = "nothing to train on"


class Part(NamedTuple):
    """Tokens in a row: a whole conversation, or of a pair the prompt or an answer, which `name` says."""

    name: str
    ids: list[int]
    mask: list[int]  # 1 where a token is trained on


@dataclass(frozen=True)
class Example:
    """A row as the model will see it. `cut` says what was taken away, `left_out` in two words why it is not trained on:
    its parts are then whole."""

    where: str
    schema: str
    language: str  # as the row says it
    messages: conversations.Messages  # of the row, whole
    parts: tuple[Part, ...]
    length: int  # tokens of the row, whole; of a pair with its longer answer
    cut: str = ""
    left_out: str = ""

    @property
    def trained(self) -> int:
        """How many tokens are trained on."""
        return sum(sum(part.mask) for part in self.parts)

    @property
    def tokens(self) -> int:
        """How many tokens the model sees; of a pair the prompt counts once."""
        return sum(len(part.ids) for part in self.parts)

    @property
    def question(self) -> str:
        """What is asked first."""
        return conversations.first_question(self.messages)

    def key(self) -> str:
        """Equal for rows that say the same."""
        return digest([[message["role"], message["content"]] for message in self.messages])


def of_conversation(placed: conversations.Placed, tokenizer: "Tokenizer", limit: int) -> Example:
    """A conversation in a context of `limit` tokens."""
    found = conversations.fitted(placed.messages, tokenizer, limit)
    ids, mask, left_out = found.ids, found.mask, ""
    if found.messages is None:
        ids, mask = conversations.fitted(placed.messages, tokenizer, found.length)[1:3]
        left_out = TOO_LONG
    elif not any(mask):
        left_out = NO_ANSWER
    cut = _taken(placed.messages, found.messages) if found.messages else ""
    about = (placed.where, placed.schema, placed.language, placed.messages)
    return Example(*about, (Part("", ids, mask),), found.length, cut, left_out)


def _taken(before: conversations.Messages, after: conversations.Messages) -> str:
    """What shortening took away, in words."""
    asked, left = ([message["content"] for message in some if message["role"] == "user"] for some in (before, after))
    said = []
    if older := len(asked) - len(left):
        said.append(f"the oldest {older} exchange{'s' * (older > 1)} left out")
    if lost := len("".join(asked[-len(left) :])) - len("".join(left)):
        said.append(f"the last {lost:,} characters of what the question is about cut off")
    return ", ".join(said)


def of_pair(placed: preferences.Placed, tokenizer: "Tokenizer", limit: int) -> Example:
    """A pair in a context of `limit` tokens."""
    prompt, chosen, rejected = preferences.encode(placed.pair, tokenizer)
    length = len(prompt) + max(len(chosen), len(rejected))
    parts = (
        Part("prompt", prompt, [0] * len(prompt)),
        Part("chosen", chosen, [1] * len(chosen)),
        Part("rejected", rejected, [1] * len(rejected)),
    )
    messages = [*placed.pair.prompt, *placed.pair.chosen]
    about = (placed.where, placed.schema, placed.language, messages)
    return Example(*about, parts, length, left_out=TOO_LONG if length > limit else "")


class Token(NamedTuple):
    """A token as it is shown: special ones by their name, others by their text with spaces as they are."""

    id: int
    text: str
    trained: bool
    special: bool


def tokens(part: Part, tokenizer: "Tokenizer") -> list[Token]:
    """The tokens of a part."""
    from journey.tokenizer.explain import label

    special = {id: name for name, id in tokenizer.special.items()}
    found = []
    for id, trained in zip(part.ids, part.mask, strict=True):
        text = special.get(id) or " ".join(label(piece) for piece in tokenizer.spelled(id).split(b" "))
        found.append(Token(id, text, bool(trained), id in special))
    return found


def turns(shown: Sequence[Token]) -> list[list[Token]]:
    """Tokens cut before each mark that opens a message."""
    from journey import chat

    marks = {chat.mark(role) for role in chat.ROLES}
    lines: list[list[Token]] = []
    for token in shown:
        if not lines or (token.special and token.text in marks):
            lines.append([])
        lines[-1].append(token)
    return lines


def as_json(example: Example, tokenizer: "Tokenizer") -> dict[str, Any]:
    """An example for a program."""
    parts = [
        {"name": p.name, "ids": p.ids, "trained": p.mask, "tokens": [token.text for token in tokens(p, tokenizer)]}
        for p in example.parts
    ]
    return {
        "where": example.where,
        "schema": example.schema,
        "roles": [message["role"] for message in example.messages],
        "length": example.length,
        "cut": example.cut,
        "left_out": example.left_out,
        "parts": parts,
    }
