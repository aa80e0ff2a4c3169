import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from journey.data.questions import Choice
from journey.evaluate import choices, harness


@pytest.fixture(scope="module")
def items():
    rng = random.Random(0)
    words = [
        "The",
        "decoder",
        "returns",
        "a",
        "list",
        "of",
        "tokens,",
        "naïve",
        "中文",
        "os.path.join(a,",
        "*p)",
        "heap",
        "",
        "x=1",
    ]

    def text(n):
        return " ".join(rng.choice(words) for _ in range(n))

    contexts = [f"json.{text(rng.randint(1, 8))}" + rng.choice(["\n\n", "\n\n", " ", "", ": \n"]) for _ in range(16)]
    contexts += ["", "\n\n", text(40) + "\n\n"]  # nothing, white space alone, and more than the context holds
    return [
        Choice(f"c{i}", context, tuple(text(rng.randint(1, 4)) + str(k) for k in range(4)), rng.randrange(4))
        for i, context in enumerate(contexts)
    ]


@pytest.fixture(scope="module")
def scored(model, tokenizer, items):
    return choices.score(model, tokenizer, items)


def test_log_probabilities_are_those_of_transformers(scored, reference, tokenizer, items):
    for choice, item in zip(items, scored, strict=True):
        for option, logprob in zip(choice.options, item["logprobs"], strict=True):
            prompt = [tokenizer.bos, *tokenizer.encode(choice.context.rstrip())]
            text = choice.context + option
            ids = [tokenizer.bos, *tokenizer.encode(text)]
            cut = max(0, len(ids) - 33)
            with torch.inference_mode():
                logits = reference(torch.tensor([ids[cut:-1]])).logits[0].log_softmax(-1)
            expected = sum(logits[t - cut - 1, ids[t]].item() for t in range(len(prompt), len(ids)))
            assert logprob == pytest.approx(expected, abs=1e-3)


def test_picks_the_highest_and_the_highest_per_character(monkeypatch):
    class Letters:
        bos = 0

        def encode(self, text):
            return [ord(letter) for letter in text]

    model = SimpleNamespace(config=SimpleNamespace(n_ctx=9))

    def one_nat_each(model, rows, known):
        return [np.ones(len(row) - k) for row, k in zip(rows, known, strict=True)]

    monkeypatch.setattr(choices, "token_nats", one_nat_each)
    (item,) = choices.score(model, Letters(), [Choice("a", "q ", ("yes", "no"), 1)])  # one nat a letter, the space too
    assert item == {"id": "a", "gold": 1, "logprobs": [-4.0, -3.0], "picked": 1, "picked_norm": 0}


def test_equals_lm_eval_item_by_item(scored, node, items, tmp_path):
    harness.write_task(items, tmp_path)
    theirs = harness.run(node, tmp_path)
    assert len(theirs["items"]) == len(items)
    for a, b in zip(scored, theirs["items"], strict=True):
        assert a["id"] == b["id"]
        assert a["logprobs"] == pytest.approx(b["logprobs"], abs=1e-4)
        assert (a["picked"] == a["gold"]) == b["acc"]
        assert (a["picked_norm"] == a["gold"]) == b["acc_norm"]
    assert theirs["acc"] == sum(a["picked"] == a["gold"] for a in scored) / len(items)
    assert theirs["acc_norm"] == sum(a["picked_norm"] == a["gold"] for a in scored) / len(items)


def test_lm_eval_leaves_our_random_numbers_alone_and_takes_a_limit(node, items, tmp_path, capfd):
    harness.write_task(items, tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert len(harness.run(node, tmp_path, limit=2)["items"]) == 2
    assert torch.equal(torch.rand(3), expected)
    assert capfd.readouterr().err == ""
