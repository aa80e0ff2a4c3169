"""GPT-2's tensors as nanoGPT, build-nanogpt, llm.c, transformers or OpenAI name and turn them."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from journey.errors import JourneyError
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.foreign.source import Source, shape, type_notes, unwrapped
from journey.model.huggingface import fit, is_tied, layers
from journey.model.weights import CONSTANTS

FAMILY = "gpt2"
OPENAI = (768, 1024, 1280, 1600)  # the widths of GPT-2's four sizes, all with heads of 64
# nanoGPT's model_args -> what they must agree with; `dropout` and `bias` change no tensor that is there.
_SIZES = {
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "block_size": "n_ctx",
    "vocab_size": "vocab_size",
}


def read(
    tensors: dict[str, Tensor], where: str, format: str, args: dict[str, Any] | None = None, n_head: int | None = None
) -> Source:
    """A GPT-2 from a state dict. `args` is what its own checkpoint says of its shape (nanoGPT's names).

    Missing biases (nanoGPT's bias=False) become zeros. Whether matrices are stored as (out, in), as nn.Linear has
    them, or as (in, out), as OpenAI's Conv1D, is seen from c_attn, which is not square.
    """
    args = args or {}
    notes: list[str] = []
    plain = unwrapped(tensors, "wte.weight", "wpe.weight", "transformer.", where)
    plain = {name: tensor for name, tensor in plain.items() if not name.endswith(CONSTANTS)}
    first = "transformer.h.0."
    tables = ("transformer.wte.weight", "transformer.wpe.weight")
    for name in (*tables, f"{first}attn.c_attn.weight", f"{first}mlp.c_fc.weight"):
        if name not in plain or plain[name].dim() != 2:
            raise JourneyError(f"{where}: the matrix {name} is missing: is it another family?")
    V, C = plain["transformer.wte.weight"].shape
    qkv = tuple(plain[f"{first}attn.c_attn.weight"].shape)
    if qkv not in ((3 * C, C), (C, 3 * C)):
        raise JourneyError(f"{where}: c_attn is {qkv}: with {C} channels, GPT-2's has {3 * C} x {C}")
    linear = qkv == (3 * C, C)
    n_head = _heads(C, args.get("n_head"), n_head, where, notes)
    config = shape(
        where,
        family=FAMILY,
        vocab_size=V,
        n_ctx=len(plain["transformer.wpe.weight"]),
        n_layer=layers(plain, "transformer.h."),
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=C // n_head,
        n_embd=C,
        n_inner=plain[f"{first}mlp.c_fc.weight"].size(0 if linear else 1),
        norm_eps=families.get(FAMILY).norm_eps,
        tied=is_tied(plain, "transformer.wte.weight"),
    )
    _agree(config, args, where)
    raw = dict(plain)
    if not any(name.endswith(".bias") for name in plain):
        notes.append("no biases (bias=False): filled with zeros, which computes the same")
        plain |= _zero_biases(config)
    if linear:
        turned = {stored.huggingface for stored in families.get(FAMILY).layout(config) if stored.transposed}
        plain = {name: t.t() if name in turned and t.dim() == 2 else t for name, t in plain.items()}
    made = fit(config, plain, where)
    return Source(
        format=format,
        config=config,
        tensors=made,
        notes=[*notes, *type_notes(raw.values())],
        logits=lambda ids: logits(raw, ids, n_head, linear),
        exact_gelu=(lambda ids: logits(raw, ids, n_head, linear, "none")) if format == "nanoGPT" else None,
    )


def _heads(C: int, said: Any, given: int | None, where: str, notes: list[str]) -> int:
    """The number of heads, which no tensor's shape shows."""
    if said is not None and type(said) is not int:
        raise JourneyError(f"{where}: its n_head is not a number: the file is damaged")
    if given is not None and said not in (None, given):
        raise JourneyError(f"{where}: it says that it has {said} heads, --n-head says {given}: leave --n-head out")
    n_head = said or given
    if n_head is None:
        if C not in OPENAI:
            raise JourneyError(f"{where}: no shape shows how many heads there are: give --n-head")
        n_head = C // 64
        notes.append(f"{n_head} heads of 64, as GPT-2 of {C} channels has (--n-head says otherwise)")
    if n_head < 1 or C % n_head:
        raise JourneyError(f"{where}: {C} channels cannot be shared by {n_head} heads: give another --n-head")
    return n_head


def _agree(config: GPTConfig, args: dict[str, Any], where: str) -> None:
    for name, value in args.items():
        if name in _SIZES and value != getattr(config, _SIZES[name]):
            raise JourneyError(f"{where}: its tensors have {name} {getattr(config, _SIZES[name])}, it says otherwise")
        if name not in (*_SIZES, "dropout", "bias") and value:
            raise JourneyError(f"{where}: it was trained with {name!r:.40}, which is not GPT-2: we cannot compute it")


def _zero_biases(config: GPTConfig) -> dict[str, Tensor]:
    C, inner = config.n_embd, config.n_inner
    sizes = {"ln_1": C, "attn.c_attn": 3 * C, "attn.c_proj": C, "ln_2": C, "mlp.c_fc": inner, "mlp.c_proj": C}
    inside = {f"transformer.h.{i}.{m}.bias": torch.zeros(n) for i in range(config.n_layer) for m, n in sizes.items()}
    return inside | {"transformer.ln_f.bias": torch.zeros(C)}


def logits(raw: dict[str, Tensor], ids: Tensor, n_head: int, linear: bool, gelu: str = "tanh") -> Tensor:
    """GPT-2 written out on a checkpoint's own tensors, (1, T) -> (1, T, V): what our model is checked against."""

    def get(name: str) -> Tensor | None:
        return raw[name].float() if name in raw else None

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], get(f"{name}.weight"), get(f"{name}.bias"), 1e-5)

    def project(x: Tensor, name: str) -> Tensor:
        weight, bias = get(f"{name}.weight"), get(f"{name}.bias")
        assert weight is not None
        y = x @ (weight.t() if linear else weight)
        return y if bias is None else y + bias

    T = ids.size(1)
    x = raw["transformer.wte.weight"][ids].float() + raw["transformer.wpe.weight"][:T].float()  # (1, T, C)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    for layer in range(layers(raw, "transformer.h.")):
        at = f"transformer.h.{layer}"
        qkv = project(norm(x, f"{at}.ln_1"), f"{at}.attn.c_attn")  # (1, T, 3C)
        q, k, v = (part.unflatten(-1, (n_head, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))  # (1, H, T, C/H)
        scores = (q @ k.mT / math.sqrt(q.size(-1))).masked_fill(future, -torch.inf)
        x = x + project((scores.softmax(-1) @ v).transpose(1, 2).flatten(2), f"{at}.attn.c_proj")
        x = x + project(F.gelu(project(norm(x, f"{at}.ln_2"), f"{at}.mlp.c_fc"), approximate=gelu), f"{at}.mlp.c_proj")
    head = get("lm_head.weight")
    head = get("transformer.wte.weight") if head is None else head
    assert head is not None
    return norm(x, "transformer.ln_f") @ head.t()
