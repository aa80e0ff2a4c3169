"""The one chat format: `<|user|>question<|assistant|>answer<|end|>`, nothing between marks, content verbatim.

SFT, generation, the server, the Hugging Face template and GGUF all take it from here: a model is asked as it
was trained. The spelling of a special token inside a message is ordinary text to `render`. The template
makes text before there are ids, so there the spelling becomes the token, unless transformers is told
`sanitize_control_tokens=True`; messages without such spellings have the same ids either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from journey.errors import JourneyError, nearest

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

ROLES = ("system", "user", "assistant", "tool")
BOS, PAD, END = "<|endoftext|>", "<|pad|>", "<|end|>"  # a document's beginning, filling, the end of an answer

# TRL's assistant-only loss trains what stands between the generation marks: the answer and its end.
TEMPLATE = """\
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}
        {{- raise_exception('unknown role: ' ~ message['role']) -}}
    {%- elif message['role'] == 'system' and not loop.first -%}
        {{- raise_exception('a system message comes first') -}}
    {%- elif message['content'] is not string -%}
        {{- raise_exception('the content of a message is a string') -}}
    {%- endif -%}
    {{- '<|' + message['role'] + '|>' -}}
    {%- if message['role'] == 'assistant' -%}
        {%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}
    {%- else -%}
        {{- message['content'] -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def mark(role: str) -> str:
    """The special token that opens a message of this role."""
    return f"<|{role}|>"


SPECIALS = (BOS, PAD, *map(mark, ROLES), END)  # every special token, by id


def render(
    messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, add_generation_prompt: bool = False
) -> tuple[list[int], list[int]]:
    """The ids of a conversation and a mask of the same length: 1 on the assistant's content and its <|end|>, unless
    the message has "weight" 0.

    With `add_generation_prompt` the ids end where an answer begins. No messages, an unknown role, a system
    message that is not the first, or content that is not text raises JourneyError.
    """
    if not messages:
        raise JourneyError("a conversation needs at least one message")
    ids: list[int] = []
    mask: list[int] = []
    for number, message in enumerate(messages, 1):
        role, content = _checked(message, number)
        body = tokenizer.encode(content)
        if role == "assistant":
            body.append(tokenizer.special[END])
        trained = role == "assistant" and message.get("weight") != 0
        ids += [tokenizer.special[mark(role)], *body]
        mask += [0, *[int(trained)] * len(body)]
    if add_generation_prompt:
        ids.append(tokenizer.special[mark("assistant")])
        mask.append(0)
    return ids, mask


def encode_prompt(messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> list[int]:
    """The ids after which a model writes the assistant's next answer."""
    return render(messages, tokenizer, add_generation_prompt=True)[0]


def _checked(message: Mapping[str, Any], number: int) -> tuple[str, str]:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        hint = nearest(str(role), ROLES)
        raise JourneyError(f'message {number} has the role "{role}"{hint} (one of {", ".join(ROLES)})')
    if role == "system" and number > 1:
        raise JourneyError(f"message {number} is a system message: it comes first or not at all")
    if not isinstance(content, str):
        raise JourneyError(f"message {number} has no content that is text ({type(content).__name__})")
    return role, content
