"""Rows of every benchmark in its official form, made up here, and a model small enough to be asked all of them."""

import gzip
import json
import random

import pytest

from journey.model import huggingface
from journey.tokenizer.formats import SPECIALS, Tokenizer
from tests.evaluate.conftest import TEXTS, make_model

WORDS = [
    "river",
    "stone",
    "window",
    "garden",
    "letter",
    "engine",
    "winter",
    "copper",
    "shadow",
    "market",
    "bridge",
    "silver",
    "number",
    "forest",
]
N = 50


def sentence(rng, least=3, most=9):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, most)))


def official(seed=0):
    """name of the file -> rows."""
    rng = random.Random(seed)

    def each(make, n=N):
        return [make(i) for i in range(n)]

    def lettered(i, key):
        n = 3 + i % 3
        options = [f"{sentence(rng, 1, 4)} {k}" for k in range(n)]
        return {
            key: sentence(rng) + "?",
            "choices": {"text": options, "label": list("ABCDE"[:n])},
            "answerKey": "ABCDE"[i % n],
        }

    def truth(i):
        wrong, right = [sentence(rng) for _ in range(2 + i % 3)], [sentence(rng) for _ in range(1 + i % 2)]
        return {
            "question": sentence(rng) + "?",
            "mc1_targets": {"choices": [right[0], *wrong], "labels": [1] + [0] * len(wrong)},
            "mc2_targets": {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)},
        }

    def mmlu(subject, split, i):
        options = [sentence(rng, 1, 3) for _ in range(4)]
        return {"subject": subject, "split": split, "question": sentence(rng), "choices": options, "answer": i % 4}

    def scene(i):
        endings = [sentence(rng, 2, 5) + "." for _ in range(4)]
        title = "[header] How to swim [title] Look around. [step] " if i % 5 == 0 else ""
        return {
            "activity_label": "Walking",
            "ctx_a": title + sentence(rng).capitalize() + ".",
            "ctx_b": "the man" if i % 2 else "",
            "endings": endings,
            "label": str(i % 4),
        }

    return {
        "hellaswag-validation": each(scene),
        "arc_easy": each(lambda i: lettered(i, "question")),
        "arc_challenge": each(lambda i: lettered(i, "question")),
        "truthfulqa": each(truth),
        "mmlu": [
            row
            for subject in ("anatomy", "astronomy", "virology")
            for row in [mmlu(subject, "dev", i) for i in range(6)] + [mmlu(subject, "test", i) for i in range(20)]
        ],
        "lambada_openai": each(lambda i: {"text": f"{sentence(rng, 6, 20)} {rng.choice(WORDS)}"}),
        "piqa-validation": each(
            lambda i: {"goal": sentence(rng), "sol1": sentence(rng), "sol2": sentence(rng), "label": i % 2}
        ),
        "winogrande": each(
            lambda i: {
                "sentence": f"{sentence(rng)} because _ was {sentence(rng, 1, 3)}.",
                "option1": rng.choice(WORDS),
                "option2": rng.choice(WORDS) + " tree",
                "answer": str(1 + i % 2),
            }
        ),
        "openbookqa-test": each(lambda i: lettered(i, "question_stem")),
        "boolq-val": each(lambda i: {"passage": sentence(rng, 9, 30), "question": sentence(rng), "label": i % 2}),
        "gsm8k-test": each(lambda i: {"question": sentence(rng) + "?", "answer": f"{sentence(rng)}\n#### {i}"}, 60),
    }


@pytest.fixture(scope="session")
def bench_folder(tmp_path_factory):
    """Files of all benchmarks, some packed."""
    folder = tmp_path_factory.mktemp("bench")
    for i, (name, rows) in enumerate(official().items()):
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path = folder / (f"{name}.jsonl.gz" if i % 2 else f"{name}.jsonl")
        path.write_bytes(gzip.compress(data) if i % 2 else data)
    return folder


@pytest.fixture(scope="session")
def asked_node(tmp_path_factory):
    """A checkpoint folder whose context is too short for some of the prompts."""
    from journey.tokenizer import bpe

    texts = [*TEXTS, " ".join(WORDS * 20)]
    tokenizer = Tokenizer.from_merges(bpe.train(bpe.count_words(texts), 400, len(SPECIALS)))
    folder = tmp_path_factory.mktemp("asked")
    model = make_model("qwen3", tokenizer, 160)
    huggingface.save(model, folder, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def asked_pair(asked_node):
    from journey.pair import open_pair

    return open_pair(asked_node)
