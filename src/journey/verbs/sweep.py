"""`journey sweep`: a recipe for every combination of listed values, compared in a measured number."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, UseAppendAction

from journey import machine, runner
from journey import recipe as recipes
from journey.console import clock
from journey.fields import Count
from journey.verbs.common import Result

RESULT = "sweep.json"
PAGE = "sweep.html"


def sweep(
    recipe: Annotated[Positional[str], tyro.conf.arg(metavar="RECIPE", help="a name or a file")],
    /,
    vary: Annotated[
        UseAppendAction[list[str]],
        tyro.conf.arg(metavar="KEY=A,B,…", help="vary a key of the recipe, beside what it varies itself"),
    ] = [],  # noqa: B006  (tyro reads the default, nobody changes it)
    seeds: Annotated[
        Count | None, tyro.conf.arg(help="trainings of each point (default: the recipe's, else 3)")
    ] = None,
    of: Annotated[
        str | None,
        tyro.conf.arg(metavar="STAGE", help="whose model is measured (default: the recipe's, else the last)"),
    ] = None,
    jobs: Annotated[Count | None, tyro.conf.arg(help="nodes at a time (default: one a core, or one a GPU)")] = None,
    workspace: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help="where (default: ./sweeps/<name>)")] = None,
    smoke: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="the small sweep that the recipe lists under `smoke`")
    ] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="show the plan and stop")] = False,
    set: Annotated[
        UseAppendAction[list[str]], tyro.conf.arg(metavar="KEY=VALUE", help="change a key of the recipe")
    ] = [],  # noqa: B006
) -> Result:
    """Run a recipe for every combination of listed values and several seeds, and compare what comes out.

    Nodes that points share are made once; what stands is skipped, and a killed sweep goes on.

    journey sweep vocab-size                                         what the vocabulary's size does to a model
    journey sweep vocab-size --dry-run                               its nodes, and how long they take
    journey sweep pocket --of base --vary stages.base.lr=0.01,0.02,0.04
    journey sweep pocket --of chat --vary stages.chat.epochs=1,2,4 --seeds 5 --set sweep.metrics=[answer_loss.none]
    """
    from journey.files import read_json, write_json, write_text
    from journey.sweep import numbers, plan, run
    from journey.sweep.board import make_board
    from journey.sweep.lines import lines
    from journey.sweep.page import page as html
    from journey.sweep.result import result

    n = (len(machine.gpus()) or machine.cores()) if jobs is None else jobs
    read = plan.read(recipes.find(recipe), set, smoke, vary, seeds, of)
    place = workspace or Path("sweeps") / read.name
    planned = plan.plan(read, place)
    asked = numbers.Asked.of(read.points[0].recipes[0], read.metrics, planned.texts, place)
    wanted = {item.id: asked for nodes in planned.measured for item in nodes}
    waiting = run.pending(planned.jobs, wanted)
    _print_plan(read, len(planned.jobs), len(waiting), sum(run.seconds(job, wanted) for job in waiting) / n, place, n)
    if dry_run:
        return Result(path=place, more={"points": [point.values for point in read.points], "nodes": len(waiting)})
    failed = {}
    with runner.alone(place):
        if waiting:
            runner.check_disk([job.item for job in waiting], place)
            failed = run.make(waiting, len(planned.jobs), wanted, n, make_board(n))
        found = result(read, planned.measured, asked, failed)
        page, data = place / PAGE, place / RESULT
        if not (data.exists() and page.exists() and read_json(data) == json.loads(json.dumps(found))):
            write_json(data, found)
            write_text(page, html(found))
    print("\n".join(lines(found)))
    print(f"page: {page}", file=sys.stderr)
    error = (
        f"{len(failed)} of {len(planned.jobs)} nodes failed: mend what is said above, and the same command goes on"
        if failed
        else None
    )
    return Result(path=page, metrics=_metrics(found), more={"sweep": found}, ok=not failed, error=error)


def _print_plan(read: Any, n_all: int, n_waiting: int, seconds: float, place: Path, n: int) -> None:
    axes = " × ".join(f"{len(axis.choices)} of {axis.name}" for axis in read.axes)
    print(f"{place}: {axes} × {len(read.seeds)} seeds, measured at {read.of}", file=sys.stderr)
    print(
        f"{n_waiting} of {n_all} nodes to make, {n} at a time, by an estimate {clock(seconds)}"
        if n_waiting
        else "nothing to do: nothing has changed",
        file=sys.stderr,
    )


def _metrics(found: dict[str, Any]) -> dict[str, Any]:
    """Each point's numbers on test, by its values: `vocab_size=512,budget=equal text.bits_per_byte.docs`."""
    return {
        ",".join(f"{axis}={value}" for axis, value in point["values"].items()) + f".{name}": metric["test"]
        for point in found["points"]
        for name, metric in point.get("metrics", {}).items()
    }
