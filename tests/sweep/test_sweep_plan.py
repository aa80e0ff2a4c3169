"""What a sweep reads, before anything runs."""

import re
from pathlib import Path

import pytest

from journey.errors import JourneyError
from journey.sweep import plan
from journey.sweep.trails import LEAST

from .conftest import write

REST = """\
  - name: more
    stage: continue
    parents: [base]
    with: {data: docs, replay_data: docs, tokens: 512}
sweep:
  of: base
  seeds: [0, 4]
  vary:
    stages.tokenizer.vocab_size: [300, 320, 340]
    size:
      wide: {stages.base.n_embd: 64}
      deep: {stages.base.n_layer: 2, stages.base.lr: 1e-3}
"""


@pytest.fixture
def read(life, tmp_path):
    """A sweep of this text, with changes of the line that begins so."""

    def read(changes=None, vary=(), seeds=None, of=None, settings=()):
        path = write(tmp_path, life.texts, REST)
        lines = path.read_text().splitlines()
        for start, instead in (changes or {}).items():
            at = next(i for i, line in enumerate(lines) if line.strip().startswith(start))
            lines[at] = instead and re.match(" *", lines[at])[0] + instead
        path.write_text("\n".join(lines) + "\n")
        return plan.read(path, list(settings), False, list(vary), seeds, of)

    return read


def test_every_combination_is_a_recipe_of_its_own(read):
    made = read()
    assert [axis.name for axis in made.axes] == ["vocab_size", "size"]
    assert [tuple(point.values.values()) for point in made.points] == [
        (size, label) for size in (300, 320, 340) for label in ("wide", "deep")
    ]
    deep = made.points[3].recipes
    assert (deep[0].step("tokenizer").config.vocab_size, deep[0].step("base").config.n_layer) == (320, 2)
    assert (deep[0].step("base").config.n_embd, deep[0].step("base").config.lr) == (32, 1e-3)
    assert made.points[0].recipes[0].step("base").config.n_layer == 1


def test_seeds_are_for_what_is_trained(read):
    """One split and one tokenizer for all: every training is measured on the same held-out documents."""
    first, second = read().points[0].recipes
    assert [step.seed for step in first.steps] == [5, 5, 0, 0]
    assert [step.seed for step in second.steps] == [5, 5, 4, 4]


def test_nodes_that_points_share_are_made_once(read):
    """A text, three tokenizers, and a model for each of six points and two seeds; nothing after the measured stage."""
    made = plan.plan(read(), Path("w"))
    names = [job.item.step.name for job in made.jobs]
    assert {name: names.count(name) for name in names} == {"docs": 1, "tokenizer": 3, "base": 12}
    assert [len(nodes) for nodes in made.measured] == [2] * 6
    standing = set()
    for job in made.jobs:  # each after all that it needs
        assert job.needs <= standing
        standing.add(job.item.id)
    labels = [job.label for job in made.jobs]
    assert len(set(labels)) == len(labels)
    assert {"docs", "tokenizer vocab_size=320", "base vocab_size=320 size=deep seed=4"} <= set(labels)


def test_a_joint_choice_that_sets_the_same_value_shares_the_node(read):
    made = plan.plan(
        read({"wide": "wide: {stages.base.n_layer: 1}", "deep": "deep: {stages.base.n_embd: 32}"}), Path("w")
    )
    assert sum(job.item.step.name == "base" for job in made.jobs) == 6


def test_the_ids_are_those_of_a_recipe_that_says_the_same(read, tmp_path):
    """So a sweep's node is the node that `journey run` would make."""
    from journey import recipe, runner

    made = read()
    settings = ["stages.tokenizer.vocab_size=320", "stages.base.n_embd=64", "stages.base.seed=4"]
    alone = runner.plan(recipe.read(tmp_path / "small.yaml", settings), Path("w"))
    ids = {item.step.name: item.id for item in alone}
    assert plan.plan(made, Path("w")).measured[2][1].id == ids["base"]


def test_what_is_asked_on_the_command_line_comes_first(read):
    made = read(vary=["stages.base.lr=0.01,2e-2"], seeds=1, of="more")
    assert (made.of, made.seeds) == ("more", (0,))
    assert list(made.points[0].values) == ["vocab_size", "size", "lr"] and len(made.points) == 12
    changed = read(settings=["sweep.vary.stages.tokenizer.vocab_size=[310]", "sweep.seeds=[9]", "sweep.of=more"])
    assert (changed.of, changed.seeds, len(changed.points)) == ("more", (9,), 2)


def test_two_keys_that_end_alike_keep_their_stage(read):
    made = read(vary=["stages.base.tokens=1_024,2_048", "stages.more.tokens=512"], of="more")
    assert [axis.name for axis in made.axes][2:] == ["base.tokens", "more.tokens"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": "seeds: 0"}, r":20: seeds must be a number of them, or a list"),
        ({"seeds": "seeds: [0, -1]"}, r":20: seeds must be"),
        ({"seeds": "seeds: many"}, r":20: seeds must be"),
        ({"seeds": "sedes: 3"}, r':20: unknown key "sedes", did you mean "seeds"\?'),
        ({"of": "of: docs"}, r':19: of: "docs" makes no model: base, more'),
        ({"of": "of: bsae"}, r':19: of: "bsae" makes no model, did you mean "base"\?'),
        ({"of": "metrics: bits_per_byte"}, r":19: metrics must be a list"),
        ({"stages.tokenizer": "stages.tokenizer.vocab_size: []"}, r":22: .*give stages.NAME.KEY: \[VALUE"),
        ({"stages.tokenizer": "stages.tokenizer.vocab_size: 300"}, r":22: .*give stages.NAME.KEY: \[VALUE"),
        ({"stages.tokenizer": "vocab_size: [300]"}, r":22: .*give stages.NAME.KEY: \[VALUE"),
        ({"stages.tokenizer": "stages.tokenizer.vocab_size: [300, 300]"}, r":22: .*a value stands here twice"),
        ({"stages.tokenizer": "stages.tokenizer.vocab_size: [[300]]"}, r":22: .*one number, word or truth value"),
        ({"stages.tokenizer": "stages.tokenizer.vocab_size: [few]"}, r"vocab_size: must be a whole number, not 'few'"),
        ({"stages.tokenizer": "stages.tokenizer.size: [300]"}, r'unknown key "size"'),
        ({"stages.tokenizer": "stages.tokenzier.vocab_size: [300]"}, r':22: .*no stage "tokenzier", did you mean'),
        ({"wide": "wide: 64"}, r":23: size: give"),
        ({"vary": "vary: {}", "stages.tokenizer": "", "size": "", "wide": "", "deep": ""}, "nothing is varied"),
    ],
)
def test_a_bad_sweep_is_told_by_its_line(read, changes, said):
    with pytest.raises(JourneyError, match=said) as error:
        read(changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("vary", ["stages.base.lr", "stages.base.lr=[", "stages.base.lr="])
def test_a_bad_vary_is_told(read, vary):
    with pytest.raises(JourneyError, match=r"give KEY=VALUE,VALUE|give stages\.NAME\.KEY"):
        read(vary=[vary])


def test_points_that_hold_out_different_documents_are_refused(read):
    made = read(vary=["stages.docs.dev=0.1,0.2"])
    with pytest.raises(JourneyError, match='the text "docs" differs between points'):
        plan.plan(made, Path("w"))


def test_a_recipe_that_varies_something_still_runs_as_a_recipe(read, tmp_path):
    from journey import recipe

    read()
    assert len(recipe.read(tmp_path / "small.yaml").steps) == 4


@pytest.mark.parametrize(
    ("name", "axes", "points", "metrics"),
    [
        ("lr-schedules", ["schedule", "warmup"], (15, 4), ("bits_per_byte",)),
        ("replay", ["replay"], (5, 2), ("bits_per_byte.code", "bits_per_byte.docs")),
    ],
)
def test_the_sweeps_of_training_that_come_along_are_good(name, axes, points, metrics):
    """Whole and small; every point trains for the same tokens, and has numbers enough through training for a curve."""
    from journey import recipe

    for smoke, many in zip((False, True), points, strict=True):
        made = plan.read(recipe.find(name), [], smoke, [], None, None)
        assert [axis.name for axis in made.axes] == axes and len(made.points) == many and made.metrics == metrics
        configs = [step.config for point in made.points for each in point.recipes if (step := each.step(made.of))]
        assert len({config.tokens for config in configs}) == 1
        assert all(LEAST <= config.evaluations <= config.tokens // 1024 for config in configs)


def test_the_study_that_comes_along_is_good():
    from journey import recipe

    for smoke in (False, True):
        made = plan.read(recipe.find("vocab-size"), [], smoke, [], None, None)
        assert made.of == "base" and [axis.name for axis in made.axes] == ["vocab_size", "budget"]
        assert made.name == ("vocab-size-smoke" if smoke else "vocab-size")
