"""A checkpoint is a folder: what a stage makes, what the next one reads, and what every other tool opens."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey.errors import JourneyError
from journey.files import digest, read_json, read_object, sha256_file, write_json
from journey.model import adapter
from journey.model.adapter import LINEAGE
from journey.model.opening import read_config

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", adapter.WEIGHTS)
COMPARED = ".compared.json"  # beside it: of each file that was found equal to its hash, what tells that it changed
_LONGEST = 64 << 20  # bytes of a lineage.json
_FREE = ("README.md",)  # a model card is for its owner to write on
_SHAPE = {"id": str, "name": str, "stage": str, "parents": list, "files": dict, "metrics": dict}
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
            return _lineage(self.path / LINEAGE)
        files = {path.name: sha256_file(path) for name in _IDENTITY for path in self.path.glob(name)}
        if adapter.is_adapter(self.path):
            files["adapter"] = digest([adapter.weights_sha256(place) for place in adapter.chain(self.path)])
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
        """Whether it holds weights, those of an adapter too (a text or a tokenizer node does not)."""
        return any((self.path / name).exists() for name in WEIGHTS)


def _lineage(path: Path) -> dict[str, Any]:
    """A lineage.json of ours. Errors: JourneyError for one that lacks what every node has."""
    lineage = read_object(path, _LONGEST)
    for key, kind in _SHAPE.items():
        if not isinstance(lineage.get(key), kind):
            raise JourneyError(f'{path} is damaged: it holds no "{key}" as a node has it: restore it')
    if not all(isinstance(text, str) for text in [*lineage["parents"], *lineage["files"].values()]):
        raise JourneyError(f"{path} is damaged: its parents and files are hashes: restore it")
    return lineage


def open_node(path: str | Path) -> Node:
    """The node in a folder, its files compared with the hashes that it was finished with.

    Errors: JourneyError as `look_at`, and naming the file that was altered.
    """
    node = look_at(path)
    if (node.path / LINEAGE).exists():
        compare(node)
    return node


def compare(node: Node, anew: bool = False) -> None:
    """JourneyError naming the first file of a node that is gone, or not as the node was finished with it.

    What was equal is remembered by size and time, so that the next call reads none of it; `anew` reads all.
    """
    if not (node.path / LINEAGE).exists():
        raise JourneyError(f"{node.path} has no {LINEAGE}: nothing says what its files were when it was made")
    known = _compared(node.path) if not anew else {}
    found: dict[str, list[Any]] = {}
    for name, wanted in node.lineage["files"].items():
        if name in _FREE:
            continue
        path = node.path / name
        mark = _mark(path, wanted)
        if mark is None or (known.get(name) != mark and sha256_file(path) != wanted):
            raise JourneyError(_altered(node, name, "is gone" if mark is None else "was changed"))
        found[name] = mark
    if found != known:
        _remember(node.path, found)


def verdict(node: Node, anew: bool = False) -> str | None:
    """What `compare` has to say of a node, for those that go on; None when nothing was altered."""
    try:
        compare(node, anew)
    except JourneyError as error:
        return str(error)
    return None


def remember(node: Node) -> None:
    """Take it that a node's files are as its lineage says: its stage has just hashed them."""
    _remember(node.path, {name: _mark(node.path / name, sha) for name, sha in node.lineage["files"].items()})


def _mark(path: Path, sha256: str) -> list[Any] | None:
    """What is another when a file was written again; None for no file. (A change that keeps both, `verify` finds.)"""
    if not path.is_file():
        return None
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, sha256]


def _compared(folder: Path) -> dict[str, Any]:
    try:
        known = read_json(folder / COMPARED)
    except (JourneyError, OSError):  # damaged, or another user's: all is read again
        return {}
    return known if isinstance(known, dict) else {}


def _remember(folder: Path, marks: dict[str, Any]) -> None:
    if os.access(folder, os.W_OK):  # in another user's folder nothing is remembered
        write_json(folder / COMPARED, marks)


def _altered(node: Node, file: str, what: str) -> str:
    anew = f"make the node anew (in a recipe: `journey run --from {node.name}`)"
    own = f", or, if you want it so, `journey import {node.path} --out DIR` makes a node of its own of it"
    return f"{node.path / file} {what} since its node was made: put it back, {anew}{own if node.is_model else ''}"


def look_at(path: str | Path) -> Node:
    """The node in a folder, its files not compared with anything. Errors: JourneyError when there is no folder, or
    nothing in it that we know."""
    folder = Path(path)
    if not folder.is_dir():
        raise JourneyError(f"{folder} is not a folder: give the path of a node or of a Hugging Face checkpoint")
    if not any(path for name in (LINEAGE, *_IDENTITY) for path in folder.glob(name)):
        raise JourneyError(f"{folder} holds no lineage.json, config.json or tokenizer.json: it is not a checkpoint")
    return Node(folder)


def made_nodes(folder: Path) -> list[Node]:
    """Every finished node in a folder of nodes, its files not compared."""
    return [look_at(path.parent) for path in sorted(folder.glob(f"[!.]*/{LINEAGE}"))]


def open_tokenizer(folder: Path) -> "Tokenizer":
    """The tokenizer in a folder. Errors: JourneyError for one whose ids have no row in the embedding beside it."""
    from journey.tokenizer.formats import Tokenizer

    tokenizer = Tokenizer.load(adapter.holding(folder, "tokenizer.json"))
    place = adapter.holding(folder, "config.json")
    rows = read_config(place).get("vocab_size") if (place / "config.json").exists() else None
    if isinstance(rows, int) and tokenizer.n_ids > rows:
        raise JourneyError(
            f"{folder}: its tokenizer has ids up to {tokenizer.n_ids - 1:,}, its embedding only {rows:,} rows: "
            "put the tokenizer.json there that the model was trained with"
        )
    return tokenizer
