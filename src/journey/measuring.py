"""Taking measures and keeping what they found: one file a (node, measure), so that a new measure takes itself alone and
a kill costs one measure, not all of a node's.

What was measured stands beside the nodes, for a node never changes.
"""

import dataclasses
import functools
import importlib.metadata
import tempfile
import time
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from journey.checkpoint import Node
from journey.console import Console
from journey.errors import JourneyError, Stopped, nearest
from journey.fields import Amount, chosen, fit
from journey.files import digest, read_json, write_json
from journey.measure import Bench, Drawn, Measure
from journey.measures import ANY, MEASURES, every, load, load_all
from journey.scores import Effect, Taken, changes, comparisons, estimates
from journey.stages import kind_of

if TYPE_CHECKING:
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

SPLIT = "test"  # nothing was chosen on it


@dataclasses.dataclass(frozen=True)
class Measuring:
    """What is measured at every node: how many items, and the settings of each measure that is taken."""

    drawn: Drawn = dataclasses.field(default_factory=Drawn)
    configs: Mapping[str, Any] = dataclasses.field(default_factory=lambda: default_configs())

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "Measuring":
        """From a plan.json, in which a run wrote down what it measures."""
        kinds = {name: load(name).config for name in found["configs"] if name in every(found["configs"])}
        known = {name: [field.name for field in dataclasses.fields(kind)] for name, kind in kinds.items()}
        settings = {name: {k: v for k, v in found["configs"][name].items() if k in known[name]} for name in kinds}
        return cls(Drawn(**found["drawn"]), {name: kind(**settings[name]) for name, kind in kinds.items()})

    def only(self, names: Iterable[str]) -> "Measuring":
        """These measures alone, with their settings; what a recipe leaves out gets its defaults."""
        return dataclasses.replace(self, configs={n: self.configs.get(n) or load(n).config() for n in names})


def default_configs() -> dict[str, Any]:
    """The measures that are taken unless a recipe says otherwise, with their settings."""
    return {name: measure.config() for name, measure in load_all().items() if measure.default}


def measures_of(key: str, texts: Iterable[str]) -> list[str]:
    """The measures that may have a score of this key. Errors: JourneyError naming the nearest key."""
    names, known = list(texts), dict[str, list[str]]()
    for name, measure in load_all().items():
        for pattern in measure.keys:
            for text in names if "{text}" in pattern else [""]:
                known.setdefault(pattern.replace("{text}", text), []).append(name)
    if key not in known:
        raise JourneyError(f'no score "{key}"{nearest(key, known)} (there are: {", ".join(known)})')
    return list(dict.fromkeys(known[key]))


def place(node: Node, workspace: Path, name: str, split: str = SPLIT) -> Path:
    """Where what a measure found at a node stands."""
    file = name.replace("/", "%2F") + ("" if split == SPLIT else f"-{split}")  # a task of lm-eval may have a slash
    return workspace / "measurements" / node.id / f"{file}.json"


def read(node: Node, workspace: Path) -> dict[str, Taken]:
    """All that was measured at a node on the test split, by measure, without what did not apply, and without what the
    workspace's recipe has left out since."""
    plan = workspace / "plan.json"
    configs = read_json(plan).get("measure", {}).get("configs") if plan.exists() else None
    left_out = {name for name in default_configs() if name not in configs} if configs is not None else set()
    beside = [path.stem.replace("%2F", "/") for path in place(node, workspace, ANY).parent.glob(f"{ANY}*.json")]
    paths = {name: place(node, workspace, name) for name in every(sorted(beside)) if name not in left_out}
    found = {name: Taken.read(read_json(path)) for name, path in paths.items() if path.exists()}
    return {name: taken for name, taken in found.items() if taken}


@dataclasses.dataclass(frozen=True)
class Measured:
    """What stands after measuring, by measure, and which of it is new."""

    taken: dict[str, Taken]
    new: tuple[str, ...]
    seconds: float  # of what is new


def wanted(node: Node, measuring: Measuring) -> dict[str, Measure]:
    """The measures that apply to a node of its kind."""
    kind = kind_of(node)
    chosen = {name: load(name) for name in every(measuring.configs) if name in measuring.configs}
    return {name: measure for name, measure in chosen.items() if measure.of == kind}


def take(
    node: Node,
    parent: Node | None,
    texts: Mapping[str, Node],
    workspace: Path,
    measuring: Measuring,
    *,
    seed: int,
    console: Console,
    split: str = SPLIT,
) -> Measured:
    """Measure a node on every text, as far as that is not done. `parent` is the model that it was made from.

    Raises `Stopped` after Ctrl-C, between two measures.
    """
    bench = Bench(
        node,
        parent,
        texts,
        drawn=measuring.drawn,
        seed=seed,
        split=split,
        scratch=workspace / "measurements" / node.id,
    )
    measures = wanted(node, measuring)
    keys = {name: _key(measure, bench, parent, measuring.configs[name]) for name, measure in measures.items()}
    paths = {name: place(node, workspace, name, split) for name in measures}
    found = {name: read_json(path) for name, path in paths.items() if path.exists()}
    stands = {name: Taken.read(f) for name, f in found.items() if f.get("key") == keys[name]}
    todo = [name for name in measures if name not in stands]
    if todo:
        console.begin(node.name, "measuring")
        bench.scratch.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for done, name in enumerate(todo, 1):
        if console.stopping:
            raise Stopped
        start = time.monotonic()
        bench.reads = measures[name].reads
        bench.progress = functools.partial(progress, console, f"{node.name} {name}")
        found_now = measures[name].body(bench, measuring.configs[name])
        seconds = round(time.monotonic() - start, 3)
        about = {"key": keys[name], "measure": name, "version": measures[name].version, "node": node.id, "split": split}
        write_json(paths[name], about | {"seconds": seconds} | found_now.json())
        stands[name] = dataclasses.replace(found_now, seconds=seconds)
        console.progress(node.name, done, len(todo), "measurements", {})
    applied = {name: stands[name] for name in measures if stands[name]}
    return Measured(applied, tuple(todo), time.monotonic() - began)


def progress(console: Console, name: str, done: int, total: int, unit: str = "answers") -> None:
    """Progress within a measurement. Raises `Stopped` after Ctrl-C: what was answered so far is kept."""
    console.progress(name, done, total, unit, {})
    if console.stopping:
        raise Stopped


def through(
    names: str,
    model: "GPT",
    tokenizer: "Tokenizer",
    texts: Mapping[str, Node],
    seed: int,
    n: int,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Measures of a model that is in training, by name (`a,b`), on `n` items of each kind of its texts' dev splits:
    their numbers as `dev_<key>`, and what it writes as `samples`. `settings` has configs of some, by name."""
    drawn = Drawn(max(2, n), max(2, n), max(2, n))
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Node(Path(scratch)), None, texts, drawn=drawn, seed=seed, split="dev", scratch=Path(scratch))
        bench.opened = (model, tokenizer)
        found: dict[str, Any] = {}
        for measure in taken_through(names):
            bench.reads = measure.reads
            taken = measure.body(bench, settings.get(measure.name) or measure.config())
            found |= {f"dev_{key}": e.value for key, e in estimates(taken).items()}
            found |= {key: value for key, value in taken.facts.items() if key == "samples"}
    return found


def taken_through(names: str, setting: str = "measures") -> list[Measure]:
    """The measures of a setting that are taken through training. Errors: JourneyError for one that cannot be."""
    found = []
    for name in (name.strip() for name in names.split(",") if name.strip()):
        if name not in MEASURES and not name.startswith(ANY):
            known = ", ".join(MEASURES)
            raise JourneyError(f'{setting}: no measure "{name}"{nearest(name, MEASURES)} (there are: {known})')
        measure = load(name)
        if measure.of != "model" or "parent" in measure.reads:
            raise JourneyError(f"{setting}: {name} cannot be taken of a model that is in training")
        found.append(measure)
    return found


def evaluated_with(text: str) -> dict[str, tuple[Any, int]]:
    """A stage's `evaluate_with`, as in {hellaswag: {items: 200, every: 500}}: by name the settings of a measure, and
    every how many steps it is taken (0: with each scoring of the dev split).

    Errors: JourneyError for what is no such mapping, and for a measure that cannot be taken of a model in training.
    """
    try:
        given = yaml.safe_load(text) if text else {}
    except yaml.YAMLError:
        given = None
    if not isinstance(given, dict):
        raise JourneyError("evaluate_with: give measures and settings, as in {hellaswag: {items: 200, every: 500}}")
    found = {}
    for name, settings in given.items():
        if len(measures := taken_through(str(name), "evaluate_with")) != 1:
            raise JourneyError(f"evaluate_with: {str(name)!r} is no measure's name")
        measure = measures[0]
        settings = dict(settings) if isinstance(settings, dict) else {} if settings in (None, True) else None
        if settings is None:
            raise JourneyError(f"evaluate_with: {name} wants a mapping, as in {{items: 200, every: 500}}")
        hints = typing.get_type_hints(measure.config, include_extras=True) | {"every": Amount}
        if unknown := next((key for key in settings if key not in hints), None):
            raise JourneyError(f'evaluate_with: {name} has no "{unknown}"{nearest(str(unknown), hints)}')
        try:
            values = {key: fit(value, hints[key]) for key, value in settings.items()}
        except ValueError as error:
            raise JourneyError(f"evaluate_with: {name}: {error}") from None
        every = values.pop("every", 0)
        if values.get("engine", "journey") != "journey" or values.get("chat") or values.get("helm"):
            raise JourneyError(f"evaluate_with: {name} is asked plainly, by ours: leave out engine, chat and helm")
        try:
            found[name] = (measure.config(**values), every)
        except JourneyError as error:
            raise JourneyError(f"evaluate_with: {error}") from None
    return found


def check_taken(config: Any) -> None:
    """JourneyError for what a stage's config says of measures to be taken through training, and cannot be."""
    taken_through(getattr(config, "measures", ""))
    evaluated_with(getattr(config, "evaluate_with", ""))


def is_taken(
    node: Node,
    parent: Node | None,
    texts: Mapping[str, Node],
    workspace: Path,
    measuring: Measuring,
    *,
    seed: int,
    split: str = SPLIT,
) -> bool:
    """Whether `take` would find everything done."""
    bench = Bench(node, parent, texts, drawn=measuring.drawn, seed=seed, split=split, scratch=workspace)
    return all(
        (path := place(node, workspace, name, split)).exists()
        and read_json(path).get("key") == _key(measure, bench, parent, measuring.configs[name])
        for name, measure in wanted(node, measuring).items()
    )


def _key(measure: Measure, bench: Bench, parent: Node | None, config: Any) -> str:
    """Says of what a measurement is. The weights too: `--from` after an update of torch may bring others, same id."""
    models = [bench.node, *([parent] if parent and "parent" in measure.reads else [])]
    items = [what for what in ("documents", "questions", "choices") if what in measure.reads]
    return digest(
        {
            "measure": measure.name,
            "version": measure.version,
            "config": chosen(config),
            "models": [[model.id, model.lineage.get("weights_sha256")] for model in models],
            "texts": {name: text.id for name, text in bench.texts.items()} if items else {},
            "drawn": {what: getattr(bench.drawn, what) for what in items},
            "seed": bench.seed,
            "split": bench.split,
            "libraries": {library: importlib.metadata.version(library) for library in measure.libraries},
        }
        | ({"data": dict(measure.data(config))} if measure.data else {})
    )


def effects(taken: Mapping[str, Taken], name: str, before: Mapping[str, Taken], parent: str) -> list[Effect]:
    """Every change of a node from its parent, and every comparison that needs no second node."""
    return [
        effect
        for measure, found in taken.items()
        for effect in [
            *(changes(before[measure], found, parent, name) if measure in before else []),
            *comparisons(found, name),
        ]
    ]


def between(before: Node, after: Node, workspace: Path) -> list[Effect]:
    """What changed from one node to another on the items that both were measured on; with the sizes that were measured
    between the two, where the one model was made from the other."""
    old, new = read(before, workspace), read(after, workspace)
    found = []
    for measure, taken in new.items():
        if measure in old:
            found += changes(old[measure], taken, before.name, after.name)
        if before.id in after.parents and "parent" in load(measure).reads and kind_of(before) == kind_of(after):
            found += [e for e in comparisons(taken, after.name) if not e.signed]
    return found


def brief(taken: Mapping[str, Taken]) -> str:
    """The numbers that matter most, in a few words."""
    parts = []
    for found in taken.values():
        known = estimates(found)
        for score in found.scores:
            if score.brief and score.key in known:
                e = known[score.key]
                value = f"{e.value:.0f} %" if score.unit == "%" else f"{e.value:.3f}"
                parts.append(f"{score.label} {value}")
    return ", ".join(parts)
