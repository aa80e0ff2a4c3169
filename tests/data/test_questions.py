import re
from pathlib import Path

import pytest

from journey.data.questions import (
    LONGEST,
    PASSAGE,
    SHORTEST,
    choices,
    questions,
    same_package,
    sentences,
    shape,
    summary,
)
from journey.data.sources import Document


def document(name: str, body: str, parameters: tuple[str, ...] = (), kind: str = "function") -> Document:
    signature = f"({', '.join(parameters)})" if kind in ("function", "method") else ""
    return Document(name, f"{name}{signature}\n\n{body}\n", body, name, kind, parameters)


VERBS = ["Adds", "Counts", "Removes", "Sorts", "Copies", "Merges", "Splits", "Reads", "Writes", "Closes"]
NOUNS = ["file", "list", "tree", "graph", "table", "string", "matrix", "queue", "stack", "record"]


def library(package: str, n: int) -> list[Document]:
    """n functions of which each has its own summary, of about the same length."""
    return [
        document(
            f"{package}.f{i}",
            f"{VERBS[i % 10]} the\n{NOUNS[i // 10]} that {package} was given as its input.\n\n"
            f"It never changes what the caller {'still ' * (i % 3)}holds in memory.\n\nArgs:\n    x: the first one.",
            (f"{package}_a{i}", f"b{i}"),
        )
        for i in range(n)
    ]


def test_sentences_stop_where_a_reader_would() -> None:
    text = "Like `a.b`, e.g. for files etc. and more; see Fig. 3 by D. Knuth.\nReturns 1.5 items! No stop here"
    assert sentences(text) == [
        "Like `a.b`, e.g. for files etc. and more; see Fig. 3 by D. Knuth.",
        "Returns 1.5 items!",
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Return the sum of an array\nover a given axis. More.", "Return the sum of an array over a given axis."),
        ("Return it.", ""),
        ("Return the sum of an array over a given axis", ""),
        ("Return " + "very " * 40 + "much.", ""),
        ("Args:\n    x: The first of the two numbers.", ""),
        ("x (int): The first of the two numbers given.", ""),
        (".. note:: This is an important note to read.", ""),
        (">>> f(1)  # The first of the two numbers.", ""),
        ("A title of some words\n=====================\n\nThe text is here.", ""),
        ("Use the other one:: this is the way.", ""),
        ("See https://example.com for the whole story.", ""),
    ],
)
def test_summary(body: str, expected: str) -> None:
    assert summary(document("a.b", body)) == expected


def test_questions_of_a_split_come_from_its_own_documents() -> None:
    splits = {"train": library("numpy", 60), "dev": library("torch", 10), "test": library("trl", 30)}
    made = questions(splits, seed=0)
    for split, asked in made.items():
        known = {d.id: d for d in splits[split]}
        assert len(asked) >= len(known)
        for question in asked:
            origin = known[question.id.split("#")[0]]
            assert question.answer == summary(origin) and SHORTEST <= len(question.answer) <= LONGEST
            assert question.answer in question.passage and len(question.passage.encode()) <= PASSAGE
            assert question.passage.startswith(origin.name)
            assert question.named == (origin.name in question.question)
        assert {q.named for q in asked} == {True, False}
    assert questions(splits, seed=0) == made != questions(splits, seed=1)


def test_an_answer_known_from_training_is_not_asked_again() -> None:
    same = "Return the number of all the items found."
    splits = {
        "train": [document("numpy.a", same), document("numpy.b", "Constructs a BertConfig tokenizer from `path`.")],
        "test": [
            document("numpy.c", same),
            document("numpy.d", "Constructs a GPT2 tokenizer from `folder`."),
            document("numpy.e", "Sort the items of a list by their length."),
            document("numpy.f", "Sort the items of a list by their length."),
        ],
    }
    made = questions(splits, seed=0)
    assert {q.id for q in made["test"]} == {"numpy.e#named"}
    assert len(made["train"]) == 2


def test_twins_in_training_are_limited() -> None:
    many = [document(f"numpy.M{i}", f"Constructs a Model{i} tokenizer from a file.", kind="class") for i in range(9)]
    assert len(questions({"train": many}, seed=0)["train"]) == 3


def test_parameters_stand_for_a_name_only_where_they_are_unique() -> None:
    shared = [document(f"numpy.f{i}", d.body.split("\n\n")[0], ("x", "y")) for i, d in enumerate(library("numpy", 8))]
    assert [q for q in questions({"train": shared}, 0)["train"] if not q.named] == []
    alone = questions({"train": [*shared, document("numpy.g", "Take the shorter one of two lists.", ("s", "t"))]}, 0)
    (described,) = [q for q in alone["train"] if not q.named]
    assert "`s` and `t`" in described.question and "numpy.g" not in described.question


def test_choices_have_one_right_option_of_like_length() -> None:
    held_out = library("numpy", 50) + library("torch", 50)
    held_out += [document(f"numpy.g{i}", f"{VERBS[i]} a very " + "very " * 12 + "long list.") for i in range(10)]
    asked = questions({"test": held_out}, seed=0)["test"]
    items = choices(held_out, asked, seed=0)
    assert len(items) == len({q.answer for q in asked}) > 100
    by_id = {d.id: d for d in held_out}
    by_answer = {summary(d): d for d in held_out}
    places = [0, 0, 0, 0]
    for item in items:
        origin = by_id[item.id]
        answer = summary(origin)
        assert item.context == origin.text.split("\n\n")[0] + "\n\n"
        assert item.options[item.gold] == answer
        assert len(item.options) == 4 == len({shape(option) for option in item.options})
        assert all(0.7 * len(answer) <= len(option) <= 1.3 * len(answer) for option in item.options)
        assert all(same_package(by_answer[option], origin) for option in item.options)
        places[item.gold] += 1
    assert min(places) > len(items) / 8
    assert choices(held_out, asked, seed=0) == items != choices(held_out, asked, seed=1)


def test_an_item_without_enough_alternatives_is_left_out() -> None:
    few = library("numpy", 3)
    assert choices(few, questions({"test": few}, 0)["test"], 0) == []


def test_long_heading_and_long_text_still_hold_the_summary() -> None:
    parameters = tuple(f"parameter_number_{i}" for i in range(30))
    body = "Take the shorter one of two lists.\n\n" + "word " * 300
    (named, *_) = questions({"train": [document("numpy.g", body, parameters)]}, 0)["train"]
    assert "Take the shorter one of two lists." in named.passage and len(named.passage.encode()) <= PASSAGE
    assert re.search(r"word$", named.passage) and Path(named.id).name == "numpy.g#named"
