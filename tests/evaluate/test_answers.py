from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from journey.data.questions import Question
from journey.evaluate import answers
from journey.evaluate.agreement import f1

HEAPPOP, DUMPS, RE = "Pops the smallest item.", "Serializes to <|end|> text.", "Regular expressions."
QUESTIONS = [
    Question("q0", "What does heappop do?", HEAPPOP, f"heappop(heap)\n\n{HEAPPOP}", True),
    Question("q1", "A function takes heap. What does it do?", HEAPPOP, f"heappop(heap)\n\n{HEAPPOP}", False),
    Question("q2", "What does dumps do?", DUMPS, f"dumps(obj)\n\n{DUMPS}", True),
    Question("q3", "What is `re`?", RE, f"re\n\n{RE}", True),
]


@pytest.fixture(scope="module")
def wide(wide_models):
    return wide_models[0]


@torch.inference_mode()
def by_hand(reference, tokenizer, passage, question, answer):
    """-ln p of the answer and its <|end|> by transformers, the chat format written out."""
    asked = f"{passage}\n\n{question}" if passage else question
    special = tokenizer.special
    prompt = [special["<|user|>"], *tokenizer.encode(asked), special["<|assistant|>"]]
    target = [*tokenizer.encode(answer), special["<|end|>"]]
    logits = reference(torch.tensor([prompt + target])).logits[0].log_softmax(-1)
    return -sum(logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(target)), len(target)


def test_losses_are_those_of_transformers(wide_models, tokenizer):
    model, reference = wide_models
    others = answers.other_passages(QUESTIONS, seed=4)
    items = answers.answer_losses(model, tokenizer, QUESTIONS, seed=4)
    assert [item["id"] for item in items] == ["q0", "q1", "q2", "q3"]
    for q, other, item in zip(QUESTIONS, others, items, strict=True):
        for kind, passage in (("right", q.passage), ("shuffled", other), ("none", "")):
            nats, n = by_hand(reference, tokenizer, passage, q.question, q.answer)
            assert item[kind] == pytest.approx(nats, abs=1e-3)
            assert item["tokens"] == n  # <|end|> counted, its spelling in q2's answer not mistaken for it
        assert item["named"] == q.named


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12), st.integers(0, 9))
def test_no_question_gets_its_own_passage(passages, seed):
    questions = [replace(QUESTIONS[0], passage=passage) for passage in passages]
    others = answers.other_passages(questions, seed)
    assert others == answers.other_passages(questions, seed)
    for passage, other in zip(passages, others, strict=True):
        assert other != passage
        assert other in passages or (other == "" and len(set(passages)) == 1)


def test_a_long_passage_loses_its_end_and_a_long_question_is_left_out(wide, tokenizer):
    limit = wide.config.n_ctx + 1
    long = replace(QUESTIONS[0], passage="heappop(heap) " + "pops the smallest item and more " * 40)
    ids, mask = answers._render(long, tokenizer, limit)
    assert limit - 12 <= len(ids) <= limit
    text = tokenizer.decode(ids)
    assert text.startswith("<|user|>heappop(heap) pops")
    assert text.endswith("\n\nWhat does heappop do?<|assistant|>Pops the smallest item.<|end|>")
    assert tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m]) == "Pops the smallest item.<|end|>"
    too_long = replace(QUESTIONS[0], id="long", question="What? " * 300)
    items = answers.answer_losses(wide, tokenizer, [too_long, *QUESTIONS[1:]])
    assert [item["id"] for item in items] == ["q1", "q2", "q3"]
    assert [item["id"] for item in answers.endings(wide, tokenizer, [too_long, *QUESTIONS[1:]])] == ["q1", "q2", "q3"]


def test_endings_are_the_greedy_text_of_transformers(wide_models, tokenizer):
    model, reference = wide_models
    for item, q in zip(answers.endings(model, tokenizer, QUESTIONS, 24), QUESTIONS, strict=True):
        special = tokenizer.special
        ids = [special["<|user|>"], *tokenizer.encode(q.question), special["<|assistant|>"]]
        with torch.inference_mode():
            out = reference.generate(
                torch.tensor([ids]),
                do_sample=False,
                max_new_tokens=24,
                eos_token_id=list(tokenizer.stop),
                pad_token_id=0,
            )[0, len(ids) :].tolist()
        ended = out[-1] in tokenizer.stop
        assert (item["id"], item["ended"], item["tokens"]) == (q.id, ended, len(out))
        assert item["f1"] == pytest.approx(f1(item["text"], q.answer))
        assert item["text"] == tokenizer.decode(out[:-1] if ended else out)


@pytest.mark.parametrize("mark", ["<|end|>", "<|endoftext|>"])
def test_either_stop_token_ends_an_answer(wide, tokenizer, mark, monkeypatch):
    def always(x):
        logits = torch.zeros(*x.shape[:-1], tokenizer.vocab_size)
        logits[..., tokenizer.special[mark]] = 1
        return logits

    monkeypatch.setattr(wide.head, "forward", always)
    assert answers.endings(wide, tokenizer, QUESTIONS[:1]) == [
        {"id": "q0", "ended": True, "tokens": 1, "text": "", "f1": 0.0}
    ]


def test_samples_repeat_with_the_seed_and_fit(wide, tokenizer):
    prompts = [("text", "The heap"), ("chat", "What does heappop do?"), ("text", "long " * 400)]
    first = answers.samples(wide, tokenizer, prompts, seed=1)
    assert first == answers.samples(wide, tokenizer, prompts, seed=1)
    assert first != answers.samples(wide, tokenizer, prompts, seed=2)
    assert [(s["kind"], s["prompt"]) for s in first] == prompts
    assert all(s["text"] for s in first)
