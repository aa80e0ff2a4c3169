"""What a word is in twelve languages: how often BM25 finds the right paragraph, and whether near-duplicates leak.

    JOURNEY_DATA=… python benchmarks/languages.py

XQuAD: the same 240 paragraphs and 1,190 questions in each language. Found: a passage of the question's paragraph is
among the first five, of paragraphs indexed whole and of paragraphs cut into passages as `journey index` cuts them;
words alone, no vectors. The peer is the same index over runs of \\w, which are words to many a tool.

Leaks: each paragraph's beginning comes twice, the second time with its last tenth taken from another paragraph. Of the
documents held out for dev and test, how many have their twin in another split, by `journey text` and by 13-grams of
runs of \\w; and how many near-duplicates it takes unrelated paragraphs for. Japanese has no XQuAD: its text is Chinese
with two kana put between any two characters. The last line is JSON.
"""

import gzip
import json
import os
import random
import re
import tempfile
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from journey.data.corpus import SPLITS, Corpus, build
from journey.lineage import surroundings
from journey.retrieve import index as built
from journey.retrieve.passages import Passage, cut

LANGUAGES = ("en", "zh", "hi", "th", "ru", "ar", "el", "vi", "de", "es", "ro", "tr")
BEGINNINGS = {"en": 320, "zh": 100, "ja": 200, "th": 320, "hi": 320, "ar": 320}  # characters
KANA = [chr(code) for code in range(0x3041, 0x3097)]


def main() -> None:
    """Print both tables."""
    folder = Path(os.environ["JOURNEY_DATA"]) / "retrieval" / "xquad"
    texts = {}
    found: dict[str, dict[str, float]] = {}
    print("found among five       whole        in passages     ms a search")
    print("                    \\w+  words      \\w+  words      \\w+  words")
    for language in LANGUAGES:
        with gzip.open(folder / f"{language}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        texts[language] = list(dict.fromkeys(row["context"] for row in rows))
        asked = [(row["question"], texts[language].index(row["context"])) for row in rows]
        one = found[language] = {}
        for kind, pieces in (("whole", lambda text: [text]), ("passages", cut)):
            passages = [Passage(str(i), "", piece) for i, text in enumerate(texts[language]) for piece in pieces(text)]
            for name, words in (("plain", plain_words), ("words", built.words)):
                one[f"{kind}_{name}"], one[f"{kind}_{name}_ms"] = recall(passages, asked, words)
        numbers = [100 * one[f"{kind}_{name}"] for kind in ("whole", "passages") for name in ("plain", "words")]
        times = [one[f"passages_{name}_ms"] for name in ("plain", "words")]
        print("{:12} {:9.1f} {:6.1f}  {:7.1f} {:6.1f}  {:7.1f} {:6.1f}".format(language, *numbers, *times), flush=True)
    print("\ntwins in two splits    \\w+           words      near by mistake")
    leaks = {}
    texts["ja"] = [japanese(text) for text in texts["zh"]]
    for language, n in BEGINNINGS.items():
        one_leak = leaks[language] = leak(texts[language], n)
        print(
            f"{language:12} {one_leak['plain']:8} of {one_leak['plain_held']:2}   {one_leak['words']:6} of "
            f"{one_leak['words_held']:2}   {one_leak['mistaken']:6}   "
            f"(corpus.json: {one_leak['stated']:.1%} of the test documents over half in training)",
            flush=True,
        )
    print(json.dumps({"found": found, "leaks": leaks, "machine": surroundings()["machine"]}))


def plain_words(text: str) -> list[str]:
    """A word is a run of \\w."""
    return [word.casefold() for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text))]


def recall(
    passages: Sequence[Passage], asked: Sequence[tuple[str, int]], words: Callable[[str], list[str]]
) -> tuple[float, float]:
    """The share of the questions with their paragraph among five, and milliseconds a search."""
    ours, built.words = built.words, words
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        built.write_words(folder / "index.sqlite", passages, lambda done: None)
        fusion = {"weight": 0.0, "questions": 0, "tried": []}
        embedder = {"kind": "none", "name": "none", "width": 0}
        facts = {"passages": len(passages), "text": {"id": "", "name": ""}, "embedder": embedder, "fusion": fusion}
        built.write_facts(folder, facts)
        index = built.Index(folder, None, None)  # words alone need no model
        start = time.perf_counter()
        right = [str(gold) in {hit.passage.id for hit in index.search(question, 5)} for question, gold in asked]
        seconds = time.perf_counter() - start
    built.words = ours
    return sum(right) / len(right), 1000 * seconds / len(right)


def leak(texts: Sequence[str], n: int) -> dict[str, Any]:
    """How many held-out documents have their twin elsewhere."""
    rng = random.Random(0)
    beginnings = list(dict.fromkeys(text[:n].strip() for text in texts))
    pairs = [(text, text[: len(text) * 9 // 10] + rng.choice(beginnings)[len(text) * 9 // 10 :]) for text in beginnings]
    pairs = [(one, other.strip()) for one, other in pairs if one != other.strip()]
    twin = dict(pairs) | {other: one for one, other in pairs}
    found: dict[str, Any] = {}
    for name in ("words", "plain"):
        with tempfile.TemporaryDirectory() as place:
            folder, source = Path(place) / "text", Path(place) / "pairs.jsonl"
            folder.mkdir()
            lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for pair in pairs for text in pair]
            source.write_text("".join(lines), encoding="utf-8")
            facts = build(str(source), folder) if name == "words" else plainly(source, folder)
            where = {text.strip(): split for split in SPLITS for text in Corpus(folder).texts(split)}
        held = [text for text, split in where.items() if split != "train"]
        found |= {name: sum(where.get(twin[text]) != where[text] for text in held), f"{name}_held": len(held)}
        if name == "words":
            found["stated"] = facts["splits"]["test"]["over_half_in_train"]
    return found | {"mistaken": mistaken(beginnings)}


def plainly(source: Path, folder: Path) -> dict[str, Any]:
    """`build` with each run of \\w made a word of ASCII: its 13-grams are those of the runs."""
    from journey.data import split

    ours = split.grams
    split.grams = lambda texts: ours([spelled(text) for text in texts])
    try:
        return build(str(source), folder)
    finally:
        split.grams = ours


def spelled(text: str) -> str:
    """The runs of \\w, each by its code points."""
    return " ".join("_".join(f"{ord(c):x}" for c in word) for word in re.findall(r"\w+", text.lower()))


def mistaken(texts: Sequence[str]) -> int:
    """How many of these paragraphs share a cluster with another."""
    from journey.data.split import Shingles, clusters

    return len(texts) - len(set(clusters(Shingles(texts)).tolist()))


def japanese(text: str) -> str:
    """No Japanese, but of its letters: kana between Chinese characters."""
    rng = random.Random(text[:50])
    return "".join(c + "".join(rng.choices(KANA, k=2)) if c.isalpha() else c for c in text[:200])


if __name__ == "__main__":
    main()
