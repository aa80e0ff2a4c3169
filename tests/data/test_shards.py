"""A text as tokens on disk: the encoder's ids, the same bytes after any kill, and nothing read that was changed."""

import json
import multiprocessing
import os
import random
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.data import shards
from journey.data.corpus import SPLITS, Corpus, Document
from journey.data.documents import write_parquet
from journey.data.shards import open_shards, write
from journey.data.sources import silent
from journey.errors import JourneyError
from journey.files import digest
from journey.tokenizer.codec import ALPHABET
from journey.tokenizer.formats import SPECIALS, Tokenizer

MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ġ", "a"), ("n", "d"), ("Ġa", "nd"), ("a", "a"), ("aa", "aa")]
SMALL = Tokenizer.from_merges(MERGES)
ADVERSARIAL = [
    "", " ", "\n", "\x00", "the and the", "a" * 100_000, "x" + " " * 60_000 + "y", "👩‍👩‍👧 e\u0301 \u202eright",
    *SPECIALS, f"a{SPECIALS[0]}b{SPECIALS[-1]}", "\uffff\U0010ffff", "\r\n\x85\u2028", "\ufeff and",
]  # fmt: skip


def corpus(folder: Path, texts: list[str], held_out: int = 2) -> Corpus:
    """A text on disk; the last documents are dev and test."""
    folder.mkdir(parents=True)
    rest, dev, test = texts[: -2 * held_out], texts[-2 * held_out : -held_out], texts[-held_out:]
    splits = dict(zip(SPLITS, (rest, dev, test), strict=True))
    for split, some in splits.items():
        write_parquet(folder / f"{split}.parquet", [Document(str(i), text) for i, text in enumerate(some)])
    facts = {"name": "mine", "fingerprint": "f" * 64, "splits": {s: {"documents": len(t)} for s, t in splits.items()}}
    (folder / "corpus.json").write_text(json.dumps(facts))
    return Corpus(folder)


def documents(folder: Path, split: str, tokenizer: Tokenizer) -> list[list[int]]:
    """The documents in the shards, each begun by its mark."""
    found = []
    for tokens, ends in open_shards(folder, split, tokenizer):
        found += [tokens[a:b].tolist() for a, b in pairwise([0, *ends.tolist()])]
        assert ends[-1] == len(tokens)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Corpus:
    """A text of several batches and several shards."""
    monkeypatch.setattr(shards, "_AT_ONCE", 900)
    rng = random.Random(2)
    texts = [" ".join(rng.choice(["the", "and", "naïve", "a"]) for _ in range(rng.randrange(40))) for _ in range(120)]
    return corpus(tmp_path / "text", texts, 10)


@pytest.mark.parametrize("shard_tokens", [1, 50, 100_000_000])
def test_ids_are_those_of_encode_batch_behind_their_marks(tmp_path: Path, shard_tokens: int) -> None:
    text = corpus(tmp_path / "text", ADVERSARIAL)
    index = write(text, SMALL, SPLITS, tmp_path / "tokens", shard_tokens)
    for split in SPLITS:
        expected = [[SMALL.bos, *ids] for ids in SMALL.encode_batch(text.texts(split))]
        assert documents(tmp_path / "tokens", split, SMALL) == expected
        facts = index["splits"][split]
        assert facts["documents"] == len(expected) and facts["tokens"] == sum(map(len, expected))
        assert facts["bytes"] == sum(len(t.encode()) for t in text.texts(split))
        for shard in facts["shards"][:-1]:  # full, and by no more than its last document
            *_, last = documents_of(shard, tmp_path / "tokens")
            assert shard["tokens"] >= shard_tokens > shard["tokens"] - last
    spelled = [i for ids in documents(tmp_path / "tokens", "train", SMALL) for i in ids[1:] if i >= SMALL.bos]
    assert spelled == []  # the spelling of a special token is ordinary text


def documents_of(shard: dict, folder: Path) -> list[int]:
    ends = np.fromfile(folder / next(name for name in shard["files"] if name.endswith(".ends")), "<u8")
    return np.diff(ends.astype(int), prepend=0).tolist()


@given(texts=st.lists(st.text(max_size=40), min_size=5, max_size=12), shard_tokens=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_whatever_the_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str], shard_tokens: int) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    place = tmp_path_factory.mktemp("any")
    write(corpus(place / "text", texts, 1), SMALL, ["train"], place / "tokens", shard_tokens)
    expected = [[SMALL.bos, *ids] for ids in SMALL.encode_batch(texts[:-2])]
    assert documents(place / "tokens", "train", SMALL) == expected


def test_the_files_are_plain_numbers(tmp_path: Path) -> None:
    """As others read them: no header, 16 bits, the ends beside them."""
    write(corpus(tmp_path / "text", ["the", "", "and", "a", "a", "a"], 1), SMALL, SPLITS, tmp_path / "tokens")
    raw = (tmp_path / "tokens" / "train-00000.bin").read_bytes()
    ids = [SMALL.bos, *SMALL.encode("the"), SMALL.bos, SMALL.bos, *SMALL.encode("and"), SMALL.bos, SMALL.encode("a")[0]]
    assert raw == b"".join(i.to_bytes(2, "little") for i in ids)
    ends = (tmp_path / "tokens" / "train-00000.ends").read_bytes()
    assert ends == b"".join(i.to_bytes(8, "little") for i in (3, 4, 7, 9))
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == {
        "shards.json", *(f"{split}-00000.{kind}" for split in SPLITS for kind in ("bin", "ends"))
    }  # fmt: skip


@pytest.mark.parametrize(("more", "dtype"), [(-1, "uint16"), (0, "uint32")])
def test_a_vocabulary_above_65536_takes_four_bytes(tmp_path: Path, more: int, dtype: str) -> None:
    pairs = [(a, b) for a in ALPHABET for b in ALPHABET][: 2**16 - 256 - len(SPECIALS) + 1 + more]
    wide = Tokenizer.from_merges(pairs)
    assert wide.special[SPECIALS[-1]] == wide.vocab_size - 1 == 2**16 + more
    text = corpus(tmp_path / "text", ["zz " * 9, "\x00ü", "a", "b", "c"], 1)
    index = write(text, wide, ["train"], tmp_path / "tokens")
    assert index["dtype"] == dtype and index["mark"] == wide.bos > 65_000
    expected = [[wide.bos, *ids] for ids in wide.encode_batch(text.texts("train"))]
    assert documents(tmp_path / "tokens", "train", wide) == expected


def test_memory_holds_batches_and_never_the_text(many: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    encode = Tokenizer.encode_arrays

    def measured(self: Tokenizer, texts: list[str]) -> list[np.ndarray]:
        sizes.append(sum(map(len, texts)))
        return encode(self, texts)

    monkeypatch.setattr(Tokenizer, "encode_arrays", measured)
    monkeypatch.setattr(Corpus, "documents", None)
    write(many, SMALL, SPLITS, tmp_path / "tokens", 100)
    assert len(sizes) > 5 and max(sizes) < 900 + max(map(len, many.stream("train")))


class Killed(BaseException):
    """No code of ours catches this."""


def test_a_kill_between_any_two_writes_costs_only_the_shard_at_work(
    many: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the first, the second, … change to the disk in turn: always the same files in the end."""
    write(many, SMALL, SPLITS, tmp_path / "whole", 700)
    whole = contents(tmp_path / "whole")
    assert len(whole) > 2 * 5
    encode, left, encoded = Tokenizer.encode_arrays, 10**9, 0

    def counting(self: Tokenizer, texts: list[str]) -> list[np.ndarray]:
        nonlocal encoded
        encoded += 1
        return encode(self, texts)

    def change(function, *arguments):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return function(*arguments)

    safe: set[int] = set()  # inodes

    def fsync(handle: int) -> None:  # only noted: a disk is slow
        safe.add(os.fstat(handle).st_ino)

    def replace(a: Path, b: Path, original=os.replace) -> None:
        assert a.stat().st_ino in safe, f"{a} gets its name before it is on the disk"
        original(a, b)

    monkeypatch.setattr(Tokenizer, "encode_arrays", counting)
    monkeypatch.setattr(os, "fsync", partial(change, fsync))
    monkeypatch.setattr(os, "replace", partial(change, replace))
    write(many, SMALL, SPLITS, tmp_path / "counted", 700)
    changes, batches = 10**9 - left, encoded
    assert changes > 40
    for at in range(changes):
        place, left = tmp_path / f"killed-{at}", at
        with pytest.raises(Killed):
            write(many, SMALL, SPLITS, place, 700)
        if not (place / "shards.json").exists() or "sha256" not in json.loads((place / "shards.json").read_text()):
            with pytest.raises(JourneyError, match=r"shards\.json"):
                open_shards(place, "train", SMALL)
        left, encoded = 10**9, 0
        write(many, SMALL, SPLITS, place, 700)
        assert contents(place) == whole
        assert encoded <= batches + 1
    assert encoded == 0  # the last kill came when all was done: nothing was encoded again


def slowly(text: Path, place: Path) -> None:
    """In a process of its own: a writer that takes its time, so that a kill meets it anywhere."""
    shards._AT_ONCE = 900
    write(Corpus(text), SMALL, SPLITS, place, 400, lambda *_, **__: time.sleep(0.02))


def test_kill_9_at_random_moments_then_the_same_bytes(many: Corpus, tmp_path: Path) -> None:
    write(many, SMALL, SPLITS, tmp_path / "whole", 400)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["journey.data.shards", "pyarrow.parquet", __name__])
    rng, kills = random.Random(5), 0
    for _ in range(60):
        process = context.Process(target=slowly, args=(many.folder, tmp_path / "killed"))
        process.start()
        process.join(rng.uniform(0.05, 0.3) if kills < 5 else None)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0 and kills > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_what_an_earlier_call_made_of_something_else_is_not_taken(many: Corpus, tmp_path: Path) -> None:
    other = Tokenizer.from_merges(MERGES[:3])
    write(many, other, SPLITS, tmp_path / "tokens", 300)
    (tmp_path / "tokens" / "train-00099.bin.part").write_bytes(b"rest")
    write(many, SMALL, SPLITS, tmp_path / "tokens", 400)
    write(many, SMALL, SPLITS, tmp_path / "fresh", 400)
    assert contents(tmp_path / "tokens") == contents(tmp_path / "fresh")


@pytest.fixture
def tokens(many: Corpus, tmp_path: Path) -> Path:
    write(many, SMALL, SPLITS, tmp_path / "tokens", 400)
    return tmp_path / "tokens"


@pytest.mark.parametrize("name", ["train-00000.bin", "train-00001.ends", "train-00002.bin"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path, raw: path.write_bytes(raw[:-1]), r"has [\d,]+ bytes instead of [\d,]+"),
        (lambda path, raw: path.write_bytes(raw + b"\0"), r"has [\d,]+ bytes instead of [\d,]+"),
        (lambda path, raw: path.write_bytes(raw[:9] + bytes([raw[9] ^ 4]) + raw[10:]), "is altered, its SHA-256"),
        (lambda path, raw: path.write_bytes(raw[::-1]), "is altered, its SHA-256"),
        (lambda path, raw: path.unlink(), "is missing"),
        (lambda path, raw: path.with_stem("train-00077").write_bytes(raw), r"train-00077\.\w+ is not in shards.json"),
    ],
)  # fmt: skip
def test_a_damaged_shard_is_refused_by_name(tokens: Path, name: str, damage, said: str) -> None:
    path = tokens / name
    damage(path, path.read_bytes())
    with pytest.raises(JourneyError, match=said) as error:
        open_shards(tokens, "train", SMALL)
    assert "00077" in said or str(path) in str(error.value)
    assert "\n" not in str(error.value) and f"delete {tokens} and run again" in str(error.value)
    assert open_shards(tokens, "dev", SMALL)  # which is as it was


def numbers(value, at=()):
    """Where every value of the index stands."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(inner, (*at, key))
    else:
        yield at


def test_an_edited_index_is_refused_whatever_was_edited(tokens: Path) -> None:
    index = json.loads((tokens / "shards.json").read_text())
    places = list(numbers(index))
    assert len(places) > 40
    for place in places:
        edited = json.loads(json.dumps(index))
        inner = edited
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = inner[place[-1]] + 1 if isinstance(inner[place[-1]], int) else "x" + inner[place[-1]][1:]
        (tokens / "shards.json").write_text(json.dumps(edited))
        with pytest.raises(JourneyError, match=r"shards\.json is unfinished, altered or of another version"):
            open_shards(tokens, "train", SMALL)
    for text, said in (("[]", "unfinished, altered"), ("{", "not JSON"), ('{"format": 1}', "unfinished, altered")):
        (tokens / "shards.json").write_text(text)
        with pytest.raises(JourneyError, match=said):
            open_shards(tokens, "train", SMALL)
    (tokens / "shards.json").unlink()
    with pytest.raises(JourneyError, match=r"shards\.json does not exist"):
        open_shards(tokens, "train", SMALL)


def test_an_index_made_to_fit_its_own_hash_still_has_to_fit_the_files(tokens: Path) -> None:
    index = json.loads((tokens / "shards.json").read_text())
    del index["sha256"]
    index["splits"]["train"]["shards"][1]["tokens"] += 1
    (tokens / "shards.json").write_text(json.dumps(index | {"sha256": digest(index)}))
    with pytest.raises(JourneyError, match=r"train-00001\.bin has"):
        open_shards(tokens, "train", SMALL)


def test_tokens_of_another_tokenizer_are_refused(tokens: Path) -> None:
    with pytest.raises(JourneyError, match=r"made by another tokenizer: .*tokens by .*, the parent has"):
        open_shards(tokens, "train", Tokenizer.from_merges(MERGES[:-1]))


def test_tokens_are_mapped_and_not_read(tokens: Path) -> None:
    for ids, ends in open_shards(tokens, "train", SMALL):
        assert isinstance(ids.base, np.memmap) and isinstance(ends.base, np.memmap)
        assert not ids.flags.writeable


def test_progress_counts_documents_and_may_stop(many: Corpus, tmp_path: Path) -> None:
    shown = []
    write(many, SMALL, SPLITS, tmp_path / "whole", 400, lambda done, total, **more: shown.append((done, total, more)))
    assert [done for done, _, _ in shown] == sorted({done for done, _, _ in shown})
    assert shown[-1][:2] == (120, 120) and all(total == 120 for _, total, _ in shown)
    assert all(more["unit"] == "documents" and more["million_tokens_per_second"] > 0 for *_, more in shown)

    def stop(done: int, total: int, **more: object) -> None:
        if done > 60:
            raise Killed

    with pytest.raises(Killed):
        write(many, SMALL, SPLITS, tmp_path / "stopped", 400, stop)
    went_on = []
    write(many, SMALL, SPLITS, tmp_path / "stopped", 400, lambda done, *_, **__: went_on.append(done))
    assert went_on[0] > shown[0][0] and went_on[-1] == 120
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.parametrize("size", [0, -5])
def test_a_shard_that_holds_nothing_is_told(many: Corpus, tmp_path: Path, size: int) -> None:
    with pytest.raises(JourneyError, match=f"shard_tokens is {size}"):
        write(many, SMALL, SPLITS, tmp_path / "tokens", size, silent)
