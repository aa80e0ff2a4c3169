"""The index against a plain BM25, brute force and sums by hand; queries that mean harm; files that are not whole."""

import json
import math
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.files import read_json, write_json
from journey.retrieve import index as built
from journey.retrieve.index import Index, choose_weight, fuse, words
from journey.retrieve.passages import Passage, gold

HOSTILE = [
    '"', '""', "'", "AND", "OR NOT", "*", "a*", "NEAR(", "NEAR(a b, 2)", "^a", "{words} : a", "words:a", "a + b", "-a",
    "(", ")", "\\", "%", ";", "'; DROP TABLE passages; --", "\x00", "a\x00b", "🙂🙂", "中文 ё ﬁ", "é́́", "؀", "_", ".",
    "...", "a.b..c.", "\n\t", "word " * 10_000, " ".join(f"word{i}" for i in range(10_000)), "x" * 100_000, "\u2028",
    "İ",
]  # fmt: skip


def bm25(titles, texts, query, k1=1.2, b=0.75):
    """Scores of all documents (a title and a text, lists of words) as FTS5's manual has the formula; a word of the
    title counts four times."""
    documents = [title + text for title, text in zip(titles, texts, strict=True)]
    n, mean = len(documents), sum(map(len, documents)) / len(documents)
    scores = []
    for title, document in zip(titles, documents, strict=True):
        counts, total = Counter(document + 3 * title), 0.0
        for word in dict.fromkeys(query):
            df = sum(word in other for other in documents)
            idf = max(1e-6, math.log((n - df + 0.5) / (df + 0.5))) if df else 0.0
            f = counts[word]
            total += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(document) / mean))
        scores.append(total)
    return scores


@pytest.mark.parametrize("seed", range(6))
def test_bm25_ranks_like_a_plain_one(make_index, model, tokenizer, tmp_path, seed):
    rng = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(60)]
    weights = [1 / (i + 1) for i in range(60)]  # some words are in nearly every document, some in one
    titles = [" ".join(rng.choices(vocabulary, weights, k=rng.randrange(4))) for _ in range(80)]
    texts = [" ".join(rng.choices(vocabulary, weights, k=rng.randrange(2, 40))) for _ in range(80)]
    passages = [Passage(f"{i}#1", *both, named=True) for i, both in enumerate(zip(titles, texts, strict=True))]
    index = Index(make_index(tmp_path, passages), model, tokenizer)
    titles = [title.split() for title in titles]
    bodies = [[".", *text.split()] for text in texts]  # the word that every passage has
    documents = [title + body for title, body in zip(titles, bodies, strict=True)]
    common = {word for word in vocabulary if sum(word in d for d in documents) > 0.05 * 80}
    for _ in range(20):
        query = rng.sample(vocabulary, 5)
        scores = bm25(titles, bodies, query)
        rare = set(query) - common
        looked_up = [i for i, d in enumerate(documents) if (rare or set(query)) & set(d)]
        best = sorted(looked_up, key=lambda i: (-round(scores[i], 5), i))[:30]
        found = index.bm25(" ".join(query), 30)
        assert [round(scores[i], 4) for i in found] == [round(scores[i], 4) for i in best]
        assert len(set(found)) == len(found) and set(found) <= set(looked_up)


def test_a_word_that_no_passage_has_does_not_hide_the_common_ones(make_index, model, tokenizer, tmp_path):
    """It is rarer than any other, and finds nothing: the question is not about nothing."""
    texts = ["an array of numbers", "an array of words and of words", "a list of numbers"]
    index = Index(make_index(tmp_path, [Passage(f"{i}#1", "", t) for i, t in enumerate(texts)]), model, tokenizer)
    assert index.bm25("array", 5) == index.bm25("zzyzx array", 5) == index.bm25("What is array?", 5) == [0, 1]
    assert index.bm25("zzyzx", 5) == index.bm25("What is that?", 5) == []


def test_a_name_is_found_by_itself_and_by_its_parts():
    assert words("numpy.linalg.norm(x)") == ["numpy.linalg.norm", "numpy", "linalg", "norm", "x"]
    assert words("`snake_case`") == ["snake_case", "snake", "case"]
    assert words("torch.DataLoader.") == ["torch.dataloader", "torch", "dataloader", "data", "loader"]
    assert words("HTTPServer v1.5") == ["httpserver", "http", "server", "v1.5", "v1", "5"]
    assert words("__init__ _x") == ["__init__", "_x"]
    assert words("Straße, NAÏVE ﬁne") == ["strasse", "naïve", "fine"]


def test_words_of_every_script():
    assert words("黑豹队NFL，用numpy.mean") == [
        *["黑", "豹", "队", "黑豹", "豹队", "nfl", "用", "numpy.mean", "numpy", "mean"],
    ]
    assert words("ทีม ﾊﾟｿ") == ["ที", "ม", "ทีม", "パ", "ソ", "パソ"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("Защита") == ["защита", "защ", "ащи", "щит", "ита"]
    assert words("كَتَبَ") == ["كَتَبَ", "كتب"] and words("מִלִּים")[1] == "מלים"
    assert words("한국어는") == ["한국어는", *"한국어는", "한국", "국어", "어는"]
    assert words("ѕоme αβ") == ["ѕоme", "αβ"]  # of two alphabets; too short
    assert words("exam\u00adple cafe\u0301") == ["example", "café"]


@given(st.text(st.characters(max_codepoint=0x24F, exclude_characters="\xad"), max_size=80))
def test_latin_words_are_cut_as_ever(text):
    """Indices of Latin text hold what they held."""
    found = re.findall(r"\w+(?:\.\w+)*", unicodedata.normalize("NFKC", text))
    assert words(text) == [part for word in found for part in built._parts(word)]


@pytest.mark.parametrize(
    ("texts", "questions"),
    [
        (["黑豹队的防守只丢了308分，排名第六。", "他的队友贡献了6次擒杀。", "卡罗莱纳的第二防线有职业碗安全卫。"],
         ["黑豹队丢了多少分？", "队友擒杀几次？", "第二防线有谁？"]),
        (["東京は日本の首都です。", "京都には古い寺が多い。", "ﾊﾟｿｺﾝを買いました。"],
         ["日本の首都はどこ？", "寺が多いのは？", "パソコンは買った？"]),
        (["กรุงเทพเป็นเมืองหลวงของไทย", "เชียงใหม่มีภูเขาสูง", "ทะเลอยู่ทางใต้"],
         ["เมืองหลวงคืออะไร", "ภูเขาอยู่ที่ไหน", "ทะเลอยู่ไหน"]),
        (["서울은 대한민국의 수도이다", "부산에는 바다가 있다", "울릉에 섬이 있다"],
         ["수도는 어디인가", "바다는", "섬은 무엇"]),
        (["Столица страны стоит на реке", "Горы покрыты снегом", "Озеро полно рыбы"],
         ["река и столицей", "о снеге в горах", "рыба в озере"]),
        (["العَاصِمَةُ القَاهِرَةُ", "الجبل عالٍ", "البحر عميق"], ["والقاهرة", "جبال الجبل", "بحر"]),
        (["दिल्ली भारत की राजधानी है", "हिमालय ऊँचा पर्वत है", "गंगा एक नदी है"], ["राजधानी", "पर्वत", "नदियाँ नदी"]),
        (["អង្គរជាប្រាសាទ", "ទន្លេមេគង្គធំ", "ភ្នំពេញជារាជធានី"], ["ប្រាសាទណា", "មេគង្គ", "រាជធានី"]),
    ],
    ids=["zh", "ja", "th", "ko", "ru", "ar", "hi", "km"],
)  # fmt: skip
def test_questions_of_every_script_find_their_passages(make_index, model, tokenizer, tmp_path, texts, questions):
    found = [Passage(f"{i}#1", "", text) for i, text in enumerate(texts + ["!"] * 20)]
    index = Index(make_index(tmp_path, found, weight=0.0), model, tokenizer)
    assert [index.bm25(question, 1) for question in questions] == [[0], [1], [2]]


def test_an_index_of_other_words_is_told(folder, model, tokenizer, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    facts = read_json(copied / "index.json")
    del facts["words"]
    write_json(copied / "index.json", facts)
    with pytest.raises(JourneyError, match=r"index\.json: .* cut words in another way: build the index again"):
        Index(copied, model, tokenizer)


def test_names_find_their_passages(make_index, model, tokenizer, tmp_path):
    texts = [
        "numpy.linalg.norm(x)\n\nLength.",
        "numpy.linalg.det(a)\n\nDeterminant.",
        "prepare_data_loader(x)\n\nPrepares.",
    ]
    index = Index(make_index(tmp_path, [Passage(t, t, t) for t in texts], weight=0.0), model, tokenizer)
    for query, row in [
        ("linalg.norm", 0),
        ("numpy.linalg.norm?", 0),
        ("DataLoader", 2),
        ("the `det`!", 1),
        ("NORM", 0),
    ]:
        assert index.search(query)[0].passage.text == texts[row], query


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_no_query_is_syntax(index, query):
    hits = index.search(query, 5)
    assert len(hits) <= 5
    assert all(hit.score > 0 and hit.ranks for hit in hits)


@given(st.text(max_size=60))
def test_any_text_is_a_query(index, query):
    try:
        index.search(query)
    except JourneyError as error:
        assert "surrogate" in str(error)


def test_an_empty_query_finds_nothing(index):
    assert index.search("") == index.search(" \n ") == []
    assert index.bm25("🙂 ?! *", 10) == []


def test_nearest_is_brute_force(index):
    vectors = np.load(index.folder / "vectors.npy")
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5) and vectors.dtype == np.float32
    for query in ("What does heapq.nlargest do?", "random numbers", "中"):
        asked = index.encoder.encode([query])[0]
        similarity = [float(sum(a * b for a, b in zip(v, asked, strict=True))) for v in vectors.astype(np.float64)]
        best = sorted(range(len(vectors)), key=lambda row: -similarity[row])
        assert np.allclose([similarity[i] for i in index.nearest(query, 20)], [similarity[i] for i in best[:20]])
        assert sorted(index.nearest(query, 10**6)) == sorted(best)


@given(
    st.lists(st.integers(0, 30), unique=True, max_size=20),
    st.lists(st.integers(0, 30), unique=True, max_size=20),
    st.sampled_from([0.0, 0.1, 1.0, 2.0]),
)
def test_fusion_by_hand(left, right, weight):
    fused = fuse({"bm25": left, "vectors": right}, {"bm25": 1.0, "vectors": weight})
    by_hand = {}
    for row in range(31):
        score = 1 / (61 + left.index(row)) if row in left else 0.0
        score += weight / (61 + right.index(row)) if row in right else 0.0
        if score:
            by_hand[row] = score
    assert dict(fused) == pytest.approx(by_hand)
    assert fused == sorted(fused, key=lambda item: (-item[1], item[0]))
    if weight == 0:
        assert [row for row, _ in fused] == left


def test_a_hit_says_who_found_it(index):
    query = "What does the function `heapq.nlargest` do?"
    rankings = index.rankings(query)
    for hit in index.search(query):
        row = index.rows_of([hit.passage.id])[hit.passage.id]
        assert hit.ranks == {name: rows.index(row) + 1 for name, rows in rankings.items() if row in rows}
        by_hand = sum((1.0 if name == "bm25" else 0.5) / (60 + rank) for name, rank in hit.ranks.items())
        assert hit.score == pytest.approx(by_hand)
    assert index.passage(rankings["bm25"][0]).title == "heapq.nlargest"


def test_vectors_that_only_disturb_get_no_say_and_good_ones_do(index, corpus, monkeypatch):
    # Two functions may have one description.
    questions = list({q.question: q for q in corpus.questions("dev") + corpus.questions("test")}.values())
    rows = index.rows_of(gold(question) for question in questions)
    right = {question.question: rows[gold(question)] for question in questions}
    every = len(np.load(index.folder / "vectors.npy"))
    monkeypatch.setattr(index, "nearest", lambda query, n: [row for row in range(n) if row != right[query]])
    chosen = choose_weight(index, questions)
    assert chosen["weight"] == 0 and chosen["questions"] == len(questions)
    assert [one["weight"] for one in chosen["tried"]] == list(built.WEIGHTS)
    bm25_alone = [index.bm25(q, every) for q in right]
    ranks = [
        found.index(row) + 1 if row in found[:10] else None
        for found, row in zip(bm25_alone, right.values(), strict=True)
    ]
    assert chosen["tried"][0]["mrr10"] == pytest.approx(sum(1 / rank for rank in ranks if rank) / len(ranks))
    monkeypatch.setattr(index, "nearest", lambda query, n: [right[query]])
    chosen = choose_weight(index, questions)
    assert chosen["weight"] > 0
    assert max(one["mrr10"] for one in chosen["tried"]) > chosen["tried"][0]["mrr10"]


def test_without_questions_the_nodes_vectors_have_no_say(index):
    assert choose_weight(index, []) == {"weight": 0.0, "questions": 0, "tried": []}


def test_the_folder_opens_with_sqlite_and_numpy_alone(folder):
    code = """
import json, sqlite3, sys, numpy
folder = sys.argv[1]
database = sqlite3.connect(f"file:{folder}/index.sqlite?mode=ro", uri=True)
asked = '"heapq.nlargest" OR "largest"'
ranked = "SELECT passages.title FROM terms JOIN passages ON terms.rowid = row WHERE terms MATCH ? ORDER BY rank"
found = database.execute(ranked, (asked,))
vectors = numpy.load(f"{folder}/vectors.npy")
assert "journey" not in sys.modules and "torch" not in sys.modules
assert len(vectors) == json.load(open(f"{folder}/index.json"))["passages"]
print(found.fetchone()[0], vectors.dtype, sorted(numpy.load(f"{folder}/encoder.npz")))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code, str(folder)], capture_output=True, text=True)
    assert done.stdout.strip() == "heapq.nlargest float32 ['mean', 'weights', 'whiten']", done.stderr


@pytest.mark.parametrize("name", ["index.json", "index.sqlite", "vectors.npy", "encoder.npz"])
def test_a_file_that_is_missing_or_cut_short_is_named(folder, model, tokenizer, tmp_path, name):
    copied = shutil.copytree(folder, tmp_path / "copy")
    data = (copied / name).read_bytes()
    (copied / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(JourneyError, match=name) as error:
        Index(copied, model, tokenizer)
    assert "\n" not in str(error.value)
    (copied / name).unlink()
    with pytest.raises(JourneyError, match=name):
        Index(copied, model, tokenizer)


def test_what_is_no_index_is_told(model, tokenizer, tmp_path):
    for content, said in ((None, "holds no index.json"), ("[]", "does not describe"), ('{"passages": 3}', "does not")):
        if content:
            (tmp_path / "index.json").write_text(content)
        with pytest.raises(JourneyError, match=said):
            Index(tmp_path, model, tokenizer)


def test_files_of_two_indexes_are_not_mixed(folder, model, tokenizer, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    np.save(copied / "vectors.npy", np.load(folder / "vectors.npy")[:-1])
    facts = read_json(copied / "index.json")
    write_json(copied / "index.json", facts | {"sizes": {}})
    with pytest.raises(JourneyError, match="mixed"):
        Index(copied, model, tokenizer)


@pytest.mark.parametrize("name", ["index.sqlite", "vectors.npy", "encoder.npz"])
def test_a_file_of_noise_is_told(folder, model, tokenizer, tmp_path, name):
    copied = shutil.copytree(folder, tmp_path / "copy")
    (copied / name).write_bytes(random.Random(0).randbytes((folder / name).stat().st_size))
    with pytest.raises(JourneyError, match=f"{name} is damaged"):
        Index(copied, model, tokenizer)


def test_another_model_than_the_vectors_are_of_is_told(folder, make_model, tokenizer):
    with pytest.raises(JourneyError, match='64 wide, those of the index \\("tiny"\\) 32') as error:
        Index(folder, make_model(n_embd=64), tokenizer)
    assert "\n" not in str(error.value)
    with pytest.raises(JourneyError, match='vectors of "tiny"'):
        Index(folder, make_model(seed=1), tokenizer)


def test_a_python_without_fts5_is_told(tmp_path, monkeypatch):
    class Without(sqlite3.Connection):
        def execute(self, statement, *values):
            if "fts5" in statement:
                raise sqlite3.OperationalError("no such module: fts5")
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, factory=Without))
    with pytest.raises(JourneyError, match="FTS5"):
        built.write_words(tmp_path / "index.sqlite", [Passage("a#1", "a", "a")], lambda done: None)


def test_the_facts_say_how_it_was_made(folder, index):
    facts = json.loads((folder / "index.json").read_text())
    assert facts["passages"] == len(index.vectors)
    assert facts["embedder"]["kind"] == "node" and facts["embedder"]["width"] == 32
    assert "tiny" in index.embedder() and "0.5" in index.fusion() and "no dev questions" in index.fusion()
