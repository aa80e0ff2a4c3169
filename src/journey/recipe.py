"""A recipe is a life: a YAML list of stages, read and checked so that a mistake is told by its line."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from journey.checkpoint import open_node
from journey.errors import JourneyError, nearest
from journey.expected import Expected, parse
from journey.fields import fit
from journey.measure import Drawn
from journey.measures import every
from journey.measures import load as load_measure
from journey.measuring import Measuring, check_taken, default_configs, measures_of
from journey.stages import STAGES, a, goes_on_from, kind_of, load
from journey.stages.inputs import Input, Named, named, resolve, written


@dataclasses.dataclass(frozen=True)
class Step:
    """One stage of a recipe, checked: its config is built, its parents and texts exist."""

    name: str
    stage: str
    parents: tuple[str, ...]
    config: Any
    seed: int  # the recipe's, unless the stage has its own
    given: dict[str, str]  # config field -> the step that makes the node it names, or that node's folder
    where: str = ""  # file and line, for errors


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A life: its name, its seed and its steps, each after everything it needs."""

    name: str
    seed: int
    steps: tuple[Step, ...]
    measuring: Measuring
    expected: dict[str, tuple[Expected, ...]]  # of each step

    def step(self, name: str) -> Step:
        """The step of a name. Errors: JourneyError naming the nearest."""
        for step in self.steps:
            if step.name == name:
                return step
        names = [step.name for step in self.steps]
        raise JourneyError(f'no stage "{name}" in the recipe{nearest(name, names)} (there are: {", ".join(names)})')


def find(name: str) -> Path:
    """The file of a recipe given by path or, for one that comes along, by name."""
    if Path(name).is_file():
        return Path(name)
    here = Path(__file__).parent
    shelves = [here / "recipes", here.parents[1] / "recipes"]  # in a wheel, in a checkout
    for shelf in shelves:
        if (shelf / f"{name}.yaml").is_file():
            return shelf / f"{name}.yaml"
    known = sorted(path.stem for shelf in shelves for path in shelf.glob("*.yaml"))
    raise JourneyError(f"no recipe {name}{nearest(name, known)}: give a file, or one of {', '.join(known)}")


def read(path: Path, settings: list[str] | None = None, smoke: bool = False) -> Recipe:
    """Read and check a recipe. `settings` are `stages.base.tokens=…` strings that replace keys; with `smoke` those
    that the recipe itself lists under `smoke` come first.

    Errors: JourneyError naming the file, the line, and the nearest valid stage or key.
    """
    return open_document(path, settings, smoke).recipe()


def open_document(path: Path, settings: list[str] | None = None, smoke: bool = False) -> "Document":
    """A recipe with these settings, not yet checked as a whole: a sweep makes many recipes of it."""
    document = Document(path)
    if smoke:
        document.set_smoke()
    for setting in settings or []:
        key, equals, text = setting.partition("=")
        if not equals:
            raise JourneyError(f"--set {setting}: {_SETTING}")
        document.set(key, value_of(text), f"--set {setting}")
    return document


def value_of(text: str) -> Any:
    """What a value on the command line means: as in a recipe, and text where that is no YAML."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


_LARGEST, _MOST = 1_000_000, 10_000  # bytes of a recipe, keys and values in it
_SETTING = (
    "give seed=NUMBER, measure.KEY=NUMBER, measure.NAME.KEY=VALUE or stages.NAME.KEY=VALUE, as in "
    "stages.base.tokens=200_000"
)


class Document:
    """A parsed recipe that knows the line of every key; `value` is what the file says, with what was set since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[tuple[Any, ...], int] = {}
        try:
            if path.stat().st_size > _LARGEST:
                raise JourneyError(f"{path}: a recipe has no {_LARGEST / 1e6:.0f} MB: is it another file?")
            root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
            value = self._build(root, ()) if root else None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            problem = str(getattr(error, "problem", error)).partition("\n")[0]
            raise JourneyError(f"{where}: not valid YAML: {problem}") from None
        except UnicodeDecodeError as error:
            raise JourneyError(f"{path}: not UTF-8 text (byte {error.start})") from None
        except RecursionError:
            raise JourneyError(f"{path}: nested too deeply to be a recipe") from None
        if not isinstance(value, dict):
            raise JourneyError(f"{path}: a recipe is a mapping with name, seed and stages")
        self.value: dict[str, Any] = value
        self.only(self.value, ("name", "seed", "stages", "measure", "expect", "smoke", "sweep"), ())
        for key in ("measure", "expect", "smoke", "sweep"):
            if not isinstance(self.value.setdefault(key, {}), dict):
                raise JourneyError(f"{self.at((key,))}: {key} must be a mapping of settings")
        stages = self.value.get("stages")
        if not isinstance(stages, list) or not stages:
            raise JourneyError(f"{self.at(('stages',))}: stages must be a list of at least one stage")
        for i, entry in enumerate(stages):
            if not isinstance(entry, dict) or "name" not in entry or "stage" not in entry:
                raise JourneyError(f"{self.at(('stages', i))}: a stage needs a name and a stage")
            self.only(entry, ("name", "stage", "parents", "seed", "with"), ("stages", i))
            entry.setdefault("with", {})
            if not isinstance(entry["with"], dict):
                raise JourneyError(f"{self.at(('stages', i, 'with'))}: with must be a mapping of settings")

    def _build(self, node: yaml.Node, path: tuple[Any, ...]) -> Any:
        self.lines[path] = node.start_mark.line + 1
        if len(self.lines) > _MOST:  # nine lines of anchors, each naming the one before nine times, are 400 million
            raise JourneyError(f"{self.at(path)}: more than {_MOST:,} keys and values, anchors written out: no recipe")
        if isinstance(node, yaml.MappingNode):
            made: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = key_node.value
                if not isinstance(key, str):
                    raise JourneyError(f"{self.path}:{key_node.start_mark.line + 1}: a key must be a word")
                if key in made:
                    raise JourneyError(f"{self.path}:{key_node.start_mark.line + 1}: {key} stands here twice")
                made[key] = self._build(value_node, (*path, key))
                self.lines[(*path, key)] = key_node.start_mark.line + 1
            return made
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*path, i)) for i, child in enumerate(node.value)]
        try:
            value = yaml.SafeLoader("").construct_object(node, deep=True)
        except ValueError as error:  # what looks like a date and is none
            raise JourneyError(f"{self.path}:{node.start_mark.line + 1}: {node.value[:80]}: {error}") from None
        if isinstance(value, str) and "\0" in value:
            raise JourneyError(f"{self.path}:{node.start_mark.line + 1}: a NUL character can be in no setting")
        return value

    def at(self, path: tuple[Any, ...]) -> str:
        """`file:line` of a key, or of the nearest thing around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return f"{self.path}:{self.lines.get(path, 1)}"

    def only(self, mapping: dict[str, Any], known: tuple[str, ...], path: tuple[Any, ...]) -> None:
        """A key of the mapping at `path` that is not known raises JourneyError with its line and the nearest."""
        for key in mapping:
            if key not in known:
                hint = nearest(str(key), known)
                raise JourneyError(
                    f'{self.at((*path, key))}: unknown key "{key}"{hint} (there are: {", ".join(known)})'
                )

    def set_smoke(self) -> None:
        """Make the small life that the recipe describes under `smoke`, to see in minutes that all of it works."""
        if not self.value["smoke"]:
            raise JourneyError(f"{self.path}: this recipe has no smoke settings: run it as it is, or --set its keys")
        self.value["name"] = f"{self.value.get('name', self.path.stem)}-smoke"  # never taken for the real life
        for key, value in self.value["smoke"].items():
            self.set(key, value, f"{self.at(('smoke', key))}: {key}")

    def set(self, key: str, value: Any, where: str) -> None:
        """Take `seed`, `measure.KEY` or `stages.NAME.KEY` (or `stages.NAME.with.KEY`); `where` opens an error."""
        parts = [part for part in key.split(".") if part != "with"]
        if len(parts) == 1 and parts[0] in ("seed", "name"):
            self.value[parts[0]] = value
        elif len(parts) == 2 and parts[0] == "measure":
            self.value["measure"][parts[1]] = value
        elif len(parts) == 3 and parts[0] == "measure":
            settings = self.value["measure"].get(parts[1])
            self.value["measure"][parts[1]] = (settings if isinstance(settings, dict) else {}) | {parts[2]: value}
        elif parts[0] == "sweep" and len(parts) == 2:
            self.value["sweep"][parts[1]] = value
        elif parts[:2] == ["sweep", "vary"] and len(parts) > 2:
            vary = self.value["sweep"].get("vary")
            self.value["sweep"]["vary"] = (vary if isinstance(vary, dict) else {}) | {".".join(parts[2:]): value}
        elif len(parts) == 3 and parts[0] == "stages":
            names = [entry["name"] for entry in self.value["stages"]]
            if parts[1] not in names:
                known = ", ".join(names)
                raise JourneyError(f'{where}: no stage "{parts[1]}"{nearest(parts[1], names)} (there are: {known})')
            entry = self.value["stages"][names.index(parts[1])]
            place = entry if parts[2] in ("parents", "seed") else entry["with"]
            place[parts[2]] = value
        else:
            raise JourneyError(f"{where}: {_SETTING}")

    def recipe(self) -> Recipe:
        """The checked recipe."""
        name, seed = self.value.get("name", self.path.stem), self._seed(self.value, 0, ())
        if not _is_word(name):
            raise JourneyError(f"{self.at(('name',))}: name must be a word; it names the workspace")
        entries = self.value["stages"]
        names = [entry["name"] for entry in entries]
        steps = []
        before: dict[str, str] = {}  # name -> kind
        for i, entry in enumerate(entries):
            at = ("stages", i)
            if not _is_word(entry["name"]):
                raise JourneyError(
                    f"{self.at((*at, 'name'))}: name must be a word, not {entry['name']!r}; it names a folder"
                )
            if names.index(entry["name"]) != i:
                raise JourneyError(f'{self.at((*at, "name"))}: the name "{entry["name"]}" is taken by a stage above')
            if str(entry["stage"]) not in STAGES:
                hint = nearest(str(entry["stage"]), STAGES)
                where, known = self.at((*at, "stage")), ", ".join(STAGES)
                raise JourneyError(f'{where}: unknown stage "{entry["stage"]}"{hint} (there are: {known})')
            parents, own_seed = self._parents(entry, before, at), self._seed(entry, seed, at)
            before[entry["name"]] = load(entry["stage"]).makes
            steps.append(
                Step(entry["name"], entry["stage"], parents, self._config(entry, at), own_seed, {}, self.at(at))
            )
        checked = tuple(_with_texts(steps, seed))
        return Recipe(name, seed, checked, self._measuring(), self._expected(checked))

    def _measuring(self) -> Measuring:
        """What is measured: how many items, and each measure's settings; `false` leaves one out."""
        section, drawn = self.value["measure"], [field.name for field in dataclasses.fields(Drawn)]
        self.only(section, (*drawn, *every(section)), ("measure",))
        counts = self._fields({key: n for key, n in section.items() if key in drawn}, Drawn, ("measure",))
        configs = default_configs()
        for name, settings in section.items():
            if name in drawn:
                continue
            if settings is False:
                configs.pop(name, None)
                continue
            settings = {} if settings in (True, None) else settings
            if not isinstance(settings, dict):
                raise JourneyError(f"{self.at(('measure', name))}: {name} must be a mapping of settings, true or false")
            configs[name] = self._fields(settings, load_measure(name).config, ("measure", name))
        return Measuring(counts, configs)

    def _expected(self, steps: tuple[Step, ...]) -> dict[str, tuple[Expected, ...]]:
        """What is expected of each stage, every key checked against what measures can find."""
        texts = [step.name for step in steps if step.stage == "text"]
        self.only(self.value["expect"], tuple(step.name for step in steps), ("expect",))
        found: dict[str, tuple[Expected, ...]] = {}
        for name, keys in self.value["expect"].items():
            at = ("expect", name)
            if not isinstance(keys, dict):
                raise JourneyError(
                    f'{self.at(at)}: give score keys with what is expected, as in {{ends_by_itself: "is >= 90 %"}}'
                )
            for key, said in keys.items():
                try:
                    measures_of(key, texts)
                    every = [parse(key, text) for text in (said if isinstance(said, list) else [said])]
                except JourneyError as error:
                    raise JourneyError(f"{self.at((*at, key))}: {error}") from None
                found[name] = (*found.get(name, ()), *every)
        return found

    def _seed(self, mapping: dict[str, Any], default: int, at: tuple[Any, ...]) -> int:
        seed = mapping.get("seed", default)
        if type(seed) is not int or seed < 0:
            raise JourneyError(f"{self.at((*at, 'seed'))}: seed must be a whole number from 0, not {seed!r}")
        return seed

    def _parents(self, entry: dict[str, Any], before: dict[str, str], at: tuple[Any, ...]) -> tuple[str, ...]:
        parents = entry.get("parents", [])
        parents = [parents] if isinstance(parents, str) else parents
        wanted = load(entry["stage"]).takes
        where = self.at((*at, "parents"))
        if wanted is None:
            if parents:
                raise JourneyError(f"{where}: the stage {entry['stage']} has no parents, it reads data")
            return ()
        if not isinstance(parents, list) or len(parents) != 1:
            raise JourneyError(f'{self.at(at)}: "{entry["name"]}" needs one parent, {a(wanted)}: add parents: [NAME]')
        parent = str(parents[0])
        if parent not in before and not Path(parent).is_dir():
            hint = nearest(parent, before)
            raise JourneyError(f'{where}: parent "{parent}" is no stage above and no folder{hint}')
        try:
            kind = before[parent] if parent in before else kind_of(open_node(parent))
        except JourneyError as error:
            raise JourneyError(f"{where}: {error}") from None
        if not goes_on_from(wanted, kind):
            is_ = f'parent "{parent}" is {a(kind)}'
            raise JourneyError(f"{where}: {is_}, the stage {entry['stage']} goes on from {a(wanted)}")
        return (parent,)

    def _config(self, entry: dict[str, Any], at: tuple[Any, ...]) -> Any:
        config = self._fields(entry["with"], load(entry["stage"]).config, (*at, "with"))
        try:
            check_taken(config)
        except JourneyError as error:
            setting = str(error).partition(":")[0]
            raise JourneyError(f"{self.at((*at, 'with', setting))}: {error}") from None
        return config

    def _fields(self, mapping: dict[str, Any], kind: type, at: tuple[Any, ...]) -> Any:
        """A dataclass of these values, each of the type that its field wants."""
        hints = typing.get_type_hints(kind, include_extras=True)
        self.only(mapping, tuple(hints), at)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        values = {}
        for key, value in mapping.items():
            try:
                values[key] = fit(written(value, fields[key]), hints[key])
            except ValueError as error:
                raise JourneyError(f"{self.at((*at, key))}: {key}: {error}") from None
        try:
            return kind(**values)
        except JourneyError as error:
            raise JourneyError(f"{self.at(at)}: {error}") from None


def _is_word(name: Any) -> bool:
    """Letters, digits, `_`, `-` and `.`, and nothing that would lead out of its folder."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) is not None


def _with_texts(steps: list[Step], seed: int) -> Iterator[Step]:
    """The steps, with a text step put in front for every source that a config names and no step makes.

    Texts come first: every model is measured on every text of the life.
    """
    from journey.data.sources import name_of
    from journey.stages.text import Text

    texts = [step for step in steps if step.stage == "text"]
    made = {step.config.source: step.name for step in texts}
    taken = {step.name for step in steps}
    above = {step.name: "text" for step in texts}  # what can be named, and its kind: every text, and the steps above
    kinds = {step.name: load(step.stage).makes for step in steps}
    rest = []
    for step in steps:
        if step.stage == "text":
            continue
        given = {}
        try:
            naming = list(named(step.config))
        except JourneyError as error:
            raise JourneyError(f"{step.where}: {error}") from None
        for field, wanted, value in naming:
            below = {name: kind for name, kind in kinds.items() if kind in wanted.kinds}
            found = resolve(value, wanted, below | above)
            if found is None or found.kind not in ("", *wanted.kinds) or (found.what == "step" and value not in above):
                raise JourneyError(f'{step.where}: {field}: "{value}" {_unfit(value, found, wanted, above)}')
            if found.what == "node" and found.kind == "text":
                raise JourneyError(
                    f'{step.where}: {field}: "{value}" is a node of another journey: name a stage, or its own source'
                )
            if found.what == "source" and found.value not in made:
                name = _free_name(name_of(found.value), taken)
                taken.add(name)
                above[name], made[found.value] = "text", name
                texts.append(Step(name, "text", (), Text(source=found.value), seed, {}, step.where))
            if found.what != "files":
                given[field] = made[found.value] if found.what == "source" else found.value
        above[step.name] = kinds[step.name]
        rest.append(dataclasses.replace(step, given=given))
    yield from texts
    yield from rest


def _unfit(value: str, found: Named | None, wanted: Input, above: dict[str, str]) -> str:
    """What is wrong with a value that names nothing, a step further down, or a node of another kind than is wanted."""
    if found and "text" in wanted.kinds and found.kind not in wanted.kinds:
        return f"is {a(found.kind)}, this stage needs the text itself"
    kinds = [found.kind] if found and found.kind in wanted.kinds else wanted.kinds
    fitting = [name for name, kind in above.items() if kind in kinds]
    return f"is no {' or '.join(kinds)} stage above and no file{nearest(value, fitting)}"


def _free_name(name: str, taken: set[str]) -> str:
    return name if name not in taken else next(f"{name}-{i}" for i in range(2, 1000) if f"{name}-{i}" not in taken)
