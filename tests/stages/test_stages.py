"""What every stage says of itself."""

import re

import pytest

from journey.stages import STAGES, load


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_is(name):
    stage = load(name)
    assert stage.name == name and stage.__doc__ == stage.body.__doc__
    assert stage.makes and stage.version >= 1
    assert len(stage.why) > 80 and stage.why.count("*") % 2 == 0 and "<" not in stage.why and "  " not in stage.why
    assert all(re.match(r"journey \w", line) for line in stage.example.splitlines())


def test_a_stage_takes_what_another_makes():
    made = {load(name).makes for name in STAGES}
    assert {load(name).takes for name in STAGES} - {None} <= made


def test_a_stage_keeps_the_function_that_tells_it():
    stage = load("pretrain")
    before = stage.tell

    def tell():
        return "told"

    assert stage.tells(tell) is tell and stage.tell is tell
    stage.tell = before
