"""A model as the C kernel sees it: where its weights lie, and how they are connected."""

import ctypes
from ctypes import Structure, byref, c_float, c_int32, c_void_p
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from journey.infer import build
from journey.infer.blocks import BLOCK
from journey.infer.precision import HalfLinear
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.layers import GELU, Attention, Block, RMSNorm, SwiGLU
from journey.model.quantized import QuantizedLinear

if TYPE_CHECKING:
    from journey.infer.runner import Step

F32, F16, INT8, INT4 = range(4)  # Matrix.kind
# Products of fewer multiplications are done before a second thread is awake; and beside other busy programs a thread
# that waits for another waits long.
_ALONE = 4_000_000


class _Matrix(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("weight", "scale", "bias")),
        *((name, c_int32) for name in ("kind", "rows", "columns", "group")),
    )


class _Norm(Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class _Layer(Structure):
    _fields_ = (
        *((name, _Norm) for name in ("attention_norm", "mlp_norm", "q_norm", "k_norm")),
        *((name, _Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
    )


class _Model(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("layers", "embed", "positions", "rope")),
        ("norm", _Norm),
        ("head", _Matrix),
        ("eps", c_float),
        *((name, c_int32) for name in ("n_layer", "n_head", "n_kv_head", "head_dim", "n_embd", "n_inner", "rope_n")),
        ("threads", c_int32),
    )


class _Batch(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("keys", "values", "ids", "positions", "rows", "tables", "read")),
        *((name, c_void_p) for name in ("logits", "scratch")),
        *((name, c_int32) for name in ("n_tokens", "n_read", "n_blocks", "table_width")),
    )


_KNOWN = (
    GPT,
    nn.ModuleList,
    nn.Embedding,
    nn.Linear,
    nn.LayerNorm,
    RMSNorm,
    Block,
    Attention,
    GELU,
    SwiGLU,
    HalfLinear,
    QuantizedLinear,
)


def computes(model: GPT) -> bool:
    """Whether the kernel computes what this model would: all its parts are as ours, nobody has hung anything on them,
    and the weights lie in the CPU's memory, in fp32."""

    def as_ours(part: nn.Module) -> bool:
        hooked = part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
        as_known = type(part) in _KNOWN and not (isinstance(part, nn.LayerNorm) and part.bias is None)
        return as_known and not hooked

    def as_kept(weight: Tensor) -> bool:
        return weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()

    return all(map(as_ours, model.modules())) and all(map(as_kept, model.parameters()))


class Native:
    """A model run by the kernel. It reads the weights where they are: what trains on is seen at once."""

    name = "kernel"

    def __init__(self, model: GPT, n_blocks: int, library: ctypes.CDLL | None = None) -> None:
        self.library = library or build.library()
        self.model, self.config, self.n_blocks = model, model.config, n_blocks
        c = self.config
        wide = -(-c.head_dim // (lanes := self.library.vector_floats())) * lanes
        self.keys = torch.zeros(c.n_layer, n_blocks, c.n_kv_head, c.head_dim, BLOCK)
        self.values = torch.zeros(c.n_layer, n_blocks, c.n_kv_head, BLOCK, wide)
        model.prepare_rope(min(c.n_ctx, n_blocks * BLOCK))
        # Kept alive here, whoever puts others in their place meanwhile.
        self.tensors = [each.detach() for each in (*model.parameters(), *model.buffers())]
        self.scratch = torch.empty(0)
        self.layers = (_Layer * c.n_layer)(*(_layer(block) for block in model.blocks))
        self.shape = _model(model, self.layers)

    def __call__(self, step: "Step") -> Tensor:
        """Logits (n_read, V) of a step."""
        N, n_read = len(step.ids), len(step.read)
        head = self.config.vocab_size * self.config.n_embd
        work = N * (self.config.n_matmul - head) + n_read * head
        self.shape.threads = 1 if work < _ALONE else torch.get_num_threads()
        logits = torch.empty(n_read, self.config.vocab_size)
        longest = int(step.positions.max()) + 1
        batch = _Batch(
            self.keys.data_ptr(),
            self.values.data_ptr(),
            *(each.ctypes.data for each in (step.ids, step.positions, step.rows, step.tables, step.read)),
            logits.data_ptr(),
            self._room(self.library.scratch_floats(byref(self.shape), N, longest)),
            N,
            n_read,
            self.n_blocks,
            step.tables.shape[1],
        )
        self.library.step(byref(self.shape), byref(batch))
        return logits

    def clear(self, blocks: list[int]) -> None:
        """Put zeros in these blocks."""
        self.keys[:, blocks] = 0
        self.values[:, blocks] = 0

    def _room(self, floats: int) -> int:
        """The address of so much memory to compute in; this model's own, for Python runs other threads meanwhile."""
        if self.scratch.numel() < floats:
            self.scratch = torch.empty(floats)
        return self.scratch.data_ptr()


def _matrix(layer: nn.Module | None) -> _Matrix:
    if layer is None:
        return _Matrix()
    bias = layer.bias
    at_bias = bias.data_ptr() if isinstance(bias, Tensor) else None
    if isinstance(layer, QuantizedLinear):
        kind, shape = INT8 if layer.bits == 8 else INT4, (layer.out_features, layer.in_features)
        return _Matrix(layer.q.data_ptr(), layer.scale.data_ptr(), at_bias, kind, *shape, layer.group)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    kind = F16 if weight.dtype == torch.float16 else F32
    return _Matrix(weight.data_ptr(), None, at_bias, kind, *weight.shape, 0)


def _norm(layer: nn.Module | None) -> _Norm:
    if layer is None:
        return _Norm()
    bias = getattr(layer, "bias", None)
    return _Norm(layer.weight.data_ptr(), None if bias is None else bias.data_ptr())  # type: ignore[operator]


def _layer(block: nn.Module) -> _Layer:
    assert isinstance(block, Block) and isinstance(block.attention, Attention)
    a, mlp = block.attention, block.mlp
    norms = (block.attention_norm, block.mlp_norm, getattr(a, "q_norm", None), getattr(a, "k_norm", None))
    matrices = (a.q, a.k, a.v, a.o, getattr(mlp, "gate", None), mlp.up, mlp.down)
    return _Layer(*map(_norm, norms), *map(_matrix, matrices))  # type: ignore[arg-type]


def _model(model: GPT, layers: ctypes.Array[_Layer]) -> _Model:
    c, rope, positions = model.config, model.rope, model.positions
    return _Model(
        ctypes.addressof(layers),
        model.embed.weight.data_ptr(),
        None if positions is None else positions.weight.data_ptr(),
        None if rope is None else rope.data_ptr(),
        _norm(model.norm),
        _matrix(model.head),
        c.norm_eps,
        *(c.n_layer, c.n_head, c.n_kv_head, c.head_dim, c.n_embd, c.n_inner),
        0 if rope is None else rope.size(1),
        1,
    )


@torch.inference_mode()
def check(library: ctypes.CDLL) -> float:
    """How far the kernel's logits are from torch's, of small models with all its parts, over the largest."""
    from journey.infer.runner import Step

    worst = 0.0
    for family, heads in (("gpt2", 4), ("qwen3", 2)):
        model = GPT(GPTConfig.make(family, 61, 40, 2, 40, 4, heads))
        ids = np.arange(37, dtype=np.int32)
        tables = np.array([[2, 0, 1]], dtype=np.int32)
        logits = Native(model, 3, library)(Step(ids, ids, 0 * ids, tables, ids))
        whole = model(torch.from_numpy(ids).long()[None])[0]
        worst = max(worst, float((logits - whole).abs().max() / whole.abs().max()))
    return worst
