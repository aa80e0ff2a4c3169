"""What the id is made of, and what is only written down."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from journey import lineage
from journey.checkpoint import COMPARED
from journey.fields import chosen
from journey.files import sha256_file
from journey.lineage import computing, node_id, source_version
from journey.stages import STAGES, load

SOURCE = Path(lineage.__file__).parent
MODELS = ("base", "coder", "chat")
INPUTS = {
    "stage": "pretrain",
    "version": 1,
    "config": {"lr": 0.1, "data": "a/path"},
    "parents": ["p"],
    "data": {"data": "fingerprint"},
    "seed": 0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "continue"},
        {"version": 2},
        {"config": {"lr": 0.2, "data": "a/path"}},
        {"config": {"lr": 0.1, "data": "a/path", "clip": 1.0}},
        {"parents": ["q"]},
        {"parents": []},
        {"data": {"data": "other"}},
        {"seed": 1},
    ],
)
def test_everything_that_goes_in_decides_the_id(change):
    assert node_id(**INPUTS) != node_id(**INPUTS | change)


def test_a_setting_that_comes_later_moves_no_id_until_it_is_used():
    @dataclasses.dataclass(frozen=True)
    class Before:
        lr: float = 0.1

    @dataclasses.dataclass(frozen=True)
    class After:
        lr: float = 0.1
        drop: float = 0.0
        kinds: tuple[str, ...] = dataclasses.field(default_factory=lambda: ("a",))

    assert chosen(Before()) == chosen(After()) == chosen(After(kinds=("a",))) == {}
    assert chosen(Before(lr=0.2)) == chosen(After(lr=0.2)) == {"lr": 0.2}
    assert chosen(After(drop=0.5, kinds=())) == {"drop": 0.5, "kinds": ()}


def test_a_text_that_moved_keeps_its_id():
    """What a path holds counts, and the path does not."""
    moved = INPUTS | {"config": {"lr": 0.1, "data": "elsewhere"}}
    assert node_id(**INPUTS) == node_id(**moved)


def test_an_id_is_the_same_on_every_python():
    """No floating-point or syntax of one version is in it: written down once, and to stay so."""
    config = {"lr": 3e-4, "types": ("f16", "q8_0"), "n_head": None, "name": "Größe", "whole": True}
    made = node_id("quantize", 3, config, ["p"], {"data": "f"}, 7)
    assert made == "a6e9886376684569ace0f2552abd7ea55168a5e5b1ade37bad170231c6f3457a"
    assert made == node_id("quantize", 3, json.loads(json.dumps(config)), ["p"], {"data": "f"}, 7)


MODULE = '''"""A docstring,
with "#" in it."""

from typing import TYPE_CHECKING  # a comment

if TYPE_CHECKING:
    import journey.runner

import journey.chat

TEXT = """kept

# as it is   
"""  # but for this


class Config:
    """Settings."""

    name: str = "ü"  # Größe
    """Its name."""

    def cost(self, before) -> Cost:
        return Cost(1)

    def cost_of(self):
        return f"{self.name!r:>{10}} # no comment"


@stage(
    why="A paragraph.",
    version=1,
)
def one(parent, config, run):
    # A comment alone.
    from journey.files import digest

    return ("a"  # one
            # two
            "b")


@one.tells
def tell(told):
    import journey.report

    return told


@functools.cache
def two():
    measure()
'''
COMPUTING = '''from typing import TYPE_CHECKING
import journey.chat
TEXT = """kept

# as it is   
"""
class Config:
    name: str = "ü"
    def cost_of(self):
        return f"{self.name!r:>{10}} # no comment"
def one(parent, config, run):
    from journey.files import digest
    return ("a"
            "b")
@functools.cache
def two():
    measure()'''


def test_of_a_module_what_computes_is_kept():
    text, imported = computing(MODULE)
    assert text == COMPUTING
    assert imported == ["journey.chat", "journey.files", "journey.files.digest"]


PYTHONS = ("python3.11", "python3.12", "python3.13")
DIGESTS = """
import sys
sys.path.insert(0, {place!r})
from journey.lineage import node_id, source_version
print([source_version(module) for module in {modules}], node_id("text", 1, {{"a": 1e-5, "b": (1, "é")}}, [], {{}}, 0))
"""


def test_sources_and_ids_are_the_same_on_every_python_that_is_here():
    code = DIGESTS.format(place=str(SOURCE.parent), modules=[load(name).body.__module__ for name in STAGES])
    found = {}
    for python in PYTHONS:
        run = subprocess.run([python, "-c", code], capture_output=True, text=True) if shutil.which(python) else None
        if run and (run.returncode == 0 or "journey" in run.stderr):
            assert run.returncode == 0, run.stderr
            found[python] = run.stdout
    assert len(set(found.values())) == 1
    if len(found) < 2:
        pytest.skip("only one Python is here")


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A copy of our own source that `source_version` reads; returns edit(file, old, new) -> has the version changed?"""
    shutil.copytree(SOURCE, tmp_path / "journey", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(lineage, "__file__", str(tmp_path / "journey" / "lineage.py"))

    def version(module):
        source_version.cache_clear()
        lineage._code.cache_clear()
        return source_version(module)

    def changed(module, file, old, new):
        before = version(module)
        path = tmp_path / "journey" / file
        text = path.read_text()
        assert old in text, f"{file} no longer holds {old!r}: this test needs another example"
        path.write_text(text.replace(old, new))
        after = version(module)
        path.write_text(text)
        return before != after

    yield changed
    source_version.cache_clear()
    lineage._code.cache_clear()


PRETRAIN = "journey.stages.pretrain"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/training.py", "import math\n", "import math  # a comment\n\n\n"),
        ("stages/pretrain.py", '"""Pre-training: ', '"""Another docstring: '),
        ("train/schedule.py", '"""Share of the peak', '"""A part of the peak'),
        ("stages/training.py", '"""Sequences a step."""', '"""How many sequences a step has."""'),
        ("train/loop.py", "losses = []\n", "losses = []  \n\n"),
        ("stages/pretrain.py", "if TYPE_CHECKING:\n", "if TYPE_CHECKING:\n    import journey.runner\n"),
        ("stages/pretrain.py", "random weights and learns", "nothing and learns"),  # its `why`
        ("stages/pretrain.py", 'goal="a language model"', 'goal="a model of language"'),
        ("stages/pretrain.py", "self.tokens, self.flops)", "2 * self.tokens, self.flops)"),  # what it should cost
        ("stages/pretrain.py", "def budget", "@pretrain.tells\ndef tell(told):\n    return told\n\n\ndef budget"),
    ],
)
def test_what_no_result_depends_on_does_not_change_the_source(source, file, old, new):
    assert not source(PRETRAIN, file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/training.py", "decay: Share = 0.5", "decay: Share = 0.4"),
        ("train/schedule.py", "rising = (step + 1) / up", "rising = step / up"),
        ("train/optimizers.py", "momentum: float = 0.95", "momentum: float = 0.9"),
        ("data/stream.py", "permutation", "shuffle"),
        ("model/layers.py", "import torch\n", "import torch\nX = 1\n"),
        ("tokenizer/codec.py", "import", "import this, "),
    ],
)
def test_code_changes_the_source_even_in_a_module_far_below(source, file, old, new):
    assert source(PRETRAIN, file, old, new)


@pytest.mark.parametrize(
    "file", ["console.py", "runner.py", "life/page.py", "report/blocks.py", "stages/sft.py", "stages/run.py"]
)
def test_code_that_a_stage_does_not_compute_with_leaves_its_source(source, file):
    text = (SOURCE / file).read_text()
    assert not source(PRETRAIN, file, text, text + "\nX = 1\n")


def test_the_lineage_says_everything(life):
    ids = {life.node(name).id for name in ("prose", "code", "tokenizer", *MODELS)}
    for name in MODELS:
        found = life.node(name).lineage
        assert {"packages", "python", "machine", "git_commit", "journey", "config", "metrics"} <= found.keys()
        assert found["tokens"] > 0 and found["flops"] > 0 and found["seconds"] > 0 and found["peak_memory"] > 1e8
        assert found["version"] == load(found["stage"]).version and found["source"] == load(found["stage"]).source
        assert found["seed"] == 3 and re.fullmatch("[0-9a-f]{64}", found["tokenizer_hash"])
        assert set(found["parents"]) < ids
    assert life.node("base").lineage["data"]["data"]["id"] == life.node("prose").id
    assert life.node("coder").lineage["data"].keys() == {"data", "replay_data"}
    assert life.node("chat").lineage["data"]["data"]["fingerprint"]
    assert len({life.node(name).lineage["tokenizer_hash"] for name in ("tokenizer", *MODELS)}) == 1


def test_the_hashes_are_those_of_the_files(life):
    for name in ("prose", "tokenizer", *MODELS):
        node = life.node(name)
        files = {p.relative_to(node.path).as_posix(): sha256_file(p) for p in node.path.rglob("*") if p.is_file()}
        files.pop("lineage.json")
        files.pop(COMPARED)
        assert node.lineage["files"] == files
        assert node.lineage["weights_sha256"] == files.get("model.safetensors")


def test_the_card_names_the_base_model_and_how_it_was_used(life):
    for name, base, relation in (("base", None, None), ("coder", "base", "finetune"), ("chat", "coder", "finetune")):
        _, head, _ = (life.node(name).path / "README.md").read_text().split("---\n", 2)
        card = yaml.safe_load(head)
        assert (card.get("base_model"), card.get("base_model_relation")) == (base, relation)
        assert card["library_name"] == "transformers"


def test_a_node_says_nothing_about_who_made_it(life):
    for name in ("prose", *MODELS):
        text = json.dumps(life.node(name).lineage | {"config": None})
        assert str(Path.home()) + "/" not in text


PEAKS = """
import numpy as np
from journey.lineage import peak_memory, reset_peak_memory

reset_peak_memory()
before = peak_memory()
big = np.ones(25_000_000)  # 200 MB
assert peak_memory() > before + 150e6
del big
reset_peak_memory()
assert peak_memory() < before + 50e6
"""


def test_peak_memory_begins_anew_with_each_stage():
    """In a process of its own: one that has run other tests gives memory back at any time."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux can")
    subprocess.run([sys.executable, "-c", PEAKS], check=True)
