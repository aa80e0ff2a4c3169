"""Streamed text is the decoded text, and ends before the first stop string, however tokens cut either."""

import argparse
import time
from itertools import chain

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.infer.text import MOST_STOPS, StopStrings, TextStream
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

BYTES = Tokenizer.from_merges([])
WORDS = Tokenizer.from_merges(
    bpe.train(bpe.count_words([argparse.__doc__, "aaab" * 40, "🙂🙃" * 9]), 320, len(SPECIALS))
)
# Few characters, so that stop strings occur, begin, and almost occur; of one, two and four bytes, two with like bytes.
TEXT = st.text("ab\n é🙂🙃", max_size=40)
STOPS = st.lists(st.text("ab\n é🙂🙃", min_size=1, max_size=7), max_size=4)
IDS = st.one_of(
    TEXT.map(WORDS.encode),
    TEXT.map(BYTES.encode),
    st.lists(st.sampled_from([*range(256), *WORDS.encode("aaab 🙂"), WORDS.eos])),  # bytes that are no characters
)


@settings(deadline=None)
@given(st.one_of(st.text().map(WORDS.encode), st.lists(st.integers(0, WORDS.vocab_size - 1))))
def test_streamed_text_is_the_decoded_text(ids):
    decoder = TextStream(WORDS)
    pieces = [*map(decoder.feed, ids), decoder.end()]
    assert "".join(pieces) == WORDS.decode(ids)


def test_a_special_token_outside_the_byte_alphabet_is_spelled_out():
    tokenizer = Tokenizer.from_merges([], specials=["<｜begin of sentence｜>"])
    ids = [*tokenizer.encode("é"), tokenizer.vocab_size - 1, *tokenizer.encode("中")]
    decoder = TextStream(tokenizer)
    assert "".join(map(decoder.feed, ids)) == tokenizer.decode(ids) == "é<｜begin of sentence｜>中"


@given(st.text())
def test_no_piece_holds_half_a_character(text):
    decoder = TextStream(WORDS)
    pieces = [decoder.feed(byte) for byte in chain.from_iterable(map(WORDS.encode, text))]
    assert set("".join(pieces)) <= set(text)
    assert decoder.end() == ""


def cut(text, stops):
    """The text before the stop string that is complete first, the longest of those, and which it is."""
    ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    if not ends:
        return text, None
    end, _, stop = min(ends)
    return text[: end - len(stop)], stop


def undecided(text, stops):
    """How many characters at the end of a text may be the beginning of a stop string."""
    beginnings = {stop[:n] for stop in stops for n in range(1, len(stop))}
    return max((len(beginning) for beginning in beginnings if text.endswith(beginning)), default=0)


@settings(deadline=None, max_examples=300)
@given(IDS, STOPS)
@example(WORDS.encode("aaab"), ["aab"])
@example(WORDS.encode("aabaaabaaaé"), ["aabaaaé"])  # what is left after "aabaaa" is not what is left after "a"
@example(WORDS.encode("aba"), ["b", "ab", "ba"])
@example(BYTES.encode("🙂"), ["🙃"])  # three of four bytes are the same
@example(BYTES.encode("aé"), ["aéa"])  # ends while all of it is held back
@example([WORDS.eos], ["<|end|>"])  # a special token is its spelling here
@example([*BYTES.encode("🙂")][:3], ["�"])  # half a character is U+FFFD when the text ends, and that can be a stop
def test_what_is_shown_is_the_decoded_text_up_to_the_first_stop_string(ids, stops):
    expected, stop = cut(WORDS.decode(ids), stops)
    stream, whole, shown, known = StopStrings(WORDS, stops), TextStream(WORDS), "", ""
    for token in ids:
        shown += stream.feed(token)
        known += whole.feed(token)
        assert expected.startswith(shown)
        if stream.stopped is None:
            assert shown == known[: len(known) - undecided(known, stops)]  # at once, and no more than is certain
    assert shown + stream.end() == expected
    assert stream.stopped == stop


def test_a_stop_string_may_begin_and_end_inside_tokens():
    words = bpe.count_words(["see", "Question"] * 9)
    tokenizer = Tokenizer.from_merges(bpe.train(words, 256 + 2 + 7 + len(SPECIALS), len(SPECIALS)))
    ids = tokenizer.encode("see\nQuestion")
    assert len(ids) == 3
    stream = StopStrings(tokenizer, ["e\nQu"])
    assert [stream.feed(token) for token in ids] == ["se", "", ""]  # the last e is held back, and never shown
    assert stream.stopped == "e\nQu" and stream.end() == ""


def test_after_a_stop_string_nothing_is_shown():
    stream = StopStrings(BYTES, ["b"])
    assert [stream.feed(token) for token in BYTES.encode("abab")] == ["a", "", "", ""]
    assert stream.end() == ""


def test_what_cannot_be_a_stop_string_is_said():
    with pytest.raises(JourneyError, match="a stop string is empty"):
        StopStrings(BYTES, ["a", ""])
    with pytest.raises(JourneyError, match="33 stop strings: at most 32"):
        StopStrings(BYTES, ["a"] * (MOST_STOPS + 1))
    with pytest.raises(JourneyError, match="lone surrogate"):
        StopStrings(BYTES, ["\ud83d"])


@pytest.mark.parametrize("stop", ["a" * 10_000 + "b", "ab" * 5_000 + "b", "a" * 5_000 + "b" + "a" * 5_000 + "c"])
def test_time_is_linear_in_a_repetitive_text(stop):
    ids = BYTES.encode((stop[:-1] * 6)[:50_000])
    stream = StopStrings(BYTES, [stop])
    started = time.process_time()
    shown = "".join(map(stream.feed, ids)) + stream.end()
    assert len(shown) == len(ids)
    assert time.process_time() - started < 2  # comparing all of it anew at each of 50,000 places takes minutes
