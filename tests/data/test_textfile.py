"""Whatever wrote a file, its text comes out the same; what is no text is refused soon, in one line."""

import codecs
import gzip
import io
import os
import random
import time
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.data import textfile
from journey.data.textfile import chunks, lines, parted
from journey.errors import JourneyError
from journey.lineage import peak_memory, reset_peak_memory

TEXT = "Ein Tag, 一天, один день 👩‍🚀.\nÉté\u2028\x0c\x85!\n\n"
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def packed(name: str, data: bytes) -> bytes:
    if name.lower().endswith(".gz"):
        return gzip.compress(data)
    return pyarrow.Codec("zstd").compress(data, asbytes=True) if name.lower().endswith(".zst") else data


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(packed(path.name, data))
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.TXT.GZ", "a.txt.zst"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", MARKS)
def test_encodings_line_ends_and_packing_are_no_part_of_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, end: str, encoding: str
) -> None:
    """In parts that end anywhere: within a character, within \\r\\n."""
    data = MARKS[encoding] + (TEXT * 9).replace("\n", end).encode(encoding)
    path = written(tmp_path / name, data)
    for size in (5, 7, 64, 1 << 18):
        monkeypatch.setattr(textfile, "CHUNK", size)
        assert "".join(chunks(path, prose=True)) == TEXT * 9
        assert [line for _, line in lines(path)] == [line for line in (TEXT * 9).split("\n") if line]
    assert textfile.decode(data, path) == (TEXT * 9).replace("\n", end)


def test_a_byte_order_mark_in_the_middle_is_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\ufeffone\ufefftwo\n\ufeffthree".encode())
    assert "".join(chunks(path)) == "one\ufefftwo\n\ufeffthree"


@given(st.text(alphabet="\r\n ab", max_size=60), st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]))
def test_lines_end_as_python_ends_them(text: str, encoding: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textfile, "CHUNK", 4)
        data = io.BytesIO(MARKS[encoding] + text.encode(encoding))
        expected = io.TextIOWrapper(io.BytesIO(text.encode())).read()
        assert "".join(chunks(Path("a.txt"), data)) == expected


@given(st.lists(st.text(alphabet="-|a\n", max_size=9), max_size=9), st.sampled_from(["\n", "\n\n", "--", "-|-"]))
def test_parts_are_those_of_the_whole(texts: list[str], separator: str) -> None:
    found = [""]
    for part, ended in parted(texts, separator):
        found[-1] += part
        found += [""] if ended else []
    assert found[:-1] == "".join(texts).split(separator)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("One day, a little girl.\n" * 9, "UTF-16LE"),
        ("One day, a little girl.\n" * 9, "UTF-16BE"),
        ("Однажды маленькая девочка.\n" * 40, "UTF-16LE"),
        ("Μια φορά κι έναν καιρό.\n" * 40, "UTF-16BE"),
        ("今天天气很好。我们去公园。\n" * 40, "UTF-16LE"),
        ("ab\n" * 3, "UTF-16LE"),
        ("One day, a little girl.\n" * 9, "UTF-32LE"),
        ("One day, a little girl.\n" * 9, "UTF-32BE"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
def test_wide_text_without_a_mark_is_named(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    """Most of it is good UTF-8, full of NUL bytes; replacing what is not would help nobody."""
    path = written(tmp_path / name, text.encode(encoding.lower()))
    for replaced in (None, Counter[str]()):
        with pytest.raises(JourneyError) as error:
            list(chunks(path, replaced=replaced))
        assert f"looks like {encoding} " in str(error.value)
        assert f"iconv -f {encoding} -t UTF-8" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (codecs.BOM_UTF16_LE + "ab".encode("utf-16-le") + b"\x00\xd8" + b"c\x00", "byte 6, in line 1, is not UTF-16"),
        (codecs.BOM_UTF16_BE + "a\n".encode("utf-16-be") + b"\x00", "byte 6, in line 2, is not UTF-16"),
        (codecs.BOM_UTF32_LE + b"\xff\xff\xff\xff", "byte 4, in line 1, is not UTF-32"),
        (codecs.BOM_UTF8 + b"ok\r\nok\rcaf\xe9", "byte 13, in line 3, is not UTF-8"),
        (
            b"one\n" * 99 + b"caf\xe9 cr\xe8me",
            "byte 399, in line 100, is not UTF-8; convert it, say with iconv -f LATIN1",
        ),
    ],
)
def test_bad_bytes_are_named_by_where_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, says: str
) -> None:
    path = written(tmp_path / "a.jsonl", data)
    for size in (6, 1 << 18):
        monkeypatch.setattr(textfile, "CHUNK", size)
        with pytest.raises(textfile.NotUtf8) as error:
            list(chunks(path))
        assert says in str(error.value)
        replaced = Counter[str]()
        text = "".join(chunks(path, replaced=replaced))
        assert "\ufffd" in text and replaced.total() > 0


@pytest.mark.parametrize(
    "data", [b"\0" * 5000, b"good text\n\n" * 5000 + b"\0" * 4096, b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0" * 99]
)
def test_what_is_full_of_nuls_is_no_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(JourneyError) as error:
        list(chunks(written(tmp_path / "a.txt", data), prose=True, replaced=Counter()))
    assert "NUL" in str(error.value) and "\n" not in str(error.value)


def test_a_single_nul_is_text(tmp_path: Path) -> None:
    assert "".join(chunks(written(tmp_path / "a.txt", b"ab\0cd"))) == "ab\0cd"


BOMBS = {
    "a.txt.gz": (b"", b"a", "32 MB of nothing but one word"),
    "b.md.zst": (b"", b"a", "32 MB of nothing but one word"),
    "c.txt.gz": (b"", b" ", "8 MB of nothing but white space"),
    "d.jsonl.gz": (b'{"text": "', b"ab ", "line 1: over 32 MB"),
    "e.jsonl.zst": (b'{"text": "x"}\n{"text": "', b"\\n", "line 2: over 32 MB"),
    "f.txt.gz": (b"", b"\0", "NUL bytes"),
    "g.jsonl.gz": (b"", b"\n \n", "8 MB of nothing but white space"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_line_that_unpacks_to_gigabytes_ends_soon(tmp_path: Path, name: str) -> None:
    """512 MB here, in a file of less than 1 MB."""
    head, unit, says = BOMBS[name]
    block = packed(name, unit * ((16 << 20) // len(unit)))
    (tmp_path / name).write_bytes(packed(name, head) + block * 32)
    reset_peak_memory()
    before, start = peak_memory(), time.monotonic()
    with pytest.raises(JourneyError) as error:
        for _ in lines(tmp_path / name) if ".json" in name else chunks(tmp_path / name, prose=True):
            pass
    assert says in str(error.value) and "\n" not in str(error.value)
    assert peak_memory() - before < 400e6 and time.monotonic() - start < 10


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
def test_damaged_packing_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    """Cut off, and with bytes changed: what can be read may come first, and nothing but our own error."""
    rng = random.Random(0)
    good = packed(name, "".join(f"line {rng.random()}\n" for _ in range(4000)).encode())
    path = tmp_path / name
    for cut in (1, 5, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(JourneyError, match=f"damaged {'gzip' if name.endswith('gz') else 'zstd'} file"):
            list(chunks(path))
    for _ in range(200):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] = rng.randrange(256)
        path.write_bytes(bad)
        try:
            list(chunks(path))
        except JourneyError as error:
            assert "\n" not in str(error)


def test_several_packed_files_in_one_are_read_on(tmp_path: Path) -> None:
    """`cat a.gz b.gz`, pzstd and zstd's frames of other data."""
    other = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    (tmp_path / "a.txt.gz").write_bytes(packed(".gz", b"one\n") + packed(".gz", b"two\n"))
    (tmp_path / "b.txt.zst").write_bytes(other + packed(".zst", b"one\n") + other + packed(".zst", b"two\n"))
    for path in sorted(tmp_path.iterdir()):
        assert textfile.is_packed(path) and "".join(chunks(path)) == "one\ntwo\n"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="taken away while it was read"):
        list(chunks(tmp_path / "gone.txt"))
    os.symlink("loop.txt", tmp_path / "loop.txt")
    with pytest.raises(JourneyError, match=r"loop\.txt: cannot be read"):
        list(chunks(tmp_path / "loop.txt"))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(JourneyError, match=r"folder\.txt: cannot be read"):
        list(chunks(tmp_path / "folder.txt"))
