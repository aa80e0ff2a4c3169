"""`journey eval --suite`: nodes asked a suite of one's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from journey import measuring, runner
from journey.checkpoint import Node
from journey.console import Console
from journey.errors import JourneyError
from journey.evaluate.suite import running, views
from journey.evaluate.suite.reading import Suite, read
from journey.evaluate.suite.subject import Model
from journey.evaluating.options import Options
from journey.files import digest, write_json, write_text
from journey.machine import device
from journey.pair import open_pair

Rows = Sequence[Mapping[str, Any]]
TEACHING = ("sft", "dpo")  # stages that teach the chat format


@dataclass(frozen=True)
class Answered:
    """What came of a suite: of each node its rows (`running.run`), its views, and whether it was asked in the chat
    format; against the baseline the items that flipped."""

    suite: Suite
    baseline: str
    rows: Mapping[str, Rows]
    screens: Mapping[str, Mapping[str, Any]]
    in_chat: Mapping[str, bool]
    flips: Mapping[str, Mapping[str, Sequence[str]]]


def run(nodes: Sequence[str], options: Options, workspace: Path, out: Path, console: Console) -> Answered:
    """Ask every node, and write `suite.html` and `suite.json` into `out`. What a node has answered is kept there, and
    not asked again.

    Errors: JourneyError for what is wrong in the suite, by its line, and for a node that is no GPT.
    """
    from journey.evaluating.suite_page import page

    assert options.suite is not None
    suite = read(options.suite)
    baseline = options.baseline_of(nodes)
    found = {name: runner.find_node(name, workspace) for name in nodes}
    folder = out / "suites" / digest([suite.name, str(options.suite.resolve())])[:12]
    folder.mkdir(parents=True, exist_ok=True)
    judge = options.judge_of(folder / "judge.jsonl")
    rows: dict[str, Rows] = {}
    in_chat = {}
    for name, node in found.items():
        console.begin(name, f"asked {suite.name}")
        in_chat[name] = options.chat or taught(node)
        progress = partial(measuring.progress, console, name)
        subject = subject_of(node, name, in_chat[name])
        rows[name] = running.run(suite, subject, folder / f"{node.id[:12]}.jsonl", judge, progress)
        console.end(name, f"{suite.name}: {_passed(rows[name])}")
    made = Answered(
        suite,
        baseline,
        rows,
        {name: views.screen(each, suite.toxic) for name, each in rows.items()},
        in_chat,
        {name: running.flips(rows[baseline], each) for name, each in rows.items() if name != baseline},
    )
    write_text(out / "suite.html", page(made))
    write_json(out / "suite.json", as_json(made))
    return made


def subject_of(node: Node, name: str, in_chat: bool) -> Model:
    """A node as it is asked. Errors: JourneyError for one that is no GPT."""
    if not node.is_model:
        raise JourneyError(f"{name} is a {node.stage} node: only models can be asked")
    model, tokenizer = open_pair(node.path)
    weights = node.lineage.get("weights_sha256") or node.id
    return Model(weights, model.to(device()), tokenizer, in_chat)


def taught(node: Node) -> bool:
    """Whether a node, or one that it was made from, learned the chat format."""
    return any(other.stage in TEACHING for other in runner.ancestors(node))


def _passed(rows: Rows) -> str:
    found = views.accuracy(rows)
    return f"{found['passed']} of {found['n']} items pass"


def as_json(made: Answered) -> dict[str, Any]:
    """All of it, for a file."""
    return {
        "suite": made.suite.name,
        "baseline": made.baseline,
        "screens": made.screens,
        "in_chat": made.in_chat,
        "flips": made.flips,
        "conventions": views.CONVENTIONS | {"asked": running.CONVENTION},
        "rows": made.rows,
    }
