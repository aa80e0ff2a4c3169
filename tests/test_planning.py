"""`journey plan`: the training that a law advises can be run, costs what was given, and says where it is from."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey import planning, recipe
from journey.errors import JourneyError
from journey.evaluate.scaling import BESIROGLU, HOFFMANN, kaplan_optimum
from journey.model.families import FAMILIES

from .sweep.laws import SIZES, TOKENS, TRUE, result


@settings(max_examples=60, deadline=None)
@given(
    C=st.floats(12, 26),
    law=st.sampled_from(["chinchilla", "besiroglu", "kaplan"]),
    vocab_size=st.sampled_from([300, 4096, 50257]),
    n_ctx=st.sampled_from([1, 100, 256, 4096]),
    family=st.sampled_from(FAMILIES),
    optimizer=st.sampled_from(["muon", "adamw"]),
)
def test_any_plan_is_a_model_that_can_be_built_and_costs_what_was_given(C, law, vocab_size, n_ctx, family, optimizer):
    C = 10**C
    advice = planning.by_kaplan(C) if law == "kaplan" else planning.by_constants(law, C)
    try:
        made = planning.make(C, advice, None, vocab_size, n_ctx, family, optimizer)
    except JourneyError as error:  # too little for any model with this vocabulary
        assert C < 1e17 and ("give more FLOPs" in str(error)) and "\n" not in str(error)
        return
    shape, config = made.shape, made.config
    cost = config.tokens * shape.flops_per_token(n_ctx)
    assert C * (1 - 1.01 / made.steps) <= cost <= C
    assert config.batch_size % config.accumulate == 0 and config.tokens == made.steps * config.batch_size * n_ctx
    body = shape.n_params - vocab_size * shape.n_embd
    counted = body if law == "kaplan" else shape.n_params
    assert 0.5 <= counted / advice.parameters <= 2.1
    assert shape.n_embd % shape.n_head == 0 and shape.n_layer >= 2
    assert 0 < config.lr < 1 and len(made.derivation) >= 7


@pytest.mark.parametrize(
    ("law", "N"),
    [
        ("chinchilla", HOFFMANN.optimum(1e17)[0]),
        ("besiroglu", BESIROGLU.optimum(1e17)[0]),
        ("kaplan", kaplan_optimum(1e17)[0]),
    ],
)
def test_the_plan_says_which_law_it_is_from(journey, law, N):
    output = journey("plan", "--flops", "1e17", "--law", law, "--json")
    assert output.code == 0, output.err
    plan = output.json["plan"]
    assert {"chinchilla": "Hoffmann", "besiroglu": "Besiroglu", "kaplan": "Kaplan"}[law] in plan["law"]
    counted = output.json["metrics"]["parameters"]["value"]
    if law == "kaplan":
        counted -= plan["vocab_size"] * plan["settings"]["n_embd"]
    assert counted == pytest.approx(N, rel=0.15)
    assert "loss" not in output.json["metrics"] and any("say nothing" in line for line in plan["derivation"])
    for line in plan["derivation"]:
        assert line in output.err  # what is for people


def test_a_fit_of_ones_own_gives_the_loss_and_its_doubts(journey, tmp_path):
    found = result(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps(found))
    asked = ["--law", tmp_path / "sweep.json", "--vocab-size", 1024, "--n-ctx", 128, "--json"]
    output = journey("plan", "--flops", "1e13", *asked)
    plan, loss = output.json["plan"], output.json["metrics"]["loss"]
    N, D = (output.json["metrics"][name]["value"] for name in ("parameters", "tokens"))
    assert loss["value"] == pytest.approx(TRUE.loss(N, D), rel=0.02) and loss["low"] <= loss["value"] <= loss["high"]
    assert "25 trainings" in plan["law"] and not any("extrapolation" in line for line in plan["derivation"])
    beyond = journey("plan", "--flops", f"{70 * SIZES[-1] * TOKENS[-1]:.3e}", *asked)
    assert any(
        "10.0 times the largest of them: this is extrapolation" in line for line in beyond.json["plan"]["derivation"]
    )


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_recipe_is_one(journey, tmp_path, optimizer):
    file = tmp_path / "mine.yaml"
    asked = ["--flops", "1e13", "--optimizer", optimizer, "--data", "it's: a {text}/", "--out", file]
    output = journey("plan", *asked)
    assert output.code == 0 and f"journey run {file}" in output.out
    made = recipe.read(file)
    base = made.step("base").config
    assert made.name == "plan-1e13" and made.step("text").config.source == "it's: a {text}/"
    assert base.optimizer == optimizer and base.lr == (0.02 if optimizer == "muon" else pytest.approx(0.02, rel=0.5))
    before = file.read_bytes()
    again = journey("plan", *asked)
    assert again.code == 2 and "names a new file" in again.err and file.read_bytes() == before


def test_the_command_line_that_it_prints_is_one(journey, life, tmp_path, monkeypatch):
    """The words of `journey pretrain …`, on a small plan, as they stand."""
    output = journey("plan", "--flops", "2e9", "--vocab-size", 300, "--n-ctx", 8, "--data", life.texts / "prose.jsonl")
    assert output.code == 2, "a budget too small is refused"
    output = journey("plan", "--flops", "1e12", "--data", life.texts / "prose.jsonl")
    words = output.out.splitlines()[-1].split()
    assert words[:3] == ["journey", "pretrain", "tokenizer"]
    node = life.node("tokenizer").path
    words = [*words[1:2], node, *words[3:]]
    for name, value in {"--tokens": 2048, "--out": tmp_path / "out"}.items():  # seconds, not minutes
        words[words.index(name) + 1] = value
    assert journey(*words).code == 0


@pytest.mark.parametrize(
    ("flops", "why"),
    [
        ("0", "must be at least 1e+09"),
        ("nan", "not nan"),
        ("inf", "not inf"),
        ("-1e17", "must be at least"),
        ("1e30", "at most 1e+26"),
        ("1e9", "give more FLOPs"),
    ],
)
def test_arithmetic_beyond_reason_is_a_line(journey, flops, why):
    output = journey("plan", f"--flops={flops}")
    assert output.code == 2 and why in output.err and len(output.err.splitlines()) == 1


@pytest.mark.parametrize("law", ["chinchila", "", "/", "nothing.json"])
def test_a_law_that_there_is_not_is_a_line(journey, law):
    output = journey("plan", "--flops", "1e17", "--law", law)
    assert output.code == 2 and "no law in" in output.err and len(output.err.splitlines()) == 1


def test_numbers_are_said_as_people_read_them():
    assert planning.flops(1e17) == "1e17 FLOPs" and planning.flops(2.5e9) == "2.5e9 FLOPs"
    assert planning._long(86400 * 30) == "30\u00a0days" and planning._long(86400 * 3650) == "10\u00a0years"
    assert math.isclose(planning.by_constants("chinchilla", 6e20).parameters, HOFFMANN.optimum(6e20)[0])
