"""A workspace as the page reads it: the plan, and for each stage what its node recorded and what was measured on it."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.files import read_json

NO_MODEL = ("text", "tokenizer", "prepare", "pairs", "quantize", "index")  # what these leave is text, files or an index


@dataclass(frozen=True, eq=False)
class Stage:
    """One line of the recipe. `lineage` is empty until the stage has run, `measurement` until it is measured."""

    name: str
    kind: str
    path: Path
    parents: list[str]
    data: list[str]
    lineage: dict[str, Any]
    history: list[dict[str, Any]]
    corpus: dict[str, Any]
    measurement: dict[str, Any]

    @property
    def is_model(self) -> bool:
        return self.kind not in NO_MODEL


@dataclass(frozen=True)
class Life:
    """All stages in the order of the plan."""

    recipe: str
    seed: int
    stages: list[Stage] = field(default_factory=list)

    @classmethod
    def read(cls, workspace: Path) -> "Life":
        """Read a workspace. Errors: JourneyError when there is no plan.json or a file in it is damaged."""
        if not (workspace / "plan.json").exists():
            raise JourneyError(f"{workspace} holds no plan.json: run `journey run` first, then report on it")
        plan = read_json(workspace / "plan.json")
        return cls(plan["recipe"], plan["seed"], [_stage(workspace, entry) for entry in plan["stages"]])

    @cached_property
    def done(self) -> list[Stage]:
        return [s for s in self.stages if s.lineage]

    @cached_property
    def measured(self) -> list[Stage]:
        """Everything that was measured: models, and what was made of them."""
        return [s for s in self.stages if s.measurement]

    @cached_property
    def models(self) -> list[Stage]:
        """The models that were measured."""
        return [s for s in self.measured if "bits_per_byte" in s.measurement]

    @cached_property
    def corpora(self) -> list[str]:
        """The corpora that bits per byte were measured on, in the order of first sight."""
        return list(dict.fromkeys(c for s in self.models for c in s.measurement["bits_per_byte"]))

    def parent(self, stage: Stage) -> Stage | None:
        """The measured model that a stage went on from."""
        return next((s for s in self.models if s.name in stage.parents), None)

    def last(self, key: str) -> Stage | None:
        """The last stage whose measurement has this part."""
        return next((s for s in reversed(self.measured) if s.measurement.get(key)), None)

    def colour(self, stage: Stage) -> int:
        """The number of a model's colour, the same in every chart."""
        return [s.name for s in self.stages if s.is_model].index(stage.name) % 6


def _stage(workspace: Path, entry: dict[str, Any]) -> Stage:
    path = workspace / entry["path"]
    lineage = _optional(path / "lineage.json", {})
    if lineage.get("id") != entry["id"]:  # not run yet, or left over from another plan
        path, lineage = workspace / "-", {}
    return Stage(
        entry["name"],
        entry["stage"],
        path,
        entry.get("parents", []),
        entry.get("data", []),
        lineage,
        _optional(path / "history.json", []),
        _optional(path / "corpus.json", {}),
        _optional(workspace / "measurements" / entry["id"] / "measurement.json", {}) if lineage else {},
    )


def _optional(path: Path, missing: Any) -> Any:
    return read_json(path) if path.exists() else missing
