"""The measurement of an index, item by item, against the parts it is made of."""

import shutil

import pytest

from journey.data.questions import Question
from journey.evaluate import answers
from journey.evaluate.agreement import f1
from journey.files import read_json, write_json
from journey.infer.engine import generate
from journey.retrieve import evaluate
from journey.retrieve.answer import fit
from journey.retrieve.passages import gold


@pytest.fixture(scope="module")
def asked(corpus):
    return corpus.questions("test")[:6]


@pytest.fixture(scope="module")
def measured(folder, model, tokenizer, asked):
    return evaluate.measure(folder, model, tokenizer, asked, seed=3)


def test_ranks_are_where_the_search_has_the_passage(measured, index, asked):
    assert [item["id"] for item in measured["items"]] == [question.id for question in asked]
    for question, item in zip(asked, measured["items"], strict=True):
        assert item["named"] == question.named
        found = [hit.passage.id for hit in index.search(question.question)]
        assert item["rank"]["hybrid"] == (found.index(gold(question)) + 1 if gold(question) in found else None)
        row = index.rows_of([gold(question)])[gold(question)]
        for name, rows in (
            ("bm25", index.bm25(question.question, 10)),
            ("vectors", index.nearest(question.question, 10)),
        ):
            assert item["rank"][name] == (rows.index(row) + 1 if row in rows else None)
    assert any(item["rank"]["bm25"] == 1 for item in measured["items"])


def test_losses_are_those_of_answers(measured, model, tokenizer, asked, index):
    for item, theirs in zip(measured["items"], answers.answer_losses(model, tokenizer, asked, seed=3), strict=True):
        for kind in ("right", "shuffled", "none", "tokens"):
            assert item[kind] == pytest.approx(theirs[kind], rel=1e-4)
        if item["rank"]["hybrid"] == 1:
            assert item["retrieved"] == pytest.approx(item["right"], rel=1e-4)


def test_f1_is_of_the_greedy_answer(measured, model, tokenizer, asked, index):
    others = answers.other_passages(asked, seed=3)
    for question, other, item in zip(asked, others, measured["items"], strict=True):
        found = index.search(question.question)[0].passage.text
        for kind, passage in (("retrieved", found), ("right", question.passage), ("shuffled", other), ("none", "")):
            prompt, _, _ = fit(question.question, [passage], tokenizer, 256 - 64)
            (completion,) = generate(model, [prompt], max_new_tokens=64, stop=tokenizer.stop)
            text = tokenizer.decode([i for i in completion.ids if i not in tokenizer.stop])
            assert item["f1"][kind] == pytest.approx(f1(text, question.answer))


def test_the_words_beside_the_numbers(measured, index):
    assert measured["passages"] == index.facts["passages"]
    assert "tiny" in measured["embedder"] and "BM25 1, vectors 0.5" in measured["fusion"]
    assert "retrieved" in measured["convention"]


def test_what_cannot_be_asked_here_is_left_out(folder, model, tokenizer, asked):
    elsewhere = Question("other.thing#named", "What does `other.thing` do?", "It is other.", "other.thing", True)
    long = Question(asked[1].id, "What? " * 200, asked[1].answer, asked[1].passage, True)
    found = evaluate.measure(folder, model, tokenizer, [asked[0], elsewhere, long], seed=0)
    assert [item["id"] for item in found["items"]] == [asked[0].id]
    assert evaluate.measure(folder, model, tokenizer, [elsewhere], seed=0)["items"] == []


def test_words_alone_have_no_rank_by_vectors(folder, model, tokenizer, asked, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "words")
    facts = read_json(copied / "index.json")
    none = {"embedder": {"kind": "none", "name": "none", "width": 0}, "fusion": facts["fusion"] | {"weight": 0.0}}
    write_json(copied / "index.json", facts | none)
    found = evaluate.measure(copied, model, tokenizer, asked[:4], seed=0)
    assert found["embedder"] == "none"
    for item in found["items"]:
        assert item["rank"]["vectors"] is None and item["rank"]["hybrid"] == item["rank"]["bm25"]
