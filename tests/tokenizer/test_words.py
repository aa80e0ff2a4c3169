"""Counting words: whatever way is taken, they are those of the split pattern on the whole text."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.tokenizer import words
from journey.tokenizer.codec import PATTERNS, splitter
from journey.tokenizer.words import Saved, WordCounter, count_words

# Every way in which white space meets letters, digits, marks and itself; contractions in odd cases; the hidden mark.
SINGLE = (
    " \t\n\r\v\f\0\x1c\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000\ufeff\u200baZé中ſ1²Ⅷ9.,!'’\"-_\u0301👍🏽\U000e0020"
)
SEVERAL = ["  ", "   ", "\n\n", "\r\n", " \n", "\n ", " \0", "\0 ", "'s", "'S", "'ſ", "'ll", "don't", "word", "...\n"]
bits = st.sampled_from([*SINGLE, *SEVERAL])
texts = st.lists(st.lists(bits, max_size=14).map("".join) | st.text(max_size=10), max_size=6)


def by_the_pattern(texts: list[str], pattern: str) -> Counter[str]:
    return Counter(word for text in texts for word in splitter(pattern).findall(text))


@pytest.mark.parametrize("pattern", PATTERNS)
@given(texts=texts)
@settings(max_examples=400, deadline=None)
def test_words_are_those_of_the_pattern_on_the_whole_text(pattern: str, texts: list[str]) -> None:
    counter = WordCounter(pattern)
    counter.add(texts)
    assert counter.take() == by_the_pattern(texts, pattern)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_any_number_of_processes_counts_the_same(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "BATCH", 20_000)
    sources = [inspect.getsource(module) for module in (inspect, re, json, subprocess)]
    assert count_words(sources, "llama3", processes) == by_the_pattern(sources, "llama3")


def test_little_text_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert count_words(["a b"], processes=8) == {"a": 1, " b": 1}


@pytest.mark.parametrize("nothing", [[], [""]])
def test_no_text_has_no_words(nothing: list[str]) -> None:
    assert count_words(nothing, processes=2) == {}


def test_texts_are_read_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus larger than memory: no more than a few batches are ahead of what was counted."""
    monkeypatch.setattr(words, "BATCH", 100)
    read, ahead = 0, []

    def texts():
        nonlocal read
        for _ in range(100):
            read += 1
            yield "ab " * 40

    count_words(texts(), progress=lambda counted: ahead.append(read - counted))
    assert len(ahead) == 100 and max(ahead) <= 2


def killed_after(texts: list[str], n: int):
    yield from texts[:n]
    raise KeyboardInterrupt


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_count_goes_on_from_what_was_saved(tmp_path, monkeypatch, processes: int) -> None:
    monkeypatch.setattr(words, "BATCH", 500)
    monkeypatch.setattr(words, "ROUND", 3000)
    texts = inspect.getsource(inspect).splitlines(keepends=True)[:600]
    saved = Saved(tmp_path / "counts.json", "these texts")
    with pytest.raises(KeyboardInterrupt):
        count_words(killed_after(texts, 500), processes=processes, saved=saved)
    _, done, complete = saved.load()
    assert 300 < done <= 500 and not complete
    unread = [None] * done + texts[done:]  # what was counted before is not looked at again
    assert count_words(unread, processes=processes, saved=saved) == by_the_pattern(texts, "gpt2")
    assert count_words(killed_after([], 0), saved=saved) == by_the_pattern(texts, "gpt2")


def test_counts_of_another_input_are_not_taken(tmp_path: Path) -> None:
    count_words(["one"], saved=Saved(tmp_path / "counts.json", "first"))
    assert count_words(["two"], saved=Saved(tmp_path / "counts.json", "second")) == {"two": 1}


def test_saved_counts_that_are_damaged_are_named(tmp_path: Path) -> None:
    (tmp_path / "counts.json").write_text('{"input": "x", "wor')
    with pytest.raises(JourneyError, match=r"counts\.json, line \d+: not JSON"):
        count_words(["one"], saved=Saved(tmp_path / "counts.json", "x"))


def test_counts_above_32_bits_stay_exact(tmp_path: Path) -> None:
    saved = Saved(tmp_path / "counts.json", "x")
    saved.write(Counter({"a": 2**40 + 1}), 0, complete=False)
    assert count_words(["a"], saved=saved) == {"a": 2**40 + 2}


def test_a_process_that_is_killed_is_told() -> None:
    with words._Process("gpt2") as process:
        process._process.kill()
        process._process.wait()
        with pytest.raises(JourneyError, match=r"ended \(exit -9\)"):
            process.finish()
            process.take()


def test_no_process_outlives_a_killed_parent() -> None:
    script = "from journey.tokenizer.words import _Process as P; p = P('gpt2'); p.add(['a']); print(p._process.pid, flush=True); input()"  # noqa: E501
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    worker = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    for _ in range(3000):  # a minute, on a machine that is busy
        if not Path(f"/proc/{worker}").exists() or "\nState:\tZ" in Path(f"/proc/{worker}/status").read_text():
            return
        time.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker lives on")


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(JourneyError, match=r"lone surrogate \(U\+D800 at character 1\)"):
        count_words(["a\ud800"])


def test_an_unknown_pattern_names_the_nearest() -> None:
    with pytest.raises(JourneyError, match='did you mean "gpt2"'):
        count_words(["a"], "gtp2")


def test_what_the_patterns_take_for_white_space_is_known() -> None:
    """The cut at spaces rests on it: no character beyond these may be white space to the pattern."""
    every = "".join(map(chr, range(0x110000)))
    assert set(regex.findall(r"\s", every)) - {" "} <= set(words.WHITE)
