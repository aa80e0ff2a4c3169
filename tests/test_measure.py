"""One code path measures every model: what it writes is what the page and the command line read."""

import json
import random

import pytest

from journey import measure
from journey.console import Console
from journey.data import corpus
from journey.data.sources import Document
from journey.measure import draw, prompts
from journey.stages.run import Run
from journey.stages.text import Text, text

WORDS = (
    "array", "file", "matrix", "reader", "index", "value", "server", "thread",
    "window", "buffer", "model", "token", "parser", "list", "queue",
)  # fmt: skip


def documentation():
    """Documents such as those of installed packages: a name, its parameters, a summary, and a sentence more."""
    rng = random.Random(5)
    for i in range(300):
        name = f"pack.{rng.choice(WORDS)}{i}"
        first, second, third = (rng.choice(WORDS) for _ in range(3))
        summary = f"Return the {first} of {second} {' '.join(rng.sample(WORDS, 4))} as a {third}."
        body = f"{summary}\n\n{' '.join(rng.sample(WORDS, 8)).capitalize()} and some more words of it all."
        parameters = (f"{first}_{i}", f"{second}_{i}")
        yield Document(name, f"{name}({', '.join(parameters)})\n\n{body}\n", body, name, "function", parameters)


@pytest.fixture(scope="module")
def docs(life, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "read", lambda source, progress: documentation())
        config = Text(source=str(life.texts / "prose.jsonl"), test=0.3)
        return text(None, config, Run(tmp_path_factory.mktemp("docs") / "docs", name="docs"))


@pytest.fixture(scope="module")
def measured(life, docs, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    texts = {"docs": docs, "code": life.node("code")}
    measure.measure(life.node("chat"), life.node("coder"), texts, workspace, Console(), seed=3)
    return measure.read(life.node("chat"), workspace)


def test_the_measurement_has_every_part(measured):
    assert measured["bits_per_byte"].keys() == {"docs", "code"}
    assert len(measured["choices"]["items"]) > 20 and measured["choices"]["convention"]
    assert len(measured["answers"]["items"]) > 20 and len(measured["endings"]["items"]) > 20
    assert all(item["right"] > 0 and item["named"] in (True, False) for item in measured["answers"]["items"])
    assert len(measured["heads"]["induction"]) == 2 and measured["repeat"]["first"]
    against = measured["against_parent"]
    assert against["weights"] and against["kl"].keys() == {"docs", "code"} and len(against["cka"]) == 3
    assert json.dumps(measured, allow_nan=False)


def test_our_choices_are_lm_evals(measured):
    """On the same items the harness comes to the same answer, each time."""
    checked = measured["choices"]["harness"]
    assert checked["n"] == checked["agree"] == len(measured["choices"]["items"])
    items = measured["choices"]["items"]
    assert checked["acc"] == pytest.approx(sum(i["picked"] == i["gold"] for i in items) / len(items))


def test_the_summary_has_an_interval_for_every_number(measured):
    found = measure.summary(measured)
    for name in ("bits_per_byte.docs", "choices.acc_norm", "repeat.second", "answer_loss.right", "ends_by_itself"):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"] and found[name]["n"] > 10


def test_six_samples_three_of_them_answers(measured):
    kinds = [sample["kind"] for sample in measured["samples"]]
    assert sorted(kinds) == ["chat"] * 3 + ["text"] * 3
    assert len({sample["prompt"] for sample in measured["samples"]}) == 6


@pytest.fixture
def count(monkeypatch):
    """Measures nothing, and keeps the names of the nodes that would have been measured."""
    done = []
    monkeypatch.setattr(measure, "_parts", lambda node, *others: done.append(node.name) or iter(()))
    monkeypatch.setattr(measure, "_headline", lambda found: "")
    return done


@pytest.mark.parametrize("change", ["text", "parent", "seed"])
def test_what_was_measured_is_measured_again_only_with_other_inputs(life, docs, tmp_path, count, change):
    base, coder, code = (life.node(name) for name in ("base", "coder", "code"))
    arguments = {"parent": base, "texts": {"code": code}, "seed": 3}
    other = {"text": {"texts": {"code": docs}}, "parent": {"parent": None}, "seed": {"seed": 4}}[change]
    numbers = []
    for given in (arguments, arguments, arguments | other):
        measure.measure(coder, workspace=tmp_path, console=Console(), **given)
        numbers.append(len(count))
    assert numbers == [1, 1, 2]


def test_a_node_made_anew_with_other_weights_is_measured_anew(copy, life, tmp_path, count):
    """An id says what went in. `--from` after an update of torch may bring other weights under the same id."""
    arguments = {"parent": None, "texts": {}, "workspace": tmp_path, "console": Console(), "seed": 3}
    measure.measure(life.node("base"), **arguments)
    path = copy.node("base").path / "lineage.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": "other"}))
    measure.measure(copy.node("base"), **arguments)
    assert count == ["base", "base"]


def test_a_draw_depends_on_the_seed_and_keeps_the_order():
    items = list(range(1000))
    drawn = draw(items, 50, seed=1)
    assert drawn == sorted(drawn) == draw(items, 50, seed=1) != draw(items, 50, seed=2) and len(set(drawn)) == 50
    assert draw(items[:10], 50, seed=1) == items[:10]


def test_without_questions_all_six_prompts_are_texts():
    held_out = {name: [Document(f"{name}{i}", f"{name} {i}\n\nmore") for i in range(9)] for name in ("docs", "code")}
    found = prompts(held_out, [])
    assert len(set(found)) == 6 and {kind for kind, _ in found} == {"text"}
    assert [prompt.split()[0] for _, prompt in found] == ["docs", "code"] * 3
    assert all(prompt.endswith("\n\n") and "more" not in prompt for _, prompt in found)
