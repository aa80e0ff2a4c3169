"""A text split while it streams by: the same rules counted anew with Python's sets, and what a kill must not change."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.data import corpus as corpora
from journey.data import documents, streaming
from journey.data.corpus import SPLITS, Corpus, build
from journey.data.sources import Document
from journey.data.split import N
from journey.errors import JourneyError


@pytest.fixture(autouse=True)
def _everything_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "LIMIT", 0)
    monkeypatch.setattr(streaming, "SIEVE", 12)  # of 32 MB each; and most 13-grams meet one that is not theirs


def grams(text: str) -> set[tuple[str, ...]]:
    """The oracle: 13-grams as Python tuples."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + N]) for i in range(max(len(words) - N + 1, 1))}


def hard_texts(n: int, seed: int = 0) -> list[str]:
    """Unrelated documents, exact and near duplicates of others, patchworks of others, and very short ones."""
    rng = random.Random(seed)

    def words(k: int) -> str:
        return " ".join(f"W{rng.randrange(10**6)}" for _ in range(k))

    texts = [words(rng.randrange(20, 80)) for _ in range(n)]
    for _ in range(n // 4):
        one, *others = rng.sample(texts[:n], 4)
        texts.append(one.lower().replace(" ", "  "))  # the same but for capitals and white space
        texts.append(one + " " + words(3))
        texts.append(" ".join(" ".join(other.split()[:18]) for other in others))
        texts.append(" ".join(one.split()[:5]))
    rng.shuffle(texts)
    return texts


def write(folder: Path, texts: list[str]) -> str:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def built(folder: Path, source: str, **options: object) -> dict[str, bytes]:
    """The bytes of each file of a corpus."""
    folder.mkdir()
    build(source, folder, **options)  # type: ignore[arg-type]
    assert not [path for path in folder.rglob("*") if path.is_dir()]
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_document_once_and_nothing_held_out_is_known(tmp_path: Path) -> None:
    texts = hard_texts(600)
    source = write(tmp_path, texts)
    built(tmp_path / "made", source, dev=0.05, test=0.1)
    corpus = Corpus(tmp_path / "made")
    splits = {split: corpus.texts(split) for split in SPLITS}
    seen, once = set(), []
    for text in texts:
        key = " ".join(text.lower().split())
        once += [text] if key not in seen else []
        seen.add(key)
    assert sorted(text for texts in splits.values() for text in texts) == sorted(once)
    facts = corpus.facts
    assert (facts["documents"], facts["duplicates_dropped"]) == (len(once), len(texts) - len(once))
    assert facts["bytes"] == sum(len(text) for text in once)
    known = set().union(*map(grams, splits["train"]))
    for split in ("dev", "test"):
        shares = [len(grams(text) & known) / len(grams(text)) for text in splits[split]]
        assert max(shares) <= 0.5 and any(shares)
        assert facts["splits"][split]["in_train"] == pytest.approx(sum(shares) / len(shares), abs=1e-4)
        assert facts["splits"][split]["over_half_in_train"] == 0
    for split in SPLITS:
        counted = {"documents": len(splits[split]), "bytes": sum(map(len, splits[split]))}
        assert facts["splits"][split].items() >= counted.items()
    near = [len(grams(a) & grams(b)) / min(len(grams(a)), len(grams(b))) for a in splits["dev"] for b in splits["test"]]
    assert max(near) <= 0.5, "near duplicates are on one side"


def test_the_shares_are_kept_and_the_draw_is_by_hash(tmp_path: Path) -> None:
    """Where no documents are alike, those that hash lowest are held out, but for a few drawn while reading."""
    rng = random.Random(5)
    texts = [" ".join(str(rng.randrange(10**9)) for _ in range(30)) for _ in range(2000)]
    built(tmp_path / "made", write(tmp_path, texts), dev=0.05, test=0.1, seed=3)
    corpus = Corpus(tmp_path / "made")
    assert {split: len(corpus.documents(split)) for split in SPLITS} == {"train": 1700, "dev": 100, "test": 200}
    ids = [f"mine.jsonl:{i + 1}" for i in range(2000)]
    ids.sort(key=lambda id: hashlib.sha256(f"3:{id}".encode()).digest())
    held = {document.id for split in ("dev", "test") for document in corpus.documents(split)}
    assert len(held & set(ids[:300])) > 0.9 * len(held)
    position = [int(id.split(":")[1]) for id in held]
    assert 850 < np.mean(position) < 1150, "held out from the beginning to the end of the source"


@pytest.mark.parametrize(("name", "value"), [("GROUP", 7), ("GROUP_BYTES", 100)])
def test_the_size_of_row_groups_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    source = write(tmp_path, hard_texts(200))
    build(source, tmp_path, seed=1)
    expected = {split: Corpus(tmp_path).documents(split) for split in SPLITS}
    for module in (documents, streaming):
        monkeypatch.setattr(module, name, value)
    build(source, tmp_path, seed=1)
    assert {split: Corpus(tmp_path).documents(split) for split in SPLITS} == expected
    assert list(Corpus(tmp_path).stream("train")) == [document.text for document in expected["train"]]


def test_a_row_group_is_small_however_long_its_documents(tmp_path: Path) -> None:
    import pyarrow.parquet

    texts = [f"{i} " * 40_000 for i in range(100, 200)]  # 16 MB
    with documents.Writer(tmp_path / "x.parquet") as writer:
        for i, text in enumerate(texts):
            writer.add(Document(str(i), text))
    table = pyarrow.parquet.ParquetFile(tmp_path / "x.parquet")
    sizes = [table.read_row_group(i).nbytes for i in range(table.num_row_groups)]
    assert len(sizes) == 2 and max(sizes) < 1.1 * documents.GROUP_BYTES
    assert [d.text for d in documents.read_parquet(tmp_path / "x.parquet")] == texts


def test_no_more_is_held_out_than_the_constants_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, hard_texts(1000))
    monkeypatch.setattr(streaming, "MOST_TEST", 30)
    monkeypatch.setattr(streaming, "MOST_DEV", 20)
    build(source, tmp_path)
    sizes = [len(Corpus(tmp_path).documents(split)) for split in ("test", "dev")]
    assert 10 < sizes[0] <= 30 and 5 < sizes[1] <= 20
    monkeypatch.setattr(streaming, "HELD", 6000)
    monkeypatch.setattr(streaming, "LONGEST", 450)
    build(source, tmp_path)
    held = [text for split in ("test", "dev") for text in Corpus(tmp_path).texts(split)]
    assert 2000 < sum(map(len, held)) <= 6000 and max(map(len, held)) <= 450
    assert max(map(len, Corpus(tmp_path).texts("train"))) > 450


def test_max_bytes_above_the_limit_keeps_a_random_part(tmp_path: Path) -> None:
    texts = hard_texts(500)
    half = sum(map(len, texts)) // 2
    facts = build(write(tmp_path, texts), tmp_path, max_bytes=half)
    assert 0.7 * half < facts["bytes"] <= half  # repeated documents are drawn too, and dropped then
    kept = [int(d.id.split(":")[1]) for split in SPLITS for d in Corpus(tmp_path).documents(split)]
    assert min(kept) < 100 and max(kept) > 900


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=8))
def test_seen_is_a_set(batches: list[list[int]]) -> None:
    seen, known = streaming.Seen(), set()
    for batch in batches:
        expected = []
        for i in batch:
            expected.append(i not in known)
            known.add(i)
        assert seen.add([Document("", f"text {i}") for i in batch]).tolist() == expected


def test_a_text_of_one_document_in_many_versions_is_refused(tmp_path: Path) -> None:
    words = " ".join(f"word{i}" for i in range(200))
    scratch = tmp_path / "scratch"
    for texts in ([f"{words} {i}" for i in range(60)], ["one", "two"]):
        with pytest.raises(JourneyError, match=r"mine\.jsonl: its \d+ documents are too much alike") as error:
            build(write(tmp_path, texts), tmp_path, scratch=scratch)
        assert "\n" not in str(error.value) and not scratch.exists()


def test_a_bad_line_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write(tmp_path, hard_texts(50))
    with open(source, "a") as file:
        file.write("{\n")
    with pytest.raises(JourneyError, match="line 99: not JSON"):
        build(source, tmp_path, scratch=tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from journey.data import corpus, documents, streaming
corpus.LIMIT, streaming.SIEVE, streaming.SAVE_EVERY = 0, 12, 2
documents.GROUP = streaming.GROUP = 50
module, name, calls = sys.argv[3], sys.argv[4], int(sys.argv[5])
module = {"streaming": streaming, "writer": documents.Writer}[module]
kept = getattr(module, name)
def deadly(*arguments, **options):
    global calls
    calls -= 1
    if calls < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return kept(*arguments, **options)
setattr(module, name, deadly)
corpus.build(sys.argv[1], Path(sys.argv[2]), scratch=Path(sys.argv[2]) / "scratch" / "text")
"""


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        ("writer", "add", 200),  # within the first pass
        ("streaming", "publish", 0),  # at its end
        ("streaming", "finish", 0),  # between the passes
        ("streaming", "grams", 6),  # within the second pass (four of the calls are compared row groups)
        ("streaming", "write_bytes", 1),  # while its marks are saved
        ("writer", "copy", 3),  # while the training file is written
    ],
)
def test_killed_anywhere_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, calls: int
) -> None:
    for where in (documents, streaming):
        monkeypatch.setattr(where, "GROUP", 50)
    source = write(tmp_path, hard_texts(250))
    expected = built(tmp_path / "whole", source)
    folder = tmp_path / "killed"
    folder.mkdir()
    arguments = [source, str(folder), module, name, str(calls)]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    died = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=surroundings, capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    read = []
    if (module, name) not in {("writer", "add"), ("streaming", "publish")}:
        monkeypatch.setattr(corpora, "read", lambda *arguments: read.append(1))  # it is not read again
    if name == "copy" or name == "grams":
        monkeypatch.setattr(streaming, "SAVE_EVERY", 2)
        saved = np.load(folder / "scratch" / "text" / "read" / "known.npz")
        assert saved["group"] >= 2 and saved["done"] == 50 * saved["group"]
    build(source, folder, scratch=folder / "scratch" / "text")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == expected and not read


MEASURED = """
import sys
from pathlib import Path
from journey.data import corpus, documents, streaming
from journey.lineage import peak_memory, reset_peak_memory
corpus.LIMIT, streaming.HELD = 1 << 20, 1 << 20
documents.GROUP_BYTES = streaming.GROUP_BYTES = 1 << 20
folder, peaks = Path(sys.argv[1]), []
for source in sys.argv[2:]:
    reset_peak_memory()
    corpus.build(source, folder)
    peaks.append(peak_memory())
print(peaks[-1] - peaks[0])
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"{rng.randrange(10**6):x}" for _ in range(100_000)]

    def file(name: str, n: int) -> str:
        with open(tmp_path / name, "w") as stream:
            for _ in range(n):
                start = rng.randrange(90_000)
                stream.write(" ".join(rng.sample(words[start : start + 5000], 2000)) + "\n\n")
        return str(tmp_path / name)

    small, large = file("small.txt", 500), file("large.txt", 5_000)
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEASURED, str(tmp_path), small, large]
    out = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stdout
    assert os.path.getsize(large) > 55e6 and int(out) < 30e6
