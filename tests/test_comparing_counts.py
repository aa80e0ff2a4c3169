"""What is measured of tokenizers, against counting by hand and against the tools' own encoders."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from journey.comparing import counts as vocabularies
from journey.data import samples
from journey.data.samples import Sample
from journey.errors import JourneyError
from journey.tokenizer import foreign
from journey.tokenizer.formats import Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))


@pytest.fixture(scope="module")
def pair():
    """Bytes alone, and bytes with a few merges."""
    merges = [("t", "h"), ("Ġ", "th"), ("Ġth", "e"), ("Ã", "©"), ("1", "2")]
    return [
        foreign.of(Tokenizer.from_merges([]).backend, "bytes"),
        foreign.of(Tokenizer.from_merges(merges).backend, "merged"),
    ]


PARALLEL = [Sample("en", ("in the cup", "of the pot")), Sample("fr", ("dans l'été", "du thé 12"))]


def test_the_measures_by_hand(pair):
    found = vocabularies.compare(pair, PARALLEL, parallel=True).measures
    assert found["bytes"]["en"]["bytes_per_token"].value == 1
    assert found["bytes"]["en"]["parity"].value == found["merged"]["en"]["parity"].value == 1
    # "in| the| cup" and "of| the| pot": 4 bytes of 10 became one token, twice
    assert found["merged"]["en"]["bytes_per_token"].value == pytest.approx(20 / 14)
    assert found["merged"]["en"]["tokens_per_word"].value == pytest.approx(14 / 6)
    assert found["merged"]["en"]["words_split"].value == pytest.approx(100 * 4 / 6)
    # "dans l'été" has 12 bytes, "du thé 12" 10; é is one token of two bytes, " th" one of three, "12" one of two
    assert found["bytes"]["fr"]["parity"].value == pytest.approx(22 / 20)
    assert found["bytes"]["fr"]["byte_fallback"].value == pytest.approx(100 * 6 / 22)
    assert found["merged"]["fr"]["bytes_per_token"].value == pytest.approx(22 / (10 + 6))
    assert found["merged"]["fr"]["byte_fallback"].value == 0
    for of in found.values():
        for measures in of.values():
            assert measures["whole"].value == 100
            for e in measures.values():
                assert e.low <= e.value <= e.high and e.n == 2 and e.convention


def test_overlap_and_digits(pair):
    found = vocabularies.compare(pair, [])
    assert found.overlap == {"bytes": {"merged": 256}, "merged": {"bytes": 256}}
    assert found.metrics()["merged.in.bytes"].value == pytest.approx(100 * 256 / 261)
    assert found.digits["bytes"] == vocabularies.Digits(1, 1)
    # 12 is one token: numbers with it at the first, second or third place, with it twice, and without
    assert found.digits["merged"] == vocabularies.Digits(5, 2)
    assert found.speed == {} and not found.is_parallel


def test_words_are_runs_of_letters_in_bytes():
    text = "L'été, x1 e\u0301t ไทย 12"
    cut = [text.encode()[start:end].decode() for start, end in vocabularies.words(text)]
    assert cut == ["L'été", "x", "e\u0301t", "ไทย"]
    assert vocabularies.words("12 ?").shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "spaced"), [("naïve x", True), ("ภาษาไทย", False), ("中文 okay", True), ("日本語です", False)]
)
def test_scripts_without_spaces(text, spaced):
    assert vocabularies.is_spaced([text]) == spaced


def test_a_single_text_has_numbers_but_no_interval(pair):
    found = vocabularies.compare(pair, [Sample("one", ("in the cup",))])
    estimate = found.measures["merged"]["one"]["bytes_per_token"]
    assert estimate.value == pytest.approx(10 / 7) and vocabularies.ends(estimate) == (None, None)


def test_code_against_prose(pair):
    texts = [Sample("prose", (" the the",)), Sample("Python", ("x = 1", "y = 2"), code=True)]
    found = vocabularies.compare(pair, texts)
    assert found.code_against_prose == {"bytes": 1, "merged": pytest.approx(1 / 4)}
    assert set(found.speed) == {"bytes", "merged"} and min(found.speed.values()) > 0


def test_a_vocabulary_that_loses_text_says_so():
    made = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    found = vocabularies.compare([foreign.of(made, "words")], [Sample("x", ("a b", "a a", "c d"))])
    assert found.measures["words"]["x"]["unknown"].value == pytest.approx(100 * 3 / 6)
    assert found.measures["words"]["x"]["whole"].value == pytest.approx(100 / 3)


def test_too_many(pair):
    with pytest.raises(JourneyError, match="at most 6"):
        vocabularies.compare(pair * 4, [])


@pytest.mark.skipif(not (DATA / "retrieval" / "xquad").is_dir(), reason="no JOURNEY_DATA")
def test_xquad_against_the_tools_own_counts():
    tiktoken = pytest.importorskip("tiktoken")
    pytest.importorskip("tiktoken.load")
    found = samples.parallel(None)
    assert sorted(s.name for s in found) == ["ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"]
    assert {len(s.texts) for s in found} == {240}
    ranks = tiktoken.load.load_tiktoken_bpe(str(DATA / "tokenizer" / "gpt2" / "gpt2.tiktoken"))
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    oracle = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    some = [Sample(s.name, s.texts[:20]) for s in found if s.name in ("en", "hi")]
    ids = {s.name: [oracle.encode_ordinary(text) for text in s.texts] for s in some}
    tokens = {name: sum(map(len, of)) for name, of in ids.items()}
    gpt2 = foreign.load(DATA / "tokenizer" / "gpt2", "gpt2")
    measures = vocabularies.compare([gpt2], some, parallel=True).measures["gpt2"]["hi"]
    n_bytes = sum(len(text.encode()) for s in some if s.name == "hi" for text in s.texts)
    assert measures["parity"].value == pytest.approx(tokens["hi"] / tokens["en"])
    assert measures["bytes_per_token"].value == pytest.approx(n_bytes / tokens["hi"])
    parts = [oracle.decode_single_token_bytes(i) for of in ids["hi"] for i in of]
    broken = np.mean([b"\xef\xbf\xbd" in part.decode(errors="replace").encode() for part in parts])
    assert measures["byte_fallback"].value == pytest.approx(100 * broken)


def write(folder, language, records):
    with gzip.open(folder / f"{language}.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))


def test_parallel_paragraphs_are_matched_by_id(tmp_path):
    write(tmp_path, "en", [{"id": "1", "context": "A."}, {"id": "2", "context": "A."}, {"id": "3", "context": "B."}])
    write(tmp_path, "de", [{"id": "3", "context": "Be."}, {"id": "1", "context": "Ah."}, {"id": "9", "context": "Ce."}])
    assert samples.parallel(tmp_path) == [Sample("de", ("Ah.", "Be.")), Sample("en", ("A.", "B."))]
    write(tmp_path, "fr", [{"id": "7", "context": "x"}])
    with pytest.raises(JourneyError, match="no paragraph in common"):
        samples.parallel(tmp_path)
    write(tmp_path, "fr", [{"id": "1"}])
    with pytest.raises(JourneyError, match=r"fr.jsonl.gz, line 1: no \"id\" and \"context\""):
        samples.parallel(tmp_path)


def test_parallel_without_data(tmp_path, monkeypatch):
    monkeypatch.delenv("JOURNEY_DATA", raising=False)
    with pytest.raises(JourneyError, match="--data DIR, or set JOURNEY_DATA"):
        samples.parallel(None)
    with pytest.raises(JourneyError, match=r"no en.jsonl.gz"):
        samples.parallel(tmp_path)


def test_files_of_prose_and_code(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("Prose.")
    (tmp_path / "texts" / "b.py").write_text("x = 1")
    (tmp_path / "c.rs").write_text("fn main() {}")
    found = samples.of_files([str(tmp_path / "texts"), str(tmp_path / "c.rs")])
    assert found == [
        Sample("texts", ("Prose.",)),
        Sample("Python", ("x = 1",), code=True),
        Sample("Rust", ("fn main() {}",), code=True),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "no text in it"),
        ("empty.py", b"\n\n", "no text in it"),
        ("bad.py", b"x\xff", "byte 1 is not UTF-8"),
        ("a.pdf", b"x", "cannot read this kind of file"),
    ],
)
def test_a_file_that_cannot_be_compared_on(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(JourneyError, match=said):
        samples.of_files([str(tmp_path / name)])


def test_a_long_text_without_blank_lines_is_many_items(tmp_path):
    text = "".join(f"line {i}\n" for i in range(5000))
    (tmp_path / "long.txt").write_text(text)
    (sample,) = samples.of_files([str(tmp_path / "long.txt")])
    assert "".join(sample.texts) == text
    assert {len(piece) // 1000 for piece in sample.texts[:-1]} == {4}


def test_a_missing_file():
    with pytest.raises(JourneyError, match='did you mean "xquad"'):
        samples.of_files(["xqad"])
