"""versions.lock: what a stage or a measure computes does not change without its version."""

import copy

import pytest

from journey.measures import OF_LM_EVAL

from . import lock as locks
from .golden import TIMED

ONE = {"version": 1, "source": "aa"}
INDEX = ONE | {"defaults": {"whole": False}}
LOCK = {
    "stages": {"text": ONE, "pretrain": ONE, "sft": ONE, "index": INDEX},
    "measures": {"bits_per_byte": ONE, "samples": ONE},
    "made with": {"life": "l", "cpu": "c", "packages": "p"},
    "golden": {
        "docs": {"stage": "text", "of": [], "hash": "d"},
        "base": {"stage": "pretrain", "of": ["docs"], "hash": "b", "losses": [5.0, 4.0]},
        "chat": {"stage": "sft", "of": ["base"], "hash": "c", "losses": [3.0]},
        "index": {"stage": "index", "of": ["chat", "docs"], "hash": "i"},
    },
    "scores": {
        "base bits_per_byte": {"bits_per_byte.docs": 2.0},
        "chat bits_per_byte": {"bits_per_byte.docs": 2.5, "kl": 1e-9},
        "chat samples": {"facts": "f"},
    },
}


def changed(**changes):
    """The lock with other values: `{"golden.base.hash": "x"}`."""
    made = copy.deepcopy(LOCK)
    for path, value in changes.items():
        place = made
        *way, last = path.split("/")
        for key in way:
            place = place[key]
        place[last] = value
    return made


def test_the_lock_is_of_this_code():
    found = locks.moved(locks.read(), locks.declared())
    assert found == [], "`make lock` shows whether the results are the same; if not, raise the version"


def test_the_golden_life_gives_what_the_lock_says():
    now = locks.current()
    lock = locks.read()
    assert lock["made with"]["life"] == now["made with"]["life"], "the golden life has changed: `make lock`"
    assert list(locks.broken(lock, now)) == []
    assert {step["stage"] for step in now["golden"].values()} == {*now["stages"]}, "a stage is not in the golden life"
    measured = {name.split()[1] for name in now["scores"]}
    alike = {*OF_LM_EVAL} - {"piqa", "gsm8k"}  # the one body that these two stand for
    assert measured == {*now["measures"]} - {*TIMED} - alike, "a measure is not taken in the golden life"


ELSEWHERE = {"made with/cpu": "another"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"stages/sft": {"version": 1, "source": "bb"}}, []),  # other code, the same results: the lock follows
        ({"stages/index": INDEX | {"defaults": {"whole": False, "more": 1}}}, []),  # a new setting
        (
            {"stages/index": INDEX | {"defaults": {"whole": True}}},
            ["index: the default of whole is not false any more"],
        ),
        ({"stages/index": INDEX | {"version": 2, "defaults": {"whole": True}}}, []),
        ({"golden/base/hash": "x"}, ["pretrain: base of the golden life is not what it was"]),
        ({"golden/base/hash": "x", "golden/chat/hash": "x", "scores/chat samples/facts": "g"}, ["pretrain: base"]),
        ({"golden/base/hash": "x", "stages/pretrain": {"version": 2, "source": "bb"}}, []),
        ({"golden/base/hash": "x", "golden/chat/hash": "y", "stages/pretrain": {"version": 2, "source": "bb"}}, []),
        ({"golden/index/hash": "x"}, ["index: index of the golden life"]),
        ({"golden/docs/hash": "x", "golden/base/losses": [9.0, 9.0]}, ["text: docs"]),
        ({"golden/more": {"stage": "pretrain", "of": [], "hash": "m"}}, []),  # a new family
        ({"scores/base bits_per_byte/bits_per_byte.docs": 2.0000001}, ["bits_per_byte: bits_per_byte.docs of base"]),
        (
            {
                "scores/base bits_per_byte/bits_per_byte.docs": 2.1,
                "measures/bits_per_byte": {"version": 2, "source": "b"},
            },
            [],
        ),
        ({"scores/chat samples/facts": "g"}, ["samples: facts of chat"]),
        # Elsewhere: losses and scores nearly, and no hashes but of what is made of whole numbers.
        (ELSEWHERE | {"golden/base/hash": "x", "golden/chat/hash": "y", "scores/chat samples/facts": "g"}, []),
        (ELSEWHERE | {"golden/base/losses": [5.000004, 4.0]}, []),
        (ELSEWHERE | {"golden/base/losses": [5.00001, 4.0]}, ["pretrain: base"]),
        (ELSEWHERE | {"golden/base/losses": [5.0]}, ["pretrain: base"]),
        (ELSEWHERE | {"golden/docs/hash": "x"}, ["text: docs"]),
        (ELSEWHERE | {"golden/docs/hash": "x", "made with/packages": "other"}, []),
        (ELSEWHERE | {"scores/base bits_per_byte/bits_per_byte.docs": 2.001}, []),
        (ELSEWHERE | {"scores/chat bits_per_byte/kl": 2e-9}, []),
        (ELSEWHERE | {"scores/base bits_per_byte/bits_per_byte.docs": 2.01}, ["bits_per_byte: bits_per_byte.docs"]),
    ],
)
def test_other_results_under_the_same_version_are_told_and_only_the_first_of_a_chain(changes, told):
    found = list(locks.broken(LOCK, changed(**changes)))
    assert len(found) == len(told) and all(line.startswith(start) for line, start in zip(found, told, strict=True))


def test_what_moved_is_told():
    now = changed(**{"stages/sft": {"version": 1, "source": "b"}, "stages/pretrain": {"version": 3, "source": "aa"}})
    del now["measures"]["samples"]
    now["measures"]["hellaswag"] = ONE
    assert locks.moved(LOCK, now) == [
        "measure hellaswag is new",
        "measure samples is gone",
        "stage pretrain has version 3, in the lock 1",
        "stage sft has another source than in the lock, under the same version",
    ]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LOCK", tmp_path / "versions.lock")
    locks.write(LOCK)
    return monkeypatch


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({}, 0, "nothing has moved"),
        ({"stages/sft": {"version": 1, "source": "bb"}}, 0, "stage sft has another source"),
        ({"stages/sft": {"version": 1, "source": "bb"}, "golden/chat/hash": "x"}, 1, "sft: chat of the golden life"),
        ({"stages/sft": {"version": 2, "source": "bb"}, "golden/chat/hash": "x"}, 0, "stage sft has version 2"),
        ({"made with/life": "m", "golden/chat/hash": "x"}, 0, "nothing has moved"),
        ({"made with/life": "m", "stages/sft": {"version": 1, "source": "bb"}}, 1, "proves nothing: change it alone"),
        ({"made with/cpu": "other"}, 0, "the lock was made with other things"),
    ],
)
def test_make_lock_writes_what_is_proved_or_declared_and_nothing_else(place, capsys, changes, code, said):
    now = changed(**changes)
    place.setattr(locks, "current", lambda: now)
    assert locks.main() == code and said in capsys.readouterr().err
    assert locks.read() == (LOCK if code else now)


def test_the_first_lock_is_written(place):
    locks.LOCK.unlink()
    place.setattr(locks, "current", lambda: LOCK)
    assert locks.main() == 0 and locks.read() == LOCK
