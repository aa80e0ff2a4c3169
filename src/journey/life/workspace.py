"""A workspace as its page reads it: the plan, and for each stage its node, what was measured at it and what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from journey import measuring, runner
from journey.checkpoint import LINEAGE, Node, open_node
from journey.errors import JourneyError
from journey.expected import Expected
from journey.measure import Subject
from journey.scores import Effect, Taken
from journey.stages import load
from journey.stages.run import Stage
from journey.stages.story import Story, Told, by_default


@dataclass(frozen=True, eq=False)
class Entry:
    """A stage of the plan; `node` stands once it has run, `taken` once it is measured."""

    name: str
    kind: str
    parents: Sequence[str]
    node: Node | None
    taken: Mapping[str, Taken]

    @property
    def stage(self) -> Stage:
        """The stage that makes it."""
        return load(self.kind)

    @property
    def is_model(self) -> bool:
        """Whether it is, or will be, a model."""
        return self.stage.makes == "model"

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that it was trained on, several of a mixture, without what it only repeated."""
        data = self.node.lineage.get("data", {}) if self.node else {}
        read = [each for field, each in data.items() if field.partition(":")[0] == "data"]
        return tuple(name for each in read if (name := each.get("text", each).get("name", "")))

    @property
    def seconds(self) -> float:
        """What making and measuring it took."""
        made = self.node.lineage.get("seconds") or 0.0 if self.node else 0.0
        return made + sum(taken.seconds for taken in self.taken.values())


@dataclass(frozen=True)
class Life:
    """All stages in the order of the plan, and what was expected of them."""

    recipe: str
    seed: int
    entries: Sequence[Entry]
    expected: Mapping[str, Sequence[Expected]] = field(default_factory=dict)

    @classmethod
    def read(cls, workspace: Path) -> "Life":
        """Read a workspace. Errors: JourneyError when there is no plan.json or a file in it is damaged."""
        if not (workspace / "plan.json").exists():
            raise JourneyError(f"{workspace} holds no plan.json: run `journey run` first, then report on it")
        plan = runner.read_plan(workspace)
        expected = {name: [Expected(**each) for each in every] for name, every in plan["expect"].items()}
        entries = []
        for found in plan["stages"]:
            path = workspace / found["path"]
            node = open_node(path) if (path / LINEAGE).exists() else None
            if node and node.id != found["id"]:  # left over from another plan
                node = None
            taken = measuring.read(node, workspace) if node else {}
            entries.append(Entry(found["name"], found["stage"], found["parents"], node, taken))
        return cls(plan["recipe"], plan["seed"], entries, expected)

    @cached_property
    def done(self) -> list[Entry]:
        """What has run."""
        return [entry for entry in self.entries if entry.node]

    @cached_property
    def texts(self) -> list[str]:
        """The names of the texts that models are measured on."""
        return [entry.name for entry in self.entries if entry.stage.makes == "text"]

    def parent(self, entry: Entry) -> Entry | None:
        """The model that a stage went on from."""
        return next((e for e in self.entries if e.name in entry.parents and e.is_model), None)

    def colour(self, entry: Entry) -> int:
        """The number of a model's colour, the same in every chart."""
        models = [e.name for e in self.entries if e.is_model]
        return models.index(entry.name) % 6 if entry.is_model else 0

    @cached_property
    def effects(self) -> dict[str, list[Effect]]:
        """Every effect of each measured stage, by its name."""
        found = {}
        for entry in self.entries:
            parent = self.parent(entry)
            before = parent.taken if parent else {}
            found[entry.name] = measuring.effects(entry.taken, entry.name, before, parent.name if parent else "")
        return found

    def seen(self, measure: str) -> dict[Subject, Taken]:
        """What a measure found at every stage."""
        return {
            Subject(entry.name, entry.kind, self.colour(entry), parent.name if parent else ""): entry.taken[measure]
            for entry in self.entries
            if measure in entry.taken
            for parent in (self.parent(entry),)
        }

    def story(self, entry: Entry) -> Story:
        """What a stage that has run tells of itself."""
        assert entry.node
        parent = next((e.node for e in self.entries if e.name in entry.parents), None)
        told = Told(entry.node, parent, entry.parents, entry.texts, entry.taken, self.colour(entry))
        tell = entry.stage.tell or by_default
        return tell(told)
