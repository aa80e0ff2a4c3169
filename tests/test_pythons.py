"""The other Pythons that Journey is for: the same ids, texts, tokenizers and tokens, to the last byte.

None of that needs torch, so an environment of seconds is enough to try it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import write_life

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
HERE = "{}.{}".format(*sys.version_info)
PACKAGES = (
    *("jinja2", "numpy", "pyarrow", "pyyaml", "regex", "rich", "safetensors", "scipy"),
    *("tiktoken", "tokenizers", "tyro"),
)
PLAN = """
import json, sys
from pathlib import Path
from journey import recipe, runner
print(json.dumps({item.step.name: item.id for item in runner.plan(recipe.read(Path(sys.argv[1])), Path("unused"))}))
"""


def call(*command):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module", params=[version for version in VERSIONS if version != HERE])
def python(request, tmp_path_factory):
    """A Python of another version, with the pinned packages that texts and tokens need."""
    folder = tmp_path_factory.mktemp("python")
    # pyenv has a python3.12 on the path for every version that it knows; this makes it run the one that is meant.
    found = call("env", f"PYENV_VERSION={request.param}", f"python{request.param}", "-m", "venv", folder)
    if found.returncode:
        pytest.skip(f"no Python {request.param} with venv on the path")
    python = folder / "bin" / "python"
    installed = call(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", *PACKAGES)
    if installed.returncode:
        pytest.skip(f"packages for Python {request.param} cannot be had: {installed.stderr.splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """What this Python makes."""
    texts = write_life(tmp_path_factory.mktemp("here"))
    return texts, made(sys.executable, texts, tmp_path_factory.mktemp("made"))


def made(python, texts, folder):
    """The ids of a whole recipe, and of a text, a tokenizer and tokens what came out."""
    planned = call(python, "-c", PLAN, texts.recipe)
    assert planned.returncode == 0, planned.stderr
    text, tokenizer, tokens = (folder / name for name in ("text", "tokenizer", "tokens"))
    found = [json.loads(planned.stdout)]
    for command in (
        ("text", "--source", texts.texts / "prose.jsonl", "--out", text),
        ("tokenizer", "train", "--data", text, "--vocab-size", 300, "--out", tokenizer),
        ("data", "prepare", "--parent", tokenizer, "--data", text, "--out", tokens),
    ):
        done = call(python, "-m", "journey", *command)
        assert done.returncode == 0, done.stderr
        lineage = json.loads((command[-1] / "lineage.json").read_text())
        found.append({key: lineage[key] for key in ("id", "parents", "metrics", "files")})
    return found


@pytest.mark.slow
def test_another_python_makes_the_same(python, here, tmp_path):
    texts, expected = here
    assert made(python, texts, tmp_path) == expected


@pytest.mark.slow
def test_another_python_tells_a_bad_recipe_alike(python, here, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(here[0].recipe.read_text().replace("n_layer", "n_layers"))
    said = [call(command, "-m", "journey", "run", bad, "--dry-run") for command in (python, sys.executable)]
    assert said[0].returncode == said[1].returncode == 2
    assert said[0].stderr == said[1].stderr and 'did you mean "n_layer"' in said[0].stderr
