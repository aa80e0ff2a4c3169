"""`journey eval --tasks` as a person types it, on the small life."""

import json

import pytest

from journey import measuring
from journey.evaluate.significance import items_needed


@pytest.fixture
def run(copy, data, journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNEY_DATA", raising=False)

    def call(*arguments):
        return journey("eval", *arguments, "--workspace", copy.workspace, "--data", data, "--json")

    return call


def test_nodes_stand_side_by_side_and_every_item_in_a_file(run, copy, tmp_path):
    output = run("base", "chat", "--tasks", "piqa,hellaswag,lambada_openai", "--items", "20")
    assert output.code == 0, output.err
    assert {"base.piqa.acc_norm", "chat.piqa.acc_norm vs base", "chat.mean_above_chance"} <= output.json[
        "metrics"
    ].keys()
    assert "with 20 items" in output.err and "piqa acc_norm, 0-shot, n = 20" in output.err
    assert output.err.index("piqa acc_norm") < output.err.index("hellaswag acc_norm")  # in the order that was asked for
    assert (tmp_path / "measured" / "evaluation.html").exists()
    whole = json.loads((tmp_path / "measured" / "evaluation.json").read_text())
    assert len(whole["items"]["hellaswag"]["base"]["scored"]) == 20
    assert "lambada_openai" not in measuring.read(copy.node("base"), copy.workspace)  # what no recipe asks for
    (path,) = (tmp_path / "measured").glob(f"*/measurements/{copy.node('base').id}/lambada_openai.json")
    keys = {score["key"] for score in json.loads(path.read_text())["scores"]}
    assert keys == {"lambada_openai.acc", "lambada_openai.perplexity"}
    assert not list(copy.workspace.rglob("*-answers.jsonl"))  # what a killed run would go on from


def test_what_stands_is_not_asked_again_and_other_rows_are(run, data):
    first = run("base", "--tasks", "arc_easy", "--items", "10")
    again = run("base", "--tasks", "arc_easy", "--items", "10")
    assert "base: measuring" in first.err and "base: measuring" not in again.err
    assert again.json["metrics"] == first.json["metrics"]
    assert "base: measuring" in run("base", "--tasks", "arc_easy", "--items", "12").err
    assert "base: measuring" not in run("base", "--tasks", "arc_easy", "--items", "10").err
    path = data / "arc_easy.jsonl"
    lines = path.read_text()
    try:
        path.write_text("\n".join(lines.splitlines()[1:]) + "\n")
        assert "base: measuring" in run("base", "--tasks", "arc_easy", "--items", "10").err
    finally:
        path.write_text(lines)


def test_both_engines_give_one_number(run):
    ours = run("chat", "--tasks", "openbookqa", "--items", "15").json["metrics"]["chat.openbookqa.acc_norm"]
    theirs = run("chat", "--tasks", "openbookqa", "--items", "15", "--engine", "lm-eval")
    theirs = theirs.json["metrics"]["chat.openbookqa.acc_norm"]
    assert ours["value"] == theirs["value"]
    assert "by journey" in ours["convention"] and "lm-eval with transformers" in theirs["convention"]


def test_a_chat_node_is_asked_through_its_format_when_told(run):
    plain = run("chat", "--tasks", "piqa", "--items", "15").json["metrics"]["chat.piqa.acc_norm"]
    asked = run("chat", "--tasks", "piqa", "--items", "15", "--chat").json["metrics"]["chat.piqa.acc_norm"]
    assert "asked plainly" in plain["convention"] and "asked in the chat format" in asked["convention"]


def test_power_asks_nobody(run):
    run("base", "chat", "--tasks", "piqa", "--items", "20")
    output = run("base", "chat", "--tasks", "piqa", "--power", "5")
    assert output.json["items"]["nodes that answer independently (of four options)"] == items_needed(0.05, 0.375)
    assert any(said.startswith("piqa, chat and base") for said in output.json["items"])
    assert "measuring" not in output.err


def test_prompts_longer_than_the_context_are_counted_and_said(run):
    metrics = run("base", "--tasks", "boolq", "--items", "10").json["metrics"]
    assert "prompts lost their beginning, being longer than the context" in metrics["base.boolq.acc"]["convention"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("base", "--tasks", "helaswag"), 'no benchmark "helaswag", did you mean "hellaswag"?'),
        (("base", "--tasks", " , "), "--tasks names nothing"),
        (("base", "--items", "5"), "--items goes with --tasks"),
        (("base", "--suite", "s.yaml", "--shots", "5"), "--shots goes with --tasks"),
        (("base", "--tasks", "piqa,piqa"), "--tasks names piqa twice"),
        (("base", "base", "--tasks", "piqa"), "base is named twice"),
        (("base", "--tasks", "piqa", "--baseline", "chat"), "--baseline chat is not among the nodes: base"),
        (("base", "--tasks", "piqa", "--measure", "costs"), "--tasks stands alone: leave out --measure and --text"),
        (("nobody", "--tasks", "piqa"), "nobody"),
        (("tokenizer", "--tasks", "piqa"), "piqa is taken of a model, tokenizer is a tokenizer"),
        (("base", "--tasks", "piqa", "--shots", "60"), "piqa: 60 shots, and 32 rows to take them from"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_line(run, arguments, said):
    output = run(*arguments)
    assert output.code in (1, 2) and said in output.json["error"] and "\n" not in output.json["error"]


def test_a_folder_that_is_not_there_is_told(copy, journey):
    output = journey("eval", "base", "--workspace", copy.workspace, "--tasks", "piqa", "--data", "/no/where", "--json")
    assert output.code == 2 and "/no/where: no such folder" in output.json["error"]


def test_a_recipe_takes_benchmarks_as_measures(copy, data, journey):
    recipe = copy.recipe.read_text() + f"\nmeasure:\n  piqa: {{items: 12, data: {data}}}\n"
    changed = copy.workspace.parent / "with.yaml"
    changed.write_text(recipe)
    at = ("--workspace", copy.workspace)
    output = journey("run", changed, *at, "--json")
    assert output.code == 0, output.err
    said = journey("diff", "base", "coder", *at)
    assert "piqa.acc_norm" in said.out
    shown = journey("eval", "base", *at, "--json").json["metrics"]
    assert shown["piqa.acc_norm"]["n"] == 12
    assert "PIQA" in (copy.workspace / "report.html").read_text()
    wrong = copy.workspace.parent / "wrong.yaml"
    wrong.write_text(recipe.replace("items: 12", "items: -1"))
    assert "items" in journey("run", wrong, *at, "--json").json["error"]


def test_helm_s_views_of_a_benchmark(run, tmp_path):
    plain = run("base", "--tasks", "piqa", "--items", "40").json["metrics"]["base.piqa.acc_norm"]
    output = run("base", "--tasks", "piqa", "--items", "40", "--helm")
    assert output.code == 0, output.err
    assert output.json["metrics"]["base.piqa.acc_norm"]["value"] == plain["value"]
    for said in ("asked with typos", "right under every change", "calibration error (ECE)", "seconds an item"):
        assert said in output.err
    items = json.loads((tmp_path / "measured" / "evaluation.json").read_text())["items"]["piqa"]["base"]["scored"]
    for row in items:
        assert row["worst"] == min(row[kind] for kind in ("acc_norm", "typos", "upper", "lower", "spacing"))
        assert row["upper.changed"] and not row["polite.changed"]  # no prompt of PIQA ends in a question mark
    assert "asked with polite" not in output.err
    assert any(row["upper"] != row["acc_norm"] for row in items)  # the prompts really were others
    assert "Reworded, and how sure" in (tmp_path / "measured" / "evaluation.html").read_text()
    refused = run("chat", "--tasks", "piqa", "--helm", "--chat").json["error"]
    assert "leave out --helm, --mark" in refused


def test_a_task_of_lm_eval_is_a_measure_by_its_name_too(copy, data, journey, monkeypatch):
    from journey.evaluate.benchmark import asking

    load = asking.load
    monkeypatch.setattr(asking, "load", lambda name, folder, **how: load("piqa", data, **how))
    recipe = copy.workspace.parent / "with.yaml"
    recipe.write_text(copy.recipe.read_text() + "\nmeasure:\n  lm_eval:some/task: {items: 9}\n")
    at = ("--workspace", copy.workspace)
    output = journey("run", recipe, *at, "--json")
    assert output.code == 0, output.err
    assert journey("eval", "base", *at, "--json").json["metrics"]["some/task.acc"]["n"] == 9
    assert "some/task.acc" in journey("diff", "base", "coder", *at).out
    assert "some/task (lm-eval)" in (copy.workspace / "report.html").read_text()
    assert "measured" not in journey("run", recipe, *at).err  # nothing is left to do


def test_a_probability_that_rounding_puts_above_one_is_a_percentage_still(run, monkeypatch):
    from dataclasses import replace

    from journey.evaluate.benchmark import asking

    ask = asking.ask

    def above(*arguments):
        return [replace(each, metrics={"acc": 1.0000001}) for each in ask(*arguments)]

    monkeypatch.setattr(asking, "ask", above)
    metrics = run("base", "--tasks", "truthfulqa_mc2", "--items", "9").json["metrics"]
    assert metrics["base.truthfulqa_mc2.acc"]["value"] == pytest.approx(100)
    assert metrics["base.truthfulqa_mc2.acc"]["unit"] == "%"
    assert metrics["base.mean_above_chance"]["value"] == pytest.approx(100)
