"""A stage on the command line, outside a recipe."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes

from journey import measuring, runner
from journey.checkpoint import Node
from journey.console import make_console, seconds_of
from journey.data.sources import SOURCES
from journey.errors import JourneyError
from journey.fields import Seed, check_config
from journey.stages import load
from journey.stages.inputs import named, resolve, source_of
from journey.stages.run import Run
from journey.train.trackers import tracking
from journey.verbs.common import Result, TimeLimit, Track, Workspace, home


def stage_verb(name: str) -> Callable[..., Result]:
    """The verb of a stage: its config's fields as options, and the same call that a recipe makes."""
    stage = load(name)
    needs = stage.takes

    def verb(
        config: Any,
        out: Path,
        parent: str | None = None,
        seed: Seed = 0,
        workspace: Path | None = None,
        time_limit: str | None = None,
        fork: bool = False,
        track: Track = None,
    ) -> Result:
        check_config(config)
        measuring.check_taken(config)  # told before any work
        limit = seconds_of(time_limit) if time_limit else None
        parent = parent or getattr(config, "resume_from", None)  # its tokenizer
        if needs and not parent:
            raise JourneyError(f"--parent NODE is missing: a {needs} node, or a folder with one")
        found = runner.find_node(parent, home(workspace, must=False)) if parent else None
        stage.check(found)
        config, given = _with_nodes(config, workspace)
        console = make_console()
        with tracking(track), console.listening(limit):
            console.begin(out.name, name)
            run = Run(
                out,
                seed,
                console=console,
                given=given,
                take=measuring.through,
                timed=measuring.evaluated_with,
                fork=fork,
            )
            node = stage(found, config, run)
            console.end(out.name, f"{node.path}")
        print(node.path)
        return Result(node.id, node.path, node.lineage["metrics"])

    verb.__doc__ = f"{stage.__doc__}\n\n{stage.example}"
    verb.__annotations__ |= {
        "config": OmitArgPrefixes[stage.config],  # type: ignore[misc, name-defined]
        "out": Annotated[Path, tyro.conf.arg(metavar="DIR", help="the folder to make")],
        "parent": Annotated[
            str | None, tyro.conf.arg(metavar="NODE", help=f"the {needs} to start from" if needs else "none")
        ],
        "workspace": Workspace,
        "time_limit": TimeLimit,
        "fork": Annotated[
            bool,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.arg(help="begin anew, or go on, with other settings than what stands unfinished or is resumed"),
        ],
    }
    if not hasattr(stage.config, "lr"):  # it trains nothing that could be tracked
        shape = inspect.signature(verb)
        kept = [each for each in shape.parameters.values() if each.name != "track"]
        verb.__signature__ = shape.replace(parameters=kept)  # type: ignore[attr-defined]
    return verb


def _with_nodes(config: Any, workspace: Path | None) -> tuple[Any, dict[str, Node]]:
    """The config, with the folder of a node for each stage of the journey that it names, as in `--data docs`; as in a
    recipe, a stage comes before a file of that name, and `docs/` is the folder. And the nodes of the stages in a
    mixture, by field: its config stays as it is."""
    fields = [(field, input, value) for field, input, value in named(config) if source_of(value) not in SOURCES]
    if not fields or not ((place := home(workspace, must=False)) / runner.PLAN).exists():
        return config, {}
    kinds = {entry["name"]: load(entry["stage"]).makes for entry in runner.read_plan(place)["stages"]}
    found = {field: resolve(value, input, kinds) for field, input, value in fields}
    steps = {field: runner.stage_node(one.value, place) for field, one in found.items() if one and one.what == "step"}
    own = [field.name for field in dataclasses.fields(config)]
    folders = {field: str(node.path) for field, node in steps.items() if node and field in own}
    return dataclasses.replace(config, **folders), {f: node for f, node in steps.items() if node and f not in own}
