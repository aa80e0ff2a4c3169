import gzip
import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from journey.data import sources
from journey.data.source import Notes
from journey.data.sources import fingerprint, read, survey
from journey.errors import JourneyError


def texts(path: Path, notes: Notes | None = None, **how: object) -> list[str]:
    return [document.text for document in read(str(path), notes=notes, **how)]  # type: ignore[arg-type]


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


@pytest.mark.parametrize("ending", ["", "\n", "\n\n\n"])
def test_a_file_is_read_as_its_whole_text_is_cut(tmp_path: Path, ending: str) -> None:
    """Paragraphs of 2 to 4 bytes a character, longer than what a file object reads at once."""
    text = "\n\n".join(char * 7001 for char in "aé漢👩" for _ in range(9)) + ending
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert texts(tmp_path) == [piece for piece in sources.split_text(text) if piece.strip()]


BAD = {
    "a.txt": b"good\n\n" * 1000 + b"caf\xe9 \xff\xfe",
    "b.md": b"\xe2\x82",  # the beginning of a character
    "c.jsonl": b'{"text": "fine"}\n\n{"text": "\xe9t\xe9"}\n',
    "d.jsonl.gz": gzip.compress(b'{"text": "fine"}\n{"text": "\xe9"}\n', mtime=0),
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
    notes = Notes(replaced)
    last = texts(tmp_path, notes)[-1]
    expected = {
        "a.txt": (BAD["a.txt"].decode(errors="replace")[-7:], 3),
        "b.md": ("\ufffd", 2),
        "c.jsonl": ("\ufffdt\ufffd", 2),
        "d.jsonl.gz": ("\ufffd", 1),
        "e.jsonl": ("\ufffd\ufffd\ufffd!", 3),
    }[name]
    assert last.endswith(expected[0]) and replaced == {str(tmp_path / name): expected[1]}
    assert notes.facts() == {"replaced_bytes": expected[1], "replaced_files": 1}


def test_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pyarrow.array([b"fine", b"caf\xe9", None], pyarrow.binary())
    for name, column in (("string", raw.view(pyarrow.string())), ("binary", raw)):
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), path)
        with pytest.raises(sources.NotUtf8, match=r"byte 3 of the text in row 2 is not UTF-8"):
            texts(path)
        replaced = Counter[str]()
        assert texts(path, Notes(replaced)) == ["fine", "caf\ufffd"]
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
        ("a.jsonl", b'{"body": "x", "id": 1}\n{"body": "x"}\n', 'a.jsonl, line 1: no "text"; it has body, id; each'),
        ("a.jsonl", b'{"text": null}\n{"body": "x"}\n', 'a.jsonl, line 1: "text" is null; it has text; each'),
        ("a.jsonl", b'{"text": 3}\n', 'a.jsonl, line 1: "text" is int, not a string'),
        ("a.jsonl", b'{"text": "fine"}\n{"body": "x\n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'["text"]\n', 'a.jsonl, line 1: no "text"'),
        ("a.jsonl", b'{"text": "fine"}\n{"text": "\xff"}\n', "a.jsonl: byte 27, in line 2, is not UTF-8; convert it"),
        ("a.txt", b"abc\xffdef", "a.txt: byte 3 is not UTF-8"),
        ("a.jsonl.gz", b"not gzip", "a.jsonl.gz: damaged gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 999, mtime=0)[:-20], "a.jsonl.gz: damaged gzip"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 40, "a.jsonl.gz: damaged gzip"),
        ("a.parquet", b"not parquet", "a.parquet: not a parquet file"),
        ("a.parquet", b"", "a.parquet: not a parquet file"),
        ("a.jsonl", '{"text": "x"}\n'.encode("utf-16-le") * 9, "a.jsonl: looks like UTF-16LE without"),
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


def files_of_every_kind(folder: Path) -> None:
    """A folder as people have it."""
    made = {"a.txt": "A", "B.TXT": "B", "C.Md": "C", "d.txt.gz": "D", "e.md.GZ": "E", "f.txt.zst": "F"}
    rows = {"g.jsonl": "G", "h.NDJSON": "H", "i.jsonl.zst": "I", "j.Jsonl.Gz": "J", "k.ndjson.gz": "K"}
    codec = pyarrow.Codec("zstd")
    for name, text in (made | rows).items():
        data = (json.dumps({"text": text}) if name in rows else text).encode("utf-8-sig")
        kind = name.lower().rpartition(".")[2]
        packed = {"gz": gzip.compress(data), "zst": codec.compress(data, asbytes=True)}
        (folder / name).write_bytes(packed.get(kind, data))
    (folder / "l.json").write_text(json.dumps([{"text": "L"}, {"text": None}, {"text": "M"}], indent=1))
    (folder / "m.json").write_text('\ufeff{"text": "N"}\n{"text": "O"}\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["P"]}), folder / "n.PARQUET")


def test_endings_are_compared_without_case_and_packed_files_are_read(tmp_path: Path) -> None:
    files_of_every_kind(tmp_path)
    found = texts(tmp_path)
    assert sorted(found) == [*"ABCDEFGHIJKLMNOP"] and not survey(tmp_path)[1]
    alone = [text for path in tmp_path.iterdir() for text in texts(path)]
    assert sorted(alone) == sorted(found)


def test_what_of_a_folder_is_not_read_is_counted(tmp_path: Path) -> None:
    files_of_every_kind(tmp_path)
    for name in ("a.csv", "b.CSV", "c.pdf", "README", "d.tar.gz", "e.txt.bz2", ".DS_Store", ".hidden.csv", "._a.txt"):
        (tmp_path / name).write_bytes(b"not read")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("x")
    (tmp_path / "settings.json").write_text('{"name": "x"}')
    (tmp_path / "lists.json").write_text("[[1], [2]]")
    (tmp_path / "no.txt.gz").write_bytes(b"not read")
    (tmp_path / "no.jsonl.zst").write_bytes(b"not read")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "folder.txt" / "deep.md").write_text("Q")
    os.symlink(tmp_path / "folder.txt", tmp_path / "elsewhere")
    os.symlink(tmp_path, tmp_path / "folder.txt" / "circle")
    os.symlink("nothing.txt", tmp_path / "broken.txt")
    assert sorted(texts(tmp_path)) == [*"ABCDEFGHIJKLMNOPQ"]
    others = survey(tmp_path)[1]
    assert others == {
        **{".csv": 2, ".pdf": 1, "without an ending": 1, ".tar.gz": 1, ".bz2": 1, ".json without texts": 2},
        **{".txt.gz that is no gzip": 1, ".jsonl.zst that is no zstd": 1, "link to a folder": 2, "link to nothing": 1},
    }
    assert sources.told(Counter({".pdf": 1, ".csv": 2})) == "3 files of other kinds not read: .csv 2, .pdf 1"
    assert sources.told(Counter({".pdf": 1})) == "1 file of other kinds not read: .pdf 1"
    assert sources.told(Counter(f".{i}" for i in range(12))).endswith(", .5 1, others 4")


def test_the_fingerprint_of_kinds_that_were_always_read_stays(tmp_path: Path) -> None:
    """The ids of text nodes hang on it: of names and bytes as they are, whatever other files stand beside them."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_bytes(b"one\r\n\r\ntwo\n")
    (tmp_path / "deep" / "b.md").write_bytes("\ufeffthree".encode())
    (tmp_path / ".hidden.jsonl").write_bytes(b'{"text": "four"}\n')
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "five"}\n', mtime=0))
    (tmp_path / "d.csv").write_bytes(b"a,b\n")
    (tmp_path / "e.json").write_bytes(b'{"name": "six"}\n')
    names = [".hidden.jsonl", "a.txt", "c.jsonl.gz", "deep/b.md"]
    hashes = [[name, hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()] for name in names]
    assert fingerprint(str(tmp_path)) == hashlib.sha256(json.dumps(hashes, separators=(",", ":")).encode()).hexdigest()


def test_files_whose_names_are_not_utf8_are_read(tmp_path: Path) -> None:
    """As unzip leaves them: the name is a label, and its bytes are spelled out."""
    folder = os.fsencode(tmp_path) + b"/d\xe9j\xe0"
    os.mkdir(folder)
    for name, data in ((b"caf\xe9.txt", b"one"), (b"caf\xe9.jsonl", b'{"text": "two"}\n'), (b"\xff\xff.csv", b"")):
        with open(folder + b"/" + name, "wb") as file:
            file.write(data)
    documents = list(read(os.fsdecode(folder)))
    assert [(document.id, document.text) for document in documents] == [
        ("caf\\udce9.jsonl:1", "two"),
        ("caf\\udce9.txt:1", "one"),
    ]
    assert len(fingerprint(str(tmp_path))) == 64
    assert next(document.id for document in read(str(tmp_path))) == "d\\udce9j\\udce0/caf\\udce9.jsonl:1"
    assert texts(Path(os.fsdecode(folder + b"/caf\xe9.txt"))) == ["one"]


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    """Reading a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "a.txt").write_text("one")
    for source in (tmp_path, tmp_path / "pipe.txt", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(JourneyError, match="a pipe or a device, not a file"):
            fingerprint(str(source))
    (tmp_path / "pipe.txt").unlink()
    os.mkfifo(tmp_path / "control")  # nobody would read it
    assert texts(tmp_path) == ["one"] and survey(tmp_path)[1] == {"without an ending": 1}


def test_files_that_are_gone_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    found = sources.files(str(tmp_path))
    assert survey(tmp_path)[1] == {"link to nothing": 1}
    documents = read(str(tmp_path))
    assert next(documents).text == "a"
    (tmp_path / "c.txt").unlink()
    with pytest.raises(JourneyError, match=r"c\.txt: no such file, or it was taken away"):
        list(documents)
    monkeypatch.setattr(sources, "files", lambda source: found)
    with pytest.raises(JourneyError, match=r"c\.txt: no such file, or it was taken away"):
        fingerprint(str(tmp_path))
    for name in ("loop.txt", "x" * 300 + ".txt", "~nobody-of-this-name/a.txt"):
        with pytest.raises(JourneyError) as error:
            list(read(str(tmp_path / name) if name[0] != "~" else name))
        assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(JourneyError, match=r"a\.txt: cannot be read \(Permission denied\)"):
        fingerprint(str(tmp_path))


def test_rows_without_a_text_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"body": "x"}, {"text": None}, ["text"], {"text": 5}, {"text": ""}, {"text": "two"}]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.json").write_text(f"[{','.join(lines)}]")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", None, "two"]}), tmp_path / "c.parquet")
    reasons = {'no "text"': 1, '"text" is null': 1, 'no "text" in a list': 1, '"text" is int, not a string': 1}
    for name, where, expected in (
        ("a.jsonl", ["line 2", "line 3", "line 4"], reasons),
        ("b.json", ["record 2", "record 3", "record 4"], reasons),
        ("c.parquet", ["row 2"], {'"text" is null': 1}),
    ):
        notes = Notes()
        documents = list(read(str(tmp_path / name), notes=notes))
        assert [document.text for document in documents] == ["one", "two"]
        assert documents[-1].id == f"{name}:{7 if expected is reasons else 3}"
        places = [f"{tmp_path / name}, {place}" for place in where]
        assert notes.facts() == {"left_out": expected, "first_left_out": places}
        with pytest.raises(JourneyError, match=rf'{name}, {where[0]}: (no "text"|"text" is null); it has'):
            texts(tmp_path / name, strict=True)


def test_a_file_of_other_rows_is_refused_and_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "TRIED", 20)
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n' * 21 + "not JSON")
    with pytest.raises(JourneyError, match=r'a\.jsonl, line 1: no "text"; it has body; each line should be'):
        texts(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"content": "x"}\n' * 20 + '{"text": "one"}\n' + '{"content": "x"}\n' * 30)
    notes = Notes()
    assert texts(tmp_path, notes) == ["one"] and notes.left_out == {'no "text"': 50}


def test_the_columns_of_a_row_fit_in_a_line(tmp_path: Path) -> None:
    row = {"a\nb": 1, "\ud83d": 2, "c" * 5000: 3} | {str(i): i for i in range(99)}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(JourneyError) as error:
        texts(tmp_path)
    said = str(error.value)
    assert rf"it has a\nb, \ud83d, {'c' * 40}, 0, 1, 2, 3, 4, …; each line" in said and "\n" not in said


def test_a_parquet_file_of_empty_rows_is_one_of_many(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one"]}), tmp_path / "a.parquet")
    pyarrow.parquet.write_table(
        pyarrow.table({"text": pyarrow.array([None, None], pyarrow.string())}), tmp_path / "b.parquet"
    )
    notes = Notes()
    assert texts(tmp_path, notes) == ["one"] and notes.left_out == {'"text" is null': 2}
    for column in ([["a"], None], [{"a": 1}, None], [b"a", 1][:1]):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
        if column == [b"a"]:
            assert texts(tmp_path) == ["a"]
        else:
            with pytest.raises(JourneyError, match=r'a\.parquet, row 1: "text" is (list|dict), not a string'):
                texts(tmp_path)


def test_a_text_that_is_verbatim_in_json_stays_so(tmp_path: Path) -> None:
    """It is data of its own there: only the file's own line ends are made the same."""
    text = " a\r\nb\rc\n \n\ufeffd"
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps({"text": text}).encode() + b"\r\n")
    assert texts(tmp_path) == [text]


def test_a_text_has_a_longest_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST", 100)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a" * 100, "b" * 101]}), tmp_path / "a.parquet")
    with pytest.raises(JourneyError, match=r"a\.parquet, row 2: a text of over"):
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
