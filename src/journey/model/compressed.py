"""Quantized weights on disk, in vLLM's format, compressed-tensors (`pack-quantized`), which transformers reads too.

    name.weight_packed   int32: whole numbers plus 8 or 128, row after row, the first in the lowest bits
    name.weight_scale    float: (out, 1), or (out, in / group)
    name.weight_shape    of the matrix

GPT-2's files have their matrices as (in, out), and so have these. A group of inputs is then a block of [group, 1]:
transformers reads it, because config.json asks it to dequantize at once; vLLM knows no such blocks.

LLM.int8() stands as bitsandbytes saves it, which transformers reads with bitsandbytes alone: `name.weight` int8
(out, in), in every family, and `name.SCB`, the largest number of each row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.quantized import BLOCK, HEAD, OUTLIER, Bits, OutlierLinear, QuantizedLinear
from journey.model.weights import put

KEY, METHOD, FORMAT = "quantization_config", "compressed-tensors", "pack-quantized"
_PACKED, _SCALE, _SHAPE = ".weight_packed", ".weight_scale", ".weight_shape"
_BITSANDBYTES, _SCB, _OF_SCB = "bitsandbytes", ".SCB", ".weight_format"
_READ = {"weights", "targets", "format"}  # of a group of layers; all else must be empty
_WEIGHTS = {"type": "int", "symmetric": True, "dynamic": False, "actorder": None, "zp_dtype": None}
_FREE = {"num_bits", "strategy", "group_size", "block_structure", "observer", "observer_kwargs", "scale_dtype"}


@dataclass(frozen=True)
class Packed:
    """The quantized weight of a module of a saved model, as ours are: (out, in), and its scales; of LLM.int8() with the
    size of an outlier."""

    bits: Bits
    values: Tensor
    scale: Tensor
    threshold: float | None = None

    def layer(self, rows: slice, bias: Tensor | None) -> QuantizedLinear:
        """The layer of some of its outputs."""
        numbers = self.values[rows], self.scale[rows]
        if self.threshold is None:
            return QuantizedLinear(self.bits, *numbers, bias)
        return OutlierLinear(self.bits, *numbers, bias, self.threshold)


def turned(config: GPTConfig) -> tuple[str, ...]:
    """The ends of the names of those modules whose matrices the family's files have as (in, out)."""
    return tuple(part.huggingface for part in families.get(config.family).parts if part.transposed)


# Written.


def settings(model: GPT) -> dict[str, Any]:
    """What config.json says of a quantized model, under `KEY`."""
    layers = [m for m in model.blocks.modules() if isinstance(m, QuantizedLinear)]
    inside, head, blocks = layers[0], model.get_submodule(HEAD), bool(turned(model.config))
    alone = [] if isinstance(head, QuantizedLinear) else ["lm_head"]
    if isinstance(inside, OutlierLinear):
        return {
            "quant_method": _BITSANDBYTES,
            "load_in_8bit": True,
            "load_in_4bit": False,
            "llm_int8_threshold": inside.threshold,
            "llm_int8_has_fp16_weight": False,
            "llm_int8_skip_modules": alone,
        }
    groups = [{"targets": ["Linear"], "weights": _weights(inside, blocks)}]
    if isinstance(head, QuantizedLinear) and head.bits != inside.bits:
        groups.insert(0, {"targets": ["lm_head"], "weights": _weights(head, False)})
    said = {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {f"group_{i}": group for i, group in enumerate(groups)},
        "ignore": alone,
    }
    return said | ({"dequantize": True} if blocks else {})


def _weights(layer: QuantizedLinear, blocks: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"num_bits": layer.bits, "type": "int", "symmetric": True, "dynamic": False}
    if layer.bits == 8:
        return said | {"strategy": "channel"}
    if blocks:
        return said | {"strategy": "block", "block_structure": [layer.group, 1]}
    return said | {"strategy": "group", "group_size": layer.group}


def tensors(model: GPT) -> dict[str, Tensor]:
    """A quantized model's tensors under the names that its folder has them by."""
    ours = {name: parameter.detach() for name, parameter in model.named_parameters()}
    result: dict[str, Tensor] = {}
    for stored in families.get(model.config.family).layout(model.config):
        modules = [model.get_submodule(name.rpartition(".")[0]) for name in stored.ours]
        layers = [module for module in modules if isinstance(module, QuantizedLinear)]
        if layers and stored.huggingface.endswith(".weight"):
            values, scale = (torch.cat(parts) for parts in zip(*((m.values(), m.scale) for m in layers), strict=True))
            name = stored.huggingface.removesuffix(".weight")
            if isinstance(layers[0], OutlierLinear):
                # A tensor each: the file holds no memory twice.
                result |= {stored.huggingface: values.clone(), name + _SCB: 127 * scale[:, 0]}
                result[name + _OF_SCB] = torch.tensor(0, dtype=torch.uint8)  # row after row
            else:
                result |= _packed(name, layers[0].bits, values, scale, stored.transposed)
        else:
            tensor = stored.stack(ours)
            result[stored.huggingface] = tensor.t() if stored.transposed else tensor
    return result


def _packed(name: str, bits: Bits, values: Tensor, scale: Tensor, transposed: bool) -> dict[str, Tensor]:
    if transposed:
        values, scale = values.t(), scale.t()
    shape = torch.tensor(values.shape)
    return {name + _PACKED: pack(values, bits), name + _SCALE: scale, name + _SHAPE: shape}


def pack(values: Tensor, bits: Bits) -> Tensor:
    """Whole numbers (rows, columns) int8 as (rows, columns · bits / 32) int32, a row filled up with zeros."""
    plus = (values.to(torch.int16) + (1 << bits - 1)).to(torch.uint8)
    plus = F.pad(plus, (0, -values.size(1) % (32 // bits)))
    if bits == 4:
        plus = plus[:, ::2] | plus[:, 1::2] << 4
    return plus.contiguous().view(torch.int32)


def unpack(packed: Tensor, bits: Bits, columns: int) -> Tensor:
    """The way back, (rows, …) int32 -> (rows, columns) int8."""
    plus = packed.contiguous().view(torch.uint8)
    if bits == 4:
        plus = torch.stack([plus & 15, plus >> 4], -1).flatten(1)
    return (plus[:, :columns].to(torch.int16) - (1 << bits - 1)).to(torch.int8)


# Read.


def check(said: Any) -> None:
    """JourneyError for a `quantization_config` of weights that we do not compute with, naming what."""
    if not isinstance(said, dict):
        raise JourneyError(f"{KEY} is {said!r:.60}, where an object belongs")
    if said.get("quant_method") == _BITSANDBYTES:
        return _check_bitsandbytes(said)
    if said.get("quant_method") != METHOD or said.get("format") != FORMAT:
        found = f"{said.get('quant_method')!s:.40}, {said.get('format')!s:.40}"
        raise JourneyError(f"its weights are quantized as {found}: we read {METHOD}' {FORMAT} and LLM.int8()")
    groups = said.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise JourneyError(f"{KEY} has no config_groups, which say how its weights are quantized")
    for key in ("kv_cache_scheme", "sparsity_config", "transform_config"):
        if said.get(key):
            raise JourneyError(f"{KEY} has a {key}, which we do not compute")
    for name, group in groups.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            raise JourneyError(f"{KEY}: {name!s:.40} quantizes no weights: it is damaged")
        if extra := next((key for key, value in group.items() if key not in _READ and value), None):
            raise JourneyError(f"{KEY}: {name!s:.40} has {extra!s:.40}: we quantize weights alone")
        for key, value in weights.items():
            if key not in _FREE and value != _WEIGHTS.get(key) and value not in (None, False):
                wanted = f"{_WEIGHTS[key]!r} alone" if key in _WEIGHTS else "none"
                raise JourneyError(f"{KEY}: {name!s:.40} has {key!s:.40} {value!r:.40}, we compute {wanted}")
        if weights.get("num_bits") not in (4, 8) or weights.get("symmetric") is False:
            raise JourneyError(f"{KEY}: {name!s:.40} has {weights!s:.120}: we compute symmetric numbers of 4 or 8 bits")


def _check_bitsandbytes(said: Mapping[str, Any]) -> None:
    threshold = said.get("llm_int8_threshold", OUTLIER)
    if said.get("load_in_8bit") is not True or said.get("load_in_4bit"):
        raise JourneyError(f"{KEY}: of {_BITSANDBYTES}' formats we read LLM.int8() alone (load_in_8bit)")
    if said.get("llm_int8_has_fp16_weight"):
        raise JourneyError(f"{KEY}: llm_int8_has_fp16_weight is set: its weights are not of 8 bits yet")
    if type(threshold) not in (int, float) or not 0 <= threshold < 1e9:
        raise JourneyError(f"{KEY}: llm_int8_threshold is {threshold!r:.40}, where a number belongs, at least 0")


def take(config: GPTConfig, saved: dict[str, Tensor], said: Mapping[str, Any], where: str) -> dict[str, Packed]:
    """Take the quantized weights out of a folder's tensors, of which config.json says this, and leave in the place of
    each a tensor of its shape that holds nothing. Raises JourneyError for one that is damaged, and where there is none.
    """
    eight = said.get("quant_method") == _BITSANDBYTES
    threshold = float(said.get("llm_int8_threshold", OUTLIER))
    found = _of_scb(config, saved, threshold, where) if eight else _of_packed(config, saved, where)
    if not found:
        raise JourneyError(f"{where}: config.json says that its weights are quantized, and none is")
    return found


def _of_scb(config: GPTConfig, saved: dict[str, Tensor], threshold: float, where: str) -> dict[str, Packed]:
    found = {}
    for name in [name.removesuffix(_SCB) for name in saved if name.endswith(_SCB)]:
        largest, values = saved.pop(name + _SCB), saved.pop(f"{name}.weight", None)
        laid_out = saved.pop(name + _OF_SCB, None)
        if values is None or values.dim() != 2 or values.dtype != torch.int8 or largest.shape != values.shape[:1]:
            raise JourneyError(f"{where}: {name} is no matrix of int8 with a number a row in its SCB: it is damaged")
        if laid_out is not None and (laid_out.numel() != 1 or int(laid_out)):
            raise JourneyError(f"{where}: {name}.weight is laid out for a GPU: save it by a newer bitsandbytes")
        if not largest.isfinite().all() or not largest.is_floating_point():
            raise JourneyError(f"{where}: {name}{_SCB} holds what is no number: it is damaged, copy or make it again")
        found[name] = Packed(8, values, (largest.float() / 127)[:, None], threshold)
        shape = reversed(values.shape) if name.endswith(turned(config)) else values.shape
        put(saved, f"{name}.weight", torch.empty(*shape, device="meta"), where)
    return found


def _of_packed(config: GPTConfig, saved: dict[str, Tensor], where: str) -> dict[str, Packed]:
    found = {}
    for name in [name.removesuffix(_PACKED) for name in saved if name.endswith(_PACKED)]:
        packed, scale, shape = (saved.pop(name + end, None) for end in (_PACKED, _SCALE, _SHAPE))
        if packed is None or scale is None or shape is None:
            missing = _SCALE if scale is None else _SHAPE
            raise JourneyError(f"{where}: {name}{missing} is missing: copy or make it again")
        rows, columns = _shape(shape, packed, f"{where}: {name}")
        bits: Bits = 4 if columns >= BLOCK and packed.size(1) == -(-columns * 4 // 32) else 8
        if packed.size(1) != -(-columns * bits // 32) or not scale.is_floating_point() or scale.dim() != 2:
            raise JourneyError(f"{where}: {name} is no matrix of {rows} x {columns} numbers of 4 or 8 bits with scales")
        values = unpack(packed, bits, columns)
        if name.endswith(turned(config)):
            values, scale = values.t(), scale.t()
        out, inputs, per_row = *values.shape, scale.size(1)
        if scale.size(0) != out or inputs % per_row or (bits == 4 and inputs // per_row % BLOCK):
            said = f"scales of {tuple(scale.shape)} for a matrix of {tuple(values.shape)}"
            raise JourneyError(f"{where}: {name} has {said}: with 4 bits a group must be a multiple of {BLOCK} inputs")
        if bits == 8 and per_row > 1:
            raise JourneyError(f"{where}: {name} has {per_row} scales a row: with 8 bits we compute one")
        if not scale.isfinite().all():
            raise JourneyError(f"{where}: {name}{_SCALE} holds NaN or infinity: it is damaged, copy or make it again")
        found[name] = Packed(bits, values, scale)
        put(saved, f"{name}.weight", torch.empty(rows, columns, device="meta"), where)
    return found


def _shape(shape: Tensor, packed: Tensor, what: str) -> tuple[int, int]:
    if packed.dim() != 2 or packed.dtype != torch.int32 or shape.numel() != 2 or shape.is_floating_point():
        raise JourneyError(f"{what} is no packed matrix: it is damaged, copy or make it again")
    rows, columns = map(int, shape.tolist())
    if rows != packed.size(0) or columns < 1:
        raise JourneyError(f"{what} has {packed.size(0):,} rows, and its shape says {rows:,} x {columns:,}")
    return rows, columns


def fill(model: GPT, packed: Mapping[str, Packed]) -> None:
    """Put the quantized weights of a folder, by its names, where a model has layers without values."""
    for stored in families.get(model.config.family).layout(model.config):
        name, _, kind = stored.huggingface.rpartition(".")
        if kind != "weight" or name not in packed:
            continue
        whole, ours = packed[name], [name.removesuffix(".weight") for name in stored.ours]
        layers = [cast(nn.Linear, model.get_submodule(name)) for name in ours]
        if not isinstance(layers[0], nn.Linear):
            raise JourneyError(f"{name} is quantized: of quantized weights we compute with those of linear layers")
        first = 0
        for place, layer in zip(ours, layers, strict=True):
            rows = slice(first, first := first + layer.out_features)
            model.set_submodule(place, whole.layer(rows, layer.bias))
