"""Pairs of texts: numbers in words against word2number, files in the schemas that there are, and the split."""

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from word2number import w2n

from journey.data.numbers import LARGEST, drawn, words
from journey.data.translations import NUMBERS, Translation, divided, load, numbers, save, saved
from journey.errors import JourneyError


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@given(st.integers(0, LARGEST))
def test_words_mean_their_number(n):
    assert w2n.word_to_num(words(n)) == n


def test_words_are_as_one_writes_them_and_no_two_numbers_share_any():
    assert (
        words(0) == "zero" and words(412) == "four hundred and twelve" and words(20_007) == "twenty thousand and seven"
    )
    assert words(999_999) == "nine hundred and ninety-nine thousand nine hundred and ninety-nine"
    assert len({words(n) for n in range(0, 30_000)}) == 30_000
    for n in (-1, LARGEST + 1):
        with pytest.raises(ValueError, match="is not from 0 to"):
            words(n)


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (1, 1), (7, 2), (1_000, 0), (40_000, 3)])
def test_numbers_are_different_and_of_all_lengths(n, seed):
    found = list(drawn(n, seed))
    assert len(set(found)) == len(found) == n
    if n >= 6:
        lengths = [sum(len(str(x)) == digits for x in found) for digits in range(1, 7)]
        assert all(lengths) and max(lengths) - min(lengths[3:]) <= n // 3
        assert found == list(drawn(n, seed)) and (n < 100 or found != list(drawn(n, seed + 1)))


def test_numbers_go_both_ways_and_none_is_on_two_sides():
    parts = divided(numbers(2_000, 3), 3, 60, 2_000)
    assert sum(map(len, parts.values())) == 2_000
    assert 60 <= len(parts["test"]) <= 61 and 30 <= len(parts["dev"]) <= 31
    about = {name: {int(p.about) for p in part} for name, part in parts.items()}
    assert not (about["train"] & about["test"] or about["train"] & about["dev"] or about["dev"] & about["test"])
    for pair in parts["test"]:
        assert {pair.source, pair.target} == {pair.about, words(int(pair.about))}
    assert sum(pair.kind == "words to digits" for pair in parts["test"]) == len(parts["test"]) / 2


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), min_size=1, max_size=60),
    st.integers(1, 50),
    st.integers(1, 70),
)
def test_a_split_keeps_every_pair_once_and_what_belongs_together(rows, held_out, most):
    pairs = [Translation(str(i), str(about), str(text), str(about)) for i, (about, text) in enumerate(rows)]
    try:
        parts = divided(pairs, 1, held_out, most)
    except JourneyError as error:
        assert "too few to hold some out" in str(error)
        return
    kept = [pair for part in parts.values() for pair in part]
    assert len({pair.id for pair in kept}) == len(kept) and parts["train"] and parts["test"]
    assert len(kept) <= max(most, max(sum(p.about == q.about for p in pairs) for q in pairs))
    sides = [{pair.about for pair in part} for part in parts.values()]
    assert len(set.union(*sides)) == sum(map(len, sides))


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"source": "a cat", "target": "eine Katze"}, ()),
        ({"tgt": "eine Katze", "src": "a cat", "note": "x"}, ()),
        ({"id": 7, "en": "a cat", "de": "eine Katze"}, ()),
        ({"translation": {"en": "a cat", "de": "eine Katze"}, "id": "7"}, ()),
        ({"translation": {"de": "eine Katze", "en": "a cat"}, "id": "7"}, ("en", "de")),
        ({"en": " a cat\n", "fr": "un chat", "de": "eine Katze"}, ("en", "de")),
        ({"en": "a cat", "de": "eine Katze"}, ("en",)),
        ({"target": "a cat", "source": "eine Katze"}, ("target", "source")),
    ],
)
def test_a_row_is_found_in_the_schemas_that_there_are(tmp_path, row, fields):
    found, left_out = load(write(tmp_path / "pairs.jsonl", [row]), "", *fields)
    assert [(p.source, p.target, p.about) for p in found] == [("a cat", "eine Katze", "a cat")] and not left_out


@pytest.mark.parametrize(
    ("row", "fields", "said"),
    [
        ({"en": "a", "fr": "b", "de": "c"}, (), "holds en, fr, de: say with source_field and target_field"),
        ({"en": "a"}, (), "holds en: say with source_field"),
        ({"en": "a", "de": "b"}, ("en", "da"), r'"da" is no text here; the row holds en, de'),
        ({"source": "a", "target": " "}, (), '"target" is empty'),
        ({"source": "a", "target": 3}, (), '"target" is no text here'),
        ({"source": "a", "target": "\ud800"}, (), "holds half a character"),
        (["a", "b"], (), "a row is an object with columns, not (list|str)"),
        ({"translation": "x", "id": "1"}, (), "say with source_field"),
    ],
)
def test_a_row_that_is_none_is_told_by_its_line(tmp_path, row, fields, said):
    path = write(tmp_path / "pairs.jsonl", [{"source": "x", "target": "y"}, row])
    if not fields:
        found, left_out = load(path)
        assert len(found) == 1 and left_out.total() == 1
        with pytest.raises(JourneyError, match=rf"pairs\.jsonl, line 2: .*{said}"):
            load(path, strict=True)
    alone = write(tmp_path / "alone.jsonl", [row if isinstance(row, dict) else "x"])
    with pytest.raises(JourneyError, match=said):
        load(alone, "", *fields)


def test_two_files_are_joined_by_their_ids(tmp_path):
    said = []
    english = write(tmp_path / "en.jsonl.gz", [{"id": i, "question": f"q{i}", "context": "c"} for i in (1, 2, 3)])
    german = write(tmp_path / "de.jsonl", [{"id": str(i), "question": f"f{i}"} for i in (3, 9, 1)])
    found, left_out = load(english, german, "question", say=said.append)
    assert [(p.id, p.source, p.target) for p in found] == [("1", "q1", "f1"), ("3", "q3", "f3")]
    assert left_out == {"in one file alone": 2} and "2 rows left out" in said[0]
    other = write(tmp_path / "other.jsonl", [{"id": "x", "text": "t"}])
    with pytest.raises(JourneyError, match="have no id in common"):
        load(english, other, "question", "text")
    with pytest.raises(JourneyError, match='"text" is no text here'):
        load(english, german)
    with pytest.raises(JourneyError, match='no "id", by which the rows'):
        load(english, write(tmp_path / "none.jsonl", [{"question": "a"}]), "question")


def test_a_pair_that_comes_again_counts_once(tmp_path):
    rows = [{"source": "a", "target": "b"}, {"source": "a", "target": "c"}, {"source": " a", "target": "b"}]
    found, left_out = load(write(tmp_path / "pairs.jsonl", rows))
    assert [(p.source, p.target) for p in found] == [("a", "b"), ("a", "c")] and left_out == {"repeated": 1}


@pytest.mark.parametrize("name", ["nothing.jsonl", "pairs.xlsx", "numbers"])
def test_a_file_that_is_none_says_what_can_be_given(tmp_path, name):
    if name.endswith("xlsx"):
        (tmp_path / name).write_text("a\tb\n")
    with pytest.raises(JourneyError, match=r"\.jsonl"):
        load(str(tmp_path / name))


def test_what_is_saved_comes_back_and_what_is_damaged_is_told(tmp_path):
    pairs = [Translation("1", "a b", "“ü”\u2028", "a"), *numbers(4, 0)]
    save(pairs, tmp_path / "p.jsonl")
    assert saved(tmp_path / "p.jsonl") == pairs
    for line in ('{"id": "1"}', '{"id": 1, "source": "a", "target": "b", "about": "a"}', "[1]", '"x"'):
        (tmp_path / "bad.jsonl").write_text(line + "\n")
        with pytest.raises(JourneyError, match="line 1: not a pair as Journey writes it"):
            saved(tmp_path / "bad.jsonl")
    assert NUMBERS == "numbers"


@pytest.mark.skipif("JOURNEY_DATA" not in os.environ, reason="JOURNEY_DATA names no folder of real data")
def test_the_questions_of_xquad_are_pairs():
    folder = Path(os.environ["JOURNEY_DATA"]) / "retrieval" / "xquad"
    found, left_out = load(str(folder / "en.jsonl.gz"), str(folder / "de.jsonl.gz"), "question")
    assert len(found) + left_out.total() == 1190 and len(found) > 1180
    pair = next(pair for pair in found if pair.id == "56beb4343aeaaa14008c925b")
    assert pair.source == "How many points did the Panthers defense surrender?"
    assert pair.target == "Wie viele Punkte gab die Verteidigung der Panthers ab?"
