"""A corpus on disk: documents split and freed of duplicates, and what was made from them.

corpus.json                          counts, bytes, what was dropped, how much held-out text is found in training
{train,dev,test}.parquet             columns id, text
questions-{train,dev,test}.jsonl     from documentation only
choices-{dev,test}.jsonl
"""

import heapq
import json
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from journey.data import hub
from journey.data.cutting import BLANK_LINE, Cut
from journey.data.questions import Choice, Question, choices, questions
from journey.data.source import FEWEST, Document, Notes, Progress, TooFew, silent
from journey.data.sources import SOURCES, fingerprint, label, name_of, not_read, read
from journey.errors import JourneyError
from journey.files import read_json, write_json, write_lines

__all__ = ["FEWEST", "SPLITS", "Choice", "Corpus", "Document", "Question", "build"]

SPLITS = ("train", "dev", "test")
WHOLE = "whole"  # all three of a text that nothing was trained on
LIMIT = 128 << 20  # bytes of text; a longer text is split while it streams by (`data.streaming`)


def build(
    source: str,
    folder: Path,
    *,
    dev: float = 0.02,
    test: float = 0.04,
    seed: int = 0,
    max_bytes: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
    separator: str = BLANK_LINE,
    strict: bool = False,
    scratch: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Read a source, drop exact duplicates, split it, make questions, write it all; returns what corpus.json holds.

    `dev` and `test` are shares of the documents; a small corpus holds out more (see `split.shares`). `max_bytes` keeps
    a random part of the text; of a data set of the Hub it takes the beginning of the files (see `hubset`). A text
    longer than LIMIT is never held in memory; what its build goes on from after a kill is kept in the folder `scratch`.
    Bad files, and too little text to hold some out, raise JourneyError; with `errors` "replace", bytes that are not
    UTF-8 become U+FFFD and are counted. Documents of .txt and .md files end at the `separator` (`cutting.Cut`); where
    that finds too few, they are cut into pieces. Rows without a text are left out and counted, unless `strict`.
    """
    from journey.data import hubset, streaming

    remote = hubset.find(source) if hub.spelled(source) else None
    most = None if remote else max_bytes  # no more than that is asked of the Hub, so there is nothing to draw from

    def reading() -> tuple[Iterator[Document], Notes]:
        notes = Notes(Counter() if errors == "replace" else None, finer=finer)
        if remote:
            return remote.documents(max_bytes, progress, notes, cut, strict), notes
        return read(source, progress, notes, cut, strict), notes

    if dev < 0 or test < 0 or dev + test > 0.5:
        raise JourneyError(f"dev {dev} and test {test} are shares of the documents: positive, at most half together")
    facts: dict[str, Any] = {
        "name": _name(source),
        "source": source,
        "fingerprint": fingerprint(source),
        "seed": seed,
        **({"hub": remote.facts(max_bytes)} if remote else not_read(source)),
    }
    wanted: dict[str, Any] = {"dev": dev, "test": test, "seed": seed}
    scratch = scratch or folder / ".scratch"
    state = scratch / "read"
    cut, finer = Cut(separator), None
    notes = Notes()
    try:
        while not state.exists():  # else an earlier run, which was killed, has read the source
            documents, notes = reading()
            try:
                first, larger = deque[Document](), False
                if most is None or most > LIMIT:
                    first, larger = beginning(documents)
                documents = chain(emptied(first), documents)
                if not larger:
                    facts |= split_whole(source, folder, *distinct(documents, most, seed), **wanted)
                    facts |= notes.facts()
                    break
                if most is not None:
                    highest = streaming.lowest(reading()[0], most, seed)
                    documents = (document for document in documents if streaming.number(seed, document) <= highest)
                streaming.read_once(documents, state, **wanted, notes=notes)
            except TooFew as few:
                if finer or not notes.prose:
                    raise too_little(source, finer["documents"] if finer else few.n, notes) from None
                cut = cut.finer(min(notes.prose, max_bytes or notes.prose), FEWEST)
                finer = {"documents": few.n, "piece": cut.piece}
        if state.exists():
            facts |= streaming.finish(source, state, folder, **wanted, progress=progress)
    except JourneyError:  # the input is bad: there is nothing to go on from
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if scratch.parent == folder:
        shutil.rmtree(scratch, ignore_errors=True)
    write_json(folder / "corpus.json", facts)
    return facts


def _name(source: str) -> str:
    """What corpus.json calls a text of this source."""
    if source in SOURCES:
        return SOURCES[source].name
    return name_of(source) if hub.spelled(source) else label(Path(source).name.split(".")[0])


def too_little(source: str, n: int, notes: Notes) -> JourneyError:
    """The refusal of a text with n documents."""
    hint = (
        ", or say with separator where they end, by line or a string such as <|endoftext|> "
        "(journey text --separator line --out DIR makes a text to name as --data)"
    )
    said = f"{source}: {n} documents that are not empty or repeated; give at least {FEWEST}"
    return JourneyError(said + (hint if notes.prose else ""))


def beginning(documents: Iterator[Document]) -> tuple[deque[Document], bool]:
    """The first documents, and whether they are more than LIMIT bytes, which ends the reading."""
    first, size = deque[Document](), 0
    for document in documents:
        first.append(document)
        size += document.n_bytes()
        if size > LIMIT:
            return first, True
    return first, False


def emptied(documents: deque[Document]) -> Iterator[Document]:
    """The documents, which are let go one by one."""
    while documents:
        yield documents.popleft()


def split_whole(
    source: str, folder: Path, documents: list[Document], n_repeated: int, *, dev: float, test: float, seed: int
) -> dict[str, Any]:
    """Split documents that are in memory, make questions, and write them; returns what corpus.json says of them."""
    import numpy as np

    from journey.data.documents import write_parquet
    from journey.data.split import Shingles, assign, leaks, overlap, shares

    n = len(documents)
    if n < FEWEST:
        raise TooFew(n)
    shingles = Shingles([document.body for document in documents])
    dev, test = shares(n, dev, test)
    where = assign([d.id for d in documents], shingles, dev=dev, test=test, seed=seed)
    splits = {split: [documents[i] for i in np.flatnonzero(where == split)] for split in SPLITS}
    if not all(splits.values()):
        raise JourneyError(f"{source}: its {n} documents are too much alike to hold some out; give others or more")
    asked = questions({k: [d for d in v if d.name] for k, v in splits.items()}, seed)
    known = overlap(shingles, where == "train")
    facts: dict[str, Any] = {
        "documents": n,
        "bytes": sum(d.n_bytes() for d in documents),
        "duplicates_dropped": n_repeated,
        "special_spellings": sum(d.special_spellings() for d in documents),
        "splits": {},
    }
    for split, held in splits.items():
        write_parquet(folder / f"{split}.parquet", held)
        counts: dict[str, float] = {"documents": len(held), "bytes": sum(d.n_bytes() for d in held)}
        if split != "train":
            counts |= leaks(known[where == split])
        if any(asked.values()):
            write_lines(folder / f"questions-{split}.jsonl", asked[split])
            counts["questions"] = len(asked[split])
            if split != "train":
                items = choices(held, asked[split], seed)
                write_lines(folder / f"choices-{split}.jsonl", items)
                counts["choices"] = len(items)
        facts["splits"][split] = counts
    return facts


def distinct(documents: Iterable[Document], max_bytes: int | None, seed: int) -> tuple[list[Document], int]:
    """The documents without repetitions, in order, and how many those were; for `max_bytes`, those that hash lowest."""
    from journey.data.split import draw

    seen: set[bytes] = set()
    kept: list[tuple[int, int, Document]] = []  # a heap, the highest hash on top
    total = n_read = 0
    for document in documents:
        key = document.key()
        n_read += 1
        if key in seen:
            continue
        seen.add(key)
        drawn = draw(seed, document.id)
        heapq.heappush(kept, (-int.from_bytes(drawn[:8]), n_read, document))
        total += document.n_bytes()
        while max_bytes is not None and total > max_bytes and kept:
            total -= heapq.heappop(kept)[2].n_bytes()
    return [document for _, _, document in sorted(kept, key=lambda item: item[1])], n_read - len(seen)


class Corpus:
    """A corpus that `build` wrote."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.facts: dict[str, Any] = read_json(self.folder / "corpus.json")
        self.name: str = self.facts["name"]
        self.fingerprint: str = self.facts["fingerprint"]
        self._documents: dict[str, list[Document]] = {}

    def documents(self, split: str) -> list[Document]:
        """The documents of "train", "dev" or "test", or of all three (WHOLE)."""
        if split == WHOLE:
            return [document for part in SPLITS for document in self.documents(part)]
        if split not in self._documents:
            from journey.data.documents import read_parquet

            self._documents[split] = read_parquet(self._file(split))
        return self._documents[split]

    def texts(self, split: str) -> list[str]:
        """The texts of the documents of a split."""
        return [document.text for document in self.documents(split)]

    def stream(self, split: str, start: int = 0) -> Iterator[str]:
        """The texts of a split one after the other, from document `start` on: for what need not hold them all."""
        import pyarrow.parquet

        with self._file(split).open("rb") as file, pyarrow.parquet.ParquetFile(file) as table:
            for group in range(table.num_row_groups):
                n = table.metadata.row_group(group).num_rows
                if start < n:
                    yield from table.read_row_group(group, ["text"])["text"].to_pylist()[start:]
                start = max(0, start - n)

    def questions(self, split: str) -> list[Question]:
        """The questions of a split, or of the whole; none where the text is no documentation."""
        if split == WHOLE:
            return [question for part in SPLITS for question in self.questions(part)]
        return [Question(**item) for item in self._lines(f"questions-{split}.jsonl")]

    def choices(self, split: str) -> list[Choice]:
        """The multiple-choice items of "dev" or "test", or of both (WHOLE); none where the text is no documentation."""
        if split == WHOLE:
            return [item for part in SPLITS for item in self.choices(part)]
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
