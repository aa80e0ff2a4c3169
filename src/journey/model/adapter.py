"""An adapter in PEFT's format: a folder of what training added to a base, and which base that is. Needs no torch.

    adapter_config.json + adapter_model.safetensors    PEFT's own: rank, alpha, targets, the base's path · the matrices
    base.json                                          ours: the base's id, name and the hash of its weights

It has no config.json: beside one transformers (5.23) takes the folder for a whole model whose weights are gone. The
shape is the base's. PEFT keeps only a path. With `base.json` a base that was moved is found again, and one with other
weights is refused; an adapter made by PEFT alone has no such file, and its path is believed.
"""

import functools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.files import digest, holds, read_json, read_object, sha256_file, write_json

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
LINEAGE = "lineage.json"  # of a node: its id
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
BASE_PATH = "base_model_name_or_path"
_LONGEST = 4 << 20  # bytes of a JSON file of an adapter
_DEEPEST = 8  # adapters on adapters


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (folder / CONFIG).is_file()


def settings(folder: Path) -> dict[str, Any]:
    """What adapter_config.json says. Raises JourneyError for one that is damaged, and beside a whole model."""
    if (folder / "model.safetensors").exists():
        raise JourneyError(f"{folder} holds an adapter and a whole model: move {CONFIG} or model.safetensors away")
    said = read_object(folder / CONFIG, _LONGEST)
    if not isinstance(said.get(BASE_PATH), str) or not said[BASE_PATH]:
        raise JourneyError(f"{folder / CONFIG} does not say which model it adapts: write its folder as {BASE_PATH}")
    return said


def base(folder: Path) -> Path:
    """The folder of the model that an adapter adapts: where it says or, where that has other weights or is gone, the
    node of that id beside it.

    Raises JourneyError, naming the node that is needed, where there is none, and where its weights are others.
    """
    path = Path(settings(folder)[BASE_PATH])
    if not (folder / BASE).exists():
        if path.is_dir():
            return path
        raise JourneyError(
            f"{folder} adapts {path}, which is no folder here: write the folder of that model as {BASE_PATH} "
            f"into its {CONFIG}"
        )
    wanted = read_object(folder / BASE, _LONGEST)
    if not holds(wanted, {"id": str, "name": str, "weights_sha256": str}):
        raise JourneyError(f"{folder / BASE} is damaged: it does not say which model the adapter is for: restore it")
    found = {}
    for place in (path, *_nodes_of(wanted["id"], folder)):
        if place.is_dir():
            found[place] = weights_sha256(place)
            if found[place] == wanted["weights_sha256"]:
                return place
    needed = f"{folder} adapts {wanted['name']} (node {wanted['id'][:10]}, weights {wanted['weights_sha256'][:12]})"
    for place, sha256 in found.items():
        raise JourneyError(f"{needed}, but the weights in {place} are others ({sha256[:12]}): put back those it is for")
    raise JourneyError(f"{needed}, which is neither at {path} nor in {folder.resolve().parent}: put that node there")


def _nodes_of(id: str, folder: Path) -> list[Path]:
    """The nodes with that id in the folder that an adapter stands in."""
    found = []
    for path in sorted(folder.resolve().parent.glob(f"[!.]*/{LINEAGE}")):
        try:
            lineage = read_json(path)
        except (JourneyError, OSError):  # another node's damage
            continue
        if isinstance(lineage, dict) and lineage.get("id") == id:
            found.append(path.parent)
    return found


def chain(folder: Path) -> list[Path]:
    """A folder, its base, the base of that, … and last the whole model under them; of a whole model, itself alone."""
    found = [folder]
    while is_adapter(found[-1]):
        if len(found) > _DEEPEST:
            raise JourneyError(f"{folder} is an adapter on more than {_DEEPEST} others: merge one of them first")
        found.append(base(found[-1]))
    return found


def holding(folder: Path, name: str) -> Path:
    """The folder whose file of that name counts: of an adapter, which has no config.json and perhaps no tokenizer, the
    nearest below it that has one."""
    if (folder / name).exists() or not is_adapter(folder):
        return folder
    return next((place for place in chain(folder) if (place / name).exists()), folder)


def copy(folder: Path, names: Iterable[str], to: Path) -> None:
    """Copy the files of these names that a model has, itself or, of an adapter, below it."""
    for name in names:
        if (file := holding(folder, name) / name).exists():
            shutil.copyfile(file, to / name)


def n_bytes(folder: Path) -> int:
    """Of the weights that a folder holds; of an adapter's, those alone."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def weights_sha256(folder: Path) -> str:
    """The hash of what a model computes with: of model.safetensors, as in a lineage; over all shards; or over an
    adapter's matrices, its settings without the base's path, and the hash of its base's weights."""
    if is_adapter(folder):
        beside = read_object(folder / BASE, _LONGEST).get("weights_sha256") if (folder / BASE).exists() else None
        said = {key: value for key, value in settings(folder).items() if key != BASE_PATH}
        return digest([_sha256(folder / WEIGHTS), said, beside])
    hashes = {path.name: _sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    return hashes.get("model.safetensors") or digest(hashes)


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise JourneyError(f"{path} is missing: copy or make the adapter again")
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns)


@functools.cache  # a verb opens the same base more than once
def _sha256_of(path: Path, size: int, modified: int) -> str:
    return sha256_file(path)


def record_base(folder: Path, model: Path, id: str, name: str) -> None:
    """Write into an adapter's folder which model it is for: base.json, and its absolute path where PEFT looks, so that
    transformers opens the folder from anywhere."""
    said = read_object(folder / CONFIG, _LONGEST)
    write_json(folder / CONFIG, said | {BASE_PATH: str(model.resolve())})
    write_json(folder / BASE, {"id": id, "name": name, "weights_sha256": weights_sha256(model)})
