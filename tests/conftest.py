"""One small life, made once by the real command line and read by many tests."""

import os

# Before torch is imported, here, in each xdist worker and in every child: one thread adds numbers up in one order,
# whatever else the machine does, so that two runs can be compared bit by bit. And the workers have a core each.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import contextlib
import io
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from journey.checkpoint import Node, look_at
from journey.cli import main
from journey.console import Console
from journey.stages.run import Run

THINGS = (
    "array", "file", "matrix", "reader", "index", "value", "server", "thread",
    "window", "buffer", "model", "token", "parser", "list", "queue",
)  # fmt: skip
DEEDS = ("reads", "writes", "sorts", "returns", "copies", "merges", "closes", "counts", "splits", "checks")
KINDS = ("small", "empty", "sorted", "shared", "local", "nested", "open", "finished", "random", "hidden")

RECIPE = """\
name: tiny
seed: 3
stages:
  - name: prose
    stage: text
    with: {{source: {texts}/prose.jsonl}}
  - name: code
    stage: text
    with: {{source: {texts}/code.jsonl}}
  - name: tokenizer
    stage: tokenizer
    with: {{data: prose, vocab_size: 400}}
  - name: base
    stage: pretrain
    parents: [tokenizer]
    with: {{data: prose, n_layer: 2, n_embd: 32, n_ctx: 64, tokens: 16_000, evaluations: 3}}
  - name: coder
    stage: continue
    parents: [base]
    with: {{data: code, replay_data: prose, tokens: 6_000, evaluations: 2}}
  - name: chat
    stage: sft
    parents: [coder]
    with: {{data: {texts}/asked.jsonl, epochs: 2}}
  - name: pairs
    stage: pairs
    parents: [chat]
    with: {{data: {texts}/asked.jsonl, max_questions: 60, samples: 6, max_new_tokens: 32, margin: 0}}
  - name: preferred
    stage: dpo
    parents: [chat]
    with: {{data: pairs, batch_size: 4, evaluations: 2}}
  - name: gguf
    stage: quantize
    parents: [preferred]
    with: {{types: [f16, q8_0]}}
  - name: index
    stage: index
    parents: [preferred]
    with: {{data: prose, embedder: node}}
"""
STAGES = ("prose", "code", "tokenizer", "base", "coder", "chat", "pairs", "preferred", "gguf", "index")
MODELS = ("base", "coder", "chat", "preferred")


@dataclass(frozen=True)
class Output:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out.splitlines()[-1])


@dataclass(frozen=True)
class Life:
    """Texts, the recipe that was made of them, and the workspace that its run left."""

    texts: Path
    recipe: Path
    workspace: Path
    output: Output | None = None

    def node(self, name: str) -> Node:
        return next(look_at(path) for path in (self.workspace / "nodes").iterdir() if path.name.startswith(f"{name}-"))

    def history(self, name: str) -> list[dict]:
        return json.loads((self.node(name).path / "history.json").read_text())


def sentence(rng: random.Random) -> str:
    kind, thing, deed = rng.choice(KINDS), rng.choice(THINGS), rng.choice(DEEDS)
    return f"The {kind} {thing} {deed} the {rng.choice(KINDS)} {rng.choice(THINGS)} number {rng.randrange(1000)}."


def function(rng: random.Random) -> str:
    name = f"{rng.choice(DEEDS)}_{rng.choice(THINGS)}_{rng.randrange(1000)}"
    return f"def {name}(x):\n    return x + {rng.randrange(1000)}\n"


def write_lines(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_life(folder: Path) -> Life:
    """Texts with the look of English and of code, conversations, and a recipe of all five kinds of stage."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    rng = random.Random(7)
    prose = [" ".join(sentence(rng) for _ in range(rng.randrange(3, 8))) for _ in range(400)]
    code = ["\n".join(function(rng) for _ in range(rng.randrange(2, 6))) for _ in range(200)]
    asked = [
        (f"What does the {a} do with the {b}?", f"The {a} {rng.choice(DEEDS)} the {b}.") for a in THINGS for b in THINGS
    ]
    write_lines(texts / "prose.jsonl", [{"text": text} for text in prose])
    write_lines(texts / "code.jsonl", [{"text": text} for text in code])
    write_lines(texts / "asked.jsonl", [{"question": question, "answer": answer} for question, answer in asked])
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.format(texts=texts))
    return Life(texts, recipe, folder / "workspace")


def call(*arguments: object) -> Output:
    """One command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Output(code, out.getvalue(), err.getvalue())


def pytest_collection_modifyitems(items):
    """Files with slow tests first: else one worker has them at the end, and the others wait for it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


class Silent(Console):
    """Keeps what it is told; `when` is called with how often progress was shown."""

    def __init__(self, when=lambda times: None):
        super().__init__()
        self.lines, self.shown, self.when = [], [], when

    def say(self, line):
        self.lines.append(line)

    def progress(self, name, done, total, unit, numbers):
        self.shown.append((done, total, unit, numbers))
        self.when(len(self.shown))


def new_run(folder, seed=0, when=lambda times: None):
    """A run that has begun, as a stage's body finds it; called again it goes on from what `scratch` holds."""
    run = Run(folder / "made", seed=seed, console=Silent(when))
    run._begin("0" * 64)
    return run


@pytest.fixture(scope="session")
def journey():
    """Runs a command line in this process: `journey("tree", "--workspace", folder)` -> Output."""
    return call


@pytest.fixture(scope="session")
def write_texts():
    """Writes texts and a recipe into a folder: `write_texts(folder)` -> Life, of which nothing has been run."""
    return write_life


@pytest.fixture(scope="session")
def life(tmp_path_factory):
    """The small life, whole. Tests read it; the ones that change something take `copy`."""
    made = write_life(tmp_path_factory.mktemp("life"))
    output = call("run", made.recipe, "--workspace", made.workspace, "--json")
    assert output.code == 0, output.err
    return Life(made.texts, made.recipe, made.workspace, output)


@pytest.fixture
def copy(life, tmp_path):
    """The small life in a workspace of the test's own."""
    workspace = tmp_path / "workspace"
    shutil.copytree(life.workspace, workspace)
    return Life(life.texts, life.recipe, workspace)


@pytest.fixture
def unlived(tmp_path):
    """Texts and a recipe of which nothing has been run."""
    return write_life(tmp_path)
