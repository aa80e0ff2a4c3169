"""One local hybrid index: BM25 in SQLite's FTS5, exact cosine over a matrix, and both rankings fused by their ranks.

index.sqlite   passages (row, id, title, text), their words (FTS5), the words that are common
vectors.npy    a unit vector a passage, float32, in the order of the rows
encoder.npz    how the node made them (where it did)
index.json     of which text, with which words and vectors, how they are fused and why
"""

import math
import re
import sqlite3
import tokenize
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import regex

from journey.data.questions import Question
from journey.data.words import IGNORED, SPACED, UNSPACED
from journey.errors import JourneyError
from journey.files import holds, read_json, write_json
from journey.model.gpt import GPT
from journey.retrieve.embed import Encoder, NodeEncoder, SentenceEncoder, identity
from journey.retrieve.passages import Passage, gold
from journey.tokenizer.codec import check
from journey.tokenizer.formats import Tokenizer

K = 60  # reciprocal-rank fusion's constant (Cormack et al. 2009)
DEPTH = 100  # how deep each ranking goes into the fusion
TOP = 10  # how deep a passage may stand to count as found
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)  # of the vectors, beside BM25's 1; tried on dev questions
_UNTRIED = {"node": 0.0, "sentence-transformers": 1.0}  # where the text has no questions to choose by
_NAME = 4.0  # how much more a word of the name counts: who asks for numpy.mean does not want what refers to it
_COMMON = 0.05  # words found in more passages than this share are common
_LONGEST = 128  # different words of a query that are looked up
_EVERY = "."  # a word of every passage, which no text has
_FILES = ("index.sqlite", "vectors.npy", "encoder.npz")

_OF_EMBEDDER = {  # what index.json says of each kind, beside the width
    "none": ("name",),
    "node": ("name", "tokenizer_hash", "table_sha256"),
    "sentence-transformers": ("name", "identity"),
}
_WORDS = 2  # how `words` cuts; an index is searched with the words that it was built with

_ASCII = re.compile(r"\w+(?:\.\w+)*")  # of ASCII alone the next finds the same, in five times as long
_WORD = regex.compile(rf"(?P<unspaced>{UNSPACED}+)|{SPACED}(?:\.{SPACED})*", regex.V1)
_LONE = regex.compile(UNSPACED, regex.V1)
_BORDER = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_POINTS = regex.compile(r"[\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]+")  # and the tatweel
_SYLLABLES = regex.compile(r"\p{Hangul}+")
_ALPHABET = regex.compile(r"[[\p{L}\p{M}]--\p{Latin}]+", regex.V1)  # of another script
_LETTER = regex.compile(r"\P{M}\p{M}*")


def words(text: str) -> list[str]:
    """What BM25 counts, lower case: every word; a name also by its parts, at dots, underscores and inner capitals.

    Of a script without spaces each letter and each pair of neighbours. A word of another alphabet than the Latin also
    by what it shares with its other forms: without the points of Arabic and Hebrew, and by its runs of three letters;
    a Korean one by its syllables and their pairs. Words of Latin letters keep to themselves: numpy.mean is no
    numpy.median.
    """
    if text.isascii():
        return [part for word in _ASCII.findall(text) for part in _parts(word)]
    found = list[str]()
    for match in _WORD.finditer(IGNORED.sub("", unicodedata.normalize("NFKC", text))):
        if match["unspaced"]:
            letters = _LONE.findall(match[0])
            found += letters + _runs(letters, 2)
        else:
            found += _parts(match[0])
    return found


@lru_cache(1 << 16)
def _parts(word: str) -> tuple[str, ...]:
    """`torch.DataLoader` -> torch.dataloader, torch, dataloader, data, loader."""
    names = word.split(".")
    found = [word, *(names if len(names) > 1 else [])]
    for name in names:
        inner = [part for part in _BORDER.split(name) if part]
        found += inner if len(inner) > 1 else []
        found += _forms(name.casefold()) if _ALPHABET.fullmatch(name) else []
    return tuple(part.casefold() for part in found)


def _forms(word: str) -> list[str]:
    """What a word of another alphabet than the Latin is counted by beside itself."""
    bare = _POINTS.sub("", word)
    letters = _LETTER.findall(bare)
    runs = letters + _runs(letters, 2) if _SYLLABLES.fullmatch(bare) else _runs(letters, 3)
    return [form for form in dict.fromkeys([bare, *runs]) if form and form != word]


def _runs(letters: Sequence[str], n: int) -> list[str]:
    """`n` letters from each on."""
    return ["".join(letters[i : i + n]) for i in range(len(letters) - n + 1)]


@dataclass(frozen=True)
class Hit:
    """A passage that was found: its score, and its rank in each ranking that found it ("bm25", "vectors")."""

    passage: Passage
    score: float
    ranks: dict[str, int]


def fuse(rankings: Mapping[str, Sequence[int]], weights: Mapping[str, float]) -> list[tuple[int, float]]:
    """(row, score) by the sum of weight / (60 + rank) over the rankings, best first, the lower row before its equal.
    A ranking of weight 0 has no say, not even of what is found."""
    scores: dict[int, float] = {}
    for name, rows in rankings.items():
        for rank, row in enumerate(rows if weights[name] else (), 1):
            scores[row] = scores.get(row, 0.0) + weights[name] / (K + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def write_words(path: Path, passages: Sequence[Passage], progress: Callable[[int], None]) -> None:
    """The SQLite file: the passages, and their words in FTS5; `progress` is told how many characters are through.
    JourneyError where this Python's SQLite has no FTS5."""
    with closing(sqlite3.connect(path)) as database:
        # The folder is published whole or not at all: no journal is needed.
        database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        database.execute("CREATE TABLE passages (row INTEGER PRIMARY KEY, id TEXT, title TEXT, text TEXT)")
        try:
            # `words` has done the work: its words, set apart by spaces, are the tokens as they are.
            database.execute(
                "CREATE VIRTUAL TABLE terms USING fts5(name, words, content='', tokenize=\"ascii tokenchars '_.'\")"
            )
        except sqlite3.OperationalError as error:
            raise JourneyError(f"this Python's SQLite cannot index ({error}): use a Python built with FTS5") from None
        characters = 0
        for row, passage in enumerate(passages):
            database.execute("INSERT INTO passages VALUES (?, ?, ?, ?)", (row, passage.id, passage.title, passage.text))
            name = words(passage.title) if passage.named else []
            counted = " ".join(name), " ".join([_EVERY, *words(passage.searched)])
            database.execute("INSERT INTO terms (rowid, name, words) VALUES (?, ?, ?)", (row, *counted))
            characters += len(passage.text)
            if row % 1000 == 999:
                progress(characters)
        database.execute("INSERT INTO terms (terms) VALUES ('optimize')")
        database.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, terms, row)")
        database.execute("CREATE TABLE common (word TEXT PRIMARY KEY) WITHOUT ROWID")
        database.execute(
            "INSERT INTO common SELECT term FROM vocabulary WHERE doc > ?", (max(1, _COMMON * len(passages)),)
        )
        database.commit()


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """index.json, the last file: with the sizes of the others, so that a copy that is not whole is noticed."""
    sizes = {name: (folder / name).stat().st_size for name in _FILES if (folder / name).exists()}
    write_json(folder / "index.json", facts | {"words": _WORDS, "sizes": sizes})


class Index:
    """An open index. The model is needed where its embeddings made the vectors."""

    def __init__(self, folder: Path | str, model: GPT, tokenizer: Tokenizer) -> None:
        self.folder = Path(folder)
        self.facts = self._read_facts()
        database = self.folder / "index.sqlite"
        self._database = sqlite3.connect(database.resolve().as_uri() + "?mode=ro", uri=True)
        self._common = {word for (word,) in self._rows("SELECT word FROM common")}
        self.vectors, self.encoder = self._open_vectors(model, tokenizer)
        ((n,),) = self._rows("SELECT count(*) FROM passages")
        held = n if self.vectors is None else len(self.vectors)
        if not n == held == self.facts["passages"]:
            raise JourneyError(
                f"{self.folder}: {self.facts['passages']} passages in index.json, {n} in index.sqlite, {held} vectors: "
                "files of different indexes are mixed, build the index again"
            )

    @property
    def weight(self) -> float:
        """Of the vectors in the fusion, beside BM25's 1."""
        return self.facts["fusion"]["weight"]

    def bm25(self, query: str, n: int) -> list[int]:
        """Rows by FTS5's BM25 (k1 = 1.2, b = 0.75; a word of a name counts four times), best first.

        Only passages with one of the query's rarer words (in 5 % of the passages or fewer) are scored, by all its
        words: five times as fast as scoring whatever has a "the". Where no passage has a rarer one, the query is looked
        up by the common ones.
        """
        statement = f"SELECT rowid FROM terms WHERE terms MATCH ? ORDER BY bm25(terms, {_NAME}, 1), rowid LIMIT ?"
        found = (self._rows(statement, expression, n) for expression in self._expressions(query))
        return [row for (row,) in next(filter(None, found), [])]

    def nearest(self, query: str, n: int) -> list[int]:
        """Rows by the cosine of their vectors with the query's, best first; no approximation."""
        if self.vectors is None or self.encoder is None:
            return []
        similarity = self.vectors @ self.encoder.encode([query])[0]  # (N,)
        n = min(n, len(similarity))
        candidates = np.flatnonzero(similarity >= np.partition(similarity, -n)[-n])  # ties with the nth too
        return candidates[np.argsort(-similarity[candidates], kind="stable")][:n].tolist()

    def rankings(self, query: str) -> dict[str, list[int]]:
        """The rows of each ranking, as deep as the fusion looks. An empty query finds nothing."""
        check(query)
        if not query.strip():
            return {"bm25": [], "vectors": []}
        return {"bm25": self.bm25(query, DEPTH), "vectors": self.nearest(query, DEPTH)}

    def search(self, query: str, n: int = TOP) -> list[Hit]:
        """The n best passages by the fusion of both rankings; a lone surrogate in the query raises JourneyError."""
        rankings = self.rankings(query)
        hits = []
        for row, score in fuse(rankings, {"bm25": 1.0, "vectors": self.weight})[:n]:
            ranks = {name: rows.index(row) + 1 for name, rows in rankings.items() if row in rows}
            hits.append(Hit(self.passage(row), score, ranks))
        return hits

    def passage(self, row: int) -> Passage:
        """The passage of a row."""
        found = self._rows("SELECT id, title, text FROM passages WHERE row = ?", row)
        if len(found) != 1:
            raise JourneyError(f"{self.folder / 'index.sqlite'} is damaged (no passage {row}): build the index again")
        return Passage(*found[0])

    def rows_of(self, ids: Iterable[str]) -> dict[str, int]:
        """Passage id -> row, for those that are in the index."""
        wanted = set(ids)
        return {id: row for id, row in self._rows("SELECT id, row FROM passages") if id in wanted}

    def embedder(self) -> str:
        """What made the vectors, in words that belong beside a number."""
        made = self.facts["embedder"]
        of_node = f'input embeddings of "{made["name"]}", SIF-weighted mean, whitened'
        return {"none": "none", "node": of_node}.get(made["kind"], Path(made["name"]).name)

    def fusion(self) -> str:
        """How the rankings are fused, in words that belong beside a number."""
        chosen = self.facts["fusion"]
        why = f"of {', '.join(f'{w:g}' for w in WEIGHTS)} the best MRR@10 on {chosen['questions']} dev questions"
        how = f"sum of weight / ({K} + rank); BM25 1, vectors {chosen['weight']:g}"
        return f"{how} ({why if chosen['questions'] else 'not chosen: the text has no dev questions'})"

    def _expressions(self, query: str) -> Iterator[str]:
        """FTS5's syntax for a query, the next for where the one before finds nothing; every word stands in quotes, so
        nothing in it is an operator."""
        found = list(dict.fromkeys(words(query)))
        rare = [word for word in found if word not in self._common][:_LONGEST]
        common = [word for word in found if word in self._common][:_LONGEST]
        if rare:
            yield f"({_any(rare)}) AND ({_any([_EVERY, *common])})" if common else _any(rare)
        if common:
            yield _any(common)

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise JourneyError(f"{self.folder / 'index.sqlite'} is damaged ({error}): build the index again") from None

    def _read_facts(self) -> dict[str, Any]:
        """index.json, after a look at whether all that it speaks of is here."""
        path = self.folder / "index.json"
        if not path.exists():
            raise JourneyError(f"{self.folder} holds no index.json: give the folder of an index node")
        facts = read_json(path)
        if not _is_whole(facts):
            raise JourneyError(f"{path} does not describe an index: build the index again")
        if facts.get("words") != _WORDS:
            raise JourneyError(
                f"{path}: the index was built by another version of Journey, which cut words in another way: "
                "build the index again"
            )
        for name, size in facts["sizes"].items():
            path = self.folder / name
            if not path.exists():
                raise JourneyError(f"{path} is missing: the index is not whole, copy or build it again")
            if path.stat().st_size != size:
                raise JourneyError(f"{path} has {path.stat().st_size:,} bytes, not {size:,}: copy or build it again")
        return facts

    def _open_vectors(self, model: GPT, tokenizer: Tokenizer) -> tuple[np.ndarray | None, Encoder | None]:
        made = self.facts["embedder"]
        if made["kind"] == "none":
            return None, None
        path = self.folder / "vectors.npy"
        try:
            vectors = np.load(path, mmap_mode="r")
        except (ValueError, SyntaxError, EOFError, tokenize.TokenError) as error:  # NumPy's header is an expression
            raise JourneyError(f"{path} is damaged ({error}): build the index again") from None
        if made["kind"] == "node":
            return vectors, NodeEncoder.load(self.folder / "encoder.npz", made, model, tokenizer)
        if identity(made["name"]) != made["identity"]:
            raise JourneyError(f"the embedder {made['name']} is not the one of the index: build the index again")
        return vectors, SentenceEncoder(made["name"])


def _is_whole(facts: Any) -> bool:
    """Whether an index.json says all that an index needs, as `journey index` writes it."""
    if not holds(facts, {"passages": int, "text": dict, "embedder": dict, "fusion": dict, "sizes": dict}):
        return False
    made, weight = facts["embedder"], facts["fusion"].get("weight")
    wanted = _OF_EMBEDDER.get(str(made.get("kind")))
    return (
        wanted is not None
        and holds(made, dict.fromkeys(wanted, str))
        and type(made.get("width")) is int
        and holds(facts["text"], {"id": str, "name": str})
        and isinstance(weight, int | float)
        and 0 <= weight < 1e9
        and all(type(size) is int for size in facts["sizes"].values())
    )


def choose_weight(index: Index, questions: Sequence[Question]) -> dict[str, Any]:
    """The vectors' weight with the best MRR@10 on the questions, the smallest among equals, and all that was tried.

    0 is among them: vectors that only disturb BM25 get no say.
    """
    if index.vectors is None or not questions:
        weight = _UNTRIED.get(index.facts["embedder"]["kind"], 0.0)
        return {"weight": weight, "questions": 0, "tried": []}
    rows = index.rows_of(gold(question) for question in questions)
    found = [(rows[gold(question)], index.rankings(question.question)) for question in questions]
    tried = []
    for weight in WEIGHTS:
        weights = {"bm25": 1.0, "vectors": weight}
        ranks = [rank(row, [r for r, _ in fuse(rankings, weights)]) for row, rankings in found]
        tried.append({"weight": weight, "mrr10": math.fsum(1 / r for r in ranks if r) / len(ranks)})
    best = max(tried, key=lambda one: (one["mrr10"], -one["weight"]))
    return {"weight": best["weight"], "questions": len(questions), "tried": tried}


def rank(row: int, ranked: Sequence[int]) -> int | None:
    """Where a row stands among the first 10, from 1; None where it does not."""
    return ranked[:TOP].index(row) + 1 if row in ranked[:TOP] else None


def _any(words: Iterable[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)
