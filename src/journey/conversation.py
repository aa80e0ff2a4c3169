"""Talking with a model: turns that fit its context, and the loop of `journey chat`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from journey import chat
from journey.errors import JourneyError, nearest

if TYPE_CHECKING:
    from journey.infer.sampling import Sampling
    from journey.tokenizer.formats import Tokenizer

Writes: TypeAlias = "Callable[[list[int], int, Sampling], Iterator[int]]"
"""A prompt, how many tokens at most, how they are drawn: the ids, one by one."""

COMMANDS = {
    "/reset": "forget the conversation",
    "/exit": "leave (Ctrl-D too)",
    "/help": "this list; Ctrl-C stops an answer",
}

# What a terminal would obey and not show: a model that writes random bytes must not be able to move its cursor.
VISIBLE = dict.fromkeys(range(0x80, 0xA0), 0xFFFD) | {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
VISIBLE |= {ord(char): ord(char) for char in "\n\t"}


class Conversation:
    """The turns of a chat, and the part of them that fits the context with room for an answer."""

    def __init__(self, tokenizer: Tokenizer, n_ctx: int, max_new_tokens: int, system: str | None = None) -> None:
        marks = [chat.END, *map(chat.mark, chat.ROLES)]
        if missing := [mark for mark in marks if mark not in tokenizer.special]:
            raise JourneyError(f"this tokenizer has no {', '.join(missing)}: chat with a node that was made for it")
        if max_new_tokens < 1:
            raise JourneyError(f"max_new_tokens is {max_new_tokens}: an answer needs at least 1")
        self.tokenizer = tokenizer
        self.n_ctx = n_ctx
        self.max_new_tokens = max_new_tokens
        self.system = [] if system is None else [{"role": "system", "content": system}]
        self.turns: list[dict[str, str]] = []
        self.forgotten = 0  # turns that the last prompt had to leave out
        if self._excess([{"role": "user", "content": ""}]) > 0:
            raise JourneyError(
                f"no room for a question: the context is {n_ctx} tokens and an answer may have {max_new_tokens}"
                f"{'' if system is None else ' beside the system message'}: ask for shorter answers"
            )

    def add(self, role: str, content: str) -> None:
        """Append a turn of the user, the assistant or a tool."""
        if role not in chat.ROLES or role == "system":
            raise JourneyError(f'"{role}" cannot be added to a conversation (only user, assistant and tool)')
        self.turns.append({"role": role, "content": content})

    def reset(self) -> None:
        """Forget every turn; the system message stays."""
        self.turns = []
        self.forgotten = 0

    def prompt(self) -> list[int]:
        """The ids after which the next answer is written: at most n_ctx − max_new_tokens.

        The oldest turns, always a question with all that follows it, are left out until the rest fits. A last question
        that does not fit alone raises JourneyError, saying by how much.
        """
        questions = [i for i, turn in enumerate(self.turns) if turn["role"] == "user"]
        if not questions:
            raise JourneyError("there is no question to answer: add a turn of the user first")
        for start in questions:
            if self._excess(self.turns[start:]) <= 0:
                self.forgotten = start
                return chat.encode_prompt([*self.system, *self.turns[start:]], self.tokenizer)
        excess = self._excess(self.turns[questions[-1] :])
        raise JourneyError(
            f"the question is {excess} token{'s' * (excess > 1)} too long: the context of {self.n_ctx} leaves "
            f"{self.n_ctx - self.max_new_tokens} beside an answer of up to {self.max_new_tokens}: shorten it, "
            "or ask for shorter answers"
        )

    def _excess(self, turns: list[dict[str, str]]) -> int:
        """By how many tokens these turns and an answer are longer than the context."""
        ids = chat.encode_prompt([*self.system, *turns], self.tokenizer)
        return len(ids) + self.max_new_tokens - self.n_ctx


def chat_loop(
    answer: Writes,
    tokenizer: Tokenizer,
    conversation: Conversation,
    sampling: Sampling,
    read: Callable[[str], str],
    write: Callable[[str], None],
) -> None:
    """Ask and answer until `read(prompt)` raises EOFError (Ctrl-D) or the user says /exit.

    `answer` writes, as an engine does. `read` gives a line without its end, as `input` does; `write` gets text as it is
    made, line ends included. Each answer has a seed of its own, so that a question asked twice is answered anew and a
    whole chat can be repeated.
    """
    write("/help lists the commands, Ctrl-D leaves\n")
    answers = 0
    while True:
        try:
            line = read("› ").strip()
        except EOFError:
            write("\n")
            return
        except KeyboardInterrupt:
            write("\n(Ctrl-D leaves)\n")
            continue
        if line == "/exit":
            return
        if re.fullmatch(r"/\w+", line):
            _obey(line, conversation, write)
        elif line:
            turn = dataclasses.replace(sampling, seed=sampling.seed + answers)
            answers += _answer(answer, tokenizer, conversation, line, turn, write)


def _obey(command: str, conversation: Conversation, write: Callable[[str], None]) -> None:
    if command == "/reset":
        conversation.reset()
        write("(forgotten)\n")
    elif command == "/help":
        write("".join(f"{name:<8}{what}\n" for name, what in COMMANDS.items()))
    else:
        write(f"unknown command {command}{nearest(command, COMMANDS)} (there are: {', '.join(COMMANDS)})\n")


def _answer(
    answer: Writes,
    tokenizer: Tokenizer,
    conversation: Conversation,
    question: str,
    sampling: Sampling,
    write: Callable[[str], None],
) -> bool:
    """Ask, and stream the answer; whether there was one. A question that cannot be asked leaves no trace."""
    from journey.infer.text import TextStream

    remembered = conversation.forgotten
    conversation.add("user", question)
    try:
        prompt = conversation.prompt()
    except JourneyError as error:
        conversation.turns.pop()
        write(f"({error})\n")
        return False
    if conversation.forgotten and not remembered:
        write(f"(the context of {conversation.n_ctx} tokens is full: from here on the oldest turns are forgotten)\n")
    decoder, said = TextStream(tokenizer), []

    def show(text: str) -> None:
        said.append(text)
        write(text.translate(VISIBLE))

    limit = conversation.max_new_tokens
    try:
        for token in answer(prompt, limit, sampling):
            if token in tokenizer.stop:
                show(decoder.end())
                break
            show(decoder.feed(token))
        else:
            show(decoder.end())
            write(f" … (cut off after {limit} tokens)")
    except KeyboardInterrupt:
        write(" … (stopped)")
    write("\n")
    conversation.add("assistant", "".join(said))
    return True
