"""The tensors of a saved model by the names that they should have: whichever file holds them, whatever wrapped them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from journey.errors import JourneyError
from journey.files import check_file, read_object

# Best first, as transformers has it: a folder that was saved to twice keeps the index of the first time.
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
HEAD = "lm_head.weight"
# What old files carry along and no one trained: GPT-2's causal masks, Llama's frequencies.
CONSTANTS = (
    ".attn.bias",
    ".attn.masked_bias",
    ".rotary_emb.inv_freq",
    ".rotary_emb.cos_cached",
    ".rotary_emb.sin_cached",
)
# torch.compile, DDP, FSDP, activation checkpointing and Lightning's Fabric put these into names, wherever they wrap.
_WRAPPERS = {
    "_orig_mod",
    "module",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
}
_POINTER = b"version https://git-lfs"
_MOST_TENSORS = 1 << 17
_LONGEST_INDEX = 64 << 20  # bytes; that of a model of a thousand layers has one


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor by its saved name, from model.safetensors or from the shards that its index names."""
    whole, index = (folder / name for name in SAFETENSORS)
    if index.is_file() and not whole.is_file():
        return together(index, read_safetensors)
    return read_safetensors(whole)


def together(index: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Every tensor of the shards that an index names. Raises JourneyError for one that two of them hold."""
    result: dict[str, Tensor] = {}
    for path in shards(index):
        for name, tensor in read(path).items():
            if name in result:
                raise JourneyError(f"{path}: another of its shards has {name:.120} too: copy all shards of one save")
            result[name] = tensor
    return result


def check_tensor(saved: Mapping[str, Tensor], name: str, shape: Sequence[int], where: str) -> None:
    """JourneyError for a tensor that is missing, of another shape, or of no floating-point type."""
    if (tensor := saved.get(name)) is None:
        raise JourneyError(f"{where}: the tensor {name} is missing")
    if tuple(tensor.shape) != tuple(shape):
        raise JourneyError(f"{where}: {name} is {tuple(tensor.shape)}, where {tuple(shape)} is needed")
    if not tensor.is_floating_point():
        raise JourneyError(f"{where}: {name} holds {type_of(tensor)}: quantized weights are not read")


def type_of(tensor: Tensor) -> str:
    """float32, int8, …"""
    return str(tensor.dtype).removeprefix("torch.")


def shards(index: Path) -> list[Path]:
    """The files that an index names, all in its own folder. Raises JourneyError for an index that is damaged."""
    said = read_object(index, _LONGEST_INDEX).get("weight_map")
    if not isinstance(said, dict) or not said or not all(isinstance(name, str) for name in said.values()):
        raise JourneyError(f"{index}: it has no weight_map of tensors and their files: it is damaged")
    names = sorted(set(said.values()))
    if outside := [name for name in names if Path(name).name != name or not name.strip(".") or not name.isprintable()]:
        raise JourneyError(f"{index}: {outside[0]!r:.80} is no file beside it: its shards must lie in its own folder")
    return [index.parent / name for name in names]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name; the data stays in the file until it is used."""
    check_weights(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > _MOST_TENSORS:
                raise JourneyError(f"{path} holds {len(names):,} tensors, and no more than {_MOST_TENSORS:,} are read")
            return {name: file.get_tensor(name) for name in names}
    except JourneyError:
        raise
    except SafetensorError as error:
        said = " ".join(str(error).split())  # it can quote a name with line ends
        raise JourneyError(f"{path} is damaged or cut off ({said:.150}): copy or make it again") from None
    except Exception as error:  # types that torch has not, sizes that it cannot hold: each another exception
        raise JourneyError(f"{path} holds a tensor that torch cannot read ({error!r:.100})") from None


def check_weights(path: Path) -> None:
    """`check_file`, and raises JourneyError for what a clone without Git LFS has in the place of large files."""
    check_file(path)
    with open(path, "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise JourneyError(f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` in its clone")


def without_wrappers(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors by their plain names. Raises JourneyError for two that then have the same, and where a wrapper has
    changed the tensors too."""
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.isprintable():
            raise JourneyError(f"{where}: {name!r:.80} is no name of a tensor: it is damaged")
        parts = name.split(".")
        if any(part.startswith("lora_") for part in parts):
            raise JourneyError(f"{where} holds LoRA's {name:.120}: merge it first (PEFT's merge_and_unload), then save")
        if parts[-1] in ("_flat_param", "flat_param"):
            raise JourneyError(f"{where}: {name:.120} is many tensors flattened by FSDP: save a full state dict")
        put(result, ".".join(part for part in parts if part not in _WRAPPERS), tensor, where)
    return result


def put(tensors: dict[str, Tensor], name: str, tensor: Tensor, where: str) -> None:
    """Add a tensor. Raises JourneyError where there is one of that name."""
    if name in tensors:
        raise JourneyError(f"{where}: two of its tensors are {name:.120}: it holds more than one model")
    tensors[name] = tensor


def tie(tensors: dict[str, Tensor], embedding: str) -> dict[str, Tensor]:
    """With the head in the place of a token embedding that is not there: a tied pair is often saved once, under either
    name."""
    return {embedding: tensors[HEAD], **tensors} if HEAD in tensors and embedding not in tensors else tensors
