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


def test_one_is_kept_that_is_old_enough_to_go_back_to(tmp_path, clock):
    """Saved at every step, or every twenty: three at most, and one of them ten steps back as soon as there is one."""
    for every in (1, 4, 20):
        folder = tmp_path / str(every)
        saver, steps = Saver(folder, apart=10), range(every, 40 * every, every)
        for step in steps:
            save(saver, step, clock)
            kept = sorted(int(path.name[5:]) for path in folder.glob("step-*"))
            assert kept[-1] == step and len(kept) <= 3 and len(list(folder.iterdir())) == len(kept)
            assert kept[0] == every if step - every < 10 else 10 <= step - kept[0] < 20 + 2 * every


def test_going_back_deletes_what_came_after(tmp_path, clock):
    saver = Saver(tmp_path, apart=10)
    for step in (10, 20, 30):
        save(saver, step, clock)
    assert Saver(tmp_path).back_to(25).name == "step-000000020"
    assert saver.last().name == "step-000000020"  # what came after the state gone back to is no state to go on from
    assert saver.back_to(5).name == "step-000000020"  # none is old enough: the oldest
    assert Saver(tmp_path / "none").back_to(5) is None


def test_a_kill_while_a_state_is_deleted_leaves_none_that_is_half(tmp_path, clock, monkeypatch):
    saver = Saver(tmp_path, apart=10)
    for step in (10, 20, 30):
        save(saver, step, clock)
    remove = module.shutil.rmtree

    def killed(path, **named):
        if path.exists() and path.name != "unfinished":
            (path / "weights").unlink()
            raise KeyboardInterrupt
        remove(path, **named)

    monkeypatch.setattr(module.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        saver.back_to(10)
    monkeypatch.setattr(module.shutil, "rmtree", remove)
    assert all((state / "weights").exists() for state in tmp_path.glob("step-*"))
    assert Saver(tmp_path).last().name == "step-000000020"
