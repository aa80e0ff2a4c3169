"""How a stage is run, whoever calls it: Python, the command line and a recipe all come through `@stage`.

A stage's body turns a parent checkpoint, a config and a `Run` into files in `run.folder`. The decorator around it
computes the id of what will be made, returns the node at once when it is there already, resumes what a kill
interrupted, and at the end writes the lineage and publishes the folder in one step.
"""

import dataclasses
import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from journey.checkpoint import LINEAGE, Node, open_node, remember
from journey.console import Console
from journey.errors import JourneyError, Stopped  # which stages raise, too
from journey.fields import check_config, chosen, differing
from journey.files import publish, read_json, write_json, write_text
from journey.lineage import file_hashes, node_id, peak_memory, reset_peak_memory, source_version, surroundings
from journey.model.adapter import WEIGHTS as ADAPTER
from journey.model.adapter import is_adapter
from journey.model.opening import read_config
from journey.stages import a, goes_on_from, kind_of
from journey.stages.inputs import inputs_of, named, resolve

if TYPE_CHECKING:
    from journey.data.corpus import Corpus

BELOW = " below "  # in `shows`: "same_ids.texts below 100" stands on the first screen only where that is so
_SAVE_CLOCK_EVERY = 5.0  # seconds
_SETTINGS, _CLOCK = "settings.json", "clock.json"  # of what was begun
COMPUTED = "computed.json"  # how a training that was begun is computed here


@dataclasses.dataclass
class Run:
    """What a stage works with. `out` is where its node will stand.

    `folder` receives the node's files; `scratch` holds what a later call needs to go on after a kill.
    """

    out: Path
    seed: int = 0
    name: str = ""
    console: Console = dataclasses.field(default_factory=Console)
    given: dict[str, Node] = dataclasses.field(default_factory=dict)  # config field -> the node it names
    again: bool = False  # make the node even where it already stands
    take: Callable[..., dict[str, Any]] | None = None  # takes measures of a model in training: measuring.through
    timed: Callable[[str], dict[str, Any]] | None = None  # which, and every how many steps: measuring.evaluated_with
    fork: bool = False  # other settings than those of what stands unfinished, or is resumed, are meant

    folder: Path = dataclasses.field(init=False)
    scratch: Path = dataclasses.field(init=False)
    _before: float = dataclasses.field(init=False, default=0.0)  # seconds of earlier, interrupted runs
    _start: float = dataclasses.field(init=False, default=0.0)
    _last_saved: float = dataclasses.field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.out = Path(self.out)
        self.name = self.name or self.out.name

    @functools.cached_property
    def corpora(self) -> dict[str, "Corpus"]:
        """The texts that the config names, by field name, open for reading; of a prepared one, what is held out."""
        from journey.data.corpus import Corpus

        return {f: Corpus(node.path) for f, node in self.given.items() if kind_of(node) in ("text", "tokens")}

    @property
    def stopping(self) -> bool:
        """Whether the user asked to stop: save what is needed to go on, then raise `Stopped`."""
        return self.console.stopping

    def progress(self, done: int, total: int, unit: str = "tokens", **numbers: float) -> None:
        """Show how far the stage is. A stage that saves its state looks at `stopping` before it calls this;
        for one that does not, this is where Ctrl-C takes effect."""
        if self.stopping:
            raise Stopped
        self.console.progress(self.name, done, total, unit, numbers)
        if time.monotonic() - self._last_saved > _SAVE_CLOCK_EVERY:
            self._save_clock()

    def say(self, line: str) -> None:
        """One line for the user, on stderr."""
        self.console.say(line)

    def _begin(self, id: str) -> None:
        work = self.out.parent / f".work-{id[:12]}"
        self.folder, self.scratch = work / "node", work / "state"
        shutil.rmtree(self.folder, ignore_errors=True)  # half-written by a run that was killed
        self.folder.mkdir(parents=True)
        self.scratch.mkdir(exist_ok=True)
        clock = self.scratch / _CLOCK
        self._before = read_json(clock)["seconds"] if clock.exists() else 0.0
        self._start = self._last_saved = time.monotonic()
        reset_peak_memory()

    def _clear(self) -> None:
        """After bad input: nothing stays but what a later call can go on from."""
        shutil.rmtree(self.folder)
        (self.scratch / _SETTINGS).unlink()  # who changes a setting now, does what the error asks for
        if {path.name for path in self.scratch.iterdir()} <= {_CLOCK, COMPUTED}:
            shutil.rmtree(self.folder.parent)

    @property
    def seconds(self) -> float:
        """Seconds of work on this node so far, those of interrupted runs included."""
        return self._before + time.monotonic() - self._start

    def _save_clock(self) -> None:
        write_json(self.scratch / _CLOCK, {"seconds": self.seconds})
        self._last_saved = time.monotonic()

    def _finish(self, lineage: dict[str, Any]) -> Node:
        hashes = file_hashes(self.folder)
        lineage |= {
            "seconds": round(self.seconds, 3),
            "peak_memory": peak_memory(),
            "weights_sha256": hashes.get("model.safetensors", hashes.get(ADAPTER)),
            "files": hashes,
        }
        write_json(self.folder / LINEAGE, lineage)
        publish(self.folder, self.out)
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        node = Node(self.out)
        remember(node)
        return node


Body = Callable[[Any, Any, Run], dict[str, Any]]
Tell = TypeVar("Tell", bound=Callable[..., Any])


@dataclasses.dataclass(eq=False)
class Stage:
    """A function from a checkpoint to a checkpoint, called as `stage(parent, config, run)`, and what it is."""

    body: Body
    takes: str | None
    makes: str
    why: str
    example: str
    shows: tuple[str, ...]
    start: str
    goal: str
    version: int
    tell: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.body)  # its name, its module, its docstring

    @property
    def name(self) -> str:
        """As recipes and the command line have it (`continue` and `import` are words of Python's own)."""
        return self.body.__name__.rstrip("_")

    @property
    def config(self) -> Any:
        """The dataclass of its settings."""
        return self.body.__annotations__["config"]

    @property
    def source(self) -> str:
        """Hash of its code."""
        return source_version(self.body.__module__)

    def id(self, config: Any, parents: list[str], inputs: dict[str, str], seed: int) -> str:
        """The id of what it makes of these; `inputs` is what the config's data stands for."""
        return node_id(self.name, self.version, chosen(config), parents, inputs, seed)

    def tells(self, tell: Tell) -> Tell:
        """Decorate the function that tells this stage's part of the page; it stays what it is, and stands in `tell`."""
        self.tell = tell
        return tell

    def check(self, parent: Node | None) -> None:
        """JourneyError for a parent of another kind than this stage takes."""
        if self.takes is None and parent is not None:
            raise JourneyError(f"{parent.path}: the stage {self.name} has no parent, it reads data")
        if self.takes and parent is None:
            raise JourneyError(f"the stage {self.name} needs a parent: {a(self.takes)}")
        if self.takes and parent and not goes_on_from(self.takes, kind_of(parent)):
            raise JourneyError(f"{parent.path} is a {parent.stage} node: {self.name} goes on from {a(self.takes)}")

    def _check_unfinished(self, config: Any, id: str, run: Run) -> None:
        """JourneyError where another run began the same node with other settings, and this one would begin anew."""
        for path in sorted(run.out.parent.glob(f".work-*/state/{_SETTINGS}")):
            began = read_json(path)
            mine = path.parts[-3] == f".work-{id[:12]}"
            same_place = (began["out"], began["stage"]) == (str(run.out), self.name)
            trained = any(path.parent.glob("**/step-*"))  # a saved state of a training, not what is quickly made again
            if run.fork or mine or not same_place or not trained:
                continue
            other = differing(began["config"], chosen(config), type(config)) or "its input"
            raise JourneyError(
                f"{run.out} was begun with other settings ({other}): give those to go on with it, or --fork to begin "
                f"anew (what was begun stays in {path.parent.parent})"
            )

    def __call__(self, parent: Node | str | Path | None, config: Any, run: Run) -> Node:
        """The finished node; `parent` is a Node, a path, or None. Errors: JourneyError for what cannot be."""
        parent = open_node(parent) if isinstance(parent, str | Path) else parent
        self.check(parent)
        check_config(config)
        _find_given(config, run)
        given = {field: node.id for field, node in run.given.items()}
        parents = [parent.id] if parent else []
        id = identify(self, config, parents, given, run.seed)
        if (run.out / LINEAGE).exists() and not run.again:
            found = open_node(run.out)
            if found.id == id:
                return found
            raise JourneyError(f"{run.out} already holds another node ({found.id[:10]}): choose another place")
        if run.out.exists() and not run.again and (not run.out.is_dir() or any(run.out.iterdir())):
            raise JourneyError(f"{run.out} exists and is not a node: choose another place or move it away")
        self._check_unfinished(config, id, run)
        run.out.parent.mkdir(parents=True, exist_ok=True)
        run._begin(id)
        write_json(run.scratch / _SETTINGS, {"out": str(run.out), "stage": self.name, "config": chosen(config)})
        try:
            facts = self.body(parent, config, run)
        except JourneyError:
            run._clear()
            raise
        nodes = {field: {"id": node.id, "name": node.name} | _origin(node) for field, node in run.given.items()}
        raw = {f: {"fingerprint": value} for f, value in inputs_of(config, given).items() if f not in given}
        lineage: dict[str, Any] = {
            "id": id,
            "name": run.name,
            "stage": self.name,
            "version": self.version,
            "source": self.source,
            "parents": parents,
            "config": dataclasses.asdict(config),
            "data": nodes | raw,
            "tokenizer_hash": _tokenizer_hash(run.folder),
            "seed": run.seed,
            "tokens": facts.get("tokens"),
            "flops": facts.get("flops"),
            "metrics": facts.get("metrics", {}),
            **{key: facts[key] for key in ("origin", "computed", "chosen") if key in facts},
            **surroundings(),
        }
        adapts = is_adapter(run.folder)
        if adapts or (run.folder / "config.json").exists():
            quantized = not adapts and bool(read_config(run.folder).get("quantization_config"))
            relation = "adapter" if adapts else "quantized" if quantized else "finetune"
            write_text(run.folder / "README.md", _card(lineage, parent, self.makes, relation))
        return run._finish(lineage)


def stage(
    *,
    makes: str,
    why: str,
    example: str,
    version: int,
    takes: str | None = None,
    shows: tuple[str, ...] = (),
    start: str = "",
    goal: str = "",
) -> Callable[[Body], Stage]:
    """Make a stage of a function `body(parent, config, run) -> facts`; the facts (`tokens`, `flops`, `metrics`) go into
    the lineage.

    takes: the kind of its parent, "tokenizer", "model" or another that a stage makes; None for no parent.
    makes: the kind of its node: "text", "tokenizer", "tokens", "model", "pairs", "gguf", "index", or a new one.
    why: a paragraph for somebody who meets the stage for the first time; *x* is emphasis.
    example: its command lines. shows: keys of the scores that stand on the first screen of the page, most important
    first, where {data} is the text trained on, or each of a mixture, and {others} each other text; "KEY below N" stands
    there only where the number is below N. start, goal: where a life that begins with
    it comes from, and what one that ends with it has become, for the page's title.
    version: raised when the same inputs give another result.
    """
    return lambda body: Stage(body, takes, makes, why, example, shows, start, goal, version)


def identify(stage: Stage, config: Any, parents: list[str], given: dict[str, str], seed: int) -> str:
    """The id of what a stage would make, without making it; `given` maps a config field to the id of its node."""
    return stage.id(config, parents, inputs_of(config, given), seed)


def _origin(node: Node) -> dict[str, Any]:
    """Of a text, what says which files were read; of tokens, the text that they are of, in the same words."""
    data = node.lineage.get("data", {})
    if kind_of(node) == "tokens":
        return {"text": data["data"]}
    return {"fingerprint": data["source"]["fingerprint"]} if "fingerprint" in data.get("source", {}) else {}


def _find_given(config: Any, run: Run) -> None:
    """Called straight from Python or the command line, a stage opens the nodes that its config names; texts that are
    not there yet are made."""
    for field, input, value in named(config):
        kinds = " or a ".join(input.kinds)
        if field not in run.given:
            found = resolve(value, input, {})
            if found is None:
                raise JourneyError(f"{value} is no folder of a {kinds} node and no file: {field} needs one of them")
            if found.what == "node":
                run.given[field] = open_node(value)
            if found.what == "source":
                run.given[field] = text_of(found.value, run.out.parent, run.seed, run.console)
        if field in run.given and kind_of(run.given[field]) not in input.kinds:
            raise JourneyError(f"{value} is a {run.given[field].stage} node: {field} must be a {kinds} node")


def text_of(source: str, folder: Path, seed: int, console: Console) -> Node:
    """The text node of a built-in source or of files, made in `folder` if it is not there yet."""
    from journey.data.sources import name_of
    from journey.stages.text import Text, text

    config = Text(source=source)
    name = name_of(config.source)
    place = folder / f"{name}-{identify(text, config, [], {}, seed)[:10]}"
    return text(None, config, Run(place, seed=seed, name=name, console=console))


def _tokenizer_hash(folder: Path) -> str | None:
    if not (folder / "tokenizer.json").exists():
        return None
    from journey.tokenizer.formats import Tokenizer

    return Tokenizer.load(folder).hash


def _card(lineage: dict[str, Any], parent: Node | None, kind: str, relation: str) -> str:
    """The model card: its metadata names task and base model as the Hub's format wants it."""
    task = "translation" if kind == "seq2seq" else "text-generation"
    head = ["---", f"library_name: {'peft' if relation == 'adapter' else 'transformers'}", f"pipeline_tag: {task}"]
    if parent is not None and parent.is_model:
        head += [f"base_model: {parent.name}", f"base_model_relation: {relation}"]
    head += ["tags:", "- journey", f"- {lineage['stage']}", "---", ""]
    metrics = []
    for key, m in lineage["metrics"].items():
        note = f" ({m['convention']})" if m["convention"] else ""
        metrics.append(f"- {key.replace('_', ' ')}: {m['value']:,.6g} {m['unit']}".rstrip() + note)
    return "\n".join(
        [
            *head,
            f"# {lineage['name']}",
            "",
            f"Made by the stage `{lineage['stage']}` of Journey, node `{lineage['id'][:12]}`.",
            "`lineage.json` beside this page says from what, with which settings, and what was measured.",
            "",
            *metrics,
            "",
        ]
    )
