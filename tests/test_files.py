"""Whole or not at all: a write that fails or is killed leaves what was there before."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey import files
from journey.errors import JourneyError, nearest
from journey.files import digest, publish, read_json, sha256_file, write_json, write_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_digest_is_of_the_value_and_not_of_the_order_of_its_keys():
    assert (
        digest({"b": 1, "a": "ü"})
        == digest({"a": "ü", "b": 1})
        == hashlib.sha256('{"a":"ü","b":1}'.encode()).hexdigest()
    )


@given(VALUES, VALUES)
def test_digests_are_equal_where_the_json_is(a, b):
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (digest(a) == digest(b)) == same


@given(VALUES)
def test_json_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, step):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(*arguments):
        raise OSError("no")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="no"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_what_is_written_reaches_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Else a power cut leaves the new name on an empty file."""
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda f: (done.append("fsync"), fsync(f)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    write_text(tmp_path / "a", "x")
    assert done == ["fsync", "rename", "fsync"]


def test_nan_is_refused_and_the_old_file_stays(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert read_json(tmp_path / "a.json") == 1


def test_a_reader_never_sees_half_a_file_not_even_after_a_kill(tmp_path):
    path = tmp_path / "a"
    write_text(path, "a" * 1_000_000)
    code = (
        "import sys; from pathlib import Path; from journey.files import write_text\n"
        "while True: [write_text(Path(sys.argv[1]), c * 1_000_000) for c in 'ab']"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    seen = set()
    deadline = time.monotonic() + 30
    while len(seen) < 2 and time.monotonic() < deadline:
        text = path.read_text()
        seen.add(text[0])
        assert text == text[0] * 1_000_000
    child.send_signal(signal.SIGKILL)
    child.wait()
    text = path.read_text()
    assert seen == {"a", "b"} and text == text[0] * 1_000_000


def test_read_json_says_which_file(tmp_path):
    with pytest.raises(JourneyError, match=r"missing\.json does not exist"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(JourneyError, match=r"half\.json, line 1: not JSON"):
        read_json(tmp_path / "half.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(JourneyError, match=r"bytes\.json: not JSON"):
        read_json(tmp_path / "bytes.json")


def filled(folder, text):
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "a.txt").write_text(text)
    return folder


def test_publish_replaces_a_folder_and_leaves_nothing_beside_it(tmp_path):
    filled(tmp_path / "final", "old")
    publish(filled(tmp_path / "work", "new"), tmp_path / "final")
    assert (tmp_path / "final" / "inside" / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["final"]


def test_publish_syncs_every_file_and_folder_before_the_rename(tmp_path, monkeypatch):
    work, synced = filled(tmp_path / "work", "new"), []
    (work / "b.txt").write_text("b")
    replace = os.replace
    monkeypatch.setattr(files.os, "fsync", lambda f: synced.append(os.readlink(f"/proc/self/fd/{f}")))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (synced.append("rename"), replace(a, b)))
    publish(work, tmp_path / "final")
    before = set(synced[: synced.index("rename")])
    assert before == {str(work), str(work / "b.txt"), str(work / "inside"), str(work / "inside" / "a.txt")}


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_between_the_renames_of_publish_loses_neither_folder(tmp_path, monkeypatch, killed_at):
    final, work = filled(tmp_path / "final", "old"), filled(tmp_path / "work", "new")
    replace, calls = os.replace, []

    def killed(a, b):
        calls.append(a)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        replace(a, b)

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(work, final)
    texts = {path.read_text() for path in tmp_path.rglob("a.txt")}
    assert texts == {"old", "new"}
    # Under the final name stands the old one or nothing, never the half.
    assert not final.exists() or (final / "inside" / "a.txt").read_text() == "old"


def test_nearest_names_what_was_meant_and_only_that():
    assert nearest("vocab_siz", ["tokens", "vocab_size"]) == ', did you mean "vocab_size"?'
    assert nearest("zzz", ["tokens", "vocab_size"]) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": }', "line 1: not JSON"),
        (b"[1,\n2,\n\xff]", "not JSON \\(byte 7 is not UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"[" + b"7" * 5000 + b"]", "an integer of thousands of digits"),
    ],
)
def test_json_that_cannot_be_read_is_told_in_a_line(tmp_path, text, said):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(JourneyError, match=rf"a\.json.*{said}.*restore or delete it$"):
        read_json(tmp_path / "a.json")


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_name_that_is_not_utf8_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"name": "caf\udce9.txt"})
    assert read_json(tmp_path / "a.json") == {"name": "caf\udce9.txt"}
    assert digest("caf\udce9") != digest("caf\udcea")


def test_whom_the_umask_lets_read_may_read_what_is_published(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "model.safetensors").touch(mode=0o600)
    publish(tmp_path / "work", tmp_path / "node")
    (tmp_path / "usual").touch()
    assert (tmp_path / "node" / "model.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode
