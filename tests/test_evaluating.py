"""`journey eval` and `journey diff`: what stands, what is taken when a person asks for it, and what cannot be."""

import json
import shutil

import pytest

from journey import measuring
from journey.data.corpus import Corpus
from journey.scores import estimates


def numbers_of(taken):
    return {key: e.metric() for each in taken.values() for key, e in estimates(each).items()}


def stamps(folder):
    pages = ("eval.html",)  # made anew each time
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name not in pages}


@pytest.fixture
def outside(life, tmp_path, monkeypatch):
    """A Hugging Face folder without a lineage, beside no journey; and two small texts."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(life.node("base").path, tmp_path / "gpt")
    for name in ("lineage.json", "README.md", "history.json"):
        (tmp_path / "gpt" / name).unlink()
    lines = (life.texts / "prose.jsonl").read_text().splitlines()
    (tmp_path / "mine.jsonl").write_text("\n".join(lines[:150]) + "\n")
    (tmp_path / "mine.txt").write_text("\n\n".join(json.loads(line)["text"] for line in lines[:150]))
    return tmp_path


def test_eval_shows_all_that_stands_and_takes_nothing(life, journey):
    before = stamps(life.workspace)
    for name in ("tokenizer", "base", "preferred", "gguf"):
        output = journey("eval", name, "--workspace", life.workspace, "--json")
        assert output.code == 0 and output.json["node"] == life.node(name).id
        found = measuring.read(life.node(name), life.workspace)
        assert output.json["metrics"] == json.loads(json.dumps(numbers_of(found))) != {}
        for key, m in output.json["metrics"].items():
            assert f"  {key} " in output.err and f"n={m['n']}\n" in output.err
    assert stamps(life.workspace) == before


def test_eval_of_several_nodes_names_them(life, journey):
    output = journey("eval", "base", "coder", "--workspace", life.workspace, "--json").json
    assert output["node"] is None
    assert {"base.bits_per_byte.prose", "coder.bits_per_byte.prose", "base.bits_per_byte.prose.bigram"} <= (
        output["metrics"].keys()
    )


def test_eval_shows_the_measures_that_are_named_and_takes_those_that_do_not_stand(copy, journey):
    at = ("--workspace", copy.workspace)
    before = stamps(copy.workspace)
    only = journey("eval", "base", "--measure", "repeats", *at, "--json")
    assert only.json["metrics"].keys() == {"repeat.first", "repeat.second"} and "measuring" not in only.err
    assert stamps(copy.workspace) == before
    costs = journey("eval", "base", "--measure", "costs", "--measure", "repeats", *at, "--json")
    assert costs.code == 0 and "base: measuring" in costs.err and costs.json["metrics"] == only.json["metrics"]
    assert measuring.read(copy.node("base"), copy.workspace)["costs"].facts["parameters"] > 0
    assert journey("eval", "base", "--measure", "costs", *at).err == "  no number with an interval: costs\n"
    measuring.place(copy.node("coder"), copy.workspace, "bits_per_byte").unlink()
    again = journey("eval", "coder", "--measure", "bits_per_byte", *at, "--json").json
    assert again["metrics"] == numbers_of(
        {"bits_per_byte": measuring.read(copy.node("coder"), copy.workspace)["bits_per_byte"]}
    )
    # With the settings, the seed and the parent that the recipe has: the next run has nothing to do.
    run = journey("run", copy.recipe, *at, "--json")
    assert run.json["made"] == [] and "measured" not in run.err


def test_a_node_that_was_never_measured_is_measured_as_its_recipe_says(copy, life, journey):
    shutil.rmtree(copy.workspace / "measurements" / copy.node("coder").id)
    output = journey("eval", "coder", "--workspace", copy.workspace, "--json")
    assert output.json["metrics"] == json.loads(
        json.dumps(numbers_of(measuring.read(life.node("coder"), life.workspace)))
    )


@pytest.mark.parametrize("text", ["mine.jsonl", "mine.txt"])
def test_a_folder_from_elsewhere_is_measured_on_a_text_that_is_given(outside, journey, text):
    asked = ("eval", "gpt", "--measure", "bits_per_byte", "--measure", "repeats", "--text", text, "--json")
    first = journey(*asked)
    assert first.code == 0, first.err
    metrics = first.json["metrics"]
    assert metrics.keys() == {"bits_per_byte.mine", "repeat.first", "repeat.second"}
    assert (
        metrics["bits_per_byte.mine"]["low"] < metrics["bits_per_byte.mine"]["value"] and "gpt: measuring" in first.err
    )
    assert {path.name for path in outside.glob("measured/measurements/*/*")} == {
        "bits_per_byte-whole.json",
        "repeats-whole.json",
    }
    before = stamps(outside)
    again = journey(*asked)
    assert again.json == first.json and "gpt: measuring" not in again.err and stamps(outside) == before
    assert {path.name for path in outside.iterdir()} == {"gpt", "mine.jsonl", "mine.txt", "measured"}


def test_without_names_every_measure_that_fits_is_taken(outside, journey):
    output = journey("eval", "gpt", "--text", "mine.jsonl", "--out", "there", "--json")
    assert output.code == 0, output.err
    perplexity = {f"perplexity.mine{end}" for end in ("", ".bits_per_byte", ".context")}
    assert {"bits_per_byte.mine", "repeat.first", "repeat.second"} | perplexity == output.json["metrics"].keys()
    taken = {path.stem.removesuffix("-whole") for path in outside.glob("there/measurements/*/*.json")}
    assert taken == {*measuring.default_configs(), "perplexity"} - {
        "compression",
        "quantized",
        "retrieval",
        "timeline",
        "translation",
    }


def test_files_are_read_whole_but_not_those_that_the_node_was_trained_on(life, outside, journey):
    asked = ("--measure", "perplexity", "--workspace", life.workspace, "--json")
    words = ["river", "stone", "window", "garden", "letter", "engine", "winter", "copper", "shadow", "market"]
    rows = [{"text": f"{i} " + " ".join(words[(i * k) % 10] for k in range(1, 30))} for i in range(60)]
    (outside / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    new = journey("eval", "base", "--text", "new.jsonl", *asked)
    assert new.json["metrics"]["perplexity.new"]["n"] == 60 and "on all documents of new (60)" in new.err
    page = (outside / "measured" / "eval.html").read_text()
    assert "new, all documents" in page and "tokens of context" in page
    part = journey("eval", "base", "--text", "mine.jsonl", *asked)  # a part of what it was trained on, in another file
    assert part.json["metrics"]["perplexity.mine"]["n"] < 60 and "on all" not in part.err
    trained_on = journey("eval", "coder", "--text", life.texts / "prose.jsonl", *asked)  # base was, and so coder
    held_out = len(Corpus(life.node("prose").path).documents("test"))
    assert trained_on.json["metrics"]["perplexity.prose"]["n"] == held_out and "on all" not in trained_on.err


def test_a_folder_from_elsewhere_may_be_measured_on_a_text_of_the_journey(life, outside, journey):
    """And what was found is the same as for the node that it was; a text node's folder is that text too."""
    known = measuring.read(life.node("base"), life.workspace)["bits_per_byte"].items["code"].ids
    for text in ("code", life.node("code").path):
        asked = ("--measure", "bits_per_byte", "--text", text, "--workspace", life.workspace, "--json")
        found = journey("eval", outside / "gpt", *asked).json["metrics"]
        theirs = journey("eval", "base", "--workspace", life.workspace, "--json").json["metrics"]
        assert len(known) <= 400  # all documents were drawn: the journey's seed and the seed 0 of eval draw the same
        assert {**found["bits_per_byte.code"], "convention": ""} == {**theirs["bits_per_byte.code"], "convention": ""}


def test_a_node_of_the_journey_on_another_text_leaves_the_journey_as_it_is(life, outside, journey):
    before = stamps(life.workspace)
    asked = ("--text", "mine.jsonl", "--measure", "bits_per_byte", "--workspace", life.workspace, "--json")
    assert journey("eval", "coder", *asked).json["metrics"].keys() == {"bits_per_byte.mine"}
    assert stamps(life.workspace) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gpt", "--measure", "bits_per_byt", "--text", "mine.txt"], 'unknown measure "bits_per_byt", did you mean'),
        (["gpt", "--measure", "retrieval", "--text", "mine.txt"], "retrieval is taken of an index, gpt is a model"),
        (["gpt", "--measure", "compression"], "compression is taken of a tokenizer, gpt is a model"),
        (["gpt", "--measure", "bits_per_byte"], "gpt: bits_per_byte needs text: name some, as in --text my-texts/"),
        (["gpt"], "gpt: bits_per_byte needs text"),
        (["gpt", "--text", "nowhere"], "no such text: nowhere"),
        (["gpt", "--text", "mine.txt", "--text", "mine.jsonl"], "two texts have one name (mine, mine): rename one"),
        (["gtp"], "no journey in journeys"),
        ([], "name at least one node"),
    ],
)
def test_what_cannot_be_measured_is_one_line(outside, journey, arguments, said):
    output = journey("eval", *arguments)
    assert output.code == 2 and said in output.err.splitlines()[-1] and output.out == "", output.err
    assert not list(outside.glob("measured/measurements/*/*"))


def test_what_is_no_text_and_what_has_lost_its_model_is_one_line(life, journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    at = ("--workspace", life.workspace)
    for text in ("tokenizer", life.node("tokenizer").path):
        output = journey("eval", "base", "--text", text, *at)
        assert output.code == 2 and output.err.endswith("is a tokenizer node: --text wants a text\n")
    shutil.copytree(life.node("gguf").path, tmp_path / "gguf")
    output = journey("eval", "gguf", "--text", life.node("prose").path)
    assert output.code == 2 and "made of does not stand beside them" in output.err.splitlines()[-1]


def test_repeats_need_no_text(outside, journey):
    assert journey("eval", "gpt", "--measure", "repeats", "--json").json["metrics"].keys() == {
        "repeat.first", "repeat.second",
    }  # fmt: skip


def test_diff_is_what_changed_with_what_was_measured_between_the_two(life, journey):
    at = ("--workspace", life.workspace)
    output = journey("diff", "base", "coder", *at, "--json")
    metrics = output.json["metrics"]
    assert {"bits_per_byte.prose", "bits_per_byte.code", "kl.prose", "kl.code"} == metrics.keys()
    found = measuring.between(life.node("base"), life.node("coder"), life.workspace)
    assert metrics == json.loads(json.dumps({e.key: e.metric() for e in found}))
    assert metrics["bits_per_byte.code"]["verdict"] == "clear" and metrics["kl.prose"]["verdict"] == "a size"
    assert "in base" in metrics["bits_per_byte.code"]["compare"] and metrics["bits_per_byte.code"]["unit"] == "%"
    for key in metrics:
        assert f"{key} " in output.err
    further = journey("diff", "base", "chat", *at, "--json").json["metrics"]
    assert {"bits_per_byte.prose", "bits_per_byte.code"} == further.keys()  # no KL was measured between these two
    assert "policy_kl" in journey("diff", "chat", "preferred", *at, "--json").json["metrics"]
    back = journey("diff", "coder", "base", *at, "--json").json["metrics"]
    assert back["bits_per_byte.code"]["verdict"] == "worse" and "kl.code" not in back


@pytest.mark.parametrize(("a", "b"), [("preferred", "gguf"), ("preferred", "index"), ("tokenizer", "base")])
def test_nodes_of_two_kinds_have_nothing_to_compare(life, journey, a, b):
    output = journey("diff", a, b, "--workspace", life.workspace)
    assert output.code == 2 and len(output.err.splitlines()) == 1
    assert "nothing was measured at both" in output.err or "has not been measured" in output.err


def test_the_tree_has_the_numbers_of_every_node(life, journey):
    nodes = {node["name"]: node for node in journey("tree", "--workspace", life.workspace, "--json").json["nodes"]}
    for name, node in nodes.items():
        found = numbers_of(measuring.read(life.node(name), life.workspace))
        assert node["metrics"] == json.loads(json.dumps(life.node(name).lineage["metrics"] | found))
    assert "bytes_per_token.prose" in nodes["tokenizer"]["metrics"] and "same_ids.texts" in nodes["gguf"]["metrics"]


def test_a_journey_of_before_is_one_line(copy, journey):
    """What it measured stands in files of another form."""
    plan = json.loads((copy.workspace / "plan.json").read_text())
    del plan["format"], plan["measure"], plan["expect"]
    (copy.workspace / "plan.json").write_text(json.dumps(plan))
    for verb in (["eval", "base"], ["tree"], ["report"], ["diff", "base", "chat"]):
        output = journey(*verb, "--workspace", copy.workspace)
        assert output.code == 2 and len(output.err.splitlines()) == 1
        assert "was made by an older Journey: give --workspace elsewhere, or delete it" in output.err
