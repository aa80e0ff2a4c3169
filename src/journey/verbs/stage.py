"""A stage on the command line, outside a recipe."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes

from journey import runner
from journey.checkpoint import Node
from journey.console import make_console
from journey.data.sources import SOURCES
from journey.errors import JourneyError
from journey.stages import load
from journey.stages.run import Run, corpus_fields, source_of
from journey.verbs.common import Result, Workspace, home


def stage_verb(name: str) -> Callable[..., Result]:
    """The verb of a stage: its config's fields as options, and the same call that a recipe makes."""
    function, config_class = load(name)
    from journey.stages import STAGES

    needs = STAGES[name][1]

    def verb(config: Any, out: Path, parent: str | None = None, seed: int = 0, workspace: Path | None = None) -> Result:
        if needs and not parent:
            raise JourneyError(f"--parent NODE is missing: a {needs} node, or a folder with one")
        found = runner.find_node(parent, home(workspace, must=False)) if parent else None
        config = _with_nodes(config, workspace)
        console = make_console()
        with console.listening():
            console.begin(out.name, name)
            node = function(found, config, Run(out, seed, console=console))
            console.end(out.name, f"{node.path}")
        print(node.path)
        return Result(node.id, node.path, node.lineage["metrics"])

    verb.__doc__ = _stage_manual(name, function)
    verb.__annotations__ |= {
        "config": OmitArgPrefixes[config_class],  # type: ignore[misc, valid-type]
        "out": Annotated[Path, tyro.conf.arg(metavar="DIR", help="the folder to make")],
        "parent": Annotated[
            str | None, tyro.conf.arg(metavar="NODE", help=f"the {needs} to start from" if needs else "none")
        ],
        "workspace": Workspace,
    }
    return verb


def _with_nodes(config: Any, workspace: Path | None) -> Any:
    """The config, with the folder of a node for each stage of the journey that it names, as in `--data docs`; as in a
    recipe, a stage comes before a file of that name, and `docs/` is the folder."""
    named = {field: value for field, value in corpus_fields(config).items() if source_of(value) not in SOURCES}
    if not named or not ((place := home(workspace, must=False)) / runner.PLAN).exists():
        return config
    found = {field: runner.stage_node(value, place) for field, value in named.items()}
    return dataclasses.replace(config, **{field: str(node.path) for field, node in found.items() if node})


def _stage_manual(name: str, function: Callable[..., Node]) -> str:
    examples = {
        "text": "journey text --source my-texts/ --out text",
        "tokenizer": "journey tokenizer train --data my-texts/ --vocab-size 4096 --out tok",
        "prepare": "journey data prepare tok --data my-texts/ --out tokens\n"
        "journey pretrain --parent tok --data tokens --tokens 1000000 --out base",
        "pretrain": "journey pretrain --parent tok --data my-texts/ --tokens 1000000 --out base",
        "continue": "journey continue --parent base --data my-code/ --replay-data my-texts/ --out coder",
        "sft": "journey sft --parent base --data questions.jsonl --out chat",
        "pairs": "journey pairs --parent chat --data questions.jsonl --out pairs",
        "dpo": "journey dpo --parent chat --data pairs --out preferred",
        "quantize": "journey quantize --parent preferred --types f16 q8_0 q4_0 --out gguf",
        "index": "journey index --parent preferred --data my-texts/ --out index",
        "import": "journey import ckpt.pt --out mine",
    }
    return f"{function.__doc__}\n\n{examples[name]}"
