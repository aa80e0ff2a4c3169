"""Conversations in comma- and tab-separated files."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.data.conversations import load
from journey.data.csvfile import csv_rows
from journey.errors import JourneyError

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), max_size=8)


def say(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize("name", ["a.csv", "A.TSV", "a.csv.gz", "a.tsv.zst"])
def test_files_by_their_first_row(tmp_path: Path, name: str) -> None:
    file = io.StringIO()
    writer = csv.writer(file, "excel-tab" if "tsv" in name.lower() else "excel")
    writer.writerows([["Question", "answer", "n"], ['a, "b"\tc\n\nd', "A", ""], [], ["Q", "é 👩‍👩‍👧", "3"]])
    data = ("\ufeff" + file.getvalue()).encode()
    data = gzip.compress(data) if name.endswith(".gz") else data
    data = pyarrow.compress(data, codec="zstd", asbytes=True) if name.endswith(".zst") else data
    (tmp_path / name).write_bytes(data)
    assert load(tmp_path / name) == ([say('a, "b"\tc\n\nd', "A"), say("Q", "é 👩‍👩‍👧")], {})


def test_messages_as_json_in_a_column(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "tools"], [json.dumps(say("Q", "A")), ""]])
    assert load(tmp_path / "a.csv") == ([say("Q", "A")], {})


def test_rows_with_missing_or_extra_fields_are_left_out_and_named(tmp_path: Path) -> None:
    path, said = tmp_path / "a.csv", list[str]()
    path.write_text('question,answer\nQ,A\nQ\nQ,A,B\n"Q\n2",A\nQ,\n')
    found, left_out = load(path, say=said.append)
    assert found == [say("Q", "A"), say("Q\n2", "A")] and left_out == {"other fields": 2, "empty answer": 1}
    assert said[2:] == [
        f"  left out: {path}, line 3: has 1 fields for 2 columns",
        f"  left out: {path}, line 4: has 3 fields for 2 columns",
        f'  left out: {path}, line 7: "answer" is empty',
    ]
    with pytest.raises(JourneyError, match=r"a.csv, line 3: has 1 fields for 2 columns"):
        load(path, strict=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("question,answer,question\nQ,A,Q\n", 'a.csv: two columns of its first row are called "question"'),
        ('question,answer\nQ,A\nQ,"A\nQ,A\n', "a.csv, the row that begins in line 3: damaged"),
        ('question,answer\nQ,"A"B\n', "a.csv, the row that begins in line 2: damaged"),
        ("question,answer\n", "no conversations in this file"),
        ("", "no conversations in this file"),
        ("a;b\nQ;A\n", "a.csv, line 2: holds a;b; expected messages"),
    ],
)
def test_damaged_files_are_errors_of_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(JourneyError, match=says) as error:
        load(tmp_path / "a.csv")
    assert "\n" not in str(error.value)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
@settings(max_examples=100, deadline=None)
def test_what_pythons_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("x", "y"), *rows])
    assert [row for _, row in csv_rows(path, False)] == [{"x": x, "y": y} for x, y in rows]
