"""A workspace as a finished pocket life leaves it: files of nodes, and what the real measures found where the scorers
that they ask say numbers of the right size. Nothing is trained."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from journey import measuring, recipe
from journey.checkpoint import Node
from journey.console import Console
from journey.measuring import Measuring
from journey.runner import FORMAT
from journey.tokenizer.formats import Tokenizer

from . import scorers
from .scorers import HOSTILE, MODELS, NASTY

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
MEASURED = ("tokenizer", *MODELS, "gguf", "index")
PARENTS = {"base": ["tokenizer"], "coder": ["base"], "chat": ["coder"], "pairs": ["chat"], "preferred": ["chat"]}
PARENTS |= {"gguf": ["preferred"], "index": ["preferred"]}
TRAINED_ON = {"tokenizer": "docs", "base": "docs", "coder": "code", "chat": "docs", "pairs": "docs"}
TRAINED_ON |= {"preferred": "pairs", "index": "docs"}
TOKENS = {"base": 1_048_576, "coder": 262_144, "chat": 410_233, "preferred": 91_000}
SECONDS = {"text": 33.0, "tokenizer": 17.5, "pretrain": 231.0, "continue": 62.0, "sft": 71.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "text": {"dev": 0.02, "test": 0.04, "max_bytes": None},
    "tokenizer": {"vocab_size": 4096, "pattern": "gpt2"},
    "pretrain": {"family": "qwen3", "n_layer": 4, "n_embd": 128, "tokens": 1_048_576, "lr": 3e-3},
    "continue": {"tokens": 262_144, "replay": 0.25, "lr": 1.5e-3},
    "sft": {"epochs": 2, "lr": 1e-3, "batch_size": 8},
    "pairs": {"samples": 4},
    "dpo": {"beta": 0.1},
    "quantize": {"types": ["f16", "q8_0", "q4_0"]},
    "index": {"weights": None},
}


@pytest.fixture(scope="session")
def make() -> Callable[..., Path]:
    """Makes such a workspace; `make_workspace` makes one in a folder of the test."""
    return write_life


@pytest.fixture
def make_workspace(tmp_path: Path) -> Callable[..., Path]:
    return lambda **options: write_life(tmp_path / "life", **options)


def write_life(
    workspace: Path,
    measured: tuple[str, ...] = MEASURED,
    until: str = "index",
    planned: str = "index",
    measures: tuple[str, ...] = (),
    **sizes: int,
) -> Path:
    """Write plan, nodes and measurements. The recipe ends with `planned`, and stages after `until` have not run; of the
    `measures`, all unless some are named, are taken `sizes` items: documents, questions, choices, pairs, sequences."""
    names = list(KINDS)[: list(KINDS).index(planned) + 1]
    ids = {name: f"{i:02d}" + "ab" * 31 for i, name in enumerate(names)}
    ran = names[: names.index(until) + 1] if until in names else names
    stages = []
    for name in names:
        data, parents = [TRAINED_ON[name]] if name in TRAINED_ON else [], PARENTS.get(name, [])
        entry = {"name": name, "stage": KINDS[name], "id": ids[name], "path": f"nodes/{name}"}
        stages.append(entry | {"parents": parents, "data": data})
        if name in ran:
            _node(workspace / "nodes" / name, name, ids, parents, data)
    asked = Measuring().only(measures) if measures else Measuring()
    expected = recipe.read(recipe.find("pocket")).expected
    write(
        workspace / "plan.json",
        {
            "format": FORMAT,
            "recipe": "pocket",
            "seed": 0,
            "stages": stages,
            "measure": dataclasses.asdict(asked),
            "expect": {name: [dataclasses.asdict(e) for e in expected[name]] for name in names if name in expected},
        },
    )
    nodes = {name: Node(workspace / "nodes" / name) for name in ran}
    texts = {name: nodes[name] for name in ("docs", "code") if name in ran}
    with scorers.instead_of_real_ones(**sizes):
        for name in measured:
            if name in ran:
                parent = next((nodes[p] for p in PARENTS.get(name, []) if p in MODELS), None)
                measuring.take(nodes[name], parent, texts, workspace, asked, seed=0, console=Console())
    for path in workspace.glob("measurements/*/*.json"):  # what UTF-8 cannot hold may still come from a file
        path.write_text(
            path.read_text().replace(json.dumps(HOSTILE, ensure_ascii=False)[1:-1], json.dumps(NASTY)[1:-1])
        )
    return workspace


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _node(folder: Path, name: str, ids: dict[str, str], parents: list[str], data: list[str]) -> None:
    kind, tokens, fields = KINDS[name], TOKENS.get(name), {}
    if data:
        fields["data"] = {"id": ids[data[0]], "name": data[0]}
        fields["data"] |= {"fingerprint": "5d" * 32} if KINDS[data[0]] == "text" else {}
    if kind == "continue":
        fields["replay_data"] = {"id": ids["docs"], "name": "docs", "fingerprint": "7e" * 32}
    metrics = {"parameters": {"value": 1_350_144.0, "low": None, "high": None, "n": None, "unit": "", "convention": ""}}
    lineage = {
        "id": ids[name],
        "name": name,
        "stage": kind,
        "version": 1,
        "parents": [ids[p] for p in parents],
        "config": CONFIGS[kind],
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
        write(folder / "corpus.json", _splits(name))
    if kind == "tokenizer":
        Tokenizer.from_merges([], "gpt2").save(folder)
    for split, n in (("train", 24), ("dev", 1), ("test", 9)) if kind == "pairs" else ():
        _pairs(folder / f"pairs-{split}.jsonl", n)
    if kind == "dpo":
        _pairs(folder / "pairs-test.jsonl", 9)
    if kind == "quantize":
        shares = {"f16": 0.52, "q8_0": 0.29, "q4_0": 0.17}
        types = {t: {"file": f"{t}.gguf", "bytes": int(5_500_000 * share)} for t, share in shares.items()}
        write(folder / "quantize.json", {"types": types})
    if tokens:
        write(folder / "config.json", {"model_type": "qwen3", "num_hidden_layers": 4, "hidden_size": 128})
        write(folder / "history.json", _history(kind, tokens))
        with open(folder / "model.safetensors", "wb") as file:
            file.truncate(5_500_000)


def _splits(name: str) -> dict[str, Any]:
    sizes = (25_310, 521, 1_043) if name == "docs" else (512, 38, 77)
    splits: dict[str, dict[str, Any]] = {}
    for split, n in zip(("train", "dev", "test"), sizes, strict=True):
        splits[split] = {"documents": n, "bytes": n * (720 if name == "docs" else 14_000)}
        splits[split] |= {} if split == "train" else {"over_half_in_train": 0.012, "in_train": 0.081}
        splits[split] |= {"questions": n // 3, "choices": n // 3} if name == "docs" and split != "train" else {}
    facts = {"name": name, "fingerprint": "5d" * 32, "documents": sum(sizes), "splits": splits}
    return facts | {"duplicates_dropped": 3_102, "special_spellings": 3}


def _pairs(path: Path, n: int) -> None:
    with open(path, "w") as file:
        for i in range(n):
            pair = {
                "id": f"p{i}",
                "prompt": [{"role": "user", "content": f"What does {HOSTILE} do, {i}?"}],
                "chosen": [{"role": "assistant", "content": "Return the norm of x." + " And more." * (i % 3)}],
                "rejected": [{"role": "assistant", "content": HOSTILE}],
                "chosen_score": 0.5 + 0.01 * (i % 5),
                "rejected_score": 0.2,
            }
            file.write(json.dumps(pair) + "\n")


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
