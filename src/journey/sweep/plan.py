"""Reading a sweep: the combinations of the listed values, and the nodes that they need, each of them once."""

import copy
import dataclasses
import itertools
from pathlib import Path
from typing import Any

from journey import recipe as recipes
from journey import runner
from journey.errors import JourneyError, nearest
from journey.recipe import Document, Recipe
from journey.runner import Planned
from journey.stages import STAGES, load

SEEDS = 3
KEYS = ("vary", "seeds", "of", "metrics", "law")
EXAMPLE = "give stages.NAME.KEY: [VALUE, …], or NAME: {LABEL: {stages.NAME.KEY: VALUE, …}, …}"


@dataclasses.dataclass(frozen=True)
class Axis:
    """What is varied: label -> the recipe's keys that this choice sets."""

    name: str
    key: str  # as the recipe has it
    choices: dict[Any, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Point:
    """One combination: axis -> label, and its recipes, one a seed."""

    values: dict[str, Any]
    recipes: tuple[Recipe, ...]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Every point of a sweep; `of` is the stage whose node is measured, `metrics` what is asked of it."""

    name: str
    path: Path
    of: str
    seeds: tuple[int, ...]
    axes: tuple[Axis, ...]
    metrics: tuple[str, ...]
    points: tuple[Point, ...]
    law: bool  # fit a scaling law to the points


@dataclasses.dataclass(frozen=True)
class Job:
    """A node to make, for all the points that need it; `label` tells it from the others of its stage."""

    item: Planned
    label: str
    needs: frozenset[str]  # ids
    parent: Path | None
    given: dict[str, Path]


def read(path: Path, settings: list[str], smoke: bool, vary: list[str], seeds: int | None, of: str | None) -> Sweep:
    """Read a recipe and what its `sweep` varies; `vary` holds `KEY=VALUE,VALUE` strings that add to it.

    Errors: JourneyError naming file, line and nearest key, for this and for any recipe that a combination makes.
    """
    document = recipes.open_document(path, settings, smoke)
    section = document.value["sweep"]
    document.only(section, KEYS, ("sweep",))
    for setting in vary:
        key, equals, text = setting.partition("=")
        values = recipes.value_of(f"[{text}]")
        if not equals or not isinstance(values, list):
            raise JourneyError(f"--vary {setting}: give KEY=VALUE,VALUE, as in stages.base.lr=0.01,0.02")
        document.set(f"sweep.vary.{key}", values, f"--vary {setting}")
    axes = _axes(document)
    chosen = seeds if seeds is not None else section.get("seeds", SEEDS)
    chosen = tuple(range(chosen)) if type(chosen) is int else chosen
    if not (isinstance(chosen, list | tuple) and chosen and all(type(s) is int and s >= 0 for s in chosen)):
        raise JourneyError(f"{document.at(('sweep', 'seeds'))}: seeds must be a number of them, or a list as [0, 1, 2]")
    seeds_ = tuple(dict.fromkeys(chosen))
    points = tuple(
        Point(
            {axis.name: label for axis, label in zip(axes, labels, strict=True)},
            tuple(_recipe(document, axes, labels, seed) for seed in seeds_),
        )
        for labels in itertools.product(*(axis.choices for axis in axes))
    )
    first = points[0].recipes[0]
    metrics = section.get("metrics", ["bits_per_byte"])
    if not (isinstance(metrics, list) and metrics and all(isinstance(name, str) for name in metrics)):
        raise JourneyError(f"{document.at(('sweep', 'metrics'))}: metrics must be a list of names")
    law = section.get("law", False)
    if not isinstance(law, bool):
        raise JourneyError(f"{document.at(('sweep', 'law'))}: law must be true or false")
    if law and not metrics[0].startswith("bits_per_byte"):
        raise JourneyError(f"{document.at(('sweep', 'metrics'))}: a law is of bits_per_byte.TEXT: name it first")
    return Sweep(first.name, path, _of(document, first, of), seeds_, axes, tuple(metrics), points, law)


def _axes(document: Document) -> tuple[Axis, ...]:
    vary = document.value["sweep"].get("vary")
    if not (isinstance(vary, dict) and vary):
        raise JourneyError(f"{document.at(('sweep',))}: nothing is varied: {EXAMPLE} under sweep: vary:, or --vary")
    axes = []
    for key, choices in vary.items():
        where = document.at(("sweep", "vary", key))
        if isinstance(choices, list) and choices and "." in key:
            if any(isinstance(value, list | dict) for value in choices):
                raise JourneyError(f"{where}: {key}: each value must be one number, word or truth value")
            if len(set(choices)) < len(choices):
                raise JourneyError(f"{where}: {key}: a value stands here twice")
            axes.append(Axis(_short(key, vary), key, {value: {key: value} for value in choices}))
        elif isinstance(choices, dict) and choices and all(isinstance(keys, dict) for keys in choices.values()):
            axes.append(Axis(key, key, choices))
        else:
            raise JourneyError(f"{where}: {key}: {EXAMPLE}")
    return tuple(axes)


def _short(key: str, keys: Any) -> str:
    """The last word of a key, where no other key ends with it."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key.removeprefix("stages.")


def _recipe(document: Document, axes: tuple[Axis, ...], labels: tuple[Any, ...], seed: int) -> Recipe:
    """The recipe of one combination. Its seed is that of all that is trained; texts and tokenizers keep the recipe's
    own, so that every point is measured on the same held-out documents."""
    made = copy.copy(document)
    made.value = copy.deepcopy(document.value)
    for axis, label in zip(axes, labels, strict=True):
        for key, value in axis.choices[label].items():
            made.set(key, value, f"{document.at(('sweep', 'vary', axis.key))}: {axis.name}")
    for entry in made.value["stages"]:
        if entry["stage"] in STAGES and load(entry["stage"]).takes:
            entry["seed"] = seed
    return made.recipe()


def _of(document: Document, first: Recipe, of: str | None) -> str:
    named = of or document.value["sweep"].get("of")
    models = [step.name for step in first.steps if load(step.stage).makes == "model"]
    if not models:
        raise JourneyError(f"{document.path}: no stage of this recipe makes a model that could be measured")
    if named is None:
        return models[-1]
    if named not in models:
        hint = nearest(str(named), models)
        raise JourneyError(f'{document.at(("sweep", "of"))}: of: "{named}" makes no model{hint}: {", ".join(models)}')
    return str(named)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep has to do: its jobs, each after those it needs, and for each point its nodes to measure, one a seed,
    on texts that all points share."""

    jobs: tuple[Job, ...]
    measured: tuple[tuple[Planned, ...], ...]
    texts: dict[str, Path]


def plan(sweep: Sweep, workspace: Path) -> Plan:
    """Every node that some point needs, once. Errors: JourneyError when points would be measured on different texts."""
    memo: dict[str, dict[str, str]] = {}
    found: dict[str, tuple[Planned, dict[str, Planned]]] = {}  # id -> the node, and those of its recipe by name
    users: dict[str, list[dict[str, Any]]] = {}  # id -> the values and the seed of each training that needs it
    measured = []
    for point in sweep.points:
        nodes = []
        for seed, recipe in zip(sweep.seeds, point.recipes, strict=True):
            planned = [item for item in runner.plan(recipe, workspace, sweep.of, memo=memo) if item.wanted]
            places = {item.step.name: item for item in planned}
            nodes.append(places[sweep.of])
            for item in planned:
                found.setdefault(item.id, (item, places))
                users.setdefault(item.id, []).append(point.values | {"seed": seed})
        measured.append(tuple(nodes))
    texts = {item.id: item for item, _ in found.values() if item.step.stage == "text"}
    if twice := [
        item.step.name for item in texts.values() if len(users[item.id]) < len(sweep.points) * len(sweep.seeds)
    ]:
        raise JourneyError(
            f'{sweep.path}: the text "{twice[0]}" differs between points, which could not be compared on the same '
            "held-out documents: vary what is trained on it (tokens, epochs, flops) instead"
        )
    every = [values for users_ in users.values() for values in users_]
    varying = {key for key in every[0] if any(values[key] != every[0][key] for values in every)}
    jobs = []
    for id, (item, places) in found.items():
        step, shared = item.step, users[id][0]
        said = [
            f"{key}={shared[key]}" for key in shared if key in varying and all(u[key] == shared[key] for u in users[id])
        ]
        names = [*step.parents, *step.given.values()]
        jobs.append(
            Job(
                item,
                " ".join([step.name, *said]),
                frozenset(places[name].id for name in names if name in places),
                next((_place(name, places) for name in step.parents), None),
                {field: _place(name, places) for field, name in step.given.items()},
            )
        )
    return Plan(tuple(jobs), tuple(measured), {item.step.name: item.path for item in texts.values()})


def _place(name: str, places: dict[str, Planned]) -> Path:
    return places[name].path if name in places else Path(name)
