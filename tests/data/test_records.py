"""Records of JSON files and of parquet files: the same as the libraries', and one line for what is damaged."""

import json
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journey.data import records, textfile
from journey.data.records import json_lines, json_values, parquet_rows
from journey.errors import JourneyError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=9,
)


@given(st.lists(JSON, max_size=6), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
@example([0.5, 1e30, -1], 1, None, True)
@example([0.5, 1e30, -1], 2, None, True)
def test_values_are_those_of_the_whole_file(values: list[object], size: int, indent: int | None, ascii: bool) -> None:
    """Of a list, and of values one after the other, however they are laid out and in whatever parts they come."""
    with pytest.MonkeyPatch.context() as patch:
        texts = [json.dumps(value, indent=indent, ensure_ascii=ascii) for value in values]
        whole = json.dumps(values, indent=indent, ensure_ascii=ascii)
        for text in [whole, f" \n{whole}\n "] + (["\n".join(texts)] if not texts or texts[0][0] != "[" else []):
            parts = [text[start : start + size] for start in range(0, len(text), size)]
            patch.setattr(textfile, "chunks", lambda path, file, replaced, parts=parts: iter(parts))
            found = list(json_values(Path("a.json")))
            assert [value for _, value in found] == json.loads(whole)
            assert [number for number, _ in found] == list(range(1, len(values) + 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"text": "a"}, {"text": "b"}', "a.json: not JSON (it ends within the list, after record 2)"),
        ('[{"text": "a"}, {"text": "b', "a.json, record 2: not JSON (Unterminated string"),
        ('[{"text": "a"} {"text": "b"}]', "a.json, record 1: not JSON (neither a comma nor the end of the list"),
        ('[{"text": "a"}]\n[{"text": "b"}]', "a.json: not JSON (there is more behind the end of the list"),
        ('[{"text": "a"},\n{"text": nil}]', "a.json, record 2: not JSON (Expecting value at column 10)"),
        ('{"text": "a"}\n{text: "b"}\n', "a.json, record 2: not JSON (Expecting property name"),
        ("hello", "a.json, record 1: not JSON (Expecting value at column 1)"),
        ("[" * 10**5, "a.json, record 1: JSON that is nested too deeply"),
        ('[{"n": ' + "9" * 5000 + "}]", "a.json, record 1: JSON with an integer of thousands of digits"),
    ],
)
def test_what_is_no_json_is_named_by_its_record(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(JourneyError) as error:
        list(json_values(tmp_path / "a.json"))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_fault_is_found_without_reading_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what may still be whole waits for more."""
    monkeypatch.setattr(textfile, "CHUNK", 1000)
    (tmp_path / "a.json").write_text('[{"text": nil}, ' + '{"text": "x"}, ' * 100_000)
    with (tmp_path / "a.json").open("rb", buffering=0) as file, pytest.raises(JourneyError, match="record 1: not JSON"):
        try:
            list(json_values(tmp_path / "a.json", file))
        finally:
            assert file.tell() < 10_000


def test_a_record_has_a_longest_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "CHUNK", 1000)
    monkeypatch.setattr(records, "LONGEST", 50_000)
    monkeypatch.setattr(textfile, "LONGEST", 50_000)
    rows = [{"text": "x" * 40_000}, {"text": "y" * 60_000}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, read, where in (("a.json", json_values, "record 2"), ("a.jsonl", json_lines, "line 2")):
        found = read(tmp_path / name)
        assert next(found)[1] == rows[0]
        with pytest.raises(JourneyError, match=rf"{name}, {where}: over"):
            next(found)


@pytest.mark.parametrize(
    ("line", "says"),
    [("[" * 10**5, "nested too deeply"), ('{"n": ' + "9" * 5000 + "}", "integer of thousands"), ("{", "not JSON")],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text('\ufeff{"text": "a"}\r\n\r\n' + line + "\r\n")
    with pytest.raises(JourneyError) as error:
        list(json_lines(tmp_path / "a.jsonl"))
    assert str(error.value).startswith(f"{tmp_path / 'a.jsonl'}, line 3: ") and says in str(error.value)


TABLE = pyarrow.table(
    {
        "text": [f"text {i} of many" for i in range(400)],
        "messages": [[{"role": "user", "content": f"What is {i}?"}] for i in range(400)],
    }
)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_damaged_parquet_file_is_told_in_a_line(tmp_path: Path, compression: str) -> None:
    """Bytes changed anywhere, most of them in the footer: what can still be read is, and nothing else happens."""
    path, rng = tmp_path / "a.parquet", random.Random(0)
    pyarrow.parquet.write_table(TABLE, path, compression=compression, row_group_size=150)
    good, refused = path.read_bytes(), 0
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(rng.choice([1, 2, 8])):
            bad[rng.randrange(len(bad)) if rng.random() < 0.5 else -1 - rng.randrange(2000)] = rng.randrange(256)
        path.write_bytes(bad)
        try:
            list(parquet_rows(path))
        except JourneyError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > 50


def test_an_encrypted_parquet_file_is_told(tmp_path: Path) -> None:
    import base64

    import pyarrow.parquet.encryption as encryption

    class Keys(encryption.KmsClient):
        def __init__(self, config: object) -> None:
            super().__init__()

        def wrap_key(self, key: bytes, master: str) -> bytes:
            return base64.b64encode(key)

        def unwrap_key(self, wrapped: bytes, master: str) -> bytes:
            return base64.b64decode(wrapped)

    for plaintext in (True, False):
        config = encryption.EncryptionConfiguration(
            footer_key="a", column_keys={"b": ["text"]}, plaintext_footer=plaintext
        )
        factory = encryption.CryptoFactory(Keys)
        secret = factory.file_encryption_properties(encryption.KmsConnectionConfig(), config)
        with pyarrow.parquet.ParquetWriter(
            tmp_path / "a.parquet", TABLE.schema, encryption_properties=secret
        ) as writer:
            writer.write_table(TABLE)
        with pytest.raises(JourneyError, match=r"a\.parquet: an encrypted parquet file"):
            list(parquet_rows(tmp_path / "a.parquet", ["text"]))


def test_text_that_is_not_utf8_in_any_column_is_named_by_its_row(tmp_path: Path) -> None:
    good = pyarrow.array([f"row {i}".encode() for i in range(299)] + [b"caf\xe9"], pyarrow.binary())
    texts = good.view(pyarrow.string())
    inside = pyarrow.ListArray.from_arrays(
        list(range(301)), pyarrow.StructArray.from_arrays([texts, texts], ["role", "content"])
    )
    for column in (texts, texts.dictionary_encode(), inside):
        pyarrow.parquet.write_table(pyarrow.table({"id": range(300), "messages": column}), tmp_path / "a.parquet")
        with pytest.raises(JourneyError, match=r"a\.parquet, row 300: byte 3 of a text is not UTF-8"):
            list(parquet_rows(tmp_path / "a.parquet"))
        assert len(list(parquet_rows(tmp_path / "a.parquet", ["id"]))) == 300


def test_a_value_that_python_cannot_hold_is_named_by_its_row(tmp_path: Path) -> None:
    days = pyarrow.array([1, 2**30], pyarrow.date32())
    pyarrow.parquet.write_table(pyarrow.table({"day": days}), tmp_path / "a.parquet")
    with pytest.raises(JourneyError, match=r"a\.parquet, row 2: has a value that Python cannot hold"):
        list(parquet_rows(tmp_path / "a.parquet"))


def test_a_parquet_file_whose_name_is_not_utf8_is_read(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(TABLE, tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(tmp_path / "caf\udce9.parquet")
    assert len(list(parquet_rows(tmp_path / "caf\udce9.parquet"))) == 400
    with pytest.raises(JourneyError, match="no such file"):
        list(parquet_rows(tmp_path / "a.parquet"))


def test_long_rows_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BATCH_BYTES", 10_000)
    texts = [f"{i} " + "".join(random.Random(i).choices("abcdefgh", k=3000)) for i in range(20)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
    sizes = [len(batch) for batch in records.parquet_batches(tmp_path / "a.parquet")]
    assert max(sizes) == 3 and sum(sizes) == 20
    assert [row["text"] for row in parquet_rows(tmp_path / "a.parquet")] == texts
