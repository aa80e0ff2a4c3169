"""What is shown while a sweep runs."""

import pytest

from journey.sweep import board as boards
from journey.sweep.board import Board, LiveBoard


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    now = [1000.0]
    monkeypatch.setattr(boards.time, "monotonic", lambda: now[0])
    return now


def test_time_left_goes_by_finished_nodes_of_the_stage_and_by_estimates_before(clock, capsys):
    """Two at a time; a finished model took 40 s, two are left, and an index that should take 10."""
    board = Board(2)
    todo = {"t": ("text", 5.0), "a": ("base", 999.0), "b": ("base", 999.0), "c": ("base", 999.0), "i": ("index", 10.0)}
    with board.watching(7, todo):
        board.start(0, "t", "text")
        clock[0] += 7
        board.end(0)
        board.start(0, "a", "base seed=0")
        clock[0] += 40
        board.end(0)
        board.start(1, "b", "base seed=1")
        board.failed(1, "no memory")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "[3/7] text: 0:07, about 25:04 left"  # (3 x 999 + 10) / 2
    assert said[1] == "[4/7] base seed=0: 0:40, about 0:45 left"  # (2 x 40 + 10) / 2
    assert said[2] == "[failed] base seed=1: no memory"


def test_the_last_node_leaves_no_time(clock, capsys):
    board = Board(4)
    with board.watching(1, {"a": ("base", 9.0)}):
        board.start(3, "a", "base")
        clock[0] += 2
        board.end(3)
    assert capsys.readouterr().err == "[1/1] base: 0:02\n"


@pytest.mark.parametrize("kind", [Board, LiveBoard])
def test_what_is_at_work_is_shown(kind, clock, capsys):
    board = kind(1)
    with board.watching(2, {"a": ("base", 60.0), "b": ("base", 60.0)}):
        board.start(0, "a", "base seed=0")
        for done in (0, 500):
            clock[0] += 31
            board.progress(0, {"done": done, "total": 1000, "unit": "tokens", "numbers": {"loss": 3.25}})
            board.look()
        board.say("base seed=0: a warning")
        clock[0] += 1
        board.end(0)
    said = capsys.readouterr().err
    assert "base seed=0: a warning" in said and "[1/2] base seed=0: 1:03, about 1:03 left" in said
    if kind is Board:
        assert "base seed=0:  50 %  500 of 1,000 tokens  loss 3.25" in said
