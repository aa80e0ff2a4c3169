"""docs/extending.md, done as it says: a stage, a measure, a family, a source and a verb in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a copy of the package lives a life, and much of it in processes of their own

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
LONGEST = 48  # lines of code that a file of the page may have
SMALL = ("tokenizer.vocab_size=400", "base.tokens=12_000", "base.n_ctx=64", "base.evaluations=1")
SMALL += ("more.tokens=6_000", "more.evaluations=1")

# Reads command lines as JSON, and answers with what each printed; at the end a folder is opened by others' code.
CALLS = """
import contextlib, io, json, sys
from journey.cli import main

found = []
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line)
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""
ELSEWHERE = """
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from journey.infer import gguf
from journey.infer.llamacpp import LlamaCpp
from journey.pair import open_pair

ours, tokenizer = open_pair(Path(sys.argv[1]))
theirs = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
assert type(theirs).__name__ == "ArceeForCausalLM", type(theirs)
ids = tokenizer.encode("The standard library, and what is in it.")
with torch.inference_mode():
    logits = ours(torch.tensor([ids]))
    print(float((theirs(torch.tensor([ids])).logits - logits).abs().max()))
gguf.write(ours, tokenizer, Path("arcee.gguf"), "f32")
with LlamaCpp(Path("arcee.gguf"), exact=True) as model:
    print(float((torch.tensor(model.logits(ids)) - logits[0]).abs().max()))
"""


def blocks(language):
    """(path, lines) of the page's blocks of code; a block's first line is a comment with the path."""
    for found in re.finditer(rf"^```{language}\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        yield found[1], found[2].splitlines(keepends=True)


def changed(text, lines):
    """The text with what a block adds (+) and takes away (-); what stands around it must be there, once."""
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    assert text.count(before) == 1, f"not in the file, or not once:\n{before}"
    return text.replace(before, "".join(line[1:] for line in lines if not line.startswith("-")))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with a copy of the package in which the page was followed."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, lines in blocks("python"):
        assert not (folder / path).exists() and (folder / path).parent.is_dir(), path
        (folder / path).write_text("".join(lines), encoding="utf-8")
    for path, lines in blocks("diff"):
        file = folder / path
        file.write_text(changed(file.read_text(encoding="utf-8"), lines), encoding="utf-8")
    for path, lines in blocks("yaml"):
        (folder / path).write_text("".join(lines), encoding="utf-8")
    return folder


def python(package, *arguments):
    """A Python that has the copy instead of the package."""
    environment = os.environ | {"PYTHONPATH": str(package / "src")}
    command = [sys.executable, *map(str, arguments)]
    found = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-4000:]
    return found.stdout


@pytest.fixture(scope="module")
def outputs(package):
    """What the commands of the page say, in one process: the first word after `journey` -> its output."""
    lines = re.search(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1].splitlines()
    calls = {line.split()[1]: _words(line) for line in lines}
    settings = [word for setting in SMALL for word in ("--set", f"stages.{setting}")]
    calls["run"] += settings
    calls["sweep"] += [*settings, "--dry-run"]
    calls |= {"help": ["--help"], "average": ["average", "--help"], "again": calls["run"] + ["--dry-run"]}
    found = json.loads(python(package, "-c", CALLS, json.dumps(list(calls.values()))))
    for name, (code, out, err) in zip(calls, found, strict=True):
        assert code == 0, f"{name}: {out}{err}"
    return {name: out for name, (_, out, _) in zip(calls, found, strict=True)}


def _words(line):
    words = re.findall(r'"[^"]*"|\S+', line)
    return [word.strip('"') for word in words[1:]] + ["--json"]


def result(output):
    return json.loads(output.splitlines()[-1])


def test_the_toys_are_short_and_in_the_layout_of_the_house(package):
    files = dict(blocks("python"))
    assert len(files) == 5
    assert all(sum(bool(line.strip()) for line in lines) <= LONGEST for lines in files.values())
    for command in (["check"], ["format", "--check"]):
        python(package, "-m", "ruff", *command, *files)


def test_help_names_the_new_stage_and_the_new_verb(outputs):
    overview = dict(line.split(maxsplit=1) for line in outputs["help"].splitlines() if line.startswith("  "))
    assert overview["average"] == "stage: average a model's weights with another's"
    assert overview["near"] == "tokens that a model holds for alike"
    assert "--other" in outputs["average"] and "How much of it is taken" in outputs["average"]


def test_the_recipe_is_lived_once(outputs):
    assert result(outputs["run"])["made"] == ["python-reference", "tokenizer", "base", "more", "mixed"]
    assert all(node["done"] for node in result(outputs["again"])["nodes"])


def test_the_lineage_says_from_what_it_was_made(package, outputs):
    nodes = {path.name.partition("-")[0]: path for path in (package / "journeys/extended/nodes").iterdir()}
    lineage = {name: json.loads((path / "lineage.json").read_text()) for name, path in nodes.items()}
    mixed = lineage["mixed"]
    assert (mixed["stage"], mixed["version"], mixed["parents"]) == ("average", 1, [lineage["base"]["id"]])
    assert mixed["data"]["other"]["id"] == lineage["more"]["id"] and mixed["config"]["share"] == 0.3
    assert mixed["weights_sha256"] not in (lineage["base"]["weights_sha256"], lineage["more"]["weights_sha256"], None)


def test_the_page_has_the_stages_section_and_the_measures_chapter(package, outputs):
    page = (package / "journeys/extended/report.html").read_text(encoding="utf-8")
    section = page.partition('id="stage-mixed"')[2].partition("</section>")[0]
    assert "number by number" not in section and "better than either" in section
    assert "Does it guess more tokens of python-reference than base?" in section
    chapter = page.partition('id="guesses"')[2].partition("</section>")[0]
    assert "The likeliest next token" in chapter and "<svg" in chapter
    assert all(f">{name}<" in chapter for name in ("base", "more", "mixed"))
    assert "mixed:</strong> tokens of python-reference guessed" in page.partition('id="expected"')[2]


def test_eval_diff_and_the_new_verb_have_the_score_as_json(outputs):
    key = "guessed.python-reference"
    metrics = result(outputs["eval"])["metrics"]
    for name in ("base", "mixed"):
        score = metrics[f"{name}.{key}"]
        assert 0 < score["low"] < score["value"] < score["high"] < 100 and score["unit"] == "%" and score["n"] > 5
    change = result(outputs["diff"])["metrics"][key]
    assert change["unit"] == "points"
    assert change["value"] == pytest.approx(metrics[f"mixed.{key}"]["value"] - metrics[f"base.{key}"]["value"])
    near = result(outputs["near"])
    assert len(near["metrics"]) == 5 and " the" not in near["metrics"] and near["node"]


def test_a_sweep_takes_the_new_family_and_the_new_score(outputs):
    swept = result(outputs["sweep"])
    assert [point["family"] for point in swept["points"]] == ["llama", "arcee"] and swept["nodes"] > 2


def test_the_new_family_opens_elsewhere(package, outputs):
    node = next((package / "journeys/extended/nodes").glob("mixed-*"))
    transformers, llama_cpp = map(float, python(package, "-c", ELSEWHERE, node).split())
    assert transformers < 1e-4 and llama_cpp < 1e-3
