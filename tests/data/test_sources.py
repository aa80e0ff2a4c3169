import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journey.data import sources
from journey.data.sources import fingerprint, read
from journey.errors import JourneyError


def texts(path: Path) -> list[str]:
    return [document.text for document in read(str(path))]


def test_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.md").write_text("two")
    (tmp_path / "c.jsonl").write_text('{"text": "three"}\n\n{"text": "four"}\n')
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"text": "five\u2028six"}, ensure_ascii=False) + "\n")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["seven", "  ", None]}), tmp_path / "e.parquet")
    (tmp_path / "f.png").write_bytes(b"\x89PNG")
    assert texts(tmp_path) == ["one", "two", "three", "four", "five\u2028six", "seven"]
    ids = [document.id for document in read(str(tmp_path))]
    assert ids == ["a.txt:1", "b.md:1", "c.jsonl:1", "c.jsonl:2", "d.jsonl.gz:1", "e.parquet:1"]


def test_a_long_text_is_cut_at_blank_lines_and_none_is_lost(tmp_path: Path) -> None:
    long = "\n\n".join(f"paragraph {i} " * 20 for i in range(200))
    (tmp_path / "a.txt").write_text(long)
    pieces = texts(tmp_path)
    assert "\n\n".join(pieces) == long and len(pieces) > 10
    assert all(sources.PIECE <= len(piece) < 2 * sources.PIECE for piece in pieces[:-1])


def whole(text: str) -> list[str]:
    """The oracle: a text that is in memory, cut by str.split."""
    pieces: list[list[str]] = [[]]
    size = 0
    for paragraph in text.split("\n\n"):
        if size >= sources.PIECE:
            pieces.append([])
            size = 0
        pieces[-1].append(paragraph)
        size += len(paragraph.encode()) + 2
    return ["\n\n".join(piece) for piece in pieces]


@given(st.lists(st.sampled_from(["\n", "\n\n", "\r\n", "\r", "\u2028", "\x0c", " ", "ab", "é", "👩"]), max_size=60))
@example([])
@example(["\n"] * 9)
@example(["a" * 13, "\n\n\n", "b"])
@example(["ab" * 9, "\n\n\n"])
@example(["\n\n", "ab" * 9, "\n\n", "ab"])
def test_lines_are_put_together_to_the_pieces_of_the_whole(parts: list[str]) -> None:
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PIECE", 16)
        found = list(sources.pieces(io.BytesIO(text.encode())))
        assert [piece.decode() for piece, _ in found] == whole(text) == sources.split_text(text)
        assert sum(size for _, size in found) == len(text.encode())


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n"])
def test_a_file_is_read_as_its_whole_text_is_cut(tmp_path: Path, ending: str) -> None:
    """Paragraphs of 2 to 4 bytes a character, longer than what a file object reads at once."""
    text = "\n\n".join(char * 7001 for char in "aé漢👩" for _ in range(9)) + ending
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert texts(tmp_path) == [piece for piece in whole(text) if piece.strip()]


BAD = {
    "a.txt": b"good\n\n" * 1000 + b"caf\xe9 \xff\xfe",
    "b.md": b"\xe2\x82",  # the beginning of a character
    "c.jsonl": b'{"text": "fine"}\n\n{"text": "\xe9t\xe9"}\n',
    "d.jsonl.gz": gzip.compress(b'{"text": "fine"}\n{"text": "\xe9"}\n'),
    "e.jsonl": b'{"text": "\\ud83d!"}\n',  # JSON spells half a character, in good UTF-8
}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.txt", "a.txt: byte 6003 is not UTF-8"),
        ("b.md", "b.md: byte 0 is not UTF-8"),
        ("c.jsonl", "c.jsonl: byte 28, in line 3, is not UTF-8"),
        ("d.jsonl.gz", "d.jsonl.gz: byte 27, in line 2, is not UTF-8"),
        ("e.jsonl", "e.jsonl: byte 0 of the text in line 1 (half a character) is not UTF-8"),
    ],
)
def test_bytes_that_are_not_utf8_are_named_or_replaced(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(sources.NotUtf8) as error:
        texts(tmp_path)
    assert says in str(error.value) and "iconv" in str(error.value)
    replaced = Counter[str]()
    last = [document.text for document in read(str(tmp_path), replaced=replaced)][-1]
    expected = {
        "a.txt": (BAD["a.txt"].decode(errors="replace")[-7:], 3),
        "b.md": ("\ufffd", 2),
        "c.jsonl": ("\ufffdt\ufffd", 2),
        "d.jsonl.gz": ("\ufffd", 1),
        "e.jsonl": ("\ufffd\ufffd\ufffd!", 3),
    }[name]
    assert last.endswith(expected[0]) and replaced == {str(tmp_path / name): expected[1]}
    assert sources.replaced_facts(replaced) == {"replaced_bytes": expected[1], "replaced_files": 1}


def test_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pyarrow.array([b"fine", b"caf\xe9", None], pyarrow.binary())
    for name, column in (("string", raw.view(pyarrow.string())), ("binary", raw)):
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), path)
        with pytest.raises(sources.NotUtf8, match=r"byte 3 of the text in row 2 is not UTF-8"):
            texts(path)
        replaced = Counter[str]()
        assert [document.text for document in read(str(path), replaced=replaced)] == ["fine", "caf\ufffd"]
        assert replaced.total() == 1
    pyarrow.parquet.write_table(pyarrow.table({"text": [1, 2]}), tmp_path / "string.parquet")
    with pytest.raises(JourneyError, match='row 1: "text" is int, not a string'):
        texts(tmp_path / "string.parquet")


def test_progress_is_told_within_a_file(tmp_path: Path) -> None:
    """By bytes of the file, compressed or not: a source is often one large file."""
    lines = "".join(json.dumps({"text": f"{i} " * 500}) + "\n" for i in range(4000))
    (tmp_path / "a.jsonl").write_text(lines)
    told: list[tuple[int, int]] = []
    list(read(str(tmp_path), lambda done, total, unit: told.append((done, total))))
    total = len(lines) // 10**6
    assert [done for done, _ in told[:-1]] == list(range(1, total + 1))
    assert told[-1] == (total, total)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"text": "fine"}\n{"body": "x"}\n', 'a.jsonl, line 2: no "text"'),
        ("a.jsonl", b'["text"]\n', 'a.jsonl, line 1: no "text"'),
        ("a.jsonl", b'{"text": "fine"}\n{"text": "\xff"}\n', "a.jsonl: byte 27, in line 2, is not UTF-8; convert it"),
        ("a.txt", b"abc\xffdef", "a.txt: byte 3 is not UTF-8"),
        ("a.jsonl.gz", b"not gzip", "a.jsonl.gz: damaged gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 999)[:-20], "a.jsonl.gz: damaged gzip"),
        ("a.jsonl.gz", gzip.compress(b"")[:10] + b"\xff" * 40, "a.jsonl.gz: damaged gzip"),
        ("a.parquet", b"not parquet", "a.parquet: not a parquet file"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(JourneyError) as error:
        texts(tmp_path)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_parquet_without_a_text_column(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(JourneyError, match='no "text" column; it has body'):
        texts(tmp_path)


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match='no such text: instaled-docs, did you mean "installed-docs"'):
        fingerprint("instaled-docs")
    with pytest.raises(JourneyError, match="no text in this folder"):
        fingerprint(str(tmp_path))
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(JourneyError, match="cannot read this kind of file"):
        fingerprint(str(tmp_path / "a.pdf"))


def test_fingerprint_follows_names_and_contents_and_not_the_place(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("one")
    here = fingerprint(str(tmp_path / "x"))
    assert here == fingerprint(str(tmp_path / "y"))
    (tmp_path / "x" / "a.txt").write_text("two")
    changed = fingerprint(str(tmp_path / "x"))
    (tmp_path / "x" / "b.txt").write_text("two")
    assert len({here, changed, fingerprint(str(tmp_path / "x"))}) == 3


def test_installed_files_are_those_of_a_fixed_list() -> None:
    """Installing another package, or a part of Python that Debian ships apart, leaves the fingerprint alone."""
    names = [name for name, _ in sources.files("installed-docs")]
    assert {"numpy/linalg/_linalg.py", "json/decoder.py", "torch/nn/modules/linear.py"} <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert not tops & {"site-packages", "ensurepip", "tkinter", "idlelib", "pytest", "pip", "test"}
    assert not [name for name in names if {"test", "tests", "__pycache__"} & set(name.split("/"))]
    assert names == sorted(set(names))


def test_code_is_without_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [(name, path) for name, path in sources.files("stdlib-code") if name.startswith(("json/", "sched"))]
    monkeypatch.setattr(sources, "files", lambda source: few)
    found = {document.id: document.text for document in read("stdlib-code")}
    assert {"json/decoder.py", "sched.py"} <= set(found)
    assert found["json/decoder.py"].startswith("# Lib: json/decoder.py\n")
    assert "def raw_decode(self, s, idx=0):" in found["json/decoder.py"]
    assert "Decode a JSON document from" not in found["json/decoder.py"]


def test_a_node_is_no_source(life):
    """Its files are a text already split: read anew, what was held out would be trained on."""
    with pytest.raises(JourneyError, match="is a node, not a text to read"):
        sources.fingerprint(str(life.node("prose").path))
