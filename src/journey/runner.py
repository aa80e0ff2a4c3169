"""Running a recipe: plan, skip what stands, make the rest, measure every model, and go on after a kill."""

import dataclasses
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from journey import reasons
from journey.checkpoint import LINEAGE, Node, look_at, made_nodes, open_node
from journey.console import Console, clock
from journey.errors import JourneyError, nearest
from journey.files import holds, read_json, write_json
from journey.recipe import Recipe, Step
from journey.stages import load
from journey.stages.cost import MEASURING, Cost
from journey.stages.inputs import inputs_of
from journey.stages.run import Run

PLAN = "plan.json"
# What plan.json holds, and of each stage.
_PLANNED = {"recipe": str, "seed": int, "stages": list, "measure": dict, "expect": dict}
_ENTRY = {"name": str, "stage": str, "id": str, "path": str, "parents": list, "data": list}
FORMAT = 2  # of plan.json and of the ids in it
_SPARE_DISK = 200e6  # bytes that must stay free beside what the plan needs


@dataclasses.dataclass(frozen=True)
class Planned:
    """A step with the id of what it will make, where that stands or will stand, and what it should cost."""

    step: Step
    id: str
    path: Path
    before: tuple[Any, ...] = ()  # the configs of its ancestors, nearest first
    reason: str = ""  # why it has to be made
    redo: bool = False  # make it although it stands
    wanted: bool = True  # False: it comes after the stage that this run ends with

    @property
    def done(self) -> bool:
        """Whether the node stands, whole: a folder is put in place only when it is."""
        return (self.path / LINEAGE).exists() and not self.redo

    @cached_property
    def older(self) -> bool:
        """Whether it stands, made by other code than today's under the same version."""
        return self.done and open_node(self.path).lineage["source"] != load(self.step.stage).source

    @cached_property
    def cost(self) -> Cost:
        """What making it should cost."""
        cost: Cost = self.step.config.cost(self.before)
        return cost

    @property
    def waits(self) -> bool:
        """Whether this run has to make it."""
        return self.wanted and not self.done


def plan(
    recipe: Recipe,
    workspace: Path,
    until: str | None = None,
    from_: str | None = None,
    memo: dict[str, dict[str, str]] | None = None,
) -> list[Planned]:
    """What would be made, in order. Ids follow from what goes in, so nothing has to run to know them.

    `until` makes nothing that this stage does not need; `from_` makes that stage and all that follow from it anew.
    `memo` keeps what data stands for, for the next of many alike recipes: for a text, all its files are read.
    """
    plan = standing_plan(workspace)
    last = {entry["name"]: entry for entry in plan["stages"]} if plan else {}
    memo = {} if memo is None else memo
    wanted = _needed(recipe, until) if until else {step.name for step in recipe.steps}
    anew = {recipe.step(from_).name} if from_ else set()
    ids: dict[str, str] = {}
    configs: dict[str, tuple[Any, ...]] = {}
    planned = []
    for step in recipe.steps:
        parents = [ids[name] if name in ids else open_node(name).id for name in step.parents]
        given = {field: ids[name] if name in ids else open_node(name).id for field, name in step.given.items()}
        key = repr((step.config, given))
        if key not in memo:
            memo[key] = inputs_of(step.config, given)
        ids[step.name] = id = load(step.stage).id(step.config, parents, memo[key], step.seed)
        before = tuple(config for name in step.parents for config in configs.get(name, ()))
        configs[step.name] = (step.config, *before)
        path = workspace / "nodes" / f"{step.name}-{id[:10]}"
        if step.name in anew:
            why = "asked for"
        elif anew & {*step.parents, *step.given.values()}:
            why = reasons.remade(step, anew)
            anew.add(step.name)
        elif (path / LINEAGE).exists():
            why = ""
            if step.name in wanted:
                open_node(path)  # altered, it is told here, before any work
        else:
            why = reasons.reason(step, id, parents, memo[key], workspace, last.get(step.name))
        redo, asked = step.name in anew, step.name in wanted
        planned.append(Planned(step, id, path, before, why, redo=redo, wanted=asked))
    return planned


def _needed(recipe: Recipe, name: str) -> set[str]:
    """A step and everything it is made from, and every text, on which each model is measured."""
    names = {step.name for step in recipe.steps}
    needed: set[str] = {step.name for step in recipe.steps if step.stage == "text"}
    waiting = [recipe.step(name).name]
    while waiting:
        step = recipe.step(waiting.pop())
        needed.add(step.name)
        waiting += names & {*step.parents, *step.given.values()}
    return needed


def make(
    recipe: Recipe, planned: list[Planned], workspace: Path, console: Console, time_limit: float | None = None
) -> list[Node]:
    """Make what is not there, measure every model on every text, and return the nodes. `time_limit`, in seconds, ends
    the run as Ctrl-C does.

    Errors: JourneyError when another run holds the workspace, it cannot be written, or the disk is too small.
    Raises `stages.run.Stopped` after Ctrl-C, with everything saved.
    """
    from journey import measuring

    with alone(workspace), console.listening(time_limit):
        check_disk(planned, workspace)
        _write_plan(recipe, planned, workspace)
        nodes: dict[str, Node] = {}
        texts: dict[str, Node] = {}
        for number, item in enumerate(planned, 1):
            if not item.wanted:
                continue
            step = item.step
            parent = next((_node(name, nodes) for name in step.parents), None)
            if item.done:
                node = open_node(item.path)
            else:
                console.begin(step.name, f"{step.stage}, stage {number} of {len(planned)}")
                given = {field: _node(name, nodes) for field, name in step.given.items()}
                run = Run(
                    item.path,
                    step.seed,
                    step.name,
                    console,
                    given,
                    again=item.redo,
                    take=measuring.through,
                    timed=measuring.evaluated_with,
                    fork=True,
                )
                node = load(step.stage)(parent, step.config, run)
                console.end(step.name, _summary(node))
            nodes[step.name] = node
            if step.stage == "text":
                texts[step.name] = node
            before = parent if parent and parent.is_model else None
            found = measuring.take(node, before, texts, workspace, recipe.measuring, seed=recipe.seed, console=console)
            if found.new:
                console.end(node.name, f"measured in {found.seconds:.0f} s: {measuring.brief(found.taken) or 'done'}")
        return list(nodes.values())


def _node(name: str, made: dict[str, Node]) -> Node:
    """The node of a step above, or of a folder."""
    return made[name] if name in made else open_node(name)


def _summary(node: Node) -> str:
    """`0:42, 1,000,000 tokens`, for the line of a finished stage."""
    lineage = node.lineage
    parts = [clock(lineage["seconds"]), f"{lineage['peak_memory'] / 1e9:.1f} GB"]
    if lineage["tokens"]:
        parts.append(f"{lineage['tokens']:,} tokens")
    shown = [key for key in lineage["metrics"] if key.startswith(("dev_", "bytes_per", "documents"))]
    parts += [f"{key.replace('_', ' ')} {lineage['metrics'][key]['value']:,.4g}" for key in shown[:3]]
    return ", ".join(parts)


def remaining(planned: list[Planned]) -> Cost:
    """Estimated seconds and bytes of what is still to be made, measuring included."""
    waiting = [item for item in planned if item.waits]
    measured = sum(load(item.step.stage).makes == "model" for item in waiting)
    return Cost(
        sum(item.cost.seconds for item in waiting) + MEASURING * measured, sum(item.cost.bytes for item in waiting)
    )


def check_disk(planned: list[Planned], workspace: Path) -> None:
    """A disk without room for what the plan still makes raises JourneyError."""
    need, free = remaining(planned).bytes, shutil.disk_usage(workspace).free
    if need and free < need + _SPARE_DISK:
        raise JourneyError(
            f"too little disk: {free / 1e6:,.0f} MB free at {workspace}, the plan needs about "
            f"{(need + _SPARE_DISK) / 1e6:,.0f} MB: free some, or give --workspace on another disk"
        )


def _write_plan(recipe: Recipe, planned: list[Planned], workspace: Path) -> None:
    stages = [
        {
            "name": item.step.name,
            "stage": item.step.stage,
            "id": item.id,
            "path": str(item.path.relative_to(workspace)),
            "parents": list(item.step.parents),
            "data": list(dict.fromkeys(item.step.given.values())),
        }
        for item in planned
    ]
    expected = {name: [dataclasses.asdict(each) for each in every] for name, every in recipe.expected.items()}
    measuring = dataclasses.asdict(recipe.measuring)
    plan = {"format": FORMAT, "recipe": recipe.name, "seed": recipe.seed, "stages": stages}
    plan |= {"measure": measuring, "expect": expected}
    plan = json.loads(json.dumps(plan))  # as it will be read again
    if not (workspace / PLAN).exists() or read_json(workspace / PLAN) != plan:
        write_json(workspace / PLAN, plan)


def is_stale(page: Path, workspace: Path) -> bool:
    """Whether a report is missing, or older than something that it is made from."""
    sources = [
        workspace / PLAN,
        *workspace.glob("measurements/*/*.json"),
        *workspace.glob(f"nodes/*/{LINEAGE}"),
    ]
    return not page.exists() or any(source.stat().st_mtime > page.stat().st_mtime for source in sources)


@contextmanager
def alone(workspace: Path) -> Iterator[None]:
    """Hold the workspace; the system lets go of the lock however the process ends."""
    try:
        (workspace / "nodes").mkdir(parents=True, exist_ok=True)
        lock = open(workspace / ".lock", "a+", encoding="utf-8")  # noqa: SIM115  (held until the run ends)
    except OSError as error:
        raise JourneyError(f"cannot write in {workspace} ({error.strerror}): give --workspace elsewhere") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = json.loads(lock.read() or "{}")
            raise JourneyError(
                f"{workspace} is in use by `{holder.get('command', 'another run')}` (process {holder.get('pid', '?')}, "
                f"since {holder.get('since', '?')}): wait for it, or give --workspace elsewhere"
            ) from None
        lock.truncate(0)
        command = " ".join(["journey", *sys.argv[1:]])
        json.dump({"pid": os.getpid(), "command": command, "since": time.strftime("%Y-%m-%d %H:%M:%S")}, lock)
        lock.flush()
        for left in (*workspace.glob(".*.tmp"), *workspace.glob("measurements/*/.*.tmp")):
            left.unlink(missing_ok=True)  # half a file of a run that was killed while it wrote: nobody else writes now
        yield


def read_plan(workspace: Path) -> dict[str, Any]:
    """The plan of the last run in a workspace. Errors: JourneyError when there is none, or one of an older Journey."""
    if not (workspace / PLAN).exists():
        raise JourneyError(f"no journey in {workspace}: `journey run` makes one, or give --workspace")
    plan: dict[str, Any] = read_json(workspace / PLAN)
    if isinstance(plan, dict) and plan.get("format") != FORMAT:
        raise JourneyError(f"{workspace} was made by an older Journey: give --workspace elsewhere, or delete it")
    if not _is_plan(plan):
        raise JourneyError(f"{workspace / PLAN} is damaged: delete it, and `journey run RECIPE` writes it anew")
    return plan


def standing_plan(workspace: Path) -> dict[str, Any] | None:
    """The same, or None where no journey is."""
    return read_plan(workspace) if (workspace / PLAN).exists() else None


def _is_plan(plan: Any) -> bool:
    """Whether a plan.json holds all that its readers ask for."""
    return holds(plan, _PLANNED) and all(holds(entry, _ENTRY) for entry in plan["stages"])


def find_node(name: str, workspace: Path) -> Node:
    """A node by its stage's name in the workspace, by a unique beginning of its id, or by its path, its files compared
    with their hashes."""
    return open_node(look_up(name, workspace).path)


def look_up(name: str, workspace: Path) -> Node:
    """The node that `find_node` finds, its files not compared."""
    if Path(name).is_dir():
        return look_at(name)
    stages = read_plan(workspace)["stages"]
    if entry := next((entry for entry in stages if entry["name"] == name), None):
        return look_at(_made(entry, workspace))
    made = made_nodes(workspace / "nodes")
    matches = [node for node in made if len(name) >= 4 and node.id.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise JourneyError(f"{name} is the beginning of {len(matches)} ids: give more of it")
    names = [entry["name"] for entry in stages]
    raise JourneyError(f'no node "{name}" in {workspace}{nearest(name, names)} (there are: {", ".join(names)})')


def stage_node(name: str, workspace: Path) -> Node | None:
    """The node of the stage of this name, if there is one. Errors: JourneyError when it has not been made yet."""
    entry = next((entry for entry in read_plan(workspace)["stages"] if entry["name"] == name), None)
    return open_node(_made(entry, workspace)) if entry else None


def _made(entry: dict[str, Any], workspace: Path) -> Path:
    """Where the node of a stage of the plan stands. Errors: JourneyError when it has not been made yet."""
    place, name = workspace / entry["path"], entry["name"]
    if not (place / LINEAGE).exists():
        raise JourneyError(f'"{name}" has not been made yet: `journey run --until {name}` makes it')
    return place


def texts(workspace: Path) -> list[Node]:
    """The texts of a workspace's plan that are made."""
    entries = [entry for entry in read_plan(workspace)["stages"] if load(entry["stage"]).makes == "text"]
    return [open_node(workspace / e["path"]) for e in entries if (workspace / e["path"] / LINEAGE).exists()]


def last(stage: str, workspace: Path) -> str:
    """The name of the last stage of a kind in a workspace's plan. Errors: JourneyError when there is none."""
    names = [entry["name"] for entry in read_plan(workspace)["stages"] if entry["stage"] == stage]
    if not names:
        raise JourneyError(f"no {stage} in {workspace}: `journey {stage} --parent NODE --out DIR` makes one")
    return names[-1]


def parent_of(node: Node) -> Path | None:
    """The folder of a node's parent, where it stands beside the node."""
    return next((other.path for other in made_nodes(node.path.parent) if other.id in node.parents), None)


def model_before(node: Node) -> Node | None:
    """The model that a node was made from, where it stands beside the node."""
    path = parent_of(node) if node.parents else None
    found = open_node(path) if path else None
    return found if found and found.is_model else None


def ancestors(node: Node) -> list[Node]:
    """The node, what it was made from, and so on, nearest first, as far as they stand in the same folder."""
    beside = {other.id: other for other in made_nodes(node.path.parent)}
    found, waiting = {node.id: node}, [*node.parents]
    while waiting:
        if (id := waiting.pop(0)) in beside and id not in found:
            found[id] = beside[id]
            waiting += beside[id].parents
    return list(found.values())
