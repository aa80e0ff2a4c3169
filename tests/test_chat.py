"""One chat format: our ids and mask against those of transformers with the template we save."""

import argparse
import inspect
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from journey import chat
from journey.errors import JourneyError
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

Messages = list[dict[str, str]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    words = bpe.count_words([inspect.getsource(argparse)])
    return Tokenizer.from_merges(bpe.train(words, 600, len(SPECIALS)))


@pytest.fixture(scope="module")
def foreign(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return AutoTokenizer.from_pretrained(folder)


def message(roles: tuple[str, ...]) -> st.SearchStrategy[dict[str, str]]:
    fragments = [" ", "\n", "\n\n", "\t", "{{ x }}", "{% if %}", "{#", "<|", "|>", "<|x|>", "é", "👍🏽"]
    text = st.lists(st.sampled_from(fragments) | st.text(max_size=8), max_size=5).map("".join)
    content = text.filter(lambda text: not any(token in text for token in SPECIALS))
    return st.fixed_dictionaries({"role": st.sampled_from(roles), "content": content})


conversations = st.builds(
    lambda first, rest: [first, *rest],
    message(chat.ROLES),
    st.lists(message(("user", "assistant", "tool")), max_size=5),
)


@given(messages=conversations, prompt=st.booleans())
@settings(max_examples=400, deadline=None)
def test_ids_and_mask_equal_the_template(
    tokenizer: Tokenizer, foreign: PreTrainedTokenizerBase, messages: Messages, prompt: bool
) -> None:
    theirs = foreign.apply_chat_template(
        messages, add_generation_prompt=prompt, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = chat.render(messages, tokenizer, add_generation_prompt=prompt)
    assert ids == theirs["input_ids"]
    assert mask == theirs["assistant_masks"]


def test_the_format_to_the_letter(tokenizer: Tokenizer) -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": " q\n"},
        {"role": "assistant", "content": "ab "},
        {"role": "tool", "content": "{}"},
        {"role": "assistant", "content": ""},
    ]
    ids, mask = chat.render(messages, tokenizer)
    assert tokenizer.decode(ids) == "<|system|>s<|user|> q\n<|assistant|>ab <|end|><|tool|>{}<|assistant|><|end|>"
    # The stop token is trained, the mark that opens the answer is not.
    trained = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
    assert trained == "ab <|end|><|end|>"
    assert tokenizer.bos not in ids
    assert chat.encode_prompt(messages[:2], tokenizer) == ids[: ids.index(tokenizer.special["<|assistant|>"]) + 1]


@pytest.mark.parametrize("spelling", SPECIALS)
def test_the_spelling_of_a_special_token_in_a_message_is_text(
    tokenizer: Tokenizer, foreign: PreTrainedTokenizerBase, spelling: str
) -> None:
    messages = [
        {"role": "user", "content": f"what is {spelling} for?"},
        {"role": "assistant", "content": f"a {spelling}"},
    ]
    special = set(tokenizer.special.values())
    ids, mask = chat.render(messages, tokenizer)
    marks = ["<|user|>", "<|assistant|>", "<|end|>"]
    assert [i for i in ids if i in special] == [tokenizer.special[mark] for mark in marks]
    assert tokenizer.decode(ids) == foreign.apply_chat_template(messages, tokenize=False)
    assert sum(mask) == len(tokenizer.encode(f"a {spelling}")) + 1
    # The difference: the template becomes text first, so by default transformers takes the spelling for the token.
    assert sum(i in special for i in foreign.apply_chat_template(messages, return_dict=False)) == 5
    clean = foreign.apply_chat_template(messages, return_dict=False, sanitize_control_tokens=True)
    assert [i for i in clean if i in special] == [tokenizer.special[mark] for mark in marks]
    assert tokenizer.decode(clean) == tokenizer.decode(ids)


bad = [
    ([], "at least one message"),
    ([{"role": "asistant", "content": "a"}], 'message 1 has the role "asistant", did you mean "assistant"'),
    ([{"content": "a"}], "message 1 has the role"),
    ([{"role": "user", "content": "a"}, {"role": "system", "content": "a"}], "message 2 is a system message"),
    ([{"role": "user"}], "message 1 has no content that is text"),
    ([{"role": "user", "content": ["a"]}], r"message 1 has no content that is text \(list\)"),
    ([{"role": "user", "content": "\ud800"}], "lone surrogate"),
]


@pytest.mark.parametrize(("messages", "error"), bad)
def test_bad_messages_are_refused(tokenizer: Tokenizer, messages: Messages, error: str) -> None:
    with pytest.raises(JourneyError, match=error):
        chat.render(messages, tokenizer)


@pytest.mark.parametrize("messages", [messages for messages, _ in bad[1:-1]])
def test_the_template_refuses_them_too(foreign: PreTrainedTokenizerBase, messages: Messages) -> None:
    with pytest.raises(TemplateError):
        foreign.apply_chat_template(messages)
