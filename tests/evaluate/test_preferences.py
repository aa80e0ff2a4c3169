"""Margins and divergence against transformers' own distributions."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from journey import chat
from journey.data.preferences import Pair
from journey.data.questions import Question
from journey.evaluate import preferences
from journey.evaluate.preferences import measure, preferred
from journey.model import huggingface


def pair(id, asked, chosen, rejected):
    return Pair(
        id,
        [{"role": "user", "content": asked}],
        [{"role": "assistant", "content": chosen}],
        [{"role": "assistant", "content": rejected}],
    )


PAIRS = [
    pair("a", "What does heappop do?", "Pops the smallest item.", "x"),
    pair("b", "What does dumps do?", "", "Serializes an object to a long and formatted string, <|end|> and more."),
    pair("c", "What is re?", "Regular expressions.", "Regular expressions"),
]
QUESTIONS = [Question(f"q{i}", f"What does f{i} do?", "It returns.", "f()\n\nIt returns.", True) for i in range(5)]


@pytest.fixture(scope="module")
def two(wide_models, tmp_path_factory):
    """A model and the reference that it moved away from: (ours, transformers') of each."""
    folder = tmp_path_factory.mktemp("moved")
    moved = copy.deepcopy(wide_models[0])
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter) * parameter.abs().mean())
    huggingface.save(moved, folder)
    return (moved, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()), wide_models


@torch.inference_mode()
def log_probability(model, tokenizer, asked, answer):
    special = tokenizer.special
    prompt = [special["<|user|>"], *tokenizer.encode(asked), special["<|assistant|>"]]
    target = [*tokenizer.encode(answer), special["<|end|>"]]
    logits = model(torch.tensor([prompt + target])).logits[0].double().log_softmax(-1)
    return sum(logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(target)), len(target)


def test_margins_are_those_of_transformers(two, tokenizer):
    (ours, theirs), (reference, their_reference) = two
    items = measure(ours, reference, tokenizer, PAIRS, QUESTIONS, seed=0)["items"]
    assert [item["id"] for item in items] == ["a", "b", "c"]
    for p, item in zip(PAIRS, items, strict=True):
        rose = []
        for answer in (p.chosen, p.rejected):
            content = answer[0]["content"]
            after, n = log_probability(theirs, tokenizer, p.prompt[0]["content"], content)
            before, _ = log_probability(their_reference, tokenizer, p.prompt[0]["content"], content)
            rose.append((after - before, n))
        (chosen, n_chosen), (rejected, n_rejected) = rose
        assert item["margin"] == pytest.approx(chosen - rejected, abs=2e-3)
        assert abs(chosen - rejected) > 0.02  # the test would not see a wrong sign of nothing
        assert (item["chosen_tokens"], item["rejected_tokens"]) == (n_chosen, n_rejected)


def test_divergence_is_that_of_the_full_distributions(two, tokenizer):
    (ours, theirs), (reference, their_reference) = two
    prompts = [(q.id, chat.encode_prompt([{"role": "user", "content": q.question}], tokenizer)) for q in QUESTIONS]
    written = []

    def listen(model, rows, **settings):
        written.extend(preferences_generate(model, rows, **settings))
        return written

    preferences_generate = preferences.generate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preferences, "generate", listen)
        items = measure(ours, reference, tokenizer, PAIRS, QUESTIONS, seed=1)["kl"]
    assert [item["id"] for item in items] == [q.id for q in QUESTIONS]
    for (_, prompt), completion, item in zip(prompts, written, items, strict=True):
        ids = torch.tensor([prompt + completion.ids])
        with torch.inference_mode():
            p, q = (model(ids).logits[0].double().log_softmax(-1) for model in (theirs, their_reference))
        at = slice(len(prompt) - 1, len(prompt) - 1 + len(completion.ids))  # each token's own distribution, no other
        expected = (p.exp() * (p - q))[at].sum().item()
        assert item["tokens"] == len(completion.ids) > 0
        assert item["nats"] == pytest.approx(expected, rel=1e-3, abs=1e-4) and item["nats"] > 0.01


def test_a_model_has_not_moved_from_itself(two, tokenizer):
    (model, _), _ = two
    found = measure(model, model, tokenizer, PAIRS, QUESTIONS, seed=0)
    assert [item["margin"] for item in found["items"]] == [0, 0, 0]
    assert preferred([item["margin"] for item in found["items"]]).mean() == 0.5
    assert [item["nats"] for item in found["kl"]] == pytest.approx([0] * 5, abs=1e-9)


def test_ties_count_half():
    assert preferred([1e-9, 0.0, -0.0, -1e-9, 7]).tolist() == [1, 0.5, 0.5, 0, 1]


def test_answers_repeat_with_the_seed(two, tokenizer):
    (ours, _), (reference, _) = two
    first, again, other = (measure(ours, reference, tokenizer, [], QUESTIONS, seed)["kl"] for seed in (0, 0, 1))
    assert first == again != other


def test_what_does_not_fit_is_left_out(two, tokenizer):
    (ours, _), (reference, _) = two
    long = [pair("long", "What?", "x", "far too long " * 80), pair("asked long", "What? " * 300, "x", "y")]
    found = measure(ours, reference, tokenizer, [*long, *PAIRS[:1]], [], seed=0)
    assert [item["id"] for item in found["items"]] == ["a"]
    # Without questions the pairs' own prompts are answered.
    assert [item["id"] for item in found["kl"]] == ["long", "a"]
