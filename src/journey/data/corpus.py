"""A corpus on disk: documents split and freed of duplicates, and what was made from them.

corpus.json                          counts, bytes, what was dropped, how much held-out text is found in training
{train,dev,test}.parquet             columns id, text
questions-{train,dev,test}.jsonl     from documentation only
choices-{dev,test}.jsonl
"""

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from journey.chat import END, ROLES, mark
from journey.data.questions import Choice, Question, choices, questions
from journey.data.sources import Document, Progress, fingerprint, read, silent
from journey.errors import JourneyError
from journey.files import read_json, write_json, write_text

__all__ = ["SPLITS", "Choice", "Corpus", "Document", "Question", "build"]

SPLITS = ("train", "dev", "test")
FEWEST = 10  # documents; with fewer there is nothing to hold out
TEST_FLOOR = 60  # documents, so that an interval over documents means something; half as many for dev
FLOOR_SHARE = 0.16  # and no more than this share of a small corpus
SPECIALS = ("<|endoftext|>", "<|pad|>", *map(mark, ROLES), END)
GROUP = 4096  # documents that are read at once
NAMES = {"installed-docs": "docs", "stdlib-code": "code"}


def build(
    source: str,
    folder: Path,
    *,
    dev: float = 0.02,
    test: float = 0.04,
    seed: int = 0,
    max_bytes: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Read a source, drop exact duplicates, split it, make questions, write it all; returns what corpus.json holds.

    `dev` and `test` are shares of the documents; a small corpus holds out more (see TEST_FLOOR). `max_bytes` keeps a
    random part of the text. Bad files, and too little text to hold some out, raise JourneyError.
    """
    import numpy as np

    from journey.data.split import Shingles, assign, overlap

    if dev < 0 or test < 0 or dev + test > 0.5:
        raise JourneyError(f"dev {dev} and test {test} are shares of the documents: positive, at most half together")
    documents, n_repeated = distinct(read(source, progress), max_bytes, seed)
    n = len(documents)
    if n < FEWEST:
        raise JourneyError(f"{source}: {n} documents that are not empty or repeated; give at least {FEWEST}")
    floor = min(FLOOR_SHARE, TEST_FLOOR / n)
    shingles = Shingles([document.body for document in documents])
    where = assign([d.id for d in documents], shingles, dev=max(dev, floor / 2), test=max(test, floor), seed=seed)
    splits = {split: [documents[i] for i in np.flatnonzero(where == split)] for split in SPLITS}
    if not all(splits.values()):
        raise JourneyError(f"{source}: its {n} documents are too much alike to hold some out; give others or more")
    facts: dict[str, Any] = {
        "name": NAMES.get(source, Path(source).name.split(".")[0]),
        "source": source,
        "fingerprint": fingerprint(source),
        "seed": seed,
        "documents": n,
        "bytes": sum(len(d.text.encode()) for d in documents),
        "duplicates_dropped": n_repeated,
        "special_spellings": sum(d.text.count(special) for d in documents for special in SPECIALS),
        "splits": {},
    }
    asked = questions({k: [d for d in v if d.name] for k, v in splits.items()}, seed)
    shares = overlap(shingles, where == "train")
    for split, held in splits.items():
        write_parquet(folder / f"{split}.parquet", held)
        counts: dict[str, float] = {"documents": len(held), "bytes": sum(len(d.text.encode()) for d in held)}
        if split != "train":
            seen = shares[where == split]
            counts["over_half_in_train"] = round(float((seen > 0.5).mean()), 4)  # share of the documents
            counts["in_train"] = round(float(seen.mean()), 4)  # mean share of a document's 13-grams
        if any(asked.values()):
            write_lines(folder / f"questions-{split}.jsonl", asked[split])
            counts["questions"] = len(asked[split])
            if split != "train":
                items = choices(held, asked[split], seed)
                write_lines(folder / f"choices-{split}.jsonl", items)
                counts["choices"] = len(items)
        facts["splits"][split] = counts
    write_json(folder / "corpus.json", facts)
    return facts


def distinct(documents: Iterable[Document], max_bytes: int | None, seed: int) -> tuple[list[Document], int]:
    """The documents without repetitions, in order, and how many those were; for `max_bytes`, those that hash lowest."""
    seen: set[bytes] = set()
    kept: list[tuple[int, int, Document]] = []  # a heap, the highest hash on top
    total = n_read = 0
    for document in documents:
        key = hashlib.sha256(" ".join((document.body or document.text).lower().split()).encode()).digest()
        n_read += 1
        if key in seen:
            continue
        seen.add(key)
        drawn = hashlib.sha256(f"{seed}:{document.id}".encode()).digest()
        heapq.heappush(kept, (-int.from_bytes(drawn[:8]), n_read, document))
        total += len(document.text.encode())
        while max_bytes is not None and total > max_bytes and kept:
            total -= len(heapq.heappop(kept)[2].text.encode())
    return [document for _, _, document in sorted(kept, key=lambda item: item[1])], n_read - len(seen)


def write_parquet(path: Path, documents: list[Document]) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {"id": [d.id for d in documents], "text": [d.text for d in documents]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd", row_group_size=GROUP)


def write_lines(path: Path, items: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items))


class Corpus:
    """A corpus that `build` wrote."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.facts: dict[str, Any] = read_json(self.folder / "corpus.json")
        self.name: str = self.facts["name"]
        self.fingerprint: str = self.facts["fingerprint"]
        self._documents: dict[str, list[Document]] = {}

    def documents(self, split: str) -> list[Document]:
        """The documents of "train", "dev" or "test"."""
        if split not in self._documents:
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(self._file(split))
            columns = zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
            self._documents[split] = [Document(id, text) for id, text in columns]
        return self._documents[split]

    def texts(self, split: str) -> list[str]:
        """The texts of the documents of a split."""
        return [document.text for document in self.documents(split)]

    def stream(self, split: str, start: int = 0) -> Iterator[str]:
        """The texts of a split one after the other, from document `start` on: for what need not hold them all."""
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self._file(split)) as table:
            for group in range(table.num_row_groups):
                n = table.metadata.row_group(group).num_rows
                if start < n:
                    yield from table.read_row_group(group, ["text"])["text"].to_pylist()[start:]
                start = max(0, start - n)

    def questions(self, split: str) -> list[Question]:
        """The questions of a split; none where the text is no documentation."""
        return [Question(**item) for item in self._lines(f"questions-{split}.jsonl")]

    def choices(self, split: str) -> list[Choice]:
        """The multiple-choice items of "dev" or "test"; none where the text is no documentation."""
        return [Choice(**item | {"options": tuple(item["options"])}) for item in self._lines(f"choices-{split}.jsonl")]

    def _file(self, split: str) -> Path:
        path = self.folder / f"{split}.parquet"
        if not path.exists():  # the folder of a prepare node
            raise JourneyError(f"{self.folder} has no text of the {split} split, only its tokens: name the text itself")
        return path

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        if not path.exists():
            return []
        with open(path, encoding="utf-8") as lines:  # not splitlines(): it also cuts at U+2028
            return [json.loads(line) for line in lines]
