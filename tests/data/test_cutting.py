"""Where a text is cut: as str.split cuts the whole, and where nothing separates near a fair length."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journey.data import cutting
from journey.data.cutting import Cut, blank_lines, documents, in_pieces, split_text
from journey.data.source import Notes
from journey.errors import JourneyError


def whole(text: str, least: int) -> list[str]:
    """The oracle: a text that is in memory, cut by str.split, its paragraphs put together."""
    pieces: list[list[str]] = [[]]
    size = 0
    for paragraph in text.split("\n\n"):
        if size >= least:
            pieces.append([])
            size = 0
        pieces[-1].append(paragraph)
        size += len(paragraph.encode()) + 2
    return ["\n\n".join(piece) for piece in pieces]


def parts(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


@given(st.lists(st.sampled_from(["\n", "\n\n", "\r", "\u2028", "\x0c", " ", "ab", "é", "👩"]), max_size=60))
@example([])
@example(["\n"] * 9)
@example(["a" * 13, "\n\n\n", "b"])
@example(["ab" * 9, "\n\n\n"])
@example(["\n\n", "ab" * 9, "\n\n", "ab"])
def test_paragraphs_are_put_together_to_the_pieces_of_the_whole(some: list[str]) -> None:
    text = "".join(some)
    for size in (1, 3, 99):
        assert list(documents(parts(text, size), Cut(piece=16), Notes())) == whole(text, 16)
    assert split_text(text) == whole(text, cutting.PIECE)


@given(st.text(alphabet="\n \t\u3000\x0ca", max_size=40))
def test_a_blank_line_holds_nothing(text: str) -> None:
    """The oracle: lines that are white space alone, emptied one by one; the last is no line yet."""
    *lines, last = text.split("\n")
    expected = "\n".join([*("" if line.isspace() else line for line in lines), last])
    for size in (1, 2, 5, 99):
        assert "".join(blank_lines(parts(text, size))) == expected


MARKED = "<|endoftext|>One day,\na girl.\n<|endoftext|>\n\nAnother day.\n\nShe\n<|endoftext|>The end.<|endoftext|>\n"


@pytest.mark.parametrize(
    ("separator", "found"),
    [
        ("<|endoftext|>", ["", "One day,\na girl.", "Another day.\n\nShe", "The end.", ""]),
        ("\n\n\n", [MARKED.strip("\n")]),
        ("line", [*MARKED.split("\n")]),
        ("blank-line", [MARKED]),
        (". ", [MARKED.strip("\n")]),
        ("day", ["<|endoftext|>One ", ",\na girl.\n<|endoftext|>\n\nAnother ", MARKED.split("day")[2].strip("\n")]),
    ],
)
def test_documents_end_at_the_separator(separator: str, found: list[str]) -> None:
    for size in (1, 4, 999):
        assert list(documents(parts(MARKED, size), Cut(separator), Notes())) == found


def test_an_empty_separator_is_refused() -> None:
    with pytest.raises(JourneyError, match="separator is empty"):
        Cut("")


LINES = "\n".join(f"Sentence {i} stands on a line of its own." for i in range(400))
SENTENCES = " ".join(f"Sentence {i} stands among others, and nothing ends a line." for i in range(400))
CHINESE = "".join(f"第{i}句话在这里，没有空格。" for i in range(800))


@pytest.mark.parametrize("text", [LINES, SENTENCES, CHINESE, "word " * 4000, "é" * 9999, "a" * 20001])
@pytest.mark.parametrize("piece", [200, 1000])
def test_what_nothing_ends_is_cut_near_a_fair_length(text: str, piece: int) -> None:
    every = []
    for size in (7, 1000, 10**6):  # the same pieces, however the text comes
        notes = Notes()
        found = list(documents(parts(text, size), Cut(piece=piece, fine=True), notes))
        every.append(found)
        assert notes.long_documents == 1
        assert "".join("".join(found).split()) == "".join(text.split())
        assert all(piece - 2 <= len(one.encode()) <= 2 * piece for one in found[:-1])
        assert 0 < len(found[-1].encode()) <= 1.5 * piece
    assert every[0] == every[1] == every[2]
    if text is LINES:
        assert "\n".join(every[0]) == text
    elif text in (SENTENCES, CHINESE):
        assert all(one.rstrip().endswith((".", "。")) for one in every[0])


def test_only_what_is_too_long_is_cut() -> None:
    text = "\n\n".join(["short", LINES, "short too", LINES, "x" * 900])
    notes = Notes()
    found = list(documents([text], Cut("blank-line", 1000, fine=True), notes))
    assert notes.long_documents == 2 and found[-1] == "x" * 900
    assert all(len(one) < 2000 for one in found)
    rows = list(documents([f"a<>{LINES}<>b"], Cut("<>", 1000, fine=True), Notes()))
    assert rows[0] == "a" and rows[-1] == "b" and "\n".join(rows[1:-1]) == LINES
    assert list(documents([f"a<>{LINES}<>b"], Cut("<>"), Notes())) == ["a", LINES, "b"]


def test_a_long_line_is_cut_and_its_neighbours_stay_whole() -> None:
    text = f"{LINES[:900]}\n{SENTENCES}\nlast line"
    found = list(in_pieces(text, 1000))
    assert "".join("".join(found).split()) == "".join(text.split()) and max(map(len, found)) <= 4000


def test_a_text_without_blank_lines_is_not_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last pieces come before the text has ended: what is held is no more than LONG."""
    monkeypatch.setattr(cutting, "LONG", 50_000)
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for i in range(10_000):
            taken += 1
            yield f"line {i} of a text without blank lines\n"

    notes, lengths, held = Notes(), 0, []
    for document in documents(lines(), Cut(), notes):
        lengths += len(document) + 1
        held.append(taken * 40 - lengths)
    assert notes.long_documents == 1 and max(held) < 70_000 and len(held) > 80


@pytest.mark.parametrize(("n_bytes", "piece"), [(500, 200), (30_000, 1_500), (10**9, 4_000)])
def test_a_small_text_is_cut_into_smaller_pieces(n_bytes: int, piece: int) -> None:
    assert Cut("line").finer(n_bytes, 10) == Cut("line", piece, fine=True)
