"""Settings: numbers in their ranges, refused before any work, whoever gives them."""

import dataclasses
import math
import typing
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey import recipe
from journey.errors import JourneyError
from journey.fields import Amount, Count, Positive, Seed, Share, Within, check_config, fit
from journey.measures import MEASURES
from journey.measures import load as load_measure
from journey.stages import STAGES, load
from journey.stages.pretrain import Pretrain

CONFIGS = [*(load(name).config for name in STAGES), *(load_measure(name).config for name in MEASURES)]


def is_number(kind):
    return bool({int, float} & {kind, *typing.get_args(kind), *map(typing.get_origin, typing.get_args(kind))})


@pytest.mark.parametrize("config", {config.__qualname__: config for config in CONFIGS}.values())
def test_every_number_of_a_stage_declares_its_range(config):
    plain, full = typing.get_type_hints(config), typing.get_type_hints(config, include_extras=True)
    numbers = [name for name, kind in plain.items() if is_number(kind)]
    assert all("Within" in str(full[name]) for name in numbers), numbers
    assert check_config(config()) is None  # the defaults are within


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        ("1e6", int, 1_000_000),
        ("1e6", float, 1e6),
        ("1_000", int, 1000),
        ("2.5e3", int, 2500),
        (1e6, Count, 1_000_000),
        ("3e-4", Positive, 3e-4),
        (3, Share | None, "at least 0 and at most 1"),
        (None, Count | None, None),
        ("1.5", int, "a whole number"),
        ("many", int, "a whole number, not 'many'"),
        ("1e999", int, "a whole number"),
        ("nan", Positive, "above 0, not nan"),
        (".inf", float, "a number, not '.inf'"),
        (math.inf, Positive, "above 0, not inf"),
        (10**400, Positive, "above 0, not inf"),
        ("9" * 5000, int, "a whole number"),
        (0, Positive, "above 0, not 0"),
        (-1, Amount, "at least 0, not -1"),
        (2**63, Seed, "at most 9.22337e"),
        (True, Count, "a whole number, not True"),
        (1, Literal["a", "b"], "one of a, b"),
        ([1, 0], tuple[Count, ...], "at least 1, not 0"),
    ],
)
def test_a_value_is_taken_as_its_field_wants_it_or_refused(value, kind, wanted):
    if isinstance(wanted, str):
        with pytest.raises(ValueError, match=wanted):
            fit(value, kind)
    else:
        made = fit(value, kind)
        assert made == wanted and type(made) is type(wanted)


@given(st.floats(), st.floats(-10, 10), st.floats(-10, 10))
def test_a_range_holds_what_lies_in_it(value, low, high):
    for within, inside in (
        (Within(least=low, most=high), low <= value <= high),
        (Within(above=low, below=high), low < value < high),
    ):
        try:
            within.check(value)
        except ValueError:
            assert not inside
        else:
            assert inside


def test_a_setting_is_checked_whoever_gives_it(tmp_path, journey):
    """Python, a recipe with its line, --set, and the command line, before a text or a parent is looked for."""
    with pytest.raises(JourneyError, match=r"^lr: must be at least 0, not -1"):
        check_config(Pretrain(lr=-1))
    life = tmp_path / "life.yaml"
    stages = "- {name: docs, stage: text}\n- {name: t, stage: tokenizer, with: {data: docs}}"
    life.write_text(
        f"stages:\n{stages}\n- name: base\n  stage: pretrain\n  parents: t\n  with:\n    data: docs\n    decay: 2\n"
    )
    with pytest.raises(JourneyError, match=r"life\.yaml:9: decay: must be at least 0 and at most 1, not 2"):
        recipe.read(life)
    with pytest.raises(JourneyError, match="clip: must be at least 0, not -1"):
        recipe.read(life, ["stages.base.decay=0", "stages.base.clip=-1"])
    assert recipe.read(life, ["stages.base.decay=0", "stages.base.tokens=1e6"]).step("base").config.tokens == 1_000_000
    for arguments, said in (
        (("pretrain", "nowhere", "--decay", 5, "--out", tmp_path / "o"), "decay: must be at least 0 and at most 1"),
        (("sft", "nowhere", "--lr", "nan", "--out", tmp_path / "o"), "lr: must be at least 0, not nan"),
        (("text", "--max-bytes", "0", "--out", tmp_path / "o"), "max_bytes: must be at least 1"),
        (("generate", "a", "b", "--top-p", "1.5"), "top_p: must be above 0 and at most 1, not 1.5"),
        (("sweep", "pocket", "--seeds", "0"), "seeds: must be at least 1, not 0"),
    ):
        output = journey(*arguments)
        assert output.code == 2 and said in output.err and len(output.err.splitlines()) == 1


def test_the_command_line_reads_numbers_as_a_recipe_does(journey, tmp_path):
    output = journey("pretrain", "nowhere", "--tokens", "1e6", "--lr", "3e-4", "--out", tmp_path / "o")
    assert "no journey" in output.err or "nowhere" in output.err  # the numbers were taken
    output = journey("pretrain", "nowhere", "--tokens", "1.5", "--out", tmp_path / "o")
    assert output.code == 2 and "must be a whole number" in output.err


def test_annotations_beside_a_range_are_left_alone():
    @dataclasses.dataclass
    class Config:
        n: Annotated[Count, "said"] = 1
        m: Annotated[Count | None, "said"] = None

    assert fit(3, typing.get_type_hints(Config, include_extras=True)["n"]) == 3
    with pytest.raises(JourneyError, match="m: must be at least 1"):
        check_config(Config(m=0))
