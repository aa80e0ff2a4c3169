"""OpenAssistant's trees of replies (Köpf et al. 2023): of each its best-ranked conversation.

A tree stands in one row, `{"message_tree_id": …, "prompt": {"text": …, "role": …, "replies": […]}}`, or a row is one
message, which names its parent by id. Roles and texts are read as those of every other message.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from journey.data.rows import Misfit, Records, Unusable

Row = dict[str, Any]
WITHDRAWN = ("aborted_low_grade", "halted_by_moderator")  # by a tree_state of OpenAssistant's: not meant to be learned


def is_tree(row: Row) -> bool:
    """Whether a row, its columns in lower case, is a tree."""
    prompt = row.get("prompt")
    return isinstance(prompt, dict) and ("replies" in prompt or "message_tree_id" in row)


def best_path(tree: Row, where: str) -> list[Row]:
    """The messages from a tree's prompt down: at each level the reply of the lowest rank, those without a rank after
    those with one and the first of equal ones, as far as the assistant's last.

    Deleted messages and those that reviewers refused as spam are no replies. Unusable for a tree that was withdrawn or
    begins with such a message, and for one without an answer.
    """
    if tree.get("tree_state") in WITHDRAWN:
        raise Unusable("withdrawn tree", f"{where}: this tree was given up ({tree['tree_state']})")
    here: Row | None = tree["prompt"]
    if here is None or not _stands(here):
        raise Unusable("deleted or spam", f"{where}: the tree's first message was deleted, or refused as spam")
    path = []
    while here is not None:
        path.append({key: value for key, value in here.items() if key in ("role", "text")})
        here = _best(here, f"{where}, reply {len(path)}")
    while path and path[-1].get("role") == "prompter":
        path.pop()
    if len(path) < 2:
        raise Unusable("no answer", f"{where}: nobody answers in this tree")
    return path


def _best(message: Row, where: str) -> Row | None:
    replies = message.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise Unusable("no message", f'{where}: "replies" is no list of messages')
    return min(filter(_stands, replies), key=_rank, default=None)


def _stands(message: Row) -> bool:
    return not message.get("deleted") and message.get("review_result") is not False


def _rank(message: Row) -> float:
    rank = message.get("rank")
    return rank if isinstance(rank, int | float) and rank == rank else float("inf")


def gathered(records: Iterable[tuple[str, object]]) -> Records:
    """The records as they are, but messages that name their parents: of these the trees, where the first of each
    stands, after all others, and a Misfit for each that hangs on none."""
    messages: dict[str, tuple[str, Row]] = {}
    for where, record in records:
        if not (isinstance(record, dict) and "message_id" in record and "parent_id" in record):
            yield where, record
        elif (name := str(record["message_id"])) in messages:
            yield where, Misfit("repeated message", f": a message {name[:40]!r} stands in {messages[name][0]} already")
        else:
            messages[name] = where, record | {"replies": []}
    yield from _trees(messages)


def _trees(messages: dict[str, tuple[str, Row]]) -> Iterator[tuple[str, Row | Misfit]]:
    roots = []
    for name, (_, message) in messages.items():
        if message["parent_id"] in (None, ""):
            roots.append(name)
        elif str(message["parent_id"]) in messages:
            messages[str(message["parent_id"])][1]["replies"].append(message)
    reached: set[int] = set()
    for name in roots:
        where, root = messages[name]
        waiting = [root]
        while waiting:
            message = waiting.pop()
            reached.add(id(message))
            waiting += message["replies"]
        about = {key: root[key] for key in ("tree_state", "lang") if root.get(key) is not None}
        yield where, {"message_tree_id": name, "prompt": root} | about
    for where, message in messages.values():
        if id(message) not in reached:
            yield where, _unreached(message, messages)


def _unreached(message: Row, messages: dict[str, tuple[str, Row]]) -> Misfit:
    """Why a message hangs on no tree: going up, some parent is missing, or one comes again."""
    seen: set[str] = set()
    while (parent := str(message["parent_id"])) in messages and parent not in seen:
        seen.add(parent)
        message = messages[parent][1]
    if parent in seen:
        return Misfit("parents in a circle", f": answers itself, by way of its parent {parent[:40]!r}")
    return Misfit("missing parent", f": answers a message {parent[:40]!r} that is not in the file")
