"""Passages: the one that a question was made from is there under its id, and nothing of a text is lost."""

from hypothesis import given
from hypothesis import strategies as st

from journey.data.corpus import SPLITS
from journey.data.questions import PASSAGE
from journey.data.sources import Document
from journey.retrieve import passages


def test_every_question_finds_the_very_passage_it_was_made_from(corpus):
    asked = [question for split in SPLITS for question in corpus.questions(split)]
    assert len(asked) > 60
    for whole in (False, True):
        found = {passage.id: passage for passage in passages.read(corpus, whole)}
        for question in asked:
            assert found[passages.gold(question)].text == question.passage


def test_ids_are_unique_and_passages_short(corpus):
    for whole in (False, True):
        found = list(passages.read(corpus, whole))
        assert len({passage.id for passage in found}) == len(found)
        assert all(passage.text and len(passage.text.encode()) <= PASSAGE for passage in found)


def test_the_openings_alone_or_the_whole_of_each_document(corpus):
    documents = [document for split in SPLITS for document in corpus.documents(split)]
    openings, whole = list(passages.read(corpus)), list(passages.read(corpus, whole=True))
    assert [passage.title for passage in openings] == [document.id for document in documents]
    assert len(whole) > len(openings)
    for document in documents:
        pieces = [passage for passage in whole if passage.title == document.id]
        told = "".join(piece.searched for piece in pieces)
        assert squeezed(told) == squeezed(document.text)
        assert all(piece.text == f"{document.id}\n\n{piece.searched}" for piece in pieces[1:])


def test_a_text_of_ones_own_is_cut_as_it_comes():
    text = "\n".join(f"Line {i} of a report about nothing in particular." for i in range(40))
    found = list(passages.plain(Document("report.txt:1", text)))
    assert [passage.id for passage in found] == [f"report.txt:1#{i}" for i in range(1, len(found) + 1)]
    assert all(passage.text.startswith("Line") and passage.text.endswith("particular.") for passage in found)
    assert [passage.searched for passage in found] == [passage.text for passage in found]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=400), st.integers(4, 60))
def test_cutting_loses_nothing_but_white_space(text, size):
    pieces = list(passages.cut(text, size))
    assert squeezed("".join(pieces)) == squeezed(text)
    assert all(piece.strip() and len(piece.encode()) <= size for piece in pieces)


def test_a_line_without_a_space_is_cut_between_two_characters():
    assert list(passages.cut("é" * 50, 21)) == ["é" * 10] * 5


def test_words_that_no_space_parts_are_cut_between_letters():
    """Not at the one space long before, nor between a letter and its marks, nor before a comma."""
    assert list(passages.cut("只丢 " + "了" * 20, 31)) == ["只丢 " + "了" * 8, "了" * 10, "了了"]
    assert list(passages.cut("ทีทีทีที", 20)) == ["ทีทีที", "ที"]
    assert list(passages.cut("中中中，中中", 9)) == ["中中", "中，中", "中"]
    assert list(passages.cut("中中中 中中", 13)) == ["中中中", "中中"]  # a space in the second half is better


@given(st.text(st.characters(max_codepoint=0x24F), max_size=400), st.integers(4, 60))
def test_latin_text_is_cut_at_lines_and_spaces(text, size):
    assert list(passages.cut(text, size)) == list(plain_cut(text, size))


def plain_cut(text, size):
    text = text.strip()
    while len(text[: size + 1].encode()) > size:
        piece = text[:size].encode()[:size].decode(errors="ignore")
        line, word = piece.rfind("\n"), piece.rfind(" ")
        end = line if line >= len(piece) // 2 else word if word > 0 else len(piece)
        yield piece[:end].rstrip()
        text = text[end:].lstrip()
    if text:
        yield text


def squeezed(text):
    return "".join(text.split())
