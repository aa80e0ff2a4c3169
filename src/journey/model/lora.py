"""LoRA (Hu et al. 2021) as PEFT stores it: read, merged into the weights of its base, and which matrices it targets.

What is merged: LoRA, rsLoRA (Kalajdzievski 2023), DoRA (Liu et al. 2024), ranks and alphas by pattern, rows of the
embedding that were trained whole, and whole modules saved beside. All else that PEFT knows is refused by name.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model import adapter, families
from journey.model.config import GPTConfig
from journey.model.weights import HEAD, read_safetensors

Role = Literal["attention", "mlp", "all-linear"]
_PREFIX = "base_model.model."  # before each name in PEFT's file: its two wrappers
_A, _B, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
_ROWS = ".token_adapter.trainable_tokens_delta"  # so called, but they are the rows themselves
# Keys of adapter_config.json that we read, and those that say how it was trained and not what it computes.
_READ = {
    "peft_type", "bias", "lora_alpha", "alpha_pattern", "use_rslora", "use_dora", "modules_to_save",
    "trainable_token_indices", "ensure_weight_tying", "init_lora_weights", adapter.BASE_PATH,
}  # fmt: skip
_OF_TRAINING = {
    "auto_mapping", "corda_config", "eva_config", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config", "lora_dropout", "lora_ga_config",
    "megatron_core", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type",
}  # fmt: skip
_LARGEST = 1e9  # alpha; NaN is not below it
# Beginnings that leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take from it what A and B begin with.
_BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Pair:
    """The update of one matrix: scale · B A, and with DoRA the length of each output's row."""

    A: Tensor  # (r, in)
    B: Tensor  # (out, r)
    scale: float
    magnitude: Tensor | None = None  # (out,)

    def added_to(self, weight: Tensor) -> Tensor:
        """The merged matrix (out, in), in fp32."""
        merged = weight.float() + self.scale * (self.B.float() @ self.A.float())
        if self.magnitude is None:
            return merged
        return merged * (self.magnitude.float() / torch.linalg.vector_norm(merged, dim=1))[:, None]


@dataclass(frozen=True)
class Adapter:
    """What an adapter's file holds, by the names of its base's modules."""

    pairs: dict[str, Pair] = field(default_factory=dict)
    rows: dict[str, tuple[list[int], Tensor]] = field(default_factory=dict)  # ids, and their rows (n, C)
    saved: dict[str, Tensor] = field(default_factory=dict)  # tensors of modules_to_save


def targets(config: GPTConfig, role: Role) -> list[str]:
    """PEFT's `target_modules` for the matrices of a role: never the embedding or the head, and each by so much of its
    name that it is no other (GPT-2 has a c_proj in its attention and one in its MLP)."""
    family = families.get(config.family)
    with torch.device("meta"):
        block = family.block(config, 0)
    linear = {name for name, module in block.named_modules() if isinstance(module, nn.Linear)}
    return [
        part.huggingface
        for part in family.parts
        if linear.issuperset(part.ours) and (role == "all-linear" or part.ours[0].startswith(f"{role}."))
    ]


def read(folder: Path) -> Adapter:
    """The adapter in a folder. Raises JourneyError for a kind that we do not merge, and for a damaged one."""
    said = adapter.settings(folder)
    _check(said, str(folder / adapter.CONFIG))
    path = folder / adapter.WEIGHTS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise JourneyError(f"{folder} holds its adapter as a pickle, adapter_model.bin: save it by PEFT as safetensors")
    tensors = read_safetensors(path)
    # A head that PEFT was to keep tied to its embedding stands there without being named.
    whole = [*(said.get("modules_to_save") or ()), *(["lm_head"] if said.get("ensure_weight_tying") else [])]
    found = Adapter()
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX):
            raise JourneyError(f"{path}: {name:.120} is not as PEFT names tensors ({_PREFIX}…): save it by PEFT anew")
        name, saved = name.removeprefix(_PREFIX), name
        if name.endswith(_A):
            module = name.removesuffix(_A)
            found.pairs[module] = _pair(tensors, saved.removesuffix(_A), _scale(said, module, tensor, path), path)
        elif name.endswith(_ROWS):
            module = name.removesuffix(_ROWS)
            found.rows[module] = (_ids(said, module, tensor, path), tensor)
        elif name.endswith((_B, _MAGNITUDE)):
            if saved.removesuffix(_B).removesuffix(_MAGNITUDE) + _A not in tensors:
                raise JourneyError(f"{path}: {name:.120} is there without its lora_A: it is damaged, copy it again")
        elif _names(name.rpartition(".")[0], whole):
            found.saved[name] = tensor
        else:
            raise JourneyError(f"{path}: {name:.120} is no LoRA of a matrix, and we merge no other: merge it by PEFT")
    return found


def merge(folder: Path, config: GPTConfig, tensors: Mapping[str, Tensor]) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Shape and tensors of a base, by their full names in Hugging Face's files, with the adapter in a folder merged in.

    What it changes is in fp32 then. A head that was tied and becomes another than the embedding is untied. Raises
    JourneyError where the adapter does not fit the base.
    """
    family, found = families.get(config.family), read(folder)
    transposed = {stored.huggingface for stored in family.layout(config) if stored.transposed}
    embedding = f"{family.embedding}.weight"
    merged = dict(tensors)

    def old(name: str) -> Tensor:
        tensor = merged.get(embedding if name == HEAD and config.tied else name)
        if tensor is None:
            raise JourneyError(f"{folder} adapts {name:.120}, which its base does not have: it is for another model")
        return tensor

    changed: dict[str, Tensor] = {}
    for name, tensor in found.saved.items():
        changed[name] = _fitting(tensor, old(name).shape, name, folder)
    for module, pair in found.pairs.items():
        name = f"{module}.weight"
        weight = old(name).t() if name in transposed else old(name)  # (out, in)
        for part, shape in ((pair.A, (len(pair.A), weight.size(-1))), (pair.B, (len(weight), len(pair.A)))):
            _fitting(part, shape, module, folder)
        if pair.magnitude is not None:
            _fitting(pair.magnitude, (len(weight),), module, folder)
        changed[name] = pair.added_to(weight).t() if name in transposed else pair.added_to(weight)
    for module, (ids, rows) in found.rows.items():
        weight = old(f"{module}.weight")
        _fitting(rows, (len(ids), weight.size(-1)), module, folder)
        if not all(0 <= i < len(weight) for i in ids):
            raise JourneyError(f"{folder} trained token {max(ids):,}, its base has {len(weight):,}: it is for another")
        # PEFT gives a tied head the same rows
        changed[f"{module}.weight"] = weight.float().index_copy(0, torch.tensor(ids), rows.float())
    if config.tied and embedding in found.saved and HEAD not in changed:  # PEFT leaves the head as it was
        changed[HEAD] = old(HEAD)
    merged |= changed
    if config.tied and HEAD in changed and not torch.equal(merged[HEAD], merged[embedding]):
        return replace(config, tied=False), merged
    if config.tied:
        merged.pop(HEAD, None)
    return config, merged


def _check(said: Mapping[str, Any], where: str) -> None:
    """JourneyError for what we would merge otherwise than PEFT."""
    if (kind := said.get("peft_type")) != "LORA":
        raise JourneyError(f"{where}: peft_type is {kind!s:.60}, and we merge LORA alone: merge it by PEFT")
    if (bias := said.get("bias", "none")) != "none":
        raise JourneyError(
            f"{where}: bias is {bias!r:.60}: biases trained beside LoRA are not merged: merge it by PEFT"
        )
    if (begun := said.get("init_lora_weights", True)) not in _BEGINNINGS:
        raise JourneyError(
            f"{where}: init_lora_weights is {begun!r:.60}, which changed the base too: save it by PEFT with "
            "path_initial_model_for_weight_conversion, as an adapter of the base as it was"
        )
    for key, value in said.items():
        if value and key not in _READ | _OF_TRAINING:
            raise JourneyError(f"{where}: {key!r:.60} is {value!r:.60}, which we do not merge: merge it by PEFT")
    kinds: dict[str, Any] = {"alpha_pattern": dict, "modules_to_save": list, "trainable_token_indices": (list, dict)}
    for key, kind in kinds.items():
        if said.get(key) and not isinstance(said[key], kind):
            raise JourneyError(f"{where}: {key} is {said[key]!r:.60}: it is damaged")


def _pair(tensors: Mapping[str, Tensor], saved: str, scale: float, path: Path) -> Pair:
    if saved + _B not in tensors:
        raise JourneyError(f"{path}: {saved:.120} has lora_A and no lora_B: it is damaged, copy it again")
    return Pair(tensors[saved + _A], tensors[saved + _B], scale, tensors.get(saved + _MAGNITUDE))


def _scale(said: Mapping[str, Any], module: str, A: Tensor, path: Path) -> float:
    """alpha / r or, with rsLoRA, alpha / sqrt(r); r is that of the matrices, whatever pattern gave it."""
    alpha: Any = said.get("lora_alpha", 8)  # PEFT's default
    for pattern, value in (said.get("alpha_pattern") or {}).items():
        try:
            matched = re.match(rf"(.*\.)?({pattern})$", module)  # as PEFT matches it
        except re.error as error:
            raise JourneyError(f"{path.parent}: alpha_pattern {pattern!r:.80} is no pattern ({error})") from None
        if matched:
            alpha = value
            break
    if type(alpha) not in (int, float) or not abs(alpha) < _LARGEST or A.dim() != 2 or not len(A):
        raise JourneyError(f"{path}: {module:.120} has alpha {alpha!r:.40}, A of {tuple(A.shape)}: it is damaged")
    return float(alpha / (math.sqrt(len(A)) if said.get("use_rslora") else len(A)))


def _ids(said: Mapping[str, Any], module: str, rows: Tensor, path: Path) -> list[int]:
    """The tokens whose rows were trained: one list for the embedding, or one for each module."""
    listed = said.get("trainable_token_indices") or []
    if isinstance(listed, dict):
        listed = next((ids for name, ids in listed.items() if _names(module, [name])), [])
    if not isinstance(listed, list) or not all(type(i) is int for i in listed) or len(listed) != len(rows):
        raise JourneyError(f"{path}: {module:.120} has {len(rows)} trained rows, trainable_token_indices says others")
    return listed


def _names(module: str, wanted: Any) -> bool:
    """Whether the module's name ends in one of these: as PEFT matches them, where `norm` is `input_layernorm` too."""
    return any(isinstance(name, str) and module.endswith(name) for name in wanted)


def _fitting(tensor: Tensor, shape: tuple[int, ...], name: str, folder: Path) -> Tensor:
    if tuple(tensor.shape) != tuple(shape) or not tensor.is_floating_point():
        raise JourneyError(
            f"{folder}: of {name:.120} it holds {tuple(tensor.shape)}, where its base wants {tuple(shape)}: it is for "
            "another model"
        )
    return tensor
