"""A checkpoint is a folder: what a stage makes, what the next one reads, and what every other tool opens."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey.errors import JourneyError
from journey.files import digest, read_json, sha256_file

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

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


def open_tokenizer(folder: Path) -> "Tokenizer":
    """The tokenizer in a folder. Errors: JourneyError for one whose ids have no row in the embedding beside it, and
    for one that is not the one that the node was finished with."""
    from journey.tokenizer.formats import Tokenizer

    tokenizer = Tokenizer.load(folder)
    rows = read_json(folder / "config.json").get("vocab_size") if (folder / "config.json").exists() else None
    if isinstance(rows, int) and tokenizer.n_ids > rows:
        raise JourneyError(
            f"{folder}: its tokenizer has ids up to {tokenizer.n_ids - 1:,}, its embedding only {rows:,} rows: "
            "put the tokenizer.json there that the model was trained with"
        )
    lineage = read_json(folder / LINEAGE) if (folder / LINEAGE).exists() else {}
    made = lineage.get("tokenizer_hash")
    same_file = made and lineage["files"].get("tokenizer.json") == sha256_file(folder / "tokenizer.json")
    # The file first: the hash is of the library's own words, and another version of it may choose others.
    if made and not same_file and tokenizer.hash != made:
        raise JourneyError(
            f"{folder}: tokenizer.json is not the one that this node was made with (its hash begins with "
            f"{tokenizer.hash[:10]}, in {LINEAGE} with {made[:10]}): put that one back, or make the node anew"
        )
    return tokenizer
