"""OpenAssistant's trees, in its own columns: as trees, and as messages that name their parents."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.data.conversations import load
from journey.data.openassistant import best_path
from journey.data.rows import Unusable
from journey.errors import JourneyError

Row = dict[str, Any]
NUMBERS = count()


def message(text: str, role: str, *replies: Row, **more: Any) -> Row:
    """As in the release: `rank` is there of those that were ranked."""
    kept = {
        "message_id": f"{text}-{next(NUMBERS)}",
        "text": text,
        "role": role,
        "lang": "en",
        "deleted": False,
        "synthetic": False,
    }
    return kept | {"review_result": True} | more | {"replies": list(replies)}


def prompt(text: str, *replies: Row, **more: Any) -> Row:
    return message(text, "prompter", *replies, **more)


def answer(text: str, *replies: Row, **more: Any) -> Row:
    return message(text, "assistant", *replies, **more)


def tree(root: Row, **more: Any) -> Row:
    return {"message_tree_id": root["message_id"], "tree_state": "ready_for_export", "prompt": root} | more


def flat(row: Row) -> list[Row]:
    """The messages of a tree as rows of the flat file."""
    found: list[Row] = []

    def walk(here: Row, parent: str | None) -> None:
        about = {"parent_id": parent, "message_tree_id": row["message_tree_id"], "tree_state": row["tree_state"]}
        found.append({key: value for key, value in here.items() if key != "replies"} | about)
        for reply in here["replies"]:
            walk(reply, here["message_id"])

    walk(row["prompt"], None)
    return found


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def both(folder: Path, *trees: Row) -> list[Path]:
    """The same trees in both forms of file. Of the flat one only the order of prompts and of siblings matters."""
    rows = [row for tree in trees for row in flat(tree)]
    rows.sort(key=lambda row: (row["parent_id"] is not None, row["role"]))
    return [write(folder / "a.trees.jsonl", list(trees)), write(folder / "a.messages.jsonl", rows)]


ONE = tree(
    prompt(
        "Q",
        answer("second", rank=1),
        answer("unranked"),
        answer("best", prompt("bad", rank=2), prompt("more?", answer("yes"), answer("no"), rank=1), rank=0),
        answer("deleted", rank=-1, deleted=True),
        answer("spam", rank=-2, review_result=False),
    )
)
BEST = [("user", "Q"), ("assistant", "best"), ("user", "more?"), ("assistant", "yes")]


def test_the_best_ranked_path_of_both_forms(tmp_path: Path) -> None:
    other = tree(prompt("R", answer("unreviewed", prompt("open"), review_result=None), lang="de"))
    for path in both(tmp_path, ONE, other):
        said = list[str]()
        found, left_out = load(path, say=said.append)
        assert [[(m["role"], m["content"]) for m in one] for one in found] == [
            BEST,
            [("user", "R"), ("assistant", "unreviewed")],  # it ends with the assistant
        ]
        assert not left_out
        assert said == [f"{path}: a tree of replies -> its best-ranked path (OpenAssistant): 2 conversations"]


def test_one_language(tmp_path: Path) -> None:
    trees = [tree(prompt(f"Q{i}", answer("A"), lang=lang)) for i, lang in enumerate(["en", "de", "pt-BR", "en", "pt"])]
    for path in both(tmp_path, *trees):
        for language, n in (("en", 2), ("DE", 1), ("pt", 2), ("pt-BR", 1), ("pt_br", 1)):
            said = list[str]()
            assert len(load(f"{path}:{language}", say=said.append)[0]) == n
            assert said[-1].startswith(f"{path}:{language}: {5 - n} rows in another language than ")
        with pytest.raises(JourneyError, match=r":fr: no rows in fr \(there are en: 2, de: 1, pt-br: 1, pt: 1\)"):
            load(f"{path}:fr")


BROKEN = [
    (tree(prompt("Q")), "no answer", ": nobody answers in this tree"),
    (tree(prompt("Q", answer("A", deleted=True))), "no answer", ": nobody answers in this tree"),
    (tree(prompt("Q", answer("A"), deleted=True)), "deleted or spam", ": the tree's first message was deleted"),
    (tree(prompt("Q", answer("A"), review_result=False)), "deleted or spam", ": the tree's first message was deleted"),
    (tree(prompt("Q", answer("A")), tree_state="aborted_low_grade"), "withdrawn tree", ": this tree was given up"),
    (tree(prompt("Q", answer(" "))), "empty answer", ": an answer is empty"),
    (tree(prompt("Q", answer("A") | {"text": None})), "empty answer", ', message 2: "content" is null'),
    (tree(prompt("Q", answer("A") | {"role": "boss"})), "unknown role", ', message 2: the role "boss"'),
]


@pytest.mark.parametrize(("row", "kind", "says"), BROKEN)
def test_a_broken_tree_is_left_out_and_counted(tmp_path: Path, row: Row, kind: str, says: str) -> None:
    for path in both(tmp_path, ONE, row):
        said = list[str]()
        found, left_out = load(path, say=said.append)
        assert len(found) == 1 and left_out == {kind: 1}
        assert said[2].startswith(f"  left out: {path}, line 2{says}")
        with pytest.raises(JourneyError, match=", line 2"):
            load(path, strict=True)


def test_replies_of_the_wrong_role_are_put_in_order_and_told(tmp_path: Path) -> None:
    twice = tree(prompt("Q", prompt("and", answer("A", answer("B")))))
    for path in both(tmp_path, ONE, twice):
        said = list[str]()
        found, _ = load(path, say=said.append)
        assert [m["content"] for m in found[1]] == ["Q\n\nand", "A\n\nB"]
        assert said[1:] == [
            f"{path}: roles out of order (joined what one says in a row: 1)",
            f"  put in order: {path}, line 2: messages 1 and 2 are both the user's",
        ]


def test_messages_that_hang_on_no_tree(tmp_path: Path) -> None:
    rows = flat(ONE)
    lost = [
        {"message_id": "o1", "parent_id": "gone", "text": "x", "role": "assistant"},
        {"message_id": "o2", "parent_id": "o1", "text": "x", "role": "prompter"},
        {"message_id": "c1", "parent_id": "c2", "text": "x", "role": "assistant"},
        {"message_id": "c2", "parent_id": "c1", "text": "x", "role": "assistant"},
        {"message_id": "c3", "parent_id": "c2", "text": "x", "role": "assistant"},
        {"message_id": "self", "parent_id": "self", "text": "x", "role": "assistant"},
        rows[3],
    ]
    path, said = write(tmp_path / "a.jsonl", [*lost[:3], *rows, *lost[3:]]), list[str]()
    found, left_out = load(path, say=said.append)
    assert [m["content"] for m in found[0]] == [content for _, content in BEST]
    assert left_out == {"missing parent": 2, "parents in a circle": 4, "repeated message": 1}
    assert f"  left out: {path}, line 1: answers a message 'gone' that is not in the file" in said
    with pytest.raises(JourneyError, match=r"line \d+: a message 'best-\d+' stands in line 7 already"):
        load(path, strict=True)


RANKS = st.none() | st.integers(0, 3)


@st.composite
def trees(draw: st.DrawFn, role: str = "prompter", depth: int = 4) -> Row:
    other = "assistant" if role == "prompter" else "prompter"
    replies = draw(st.lists(trees(other, depth - 1), max_size=3)) if depth else []
    named = {"message_id": draw(st.uuids()).hex, "rank": draw(RANKS), "text": draw(st.sampled_from("abc"))}
    flags = {
        "deleted": draw(st.booleans()) and draw(st.booleans()),
        "review_result": draw(st.sampled_from([None, True])),
    }
    return named | flags | {"role": role, "replies": replies}


@given(trees())
@settings(max_examples=200, deadline=None)
def test_of_any_tree_the_path_is_one_and_of_the_lowest_ranks(root: Row) -> None:
    def rank(reply: Row) -> float:
        return float("inf") if reply["rank"] is None else reply["rank"]

    def standing(here: Row) -> list[Row]:
        return [reply for reply in here["replies"] if not reply["deleted"]]

    try:
        path = best_path({"prompt": root}, "here")
    except Unusable:
        assert root["deleted"] or not standing(root)
        return
    assert path[0] == {"role": "prompter", "text": root["text"]} and path[-1]["role"] == "assistant"
    here = root
    for said in path[1:]:
        replies = standing(here)
        here = next(reply for reply in replies if rank(reply) == min(map(rank, replies)))  # the first of equal ones
        assert said == {"role": here["role"], "text": here["text"]}
    left = standing(here)  # after the end there is nothing, or a question that nobody answers
    assert not left or not standing(next(r for r in left if rank(r) == min(map(rank, left))))
