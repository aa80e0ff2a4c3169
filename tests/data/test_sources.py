import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

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


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"text": "fine"}\n{"body": "x"}\n', 'a.jsonl, line 2: no "text"'),
        ("a.jsonl", b'["text"]\n', 'a.jsonl, line 1: no "text"'),
        ("a.jsonl", b'{"text": "fine"}\n{"text": "\xff"}\n', "a.jsonl, line 2: byte 10 is not UTF-8"),
        ("a.txt", b"abc\xffdef", "a.txt: byte 3 is not UTF-8"),
        ("a.jsonl.gz", b"not gzip", "a.jsonl.gz: damaged gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 999)[:-20], "a.jsonl.gz: damaged gzip"),
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
