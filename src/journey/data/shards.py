"""Token shards: the splits of a text as ids on disk, for training on more than memory holds.

shards.json          format, dtype, mark, the tokenizer's hash; of each split its shards, with the hash of every file
{split}-00000.bin    ids, little-endian, no header: uint16, or uint32 where the vocabulary has an id above 65,535
{split}-00000.ends   where each document of the shard ends, counted in ids: little-endian uint64

Each document begins with the document mark. A shard ends with the document that fills it, so none is cut in two.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from journey.data.corpus import Corpus
from journey.data.sources import Progress, silent
from journey.errors import JourneyError
from journey.files import digest, read_json, sha256_file, write_json
from journey.tokenizer.formats import Tokenizer, grouped

FORMAT = 1
INDEX = "shards.json"
SHARD_TOKENS = 100_000_000  # 200 MB of uint16
_AT_ONCE = 2**23  # characters that are encoded in one go; three such batches are in memory
_ENDS = np.dtype("<u8")
Shard = tuple[np.ndarray, np.ndarray]  # ids, and where its documents end
Item = TypeVar("Item")
Made = TypeVar("Made")


def write(
    corpus: Corpus,
    tokenizer: Tokenizer,
    splits: Sequence[str],
    folder: Path,
    shard_tokens: int = SHARD_TOKENS,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Encode splits of a text into a folder; returns the index. `shard_tokens`: a shard with so many is full.

    What an earlier call finished there is kept, and the result is the same to the byte. `progress` may raise: what it
    interrupts is the shard at work.
    """
    if shard_tokens < 1:
        raise JourneyError(f"shard_tokens is {shard_tokens}: a shard holds at least 1")
    wide = max(tokenizer.backend.get_vocab().values()) > np.iinfo(np.uint16).max
    header = {
        "format": FORMAT,
        "dtype": "uint32" if wide else "uint16",
        "mark": tokenizer.bos,
        "tokenizer": tokenizer.hash,
        "text": {"name": corpus.name, "fingerprint": corpus.fingerprint},
        "shard_tokens": shard_tokens,
    }
    index = _begun(folder, header)
    if "sha256" in index:
        return index
    encode = _encoder(tokenizer, _dtype(index))
    total = sum(corpus.facts["splits"][split]["documents"] for split in splits)
    start, written = time.monotonic(), 0
    for split in splits:
        state = index["splits"].setdefault(split, {"tokens": 0, "documents": 0, "bytes": 0, "shards": []})
        done = sum(other["documents"] for other in index["splits"].values())
        current: _Writer | None = None
        for tokens, lengths, sizes in _ahead(encode, grouped(corpus.stream(split, state["documents"]), _AT_ONCE)):
            done, written = done + len(lengths), written + len(tokens)
            while len(lengths):
                current = current or _Writer(folder, f"{split}-{len(state['shards']):05}")
                fits = int(np.searchsorted(np.cumsum(lengths), shard_tokens - current.tokens)) + 1
                n = int(lengths[:fits].sum())
                current.add(tokens[:n], lengths[:fits], sizes[:fits])
                tokens, lengths, sizes = tokens[n:], lengths[fits:], sizes[fits:]
                if current.tokens >= shard_tokens:
                    _finish(current, state, folder, index)
                    current = None
            rate = written / 1e6 / (time.monotonic() - start)
            progress(done, total, unit="documents", million_tokens_per_second=rate)
        if current:
            _finish(current, state, folder, index)
    index["sha256"] = digest(index)
    write_json(folder / INDEX, index)
    return index


def open_shards(folder: Path, split: str, tokenizer: Tokenizer) -> list[Shard]:
    """The shards of a split, memory-mapped, after every file of it was found to be what `write` wrote.

    Errors: JourneyError naming the file that is missing, cut, altered or too many, or saying that another tokenizer
    made the tokens.
    """
    index = read_json(folder / INDEX)
    said = index.pop("sha256", None) if isinstance(index, dict) else None
    if said is None or digest(index) != said or index["format"] != FORMAT:
        raise JourneyError(f"{folder / INDEX} is unfinished, altered or of another version: {_anew(folder)}")
    if index["tokenizer"] != tokenizer.hash:
        raise JourneyError(
            f"these tokens were made by another tokenizer: {folder} by {index['tokenizer'][:10]}, "
            f"the parent has {tokenizer.hash[:10]}; prepare the text with the parent's"
        )
    shards = index["splits"][split]["shards"]
    listed = {name for shard in shards for name in shard["files"]}
    found = {path.name for kind in ("bin", "ends") for path in folder.glob(f"{split}-*.{kind}")}
    if surplus := sorted(found - listed):
        raise JourneyError(f"{folder / surplus[0]} is not in {INDEX}: move it away, or {_anew(folder)}")
    return [_open(folder, shard, _dtype(index)) for shard in shards]


def _anew(folder: Path) -> str:
    return f"delete {folder} and run again what made it"


def _open(folder: Path, shard: dict[str, Any], dtype: np.dtype) -> Shard:
    (tokens, ends), sizes = shard["files"], (shard["tokens"] * dtype.itemsize, shard["documents"] * _ENDS.itemsize)
    for name, size in zip((tokens, ends), sizes, strict=True):
        path = folder / name
        if not path.is_file():
            raise JourneyError(f"{path} is missing: {_anew(folder)}")
        if path.stat().st_size != size:
            raise JourneyError(f"{path} has {path.stat().st_size:,} bytes instead of {size:,}: {_anew(folder)}")
        if sha256_file(path) != shard["files"][name]:
            raise JourneyError(f"{path} is altered, its SHA-256 is not the one in {INDEX}: {_anew(folder)}")
    # As plain arrays: a slice of a memmap costs ten times that of an array.
    return np.asarray(np.memmap(folder / tokens, dtype, "r")), np.asarray(np.memmap(folder / ends, _ENDS, "r"))


def _dtype(index: dict[str, Any]) -> np.dtype:
    return np.dtype(index["dtype"]).newbyteorder("<")


def _begun(folder: Path, header: dict[str, Any]) -> dict[str, Any]:
    """The index of what stands in the folder, made from the same; whatever no index lists is deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    index = read_json(folder / INDEX) if (folder / INDEX).exists() else {}
    if {key: index.get(key) for key in header} != header:
        index = header | {"splits": {}}
    listed = {name for split in index["splits"].values() for shard in split["shards"] for name in shard["files"]}
    for path in folder.iterdir():
        if path.name not in listed | {INDEX}:
            path.unlink()
    return index


def _encoder(tokenizer: Tokenizer, dtype: np.dtype) -> Callable[[list[str]], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A function from texts to their ids, each behind the mark, with the tokens and the UTF-8 bytes of each text."""
    mark = np.array([tokenizer.bos], dtype=np.uint32)

    def encode(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = tokenizer.encode_arrays(texts)
        # Not a cast that could lose anything: the dtype was chosen for the largest id.
        tokens = np.concatenate([part for ids in found for part in (mark, ids)], dtype=dtype, casting="unsafe")
        return tokens, np.array([1 + len(ids) for ids in found]), np.array([len(text.encode()) for text in texts])

    return encode


def _ahead(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """`function` of each item; the next is at work in a thread of its own while the caller writes the last."""
    with ThreadPoolExecutor(1) as thread:
        coming = None
        for item in items:
            last, coming = coming, thread.submit(function, item)
            if last:
                yield last.result()
        if coming:
            yield coming.result()


class _Writer:
    """The shard at work. Its files get their names when they are whole."""

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = [folder / f"{name}.bin", folder / f"{name}.ends"]
        self._hashes = [hashlib.sha256(), hashlib.sha256()]
        self.tokens = self.documents = self.bytes = 0

    def add(self, tokens: np.ndarray, lengths: np.ndarray, sizes: np.ndarray) -> None:
        """Append documents: their ids, and how many ids and how many bytes of text each has."""
        ends = (self.tokens + np.cumsum(lengths)).astype(_ENDS)
        for path, hashed, array in zip(self._paths, self._hashes, (tokens, ends), strict=True):
            hashed.update(array.data)
            with open(_part(path), "ab") as file:
                file.write(array.data)
        self.tokens += len(tokens)
        self.documents += len(lengths)
        self.bytes += int(sizes.sum())

    def finish(self) -> dict[str, Any]:
        """Put the files in place; returns their entry of the index."""
        for path in self._paths:
            with open(_part(path), "rb") as file:
                os.fsync(file.fileno())
            os.replace(_part(path), path)
        files = {path.name: hashed.hexdigest() for path, hashed in zip(self._paths, self._hashes, strict=True)}
        return {"tokens": self.tokens, "documents": self.documents, "bytes": self.bytes, "files": files}


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _finish(shard: _Writer, state: dict[str, Any], folder: Path, index: dict[str, Any]) -> None:
    """From here on the shard survives a kill: the index lists it."""
    entry = shard.finish()
    state["shards"].append(entry)
    for key in ("tokens", "documents", "bytes"):
        state[key] += entry[key]
    write_json(folder / INDEX, index)
