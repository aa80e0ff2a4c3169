"""Our BM25 (SQLite FTS5) against a plain one in NumPy on SciFact: the quality of both, and how long a search takes.

    JOURNEY_DATA=… python benchmarks/retrieval.py

5,183 abstracts, the 300 claims of the validation set (BEIR's test set); relevant are a claim's cited abstracts. nDCG@10
as trec_eval has it. Published for BM25: 0.665 (BEIR, with stemming; ours has none). The last line is JSON.
"""

import csv
import io
import json
import math
import os
import re
import statistics
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from journey.lineage import surroundings
from journey.retrieve import index as built
from journey.retrieve.passages import Passage


def main() -> None:
    """Search both ways and print nDCG@10 and milliseconds."""
    archive = zipfile.ZipFile(Path(os.environ["JOURNEY_DATA"]) / "retrieval" / "scifact.zip")
    ids = []
    passages = []
    for row in rows(archive, "corpus_train.csv"):
        sentences = re.sub(r"^\[|\]$", "", row["abstract"]).replace("\n", " ")
        ids.append(row["doc_id"])
        # Not as its title, whose words count more: what is compared is BM25 itself.
        passages.append(Passage(row["doc_id"], "", f"{row['title']}\n\n{sentences}"))
    claims = {row["id"]: row["claim"] for row in rows(archive, "claims_validation.csv")}
    cited: dict[str, set[str]] = {}
    for row in rows(archive, "claims_validation.csv"):
        cited.setdefault(row["id"], set()).update(re.findall(r"\d+", row["cited_doc_ids"]))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        built.write_words(folder / "index.sqlite", passages, lambda done: None)
        seconds = time.perf_counter() - start
        fusion = {"weight": 0.0, "questions": 0, "tried": []}
        embedder = {"kind": "none", "name": "none", "width": 0}
        facts = {"passages": len(passages), "text": {"id": "", "name": ""}, "embedder": embedder, "fusion": fusion}
        built.write_facts(folder, facts)
        index = built.Index(folder, None, None)  # words alone need no model
        plain = Plain([built.words(passage.text) for passage in passages])
        found = {}
        for kind, search in (("ours", index.bm25), ("plain", plain.search)):
            search("warm up", 10)
            quality, times = [], []
            for claim, text in claims.items():
                start = time.perf_counter()
                best = search(text, 10)
                times.append(1000 * (time.perf_counter() - start))
                quality.append(ndcg([ids[i] for i in best], cited[claim]))
            found[kind] = {"ndcg10": statistics.mean(quality), "ms": statistics.median(times)}
    machine = surroundings()["machine"]
    print(f"{machine['cpu']}, {len(passages):,} abstracts, {len(claims)} claims; indexed in {seconds:.1f} s")
    for kind, one in found.items():
        print(f"{kind:<6} nDCG@10 {one['ndcg10']:.4f}   {one['ms']:6.2f} ms a search (median)")
    print(json.dumps(found | {"claims": len(claims), "index_seconds": seconds, "machine": machine}))


def rows(archive: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file in the archive."""
    csv.field_size_limit(10**7)
    return list(csv.DictReader(io.TextIOWrapper(archive.open(name), encoding="utf-8", newline="")))


def ndcg(found: list[str], relevant: set[str]) -> float:
    """With gains of 0 and 1."""
    gain = sum(1 / math.log2(rank + 1) for rank, id in enumerate(found, 1) if id in relevant)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), 10) + 1))


class Plain:
    """BM25 with k1 = 1.2 and b = 0.75, every document scored by every word of the query."""

    def __init__(self, documents: list[list[str]]) -> None:
        lengths = np.array([len(document) for document in documents])
        self.norm = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())  # (N,)
        self.postings: dict[str, list[tuple[int, int]]] = {}
        for i, document in enumerate(documents):
            for word, count in Counter(document).items():
                self.postings.setdefault(word, []).append((i, count))

    def search(self, query: str, n: int) -> list[int]:
        """The n best documents."""
        scores = np.zeros(len(self.norm))
        for word in dict.fromkeys(built.words(query)):
            if postings := self.postings.get(word):
                where, f = np.array(postings).T
                idf = max(1e-6, math.log((len(scores) - len(where) + 0.5) / (len(where) + 0.5)))
                scores[where] += idf * f * 2.2 / (f + self.norm[where])
        return np.argsort(-scores, kind="stable")[:n].tolist()


if __name__ == "__main__":
    main()
