"""What verbs share: their result, and finding what a person names."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from journey import runner
from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.model.opening import is_seq2seq, read_config
from journey.pair import open_pair
from journey.train.trackers import TrackerName

Workspace = Annotated[
    Path | None, tyro.conf.arg(metavar="DIR", help="the journey's folder (default: the one in ./journeys)")
]
Track = Annotated[
    TrackerName | None,
    tyro.conf.arg(help="show trainings there too: an extra; JOURNEY_TRACK says it for every command"),
]

TimeLimit = Annotated[
    str | None, tyro.conf.arg(metavar="TIME", help="stop cleanly after 45s, 30m, 2h; the same command goes on")
]


@dataclasses.dataclass
class Result:
    """What a verb has to say; `--json` prints it as one object."""

    node: str | None = None
    path: Path | None = None
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    more: dict[str, Any] = dataclasses.field(default_factory=dict)  # keys of one verb alone
    ok: bool = True
    error: str | None = None
    bad_input: bool = False

    def json(self, verb: str, encoding: str = "utf-8") -> str:
        """The one shape of every verb; what an encoding does not have is escaped."""
        shape = {
            "ok": self.ok,
            "verb": verb,
            "node": self.node,
            "path": str(self.path) if self.path else None,
            "metrics": self.metrics,
            "error": self.error,
        }
        line = json.dumps(shape | self.more, ensure_ascii=False)
        try:
            line.encode(encoding)
        except UnicodeEncodeError:
            line = json.dumps(shape | self.more)
        return line


def for_program() -> bool:
    """Whether --json was given: what is for people then goes where errors go."""
    return sys.stdout is sys.stderr


def home(workspace: Path | None, must: bool = True) -> Path:
    """The workspace that a verb means: the one given, or the only one in ./journeys."""
    if workspace:
        return workspace
    found = sorted(path.parent for path in Path("journeys").glob(f"*/{runner.PLAN}"))
    if len(found) > 1:
        raise JourneyError(f"several journeys are here: say --workspace {' or '.join(map(str, found))}")
    if not found and must:
        raise JourneyError("no journey here: `journey run` makes one, or give --workspace DIR")
    return found[0] if found else Path("journeys")


def open_model(name: str, workspace: Path | None) -> tuple[Node, Any, Any]:
    """A node with its model and tokenizer loaded. Errors: those of `find_gpt`."""
    node = find_gpt(name, workspace)
    return node, *open_pair(node.path)


def find_gpt(name: str, workspace: Path | None) -> Node:
    """A node that holds a GPT. Errors: JourneyError when it holds no weights, or no GPT's."""
    node = find_model(name, workspace)
    if translates(node):
        raise JourneyError(
            f'{node.path} is an encoder–decoder, this wants a GPT: `journey generate {name} "TEXT"` translates with it'
        )
    return node


def find_model(name: str, workspace: Path | None) -> Node:
    """A node that holds weights, whatever model they are of. Errors: JourneyError when it holds none."""
    node = runner.find_node(name, home(workspace, must=False))
    if not node.is_model:
        raise JourneyError(f"{node.path} holds no weights: it is a {node.stage} node")
    return node


def check_page(html: Path | None) -> None:
    """JourneyError for what cannot be written as a page. A rename would put it in the place of a device or a pipe, for
    every program on the machine."""
    if html and (not html.parent.is_dir() or (os.path.lexists(html) and not html.is_file())):
        raise JourneyError(f"cannot write {html}: --html names a file, in a folder that exists")


def translates(node: Node) -> bool:
    """Whether a model is an encoder–decoder, as the stage seq2seq makes them."""
    return (node.path / "config.json").exists() and is_seq2seq(read_config(node.path))
