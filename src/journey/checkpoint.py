"""A checkpoint is a folder: what a stage makes, what the next one reads, and what every other tool opens."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.files import digest, read_json, sha256_file

LINEAGE = "lineage.json"
# What decides the behaviour of a folder that came from elsewhere and so has no lineage of ours.
_IDENTITY = ("config.json", "tokenizer.json", "*.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Node:
    """A finished folder of one stage, or any Hugging Face folder from elsewhere (then without a lineage)."""

    path: Path

    @cached_property
    def lineage(self) -> dict[str, Any]:
        """The node's lineage.json; for a folder from elsewhere, an id made of its files."""
        if (self.path / LINEAGE).exists():
            return read_json(self.path / LINEAGE)
        files = {path.name: sha256_file(path) for name in _IDENTITY for path in self.path.glob(name)}
        return {"id": digest(files), "name": self.path.name, "stage": "import", "parents": [], "metrics": {}}

    @property
    def id(self) -> str:
        """Hash of everything that went in (64 hexadecimal digits)."""
        return self.lineage["id"]

    @property
    def name(self) -> str:
        """The stage's name in its recipe."""
        return self.lineage["name"]

    @property
    def stage(self) -> str:
        """Which kind of stage made it: text, tokenizer, pretrain, …"""
        return self.lineage["stage"]

    @property
    def parents(self) -> list[str]:
        """Ids of the nodes it was made from, the one it continues first."""
        return self.lineage["parents"]

    @property
    def is_model(self) -> bool:
        """Whether it holds weights (a text or a tokenizer node does not)."""
        return any((self.path / name).exists() for name in ("model.safetensors", "model.safetensors.index.json"))


def open_node(path: str | Path) -> Node:
    """The node in a folder. Errors: JourneyError when there is no folder, or nothing in it that we know."""
    folder = Path(path)
    if not folder.is_dir():
        raise JourneyError(f"{folder} is not a folder: give the path of a node or of a Hugging Face checkpoint")
    if not any(path for name in (LINEAGE, *_IDENTITY) for path in folder.glob(name)):
        raise JourneyError(f"{folder} holds no lineage.json, config.json or tokenizer.json: it is not a checkpoint")
    return Node(folder)
