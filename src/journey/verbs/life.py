"""A journey: run it, draw it, report it."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from journey import recipe as recipes
from journey import runner
from journey.checkpoint import made_nodes, verdict
from journey.console import clock, make_console, seconds_of
from journey.machine import device, gpus
from journey.stages.cost import parameters
from journey.stages.import_ import Import
from journey.stages.pretrain import Pretrain
from journey.stages.sft import SFT
from journey.stages.tokenizer import TokenizerConfig
from journey.stages.training import SMALL, Training, chosen_precision
from journey.train.trackers import tracking
from journey.verbs.common import Result, TimeLimit, Track, Workspace, home

if TYPE_CHECKING:
    from journey.model.config import GPTConfig


def run(
    recipe: Annotated[Positional[str], tyro.conf.arg(metavar="RECIPE", help="a name or a file")] = "pocket",
    /,
    workspace: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help="where (default: ./journeys/<name>)")] = None,
    until: Annotated[str | None, tyro.conf.arg(metavar="STAGE", help="stop after this stage")] = None,
    from_: Annotated[
        str | None, tyro.conf.arg(name="from", metavar="STAGE", help="make this stage and what follows anew")
    ] = None,
    smoke: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="the small life that the recipe lists under `smoke`")
    ] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="show the plan and stop")] = False,
    set: Annotated[
        tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="KEY=VALUE", help="change a key of the recipe")
    ] = [],  # noqa: B006  (tyro reads the default, nobody changes it)
    time_limit: TimeLimit = None,
    track: Track = None,
) -> Result:
    """Run a recipe: plan it, skip what stands, make and measure the rest, and write the report.

    journey run                                      the pocket life
    journey run pocket --dry-run                     the plan, with time and disk
    journey run my-gpt2 --smoke                      all of it with a few steps each, to see that it works
    journey run my.yaml --until base
    journey run gpt2-124m --time-limit 8h            a night's work; the next night goes on
    journey run --set stages.base.tokens=200_000 --set stages.base.data=my-texts/
    journey run --track tensorboard                  `journey watch` shows it without
    """
    from journey import life

    limit = seconds_of(time_limit) if time_limit else None
    read = recipes.read(recipes.find(recipe), set, smoke)
    place = workspace or Path("journeys") / read.name
    planned = runner.plan(read, place, until, from_)
    todo = [item for item in planned if item.waits]
    cost = runner.remaining(planned)
    _print_plan(planned, place, cost)
    if dry_run:
        ids = [
            {
                "name": i.step.name,
                "stage": i.step.stage,
                "id": i.id,
                "done": i.done,
                "reason": i.reason,
                "older": i.older,
            }
            for i in planned
        ]
        return Result(path=place, more={"nodes": ids, "seconds": round(cost.seconds), "bytes": round(cost.bytes)})
    with tracking(track):
        nodes = runner.make(read, planned, place, make_console(), limit)
    page = place / "report.html"
    if runner.is_stale(page, place):
        page = life.build(place)
        print(f"report: {page}", file=sys.stderr)
    else:
        print(f"nothing to do: nothing has changed since {place} was made (report: {page})", file=sys.stderr)
    return Result(nodes[-1].id, page, nodes[-1].lineage["metrics"], {"made": [item.step.name for item in todo]})


def _print_plan(planned: list[runner.Planned], place: Path, cost: runner.Cost) -> None:
    older = [item.step.name for item in planned if item.older]
    if len(older) == 1:
        print(f"{older[0]}: made by older code, kept; `--from {older[0]}` makes it anew", file=sys.stderr)
    elif older:
        names = ", ".join(older)
        print(f"{names}: made by older code, kept; `--from NAME` makes one anew, and what follows", file=sys.stderr)
    waiting = [item for item in planned if item.waits]
    if not waiting:
        return
    print(f"{place}: {len(waiting)} of {len(planned)} stages to make", file=sys.stderr)
    for item in planned:
        state = "done" if item.done else "not asked for"
        if item.waits:
            state = f"about {clock(item.cost.seconds)}, {item.cost.bytes / 1e6:,.0f} MB"
            state = f"{state:<22}  {item.reason}"
        print(f"  {item.step.name:<14} {item.step.stage:<10} {item.id[:10]}  {state}", file=sys.stderr)
    print(f"in all about {clock(cost.seconds)} and {cost.bytes / 1e6:,.0f} MB", file=sys.stderr)
    for line in (*_precisions(waiting), *_rates(planned), *_memory(planned)):
        print(line, file=sys.stderr)


def _precisions(waiting: list[runner.Planned]) -> Iterator[str]:
    """What each training will multiply in, where that is for the machine to say and the model is not a small one."""
    for item in waiting:
        config = item.step.config
        n = parameters([config, *item.before]) if isinstance(config, Training) else None
        if n is not None and (gpus() or n >= SMALL):  # torch, which takes seconds to import, is asked only then
            precision, why = chosen_precision(config, device(), n)
            yield f"{item.step.name} in {precision}: {why}"


def _rates(planned: list[runner.Planned]) -> Iterator[str]:
    """The settings of each training that follow from its parent's size, as far as they are known before."""
    for item in planned:
        if item.waits and hasattr(item.step.config, "following"):
            shape = _shape(item, planned)
            for line in item.step.config.following(shape and shape.n_params, item.before):
                yield f"{item.step.name}: {line}"


def _memory(planned: list[runner.Planned]) -> Iterator[str]:
    """What each training of an adapter beside four bits will take, of the model for which a small random one stands."""
    from journey.model.sizes import RANDOM_LLAMA, llama_31_8b

    for item in planned:
        if item.waits and isinstance(config := item.step.config, SFT) and (adapter := config.adapting()):
            start = next((each for each in item.before if isinstance(each, Import)), None)
            stands = start is not None and start.path == RANDOM_LLAMA
            shape = (llama_31_8b() if stands else _shape(item, planned)) if adapter.quantize else None
            if shape is None:
                continue
            if start and start.n_ctx:
                shape = dataclasses.replace(shape, n_ctx=start.n_ctx)
            if stands:
                yield f"{item.step.name}: {RANDOM_LLAMA} is tiny; the model that it stands for, Llama 3.1 8B, takes"
            yield from (f"{item.step.name}: {line}" for line in config.memory(shape))


def _shape(item: runner.Planned, planned: list[runner.Planned]) -> "GPTConfig | None":
    """Of the model that a training goes on from; None where a checkpoint from elsewhere has yet to say."""
    from journey.model.huggingface import load_config

    (name,) = item.step.parents
    made = [Path(name), *(other.path for other in planned if other.step.name == name and other.done)]
    made += [Path(config.path) for config in item.before if isinstance(config, Import)]
    if folder := next((folder for folder in made if (folder / "config.json").is_file()), None):
        return load_config(folder)
    shape = next((config for config in item.before if isinstance(config, Pretrain)), None)
    vocab_size = next((config.vocab_size for config in item.before if isinstance(config, TokenizerConfig)), None)
    return shape.shape(vocab_size) if shape and vocab_size else None


def verify(
    nodes: Annotated[
        Positional[list[str]], tyro.conf.arg(metavar="NODE", help="stages' names, beginnings of ids, or folders")
    ] = [],  # noqa: B006  (tyro reads the default, nobody changes it)
    /,
    workspace: Workspace = None,
) -> Result:
    """Read every file of every node again, and compare it with the hash that the node was finished with.

    Opening a node compares what has changed by its size and time; this reads all.

    journey verify                  every node of this journey
    journey verify base path/to/node
    """
    place = home(workspace, must=not nodes)
    found = []
    for node in [runner.look_up(name, place) for name in nodes] or made_nodes(place / "nodes"):
        altered = verdict(node, anew=True)
        print(altered or f"{node.path}: {len(node.lineage['files'])} files as they were made")
        found.append({"path": str(node.path), "altered": altered})
    bad = sum(one["altered"] is not None for one in found)
    error = f"{bad} of {len(found)} nodes are not as they were made" if bad else None
    return Result(path=place, more={"nodes": found}, ok=not bad, error=error, bad_input=True)


def tree(workspace: Workspace = None) -> Result:
    """Draw which node was made from which, with what each one holds.

    journey tree
    journey tree --json
    """
    from journey.tree import draw, entries

    place = home(workspace)
    nodes = entries(place)
    print(draw(nodes))
    return Result(path=place, more={"nodes": nodes})


def report(workspace: Workspace = None) -> Result:
    """Write the report: one HTML file that shows what each stage changed.

    journey report
    """
    from journey import life

    page = life.build(home(workspace))
    print(page)
    return Result(path=page)
