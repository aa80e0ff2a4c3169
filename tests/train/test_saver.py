"""When a state is due, and what a kill leaves of it."""

import pytest

from journey.train import saver as module
from journey.train.saver import Saver


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def save(saver, step, clock, seconds=0.0):
    with saver.saving(step) as folder:
        assert list(folder.iterdir()) == []
        (folder / "weights").write_text(str(step))
        clock[0] += seconds


def test_a_state_is_due_after_fifteen_seconds(tmp_path, clock):
    saver = Saver(tmp_path)
    clock[0] += 15
    assert not saver.due
    clock[0] += 0.1
    assert saver.due
    save(saver, 1, clock)
    assert not saver.due


def test_saving_takes_a_twentieth_of_the_time_at_most(tmp_path, clock):
    saver = Saver(tmp_path)
    save(saver, 1, clock, seconds=3)
    clock[0] += 60
    assert not saver.due
    clock[0] += 0.1
    assert saver.due


def test_the_last_state_is_kept_and_those_before_it_are_not(tmp_path, clock):
    saver = Saver(tmp_path / "new")
    assert saver.last() is None
    for step in (9, 10, 100):
        save(saver, step, clock)
        assert saver.last() == Saver(tmp_path / "new").last()
        assert (saver.last() / "weights").read_text() == str(step)
        assert [path.name for path in (tmp_path / "new").iterdir()] == [f"step-{step:09}"]


def test_killed_before_the_old_state_is_deleted_the_new_one_counts(tmp_path, clock):
    saver = Saver(tmp_path)
    save(saver, 10, clock)
    for step in (9, 11):
        (tmp_path / f"step-{step:09}").mkdir()
    assert saver.last().name == "step-000000011"
    save(saver, 12, clock)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000012"]


def test_what_is_half_written_is_not_read_and_not_in_the_way(tmp_path, clock):
    saver = Saver(tmp_path)
    save(saver, 1, clock)
    with pytest.raises(KeyboardInterrupt), saver.saving(2) as folder:
        (folder / "torn").write_text("1")
        raise KeyboardInterrupt
    again = Saver(tmp_path)
    assert again.last().name == "step-000000001"
    save(again, 2, clock)
    assert [path.name for path in again.last().iterdir()] == ["weights"]


def test_the_last_few_are_kept_and_one_can_go_back(tmp_path, clock):
    saver = Saver(tmp_path, keep=2)
    for step in (10, 20, 30):
        save(saver, step, clock)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000020", "step-000000030"]
    assert Saver(tmp_path, keep=2).back_to(25).name == "step-000000020"
    assert saver.last().name == "step-000000020"  # what came after the state gone back to is no state to go on from
    save(saver, 31, clock)
    assert saver.back_to(5).name == "step-000000020"  # none is old enough: the oldest
    assert Saver(tmp_path / "none").back_to(5) is None
    many = Saver(tmp_path / "many", keep=9)
    for step in range(4):
        save(many, step, clock)
    assert len(list((tmp_path / "many").iterdir())) == 4
