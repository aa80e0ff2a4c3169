"""What training an adapter takes of a GPU's memory, counted from the shape before any weights are there.

Held against what real steps allocate in tests/train/test_memory.py. DoRA's own working memory is not counted.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from journey.train import rates

if TYPE_CHECKING:
    from journey.model.config import GPTConfig
    from journey.model.lora import Role
    from journey.train.lora import Adapter

# Bytes of a parameter in NF4 with double quantization (Dettmers et al. 2023): half a byte; for 64 of them a constant in
# 8 bits, and for 256 of those one in 32.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
FP32 = 4
CARDS = (16, 24, 48, 80)  # GiB
_STANDING = 5  # lines that come first and stay from step to step
FREE = 0.1  # of a card, for CUDA's own, the products' working space and what lies between tensors


class Line(NamedTuple):
    """A part of the memory."""

    what: str
    bytes: float
    how: str  # the formula, with its numbers


def adapting(shape: "GPTConfig", adapter: "Adapter", rows: int, T: int, marks: int) -> list[Line]:
    """The parts at the step's fullest moment, when the gradient of the logits is there.

    rows of T tokens go through the model at a time. All of them are taken for an answer's, which is the most that the
    logits can be. marks: rows of the embedding (and of a head that is not tied to it) that are trained whole.

    Where heads share keys, torch has no fused kernel for a GPU's attention in fp32 (pytorch/pytorch#181528), and its
    scores are kept.
    """
    matrices, adapted = _matrices(shape, "all-linear"), _matrices(shape, adapter.targets)
    in_blocks = sum(i * o for i, o in matrices)
    outside = shape.n_params - in_blocks
    tokens, trained = rows * T, marks * (1 if shape.tied else 2)
    n = adapter.rank * sum(i + o for i, o in adapted) + trained * shape.n_embd
    n += sum(o for _, o in adapted) if adapter.dora else 0
    of_a_number, called = (NF4, "NF4") if adapter.quantize else (FP32, "fp32")
    kept, V = _kept(shape, adapter, adapted), shape.vocab_size
    lines = [
        Line(f"blocks in {called}", of_a_number * in_blocks, f"{in_blocks:,} x {of_a_number:.4g} bytes"),
        Line("embedding, head, norms", FP32 * outside, f"{outside:,} x {FP32}"),
        Line("adapter", FP32 * n, f"{n:,} x {FP32}: rank {adapter.rank}, {adapter.targets}, {trained:,} rows of marks"),
        Line("its gradients", FP32 * n, f"{n:,} x {FP32}"),
        Line("AdamW's two moments", 2 * FP32 * n, f"{n:,} x {2 * FP32}"),
        Line(
            "activations",
            FP32 * tokens * (shape.n_layer * kept + 3 * shape.n_embd),
            f"{tokens:,} tokens x {shape.n_layer} blocks x {kept:,} numbers x {FP32}",
        ),
        Line("logits", 3 * FP32 * tokens * V, f"{tokens:,} tokens x {V:,} x {FP32}, three times (two and a gradient)"),
    ]
    if shared := shape.n_head - shape.n_kv_head:
        scores = shape.n_head * T + 2 * shared * shape.head_dim
        how = f"{tokens:,} tokens x {shape.n_layer} blocks x {scores:,} x {FP32}: no kernel for shared keys in fp32"
        lines.append(Line("attention's scores", FP32 * tokens * shape.n_layer * scores, how))
    copy = FP32 * V * shape.n_embd
    if trained and (more := copy - sum(line.bytes for line in lines[_STANDING:])) > 0:
        how = f"{copy / 1e9:.3g} GB, when activations and logits are gone"
        lines.append(Line("the embedding's gradient", more, how))
    return lines


def said(shape: "GPTConfig", lines: Sequence[Line], tokens: int) -> list[str]:
    """The parts, their sum, and the cards on which that fits."""
    total = sum(line.bytes for line in lines)
    fitting = [size for size in CARDS if total <= (1 - FREE) * size * 2**30]
    fits = f"fits a GPU of {fitting[0]} GB" if fitting else f"fits no GPU of {CARDS[-1]} GB: more parts (accumulate)"
    first = f"memory of {rates.size(shape.n_params)} parameters, {tokens:,} tokens at a time: {fits}"
    table = [(line.what, line.bytes, line.how) for line in lines] + [("in all", total, "")]
    return [first, *(f"{what:<25}{n / 1e9:>8.2f} GB  {how}".rstrip() for what, n, how in table)]


def _matrices(shape: "GPTConfig", role: "Role") -> list[tuple[int, int]]:
    """The blocks' matrices of a role, each (in, out), of which no tensor is made."""
    from journey.model import families, lora
    from journey.model.huggingface import shapes

    turned = any(part.transposed for part in families.get(shape.family).parts)
    names = tuple(f".{name}.weight" for name in lora.targets(shape, role))
    found = [size for name, size in shapes(shape).items() if name.endswith(names)]
    return [(size[0], size[1]) if turned else (size[1], size[0]) for size in found]


def _kept(shape: "GPTConfig", adapter: "Adapter", adapted: Sequence[tuple[int, int]]) -> int:
    """Numbers that a block keeps of a token for the way back.

    Of each norm its input; queries, keys, values and what attention makes of them; of the MLP what stands on both sides
    of its nonlinearity; and the input and the inner values of each adapter. A frozen matrix keeps nothing.
    """
    from journey.model import families

    inside = {name for part in families.get(shape.family).parts for name in part.ours}
    C, H, KV = shape.n_embd, shape.n_head, shape.n_kv_head
    heads, gated = H + KV, "mlp.gate" in inside
    kept = 2 * C + 2 * heads * shape.head_dim + H  # norms; q, k, v, out; and the sum of each head's exponentials
    kept += heads * (shape.head_dim + 1) if "attention.q_norm" in inside else 0
    kept += (3 if gated else 4) * shape.n_inner + (2 if gated else 4)  # gate, silu, up; GELU by tanh is four steps
    kept += len(adapted) // shape.n_layer * adapter.rank
    if adapter.dropout:  # each has an input of its own, and a byte a number (of a CPU four) says what was dropped
        return kept + sum(i for i, _ in adapted) // shape.n_layer * 5 // 4
    kept += C if adapter.targets != "mlp" else 0  # read by q, k and v together
    return kept + (C + shape.n_inner if adapter.targets != "attention" else 0)
