"""A recipe is checked before anything runs, and a mistake is told by its line."""

import dataclasses
import re

import pytest
import yaml

from journey import recipe as recipes
from journey.errors import JourneyError
from journey.expected import parse
from journey.fields import fit
from journey.measure import Drawn
from journey.measuring import Measuring, default_configs
from journey.stages import STAGES, load

GOOD = """\
name: small
seed: 1
stages:
  - name: docs
    stage: text
    with: {source: texts}
  - name: tokenizer
    stage: tokenizer
    with:
      data: docs
      vocab_size: 512
  - name: base
    stage: pretrain
    parents: [tokenizer]
    with:
      data: docs
      tokens: 1_000
      lr: 3e-4
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a recipe given as text; its folder holds texts/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()

    def read(text, *settings):
        (tmp_path / "small.yaml").write_text(text)
        return recipes.read(tmp_path / "small.yaml", list(settings))

    return read


def complaint(read, text, *settings):
    """What is said about a bad recipe: always one line."""
    with pytest.raises(JourneyError) as error:
        read(text, *settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_recipe_becomes_checked_steps(read):
    made = read(GOOD)
    assert (made.name, made.seed, [step.name for step in made.steps]) == ("small", 1, ["docs", "tokenizer", "base"])
    base = made.step("base")
    assert base.parents == ("tokenizer",) and base.given == {"data": "docs"}
    assert base.config.tokens == 1000 and base.config.lr == 3e-4 and base.config.n_layer == 4


def test_the_recipe_that_comes_along_is_good():
    made = recipes.read(recipes.find("pocket"))
    kinds = [step.stage for step in made.steps]
    assert kinds[:6] == ["text", "text", "tokenizer", "pretrain", "continue", "sft"]
    assert kinds[6:] == ["pairs", "dpo", "quantize", "index"]
    assert made.step("preferred").given == {"data": "pairs"}


def test_a_smoke_run_changes_what_the_recipe_lists_and_set_has_the_last_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(GOOD + "measure: {documents: 50}\nsmoke: {stages.base.tokens: 77, measure.documents: 3}\n")
    (tmp_path / "texts").mkdir()
    plain, smoke = recipes.read(path), recipes.read(path, smoke=True)
    assert (plain.measuring.drawn, plain.step("base").config.tokens) == (Drawn(documents=50), 1000)
    assert (smoke.measuring.drawn, smoke.step("base").config.tokens) == (Drawn(documents=3), 77)
    again = recipes.read(path, ["stages.base.tokens=78", "measure.questions=9"], smoke=True)
    assert (again.measuring.drawn, again.step("base").config.tokens) == (Drawn(documents=3, questions=9), 78)
    path.write_text(GOOD + "smoke: {stages.bse.tokens: 77}\n")
    with pytest.raises(JourneyError, match=r'small.yaml:\d+: stages.bse.tokens: no stage "bse", did you mean "base"'):
        recipes.read(path, smoke=True)
    path.write_text(GOOD + "measure: {documents: 1}\n")
    with pytest.raises(JourneyError, match=r"small.yaml:\d+: documents: must be at least 2, not 1"):
        recipes.read(path)
    path.write_text(GOOD)
    with pytest.raises(JourneyError, match="has no smoke settings"):
        recipes.read(path, smoke=True)


def test_a_recipe_says_what_is_measured_and_how(read):
    assert read(GOOD).measuring == Measuring(Drawn(), default_configs())
    section = "measure: {documents: 9, repeats: {sequences: 8}, samples: false, costs: true, answers:, greedy: {}}\n"
    made = read(GOOD + section).measuring
    assert made.drawn == Drawn(documents=9)
    assert made.configs.keys() == {*default_configs(), "costs"} - {"samples"}
    assert made.configs["repeats"].sequences == 8 and made.configs["quantized"] == default_configs()["quantized"]


def test_a_measure_is_set_on_the_command_line(read):
    settings = ["measure.repeats.sequences=4", "measure.bits_per_byte.ngrams=no", "measure.costs=yes"]
    configs = read(GOOD, *settings, "measure.samples=false").measuring.configs
    assert configs["repeats"].sequences == 4 and configs["bits_per_byte"].ngrams is False
    assert "costs" in configs and "samples" not in configs
    both = read(GOOD + "measure: {quantized: {documents: 5}}\n", "measure.repeats.sequences=4").measuring.configs
    assert (both["quantized"].documents, both["repeats"].sequences) == (5, 4)
    assert (
        read(GOOD + "measure: {repeats: false}\n", "measure.repeats.sequences=4").measuring.configs["repeats"]
        == (configs["repeats"])
    )


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("repeat: {sequences: 8}", 'unknown key "repeat", did you mean "repeats"? (there are: documents, choices,'),
        ("repeats: {sequnces: 8}", 'unknown key "sequnces", did you mean "sequences"?'),
        ("repeats: {sequences: many}", "sequences: must be a whole number, not 'many'"),
        ("repeats: {sequences: 1}", "sequences: must be at least 2, not 1"),
        ("against_parent: {documents: 0}", "documents: must be at least 2, not 0"),
        ("choices: 1", "choices: must be at least 2, not 1"),
        ("questions: few", "questions: must be a whole number, not 'few'"),
        ("repeats: 8", "repeats must be a mapping of settings, true or false"),
        ("repeats: [8]", "repeats must be a mapping of settings, true or false"),
        ("samples: {size: 3}", 'unknown key "size"'),
    ],
)
def test_a_mistake_in_what_is_measured_is_told_by_its_line(read, section, said):
    line = len(GOOD.splitlines()) + 3
    message = complaint(read, f"{GOOD}measure:\n  documents: 9\n  {section}\n")
    assert f"small.yaml:{line}: " in message and said in message


EXPECT = """\
expect:
  base:
    bits_per_byte.docs: [vs bigram < 0, is <= 9]
    ends_by_itself: cost
"""


def test_a_recipe_says_what_it_expects(read):
    assert read(GOOD).expected == {}
    found = read(GOOD + EXPECT).expected
    bits = [parse("bits_per_byte.docs", text) for text in ("vs bigram < 0", "is <= 9")]
    assert found == {"base": (*bits, parse("ends_by_itself", "cost"))}
    assert read(GOOD + "expect: {base: {}}\n").expected == {}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("  base:", "  bse:", 2, 'unknown key "bse", did you mean "base"?'),
        ("  base:", "  docs:", None, None),  # what is said of a text is only never judged
        (
            "bits_per_byte.docs",
            "bits_per_byte.dosc",
            3,
            'no score "bits_per_byte.dosc", did you mean "bits_per_byte.docs"',
        ),
        ("ends_by_itself", "end_by_itself", 4, 'no score "end_by_itself", did you mean "ends_by_itself"'),
        ("vs bigram < 0", "vs bigram", 3, 'bits_per_byte.docs: "vs bigram" is no expectation: write a change as'),
        ("cost", "5", 4, 'ends_by_itself: "5" is no expectation'),
        ("  base:", "  base: 5\n  docs:", 2, "give score keys with what is expected, as in {ends_by_itself:"),
    ],
)
def test_a_mistake_in_what_is_expected_is_told_by_its_line(read, old, new, line, said):
    assert old in EXPECT
    text = GOOD + EXPECT.replace(old, new)
    if said is None:
        assert read(text).expected
        return
    message = complaint(read, text)
    assert f"small.yaml:{len(GOOD.splitlines()) + line}: " in message and said in message


def test_whatever_is_measured_or_expected_is_read_or_refused_in_one_line(read):
    for section in (
        "measure: {}",
        "expect: {}",
        "measure: {{repeats: {}}}",
        "expect: {{base: {{ends_by_itself: {}}}}}",
    ):
        for odd in ODD:
            try:
                read(f"{GOOD}{section.format(odd)}\n")
            except JourneyError as error:
                assert "\n" not in str(error) and "small.yaml" in str(error)


PREFERENCES = """\
  - name: pairs
    stage: pairs
    parents: [base]
    with: {data: docs}
  - name: better
    stage: dpo
    parents: [base]
    with: {data: WHICH}
  - name: gguf
    stage: quantize
    parents: [better]
    with: {types: [f16, q8_0]}
"""


def test_a_stage_takes_pairs_from_a_stage_above(read):
    made = read(GOOD + PREFERENCES.replace("WHICH", "pairs"))
    assert made.step("better").given == {"data": "pairs"} and made.step("pairs").given == {"data": "docs"}
    assert made.step("gguf").config.types == ("f16", "q8_0")
    for wrong, said in [("pair", 'did you mean "pairs"?'), ("docs", "is no pairs stage above and no file")]:
        assert said in complaint(read, GOOD + PREFERENCES.replace("WHICH", wrong))
    assert "types: must be text" in complaint(read, GOOD + PREFERENCES.replace("WHICH", "pairs").replace("f16", "16"))


@pytest.mark.parametrize(
    ("stage", "parent", "said"),
    [
        ("sft", "tokenizer", 'parent "tokenizer" is a tokenizer, the stage sft goes on from a model'),
        ("quantize", "docs", 'parent "docs" is a text, the stage quantize goes on from a model'),
        ("dpo", "pairs", 'parent "pairs" is pairs, the stage dpo goes on from a model'),
        ("pretrain", "docs", 'parent "docs" is a text, the stage pretrain goes on from a tokenizer'),
        ("continue", "FOLDER", "is a tokenizer, the stage continue goes on from a model"),
        ("continue", "EMPTY", "holds no lineage.json, config.json or tokenizer.json: it is not a checkpoint"),
    ],
)
def test_a_parent_of_another_kind_is_told_by_its_line(read, tmp_path, stage, parent, said):
    for name, file in (("FOLDER", "tokenizer.json"), ("EMPTY", "notes.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    wrong = f"  - name: wrong\n    stage: {stage}\n    parents: [{parent}]\n"
    text = GOOD + PREFERENCES.replace("WHICH", "pairs") + wrong
    assert f"small.yaml:{len(text.splitlines())}: " in (found := complaint(read, text)) and said in found


def test_a_model_may_stand_where_a_tokenizer_is_wanted(read):
    """It brings one: so a text is prepared for a model from elsewhere."""
    made = read(GOOD + "  - name: tokens\n    stage: prepare\n    parents: [base]\n    with: {data: docs}\n")
    assert made.step("tokens").parents == ("base",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("tokenizer", 'data: "tokenizer" is a tokenizer, this stage needs the text itself'),
        ("base", 'data: "base" is a model, this stage needs the text itself'),
    ],
)
def test_data_of_another_kind_is_told_by_its_line(read, data, said):
    more = f"  - name: more\n    stage: continue\n    parents: [base]\n    with: {{data: {data}, replay: 0}}\n"
    found = complaint(read, GOOD + more)
    assert f"small.yaml:{len(GOOD.splitlines()) + 1}: " in found and said in found


def test_a_folder_may_have_the_name_of_its_stage_and_of_one_further_down(read, tmp_path):
    (tmp_path / "base").mkdir()
    made = read(GOOD, "stages.base.data=base", "stages.tokenizer.data=base")
    assert made.step("base").given == made.step("tokenizer").given == {"data": "base-2"}
    assert made.step("base-2").config.source == "base"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("stage: pretrain", "stage: pretrian", 13, 'unknown stage "pretrian", did you mean "pretrain"?'),
        ("      tokens: 1_000", "      tokns: 1_000", 17, 'unknown key "tokns", did you mean "tokens"?'),
        ("vocab_size: 512", "vocabsize: 512", 11, 'unknown key "vocabsize", did you mean "vocab_size"?'),
        ("    parents: [tokenizer]", "    parent: [tokenizer]", 14, 'unknown key "parent", did you mean "parents"?'),
        (
            "    with:\n      data: docs\n      tokens",
            "    wiht:\n      data: docs\n      tokens",
            15,
            'did you mean "with"?',
        ),
        ("seed: 1", "sed: 1", 2, 'unknown key "sed", did you mean "seed"?'),
        (
            "[tokenizer]",
            "[tokeniser]",
            14,
            'parent "tokeniser" is no stage above and no folder, did you mean "tokenizer"?',
        ),
        ("    parents: [tokenizer]\n", "", 12, '"base" needs one parent, a tokenizer: add parents: [NAME]'),
        ("[tokenizer]", "[tokenizer, docs]", 12, '"base" needs one parent'),
        ("    with: {source: texts}", "    parents: [tokenizer]", 6, "the stage text has no parents"),
        ("tokens: 1_000", "tokens: many", 17, "tokens: must be a whole number, not 'many'"),
        ("tokens: 1_000", "tokens: 1.5", 17, "tokens: must be a whole number, not 1.5"),
        ("tokens: 1_000", "tokens: yes", 17, "tokens: must be a whole number, not True"),
        ("lr: 3e-4", "lr: fast", 18, "lr: must be a number, not 'fast'"),
        ("      data: docs\n      tokens", "      data: 5\n      tokens", 16, "data: must be text, not 5"),
        ("lr: 3e-4", "optimizer: moon", 18, "must be one of muon, adamw, not 'moon', did you mean \"muon\"?"),
        ("  - name: base", "  - name: docs", 12, 'the name "docs" is taken by a stage above'),
        ("  - name: base", "  - name: ../base", 12, "name"),
        ("  - name: base", "  - name: 7", 12, "name"),
        ("seed: 1", "seed: one", 2, "seed must be a whole number from 0, not 'one'"),
        ("seed: 1", "seed: -1", 2, "seed must be a whole number"),
        ("name: small", "name: a/b", 1, "name must be a word"),
        ("name: small", "name: ..", 1, "name must be a word"),
        ("seed: 1", "seed: [1", 3, "not valid YAML"),
        ("seed: 1", "name: again", 2, "name stands here twice"),
        ("    stage: pretrain\n", "", 12, "a stage needs a name and a stage"),
        ("    with: {source: texts}", "    with: texts", 6, "with must be a mapping"),
    ],
)
def test_a_mistake_is_told_by_its_line_and_the_nearest_word(read, old, new, line, said):
    assert old in GOOD
    message = complaint(read, GOOD.replace(old, new))
    assert f"small.yaml:{line}:" in message and said in message


@pytest.mark.parametrize(
    "text", ["", "5", "- a", "name: x", "name: x\nstages: []", "name: x\nstages: {a: b}", "\tname: x"]
)
def test_what_is_no_recipe_is_said_to_be_none(read, text):
    assert "small.yaml" in complaint(read, text)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "small.yaml").write_bytes(b"name: \xff")
    with pytest.raises(JourneyError, match="not UTF-8"):
        recipes.read(tmp_path / "small.yaml")


def test_a_recipe_that_is_not_there_names_those_that_are():
    with pytest.raises(JourneyError, match='no recipe pockt, did you mean "pocket"'):
        recipes.find("pockt")


ODD = (
    "",
    "null",
    "[]",
    "{}",
    "5",
    "[5]",
    "[[]]",
    "-1",
    "yes",
    ".nan",
    "2024-99-99",
    "? [a]",
    "a: b",
    "[a]",
    "'",
    "*x",
    "!x y",
)


@pytest.mark.parametrize("at", range(len(GOOD.splitlines())))
def test_whatever_stands_in_a_line_the_recipe_is_read_or_refused_in_one_line(read, at):
    """A line of the good recipe is dropped, repeated, pushed right, or has its value replaced by something odd."""
    lines = GOOD.splitlines()
    key = lines[at].partition(":")[0]
    for instead in ([], [lines[at]] * 2, [f"  {lines[at]}"], *([f"{key}: {odd}"] for odd in ODD)):
        try:
            made = read("\n".join([*lines[:at], *instead, *lines[at + 1 :]]))
        except JourneyError as error:
            assert "\n" not in str(error) and "small.yaml" in str(error)
        else:
            assert made.steps


def test_set_replaces_any_key(read):
    settings = ["stages.base.tokens=200_000", "seed=7", "stages.base.with.family=gpt2", "stages.base.lr=1e-3"]
    made = read(GOOD, *settings)
    base = made.step("base").config
    assert (made.seed, base.tokens, base.family, base.lr) == (7, 200_000, "gpt2", 1e-3)
    assert dataclasses.replace(base, tokens=1000, family="qwen3", lr=3e-4) == read(GOOD).step("base").config


def test_a_stage_may_have_a_seed_of_its_own(read):
    made = read(GOOD, "stages.base.seed=7")
    assert [step.seed for step in made.steps] == [1, 1, 7]
    assert "seed must be a whole number from 0, not 'x'" in complaint(read, GOOD, "stages.base.seed=x")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("stages.base.tokns=5", 'unknown key "tokns", did you mean "tokens"?'),
        ("stages.bas.tokens=5", 'no stage "bas", did you mean "base"?'),
        ("tokens=5", "or stages.NAME.KEY=VALUE, as in stages.base.tokens=200_000"),
        ("stages.base.tokens", "or stages.NAME.KEY=VALUE, as in stages.base.tokens=200_000"),
        ("stages.base.tokens=lots", "tokens: must be a whole number"),
        ("stages.base.parents=nobody", 'parent "nobody" is no stage above'),
        ("", "give seed=NUMBER"),
        ("stages.base.tokens=[1", "tokens: must be a whole number"),
    ],
)
def test_a_bad_set_is_told(read, setting, said):
    assert said in complaint(read, GOOD, setting)


def test_a_text_that_no_step_makes_becomes_a_step_and_one_only(read, tmp_path):
    """`--set stages.base.data=PATH` is all that it takes to train on one's own texts."""
    (tmp_path / "mine").mkdir()
    made = read(GOOD, "stages.base.data=mine")
    assert [step.name for step in made.steps] == ["docs", "mine", "tokenizer", "base"]
    assert made.step("mine").config.source == "mine" and made.step("base").given == {"data": "mine"}
    both = read(GOOD, "stages.base.data=mine", "stages.tokenizer.data=mine")
    assert [step.name for step in both.steps].count("mine") == 1


def test_the_name_of_a_source_that_a_step_reads_means_that_step(read):
    made = read(GOOD, "stages.base.data=texts")
    assert made.step("base").given == {"data": "docs"}


def test_questions_of_a_text_are_of_that_text(read):
    """`installed-docs-qa` and `installed-docs` must be one split, or held-out answers would be trained on."""
    text = GOOD.replace("{source: texts}", "{source: installed-docs}")
    assert read(text, "stages.base.data=installed-docs-qa").step("base").given == {"data": "docs"}


def test_a_missing_stage_is_named(read):
    with pytest.raises(JourneyError, match='no stage "bas" in the recipe, did you mean "base"'):
        read(GOOD).step("bas")


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_of_a_stage_has_a_default_and_every_default_its_type(stage):
    config = load(stage).config
    made = config()
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(config)}
    text = {"name": "x", "stages": [{"name": "a", "stage": stage, "with": fields}]}
    again = yaml.safe_load(yaml.safe_dump(text))["stages"][0]["with"]
    import typing

    hints = typing.get_type_hints(config)
    assert {key: fit(value, hints[key]) for key, value in again.items()} == fields


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 10,000 keys and values, anchors written out"),
        ("name: x\nstages: &a [*a]\n", "nested too deeply|more than 10,000"),
        ("[" * 5000, "nested too deeply|not valid YAML"),
        ("a: " * 1 + "{a: " * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("name: x\n" * 1 + "#" * 1_100_000, "has no 1 MB"),
        (GOOD.replace("{source: texts}", '{source: "a\\0b"}'), ":6: a NUL character"),
        (GOOD.replace("1_000", "9" * 5000), ":17: 9{80}: "),
        (GOOD.replace("docs\n      tokens", "!!python/object/apply:os.system [x]\n      tokens"), "must be text, not"),
    ],
    ids=["anchors", "circle", "lists", "mappings", "large", "nul", "digits", "python"],
)
def test_a_hostile_recipe_is_a_line_and_soon(read, text, said):
    message = complaint(read, text)
    assert re.search(said, message) and "\n" not in message and len(message) < 500


def test_a_recipe_that_windows_wrote(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "small.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert recipes.read(tmp_path / "small.yaml").name == "small"
