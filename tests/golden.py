"""A tiny life that goes through every stage and every measure in seconds: what it gives is what `versions.lock` holds.

All of its texts are made here by a seeded generator, so that it is the same life on every machine. Nothing of it may
change without another lock.
"""

import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from journey import measuring, recipe, runner
from journey.checkpoint import Node
from journey.console import Console
from journey.data import corpus
from journey.data.sources import Document
from journey.files import digest, read_json
from journey.measures import MEASURES
from journey.model.families import FAMILIES
from journey.scores import Taken, estimates

THINGS = (
    "array",
    "file",
    "matrix",
    "reader",
    "index",
    "value",
    "server",
    "thread",
    "window",
    "buffer",
    "model",
    "token",
)
DEEDS = ("reads", "writes", "sorts", "returns", "copies", "merges", "closes", "counts")
# These say where something came from, not what was computed.
BESIDE = ("README.md", "index.json", "dpo.json", "import.json")

TIMED = ("timeline", "training")  # measures that find what the clock says
LOSSES = 4  # the first of each training: later ones show what CPUs round differently

LIFE = """\
name: golden
seed: 1
measure:
  documents: 12
  choices: 12
  questions: 8
  costs: true
  training: true
  perplexity: true
  piqa: {items: 8, shots: 1, data: bench}
  gsm8k: {items: 2, shots: 0, data: bench}
  humaneval: {items: 2, data: bench}
stages:
  - {name: docs, stage: text, with: {source: docs.jsonl, test: 0.2}}
  - {name: code, stage: text, with: {source: code.jsonl}}
  - {name: tokenizer, stage: tokenizer, with: {data: docs, vocab_size: 320}}
  - {name: tokens, stage: prepare, parents: [tokenizer], with: {data: docs, shard_tokens: 4_000}}
  - name: base
    stage: pretrain
    parents: [tokenizer]
    with: {data: docs, n_layer: 2, n_embd: 32, n_ctx: 256, tokens: 8_192, evaluations: 2, dev_documents: 8}
  - name: coder
    stage: continue
    parents: [base]
    with:
      {data: code, replay_data: tokens, replay: 0.5, tokens: 4_096, batch_size: 4, accumulate: 2, evaluations: 1,
       dev_documents: 8}
  - name: chat
    stage: sft
    parents: [coder]
    with: {data: asked.jsonl, epochs: 2, lr: 0.01, dev_examples: 16, accumulate: 2}
  - name: pairs
    stage: pairs
    parents: [chat]
    with: {data: asked.jsonl, max_questions: 16, samples: 6, max_new_tokens: 32, margin: 0}
  - name: preferred
    stage: dpo
    parents: [coder]
    with: {data: preferences.jsonl, batch_size: 8, evaluations: 2}
  - {name: int4, stage: ptq, parents: [preferred], with: {method: awq, group: 32, data: docs, tokens: 2_000}}
  - {name: gguf, stage: quantize, parents: [preferred]}
  - {name: index, stage: index, parents: [preferred], with: {data: docs, embedder: node}}
  - {name: numbers, stage: translations, with: {max_pairs: 600, held_out: 16}}
  - {name: digits, stage: tokenizer, with: {data: numbers, vocab_size: 300, pattern: qwen2}}
  - name: translator
    stage: seq2seq
    parents: [digits]
    with: {data: numbers, n_layer: 1, n_embd: 32, n_ctx: 64, steps: 20, warmup: 10, batch_size: 16, evaluations: 2}
"""
# Beside that life, and not measured: an adapter, the other families, and a checkpoint from elsewhere.
ADAPTED = """\
  - name: adapted
    stage: lora
    parents: [coder]
    with: {data: asked.jsonl, rank: 4, dora: true, dropout: 0.1, dev_examples: 16, replay_data: docs}
  - {name: merged, stage: merge, parents: [adapted]}
"""
MORE = """\
  - name: {family}
    stage: pretrain
    parents: [tokenizer]
    with: {{data: docs, family: {family}, n_layer: 2, n_embd: 32, n_ctx: 64, tokens: 1_024, optimizer: adamw}}
"""
MINE = """\
  - {name: mine, stage: import, with: {path: elsewhere.safetensors, family: gpt2, n_head: 2, tokenizer: spoken}}
"""


def documentation() -> Iterator[Document]:
    """Documents such as those of installed packages: a name, its parameters, a summary, and a sentence more."""
    rng = random.Random(5)
    for i in range(160):
        name = f"pack.{rng.choice(THINGS)}{i}"
        first, second, third = (rng.choice(THINGS) for _ in range(3))
        summary = f"Return the {first} of {second} {' '.join(rng.sample(THINGS, 4))} as a {third}."
        body = f"{summary}\n\n{' '.join(rng.sample(THINGS, 8)).capitalize()} and some more words of it all."
        parameters = (f"{first}_{i}", f"{second}_{i}")
        yield Document(name, f"{name}({', '.join(parameters)})\n\n{body}\n", body, name, "function", parameters)


def write_texts(folder: Path) -> None:
    """The files that the recipe names."""
    from safetensors.numpy import save_file

    from journey.tokenizer.formats import Tokenizer

    rng = random.Random(7)
    code = [
        "\n".join(f"def {rng.choice(DEEDS)}_{i}(x):\n    return x + {rng.randrange(1000)}\n" for i in range(4))
        for _ in range(80)
    ]
    said = [
        (f"What does the {a} do with the {b}?", f"It {rng.choice(DEEDS)} the {b}.", f"The {b} {a}.")
        for a in THINGS
        for b in THINGS
        if a != b
    ]
    lines = {
        "docs": [{"text": document.text} for document in documentation()],
        "code": [{"text": text} for text in code],
        "asked": [{"question": prompt, "answer": good} for prompt, good, _ in said],
        "preferences": [{"prompt": prompt, "chosen": good, "rejected": bad} for prompt, good, bad in said],
    }
    for name, records in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "bench").mkdir()
    benchmarks = {
        "piqa": [{"goal": prompt, "sol1": good, "sol2": bad, "label": 0} for prompt, good, bad in said[:40]],
        "gsm8k": [{"question": prompt, "answer": f"{good}\n#### {i}"} for i, (prompt, good, _) in enumerate(said[:8])],
        "humaneval": [
            {
                "task_id": f"{i}",
                "prompt": f"def f{i}(x):\n    ''\n",
                "entry_point": f"f{i}",
                "test": "def check(f):\n    f(1)\n",
            }
            for i in range(4)
        ],
    }
    for name, records in benchmarks.items():
        (folder / "bench" / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    tokenizer = Tokenizer.from_merges([("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("e", "r")])
    (folder / "spoken").mkdir()
    tokenizer.save(folder / "spoken")
    save_file(_gpt2(tokenizer.n_ids), folder / "elsewhere.safetensors")


def _gpt2(vocab_size: int, n_ctx: int = 32, C: int = 16) -> dict[str, Any]:
    """A bare state dict of one block, in transformers' names."""
    import numpy as np

    rng = np.random.default_rng(3)
    shapes = {
        "transformer.wte.weight": (vocab_size, C),
        "transformer.wpe.weight": (n_ctx, C),
        "transformer.ln_f.weight": (C,),
        "transformer.ln_f.bias": (C,),
    }
    for part, shape in {
        "ln_1": (C,), "ln_2": (C,), "attn.c_attn": (C, 3 * C), "attn.c_proj": (C, C), "mlp.c_fc": (C, 4 * C),
        "mlp.c_proj": (4 * C, C),
    }.items():  # fmt: skip
        shapes[f"transformer.h.0.{part}.weight"] = shape
        shapes[f"transformer.h.0.{part}.bias"] = shape[-1:]
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def live() -> tuple[dict[str, Any], dict[str, Any]]:
    """Lives it in a folder that is gone afterwards. Returns step -> stage, what it was made of (steps), hash of what
    came out, losses; and `step measure` -> the scores of that measure."""
    original = corpus.read

    def read(source: str, *arguments: Any) -> Iterator[Document]:
        return documentation() if source == "docs.jsonl" else original(source, *arguments)

    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.object(corpus, "read", read),
    ):
        write_texts(Path())
        nodes = {node.name: node for node in _run(LIFE)}
        scores = {
            f"{name} {measure}": _found(taken)
            for name, node in nodes.items()
            for measure, taken in measuring.read(node, Path("workspace")).items()
            if measure not in TIMED
        }
        more = ADAPTED + "".join(MORE.format(family=family) for family in FAMILIES if family != "qwen3") + MINE
        nodes |= {node.name: node for node in _run(LIFE + more, measured=False)}
        steps = {name: _outcome(node, nodes) for name, node in nodes.items()}
    return steps, scores


def _run(text: str, measured: bool = True) -> list[Node]:
    Path("golden.yaml").write_text(text)
    read = recipe.read(Path("golden.yaml"), [] if measured else [f"measure.{name}=false" for name in MEASURES])
    return runner.make(read, runner.plan(read, Path("workspace")), Path("workspace"), Console())


def _outcome(node: Node, nodes: dict[str, Node]) -> dict[str, Any]:
    lineage = node.lineage
    names = {other.id: name for name, other in nodes.items()}
    ids = [*lineage["parents"], *(given["id"] for given in lineage["data"].values() if "id" in given)]
    files = {name: hash for name, hash in lineage["files"].items() if name not in BESIDE}
    outcome = {"stage": node.stage, "of": [names[id] for id in ids], "hash": digest(files)[:16]}
    if lineage["weights_sha256"]:
        outcome["hash"] = lineage["weights_sha256"][:16]
    if (node.path / "history.json").exists():
        history = read_json(node.path / "history.json")
        outcome["losses"] = [_round(line["loss"]) for line in history if "loss" in line][:LOSSES]
    return outcome


def _found(taken: Taken) -> dict[str, float | str]:
    """Its scores or, of a measure without, a hash of its facts."""
    scores: dict[str, float | str] = {key: _round(e.value) for key, e in estimates(taken).items()}
    return scores or {"facts": digest({key: fact for key, fact in taken.facts.items() if key != "seconds"})[:16]}


def _round(value: float) -> float:
    """To nine digits, all that a float32 has."""
    return float(f"{value:.9g}")
