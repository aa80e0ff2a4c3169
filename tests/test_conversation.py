"""The conversation that fits its context, and the loop that a person types into."""

import argparse
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from journey import chat
from journey.conversation import Conversation, chat_loop
from journey.errors import JourneyError
from journey.infer import engine
from journey.infer.sampling import Sampling
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

TEXTS = [argparse.__doc__, textwrap.__doc__]
TOKENIZER = Tokenizer.from_merges(bpe.train(bpe.count_words(TEXTS), 320, len(SPECIALS)))
GREEDY = Sampling(temperature=0)


class Terminal:
    """Lines that were typed before the test began (an exception is raised instead), and what was shown."""

    def __init__(self, *lines):
        self.lines = iter(lines)
        self.shown = ""

    def read(self, prompt):
        line = next(self.lines, EOFError)
        if isinstance(line, str):
            return line
        raise line

    def write(self, text):
        self.shown += text


SCRIPTED = []  # what the fixture `script` has installed


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("qwen3", TOKENIZER.vocab_size, 64, 2, 32))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


@pytest.fixture
def script():
    """Let the model write these answers, one a question, instead of its own; returns the prompts that it was given."""

    def install(*answers):
        prompts, waiting = [], iter(answers)

        def write(prompt, limit, sampling):
            prompts.append(prompt)
            for token in next(waiting)[:limit]:
                if token is KeyboardInterrupt:
                    raise KeyboardInterrupt
                yield token

        SCRIPTED.append(write)
        return prompts

    yield install
    SCRIPTED.clear()


def answer(text):
    return [*TOKENIZER.encode(text), TOKENIZER.eos]


def by(model):
    def write(prompt, limit, sampling):
        return engine.stream(model, prompt, max_new_tokens=limit, stop=TOKENIZER.stop, sampling=sampling)

    return write


def talk(terminal, n_ctx=200, max_new_tokens=30, model=None, sampling=GREEDY, system=None):
    conversation = Conversation(TOKENIZER, n_ctx, max_new_tokens, system)
    chat_loop(by(model) if model else SCRIPTED[-1], TOKENIZER, conversation, sampling, terminal.read, terminal.write)
    return conversation


def test_prompt_is_the_chat_format():
    conversation = Conversation(TOKENIZER, 200, 10, system="Be brief.")
    turns = [("user", "What?"), ("assistant", "That."), ("user", "Why?")]
    for role, content in turns:
        conversation.add(role, content)
    messages = [{"role": role, "content": content} for role, content in [("system", "Be brief."), *turns]]
    assert conversation.prompt() == chat.encode_prompt(messages, TOKENIZER)
    conversation.reset()
    conversation.add("user", "Why?")
    assert conversation.prompt() == chat.encode_prompt([messages[0], messages[-1]], TOKENIZER)


@settings(deadline=None, max_examples=60)
@given(
    questions=st.lists(st.text(max_size=25), min_size=1, max_size=8),
    n_ctx=st.integers(60, 220),
    system=st.none() | st.text(max_size=5),
)
def test_the_prompt_is_the_longest_ending_that_fits(questions, n_ctx, system):
    conversation = Conversation(TOKENIZER, n_ctx, 20, system)
    for question in questions[:-1]:
        conversation.add("user", question)
        conversation.add("assistant", question.upper())
    conversation.add("user", questions[-1])
    first = [] if system is None else [{"role": "system", "content": system}]
    suffixes = [conversation.turns[i:] for i in range(0, len(conversation.turns), 2)]
    endings = [chat.encode_prompt(first + turns, TOKENIZER) for turns in suffixes]
    fitting = [ids for ids in endings if len(ids) + 20 <= n_ctx]
    if fitting:
        assert conversation.prompt() == max(fitting, key=len)
        assert conversation.forgotten == 2 * (len(endings) - len(fitting))
    else:
        with pytest.raises(JourneyError, match=f"is {len(endings[-1]) + 20 - n_ctx} tokens? too long"):
            conversation.prompt()


@pytest.mark.parametrize(("n_ctx", "max_new_tokens", "system"), [(64, 64, None), (64, 62, "Be brief."), (64, 0, None)])
def test_no_room_is_said_at_once(n_ctx, max_new_tokens, system):
    with pytest.raises(JourneyError, match=r"shorter|at least 1"):
        Conversation(TOKENIZER, n_ctx, max_new_tokens, system)


def test_a_question_just_fits():
    conversation = Conversation(TOKENIZER, 64, 62)
    conversation.add("user", "")
    assert len(conversation.prompt()) == 2
    conversation.reset()
    conversation.add("user", "a")
    with pytest.raises(JourneyError, match="1 token too long"):
        conversation.prompt()


def test_bad_turns():
    conversation = Conversation(TOKENIZER, 64, 8)
    with pytest.raises(JourneyError, match="no question"):
        conversation.prompt()
    with pytest.raises(JourneyError, match="only user"):
        conversation.add("system", "late")
    gpt2 = Tokenizer.from_merges([], specials=["<|endoftext|>"])
    with pytest.raises(JourneyError, match="<\\|end\\|>, <\\|system\\|>"):
        Conversation(gpt2, 64, 8)


def test_the_loop_asks_and_answers(script):
    prompts = script(answer("It is naïve 🙂."), answer("Again."))
    terminal = Terminal("What is it?", "", "  And <|end|><|system|> then?  ")
    conversation = talk(terminal)
    assert "It is naïve 🙂.\nAgain.\n" in terminal.shown
    assert [turn["content"] for turn in conversation.turns] == [
        "What is it?", "It is naïve 🙂.", "And <|end|><|system|> then?", "Again.",
    ]  # fmt: skip
    assert prompts[1] == chat.encode_prompt(conversation.turns[:3], TOKENIZER)
    # What the user typed is text: the marks in the prompt are the three of the turns, the answer's end, and the last.
    assert [i for i in prompts[1] if i in TOKENIZER.special.values()] == [
        TOKENIZER.special[mark] for mark in ("<|user|>", "<|assistant|>", "<|end|>", "<|user|>", "<|assistant|>")
    ]


def test_the_loop_with_a_model_says_what_the_engine_generates(model):
    terminal = Terminal("What is it?")
    conversation = talk(terminal, n_ctx=64, max_new_tokens=20, model=model)
    prompt = chat.encode_prompt(conversation.turns[:1], TOKENIZER)
    (completion,) = engine.generate(model, [prompt], max_new_tokens=20, stop=TOKENIZER.stop)
    ids = completion.ids[:-1] if completion.ended else completion.ids
    assert len(ids) > 3 and conversation.turns[1]["content"] == TOKENIZER.decode(ids)


def test_each_answer_has_its_own_seed_and_a_chat_can_be_repeated(model):
    def chats():
        terminal = Terminal("Why?", "/reset", "Why?", "Why?")
        conversation = talk(terminal, n_ctx=64, max_new_tokens=8, model=model, sampling=Sampling(seed=1))
        return conversation.turns[1]["content"], conversation.turns[3]["content"]

    first, second = chats()
    assert (first, second) == chats()
    alone = talk(Terminal("Why?"), n_ctx=64, max_new_tokens=8, model=model, sampling=Sampling(seed=1))
    assert alone.turns[1]["content"] != first  # asked again after /reset, not answered by rote


def test_commands(script):
    prompts = script(answer("A."), answer("/usr/bin is a folder."), answer("B."))
    terminal = Terminal("a?", "/help", "/rest", "/usr/bin is what?", "/reset", "b?", "/exit", "never read")
    talk(terminal)
    assert "forget the conversation" in terminal.shown
    assert 'unknown command /rest, did you mean "/reset"?' in terminal.shown
    assert prompts[2] == chat.encode_prompt([{"role": "user", "content": "b?"}], TOKENIZER)
    assert next(terminal.lines) == "never read"


def test_control_c_stops_the_answer_and_not_the_chat(script):
    prompts = script([*TOKENIZER.encode("Half an"), KeyboardInterrupt], answer("Whole."))
    terminal = Terminal("a?", KeyboardInterrupt, "b?")
    conversation = talk(terminal)
    assert "Half an … (stopped)\n" in terminal.shown
    assert conversation.turns[1] == {"role": "assistant", "content": "Half an"}
    assert len(prompts) == 2 and terminal.shown.endswith("Whole.\n\n")


def test_trimming_is_said_once(script):
    prompts = script(*[answer("yes")] * 12)
    terminal = Terminal(*["and the next?"] * 12)
    conversation = talk(terminal, n_ctx=80, max_new_tokens=10, system="Short.")
    assert terminal.shown.count("oldest turns are forgotten") == 1
    assert conversation.forgotten > 0 and max(map(len, prompts)) <= 70
    assert all(ids[: len(prompts[0])] == prompts[0] for ids in prompts)  # the system message and a whole question first


def test_a_question_that_cannot_be_asked_leaves_no_trace(script):
    prompts = script(answer("yes"), answer("again"))
    terminal = Terminal("ok?", "far too long " * 50, "half a character: \ud83d", "ok?")
    conversation = talk(terminal, n_ctx=80, max_new_tokens=10)
    assert "tokens too long" in terminal.shown and "lone surrogate" in terminal.shown
    assert len(prompts) == 2 and [turn["content"] for turn in conversation.turns] == ["ok?", "yes", "ok?", "again"]


def test_a_long_answer_is_cut_and_says_so(script):
    script(TOKENIZER.encode("so on and ") * 9)
    terminal = Terminal("and?")
    conversation = talk(terminal, max_new_tokens=6)
    assert "… (cut off after 6 tokens)\n" in terminal.shown
    assert TOKENIZER.encode(conversation.turns[1]["content"]) == TOKENIZER.encode("so on and ")[:6]


def test_an_answer_cannot_drive_the_terminal(script):
    script(answer("a\x1b[2J\r\x9b\tb\n"))
    terminal = Terminal("and?")
    conversation = talk(terminal)
    assert "a␛[2J␍\ufffd\tb\n" in terminal.shown
    assert conversation.turns[1]["content"] == "a\x1b[2J\r\x9b\tb\n"  # the model sees what it said
