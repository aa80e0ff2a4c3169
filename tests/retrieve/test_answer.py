"""`ask`: the prompt is the one that SFT trained on, it always fits, and what a reader should know is said."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey import chat
from journey.data.conversations import question_messages
from journey.errors import JourneyError
from journey.infer.engine import generate
from journey.retrieve.answer import ask, fit
from journey.retrieve.index import Index
from journey.retrieve.passages import Passage
from journey.tokenizer.formats import Tokenizer


def test_a_prompt_is_what_sft_trained_on(corpus, tokenizer):
    for question in corpus.questions("train")[:20]:
        for passages in ([question.passage], []):
            ids, mask = chat.render(question_messages(question, with_passage=bool(passages)), tokenizer)
            ours, used, cut = fit(question.question, passages, tokenizer, 10_000)
            assert ours == ids[: mask.index(1)]
            assert (used, cut) == (len(passages), False)


@settings(max_examples=40)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=80), max_size=4),
    st.integers(20, 160),
)
def test_what_does_not_fit_loses_its_end(tokenizer, passages, limit):
    ids, used, cut = fit("What does it do?", passages, tokenizer, limit)
    assert len(ids) <= limit
    text = tokenizer.decode(ids)
    assert text.endswith("What does it do?<|assistant|>")
    whole = passages[: used - 1] if cut else passages[:used]
    assert text.startswith("<|user|>" + "\n\n".join(whole).rstrip()) or not whole
    if used < len(passages) and not cut and passages[used].strip():  # nor would the beginning of the next have fitted
        spaces = len(passages[used]) - len(passages[used].lstrip())
        longer = "\n\n".join([*passages[:used], passages[used][: spaces + 1], "What does it do?"])
        assert len(chat.encode_prompt([{"role": "user", "content": longer}], tokenizer)) > limit


def test_a_question_that_is_too_long_is_told(tokenizer, index, model):
    with pytest.raises(JourneyError, match="tokens too long"):
        fit("What? " * 300, [], tokenizer, 100)
    with pytest.raises(JourneyError, match="tokens too long"):
        ask("word " * 10_000, index, model, tokenizer)


@pytest.mark.parametrize("question", ["", "  \n "])
def test_an_empty_question_is_told(index, model, tokenizer, question):
    with pytest.raises(JourneyError, match="the question is empty"):
        ask(question, index, model, tokenizer)


def test_ask_shows_its_sources_and_answers_from_the_first(index, model, tokenizer):
    question = "What does the function `textwrap.dedent` do?"
    reply = ask(question, index, model, tokenizer, max_new_tokens=12)
    assert [hit.passage for hit in reply.sources] == [hit.passage for hit in index.search(question, 5)]
    assert reply.used == 1 and not reply.notes and reply.milliseconds > 0
    asked = tokenizer.decode(reply.prompt)
    assert asked.startswith("<|user|>" + reply.sources[0].passage.text[:40])
    written = list(reply.stream(model, tokenizer, max_new_tokens=12))
    (completion,) = generate(model, [reply.prompt], max_new_tokens=12, stop=tokenizer.stop)
    assert written == completion.ids
    lines = reply.text().splitlines()
    assert len(lines) == 5
    for number, (line, hit) in enumerate(zip(lines, reply.sources, strict=True), 1):
        assert line.startswith(f"[{number}] {hit.passage.title} ") and f"{hit.score:.4f}" in line
        assert ("in the prompt" in line) == (number == 1)
        assert ("BM25" in line) == ("bm25" in hit.ranks) and ("vectors" in line) == ("vectors" in hit.ranks)


def test_more_passages_go_in_as_far_as_there_is_room(index, tokenizer, model):
    question = "What does the function `textwrap.dedent` do?"
    reply = ask(question, index, model, tokenizer, passages=5, max_new_tokens=12)
    assert len(reply.prompt) <= 256 - 12
    assert 1 <= reply.used < 5 and reply.cut
    assert reply.text().count("in the prompt") == reply.used
    assert "its end cut off" in reply.text().splitlines()[reply.used - 1]
    none = ask(question, index, model, tokenizer, passages=0)
    assert none.used == 0 and none.sources and "in the prompt" not in none.text()


def test_nothing_found_is_said_and_answered_without_a_passage(make_index, model, tokenizer, tmp_path):
    folder = make_index(tmp_path, [Passage("a#1", "a", "Heaps keep their smallest item first.")], weight=0.0)
    index = Index(folder, model, tokenizer)
    reply = ask("Wer reitet so spät?", index, model, tokenizer, max_new_tokens=8)
    assert reply.sources == [] and reply.used == 0
    assert "nothing in the index" in reply.text()
    assert tokenizer.decode(reply.prompt) == "<|user|>Wer reitet so spät?<|assistant|>"
    assert list(reply.stream(model, tokenizer, max_new_tokens=8))


def test_a_text_that_the_model_never_saw_is_said(index, model, tokenizer):
    question = "What does textwrap.dedent do?"
    assert "never trained on" in ask(question, index, model, tokenizer, seen={"cd" * 32}).text()
    assert "never trained on" not in ask(question, index, model, tokenizer, seen={"ab" * 32}).text()
    assert "never trained on" not in ask(question, index, model, tokenizer).text()


def test_a_tokenizer_that_was_not_made_for_chat_is_told():
    with pytest.raises(JourneyError, match="not made for chat"):
        fit("What?", [], Tokenizer.from_merges([], specials=("<|endoftext|>",)), 100)
