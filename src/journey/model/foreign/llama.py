"""A bare state dict of a Llama, a Qwen2 or a Qwen3: what its shapes do not tell has to be given."""

from torch import Tensor

from journey.errors import JourneyError
from journey.model import families
from journey.model.foreign.source import Source, shape, type_notes, unwrapped
from journey.model.huggingface import fit, is_tied, layers
from journey.model.weights import CONSTANTS

UNCHECKED = "a bare state dict does not say what computed it"


def read(
    tensors: dict[str, Tensor], where: str, family: str, n_head: int | None, n_ctx: int | None, rope_theta: float | None
) -> Source:
    """A Llama, Qwen2 or Qwen3 from a state dict in Hugging Face's names."""
    plain = unwrapped(tensors, "embed_tokens.weight", "layers.0.input_layernorm.weight", "model.", where)
    plain = {name: tensor for name, tensor in plain.items() if not name.endswith(CONSTANTS)}
    first = "model.layers.0."
    inside = (f"{first}{name}_proj.weight" for name in ("self_attn.q", "self_attn.k", "mlp.gate"))
    for name in ("model.embed_tokens.weight", *inside):
        if name not in plain or plain[name].dim() != 2:
            raise JourneyError(f"{where}: the matrix {name} is missing: is it another family?")
    if n_ctx is None or rope_theta is None:
        missing = "--n-ctx (max_position_embeddings)" if n_ctx is None else "--rope-theta"
        raise JourneyError(f"{where}: a bare state dict does not say all: give {missing}, as its config.json had it")
    V, C = plain["model.embed_tokens.weight"].shape
    q, k = (len(plain[f"{first}self_attn.{x}_proj.weight"]) for x in "qk")
    q_norm = plain.get(f"{first}self_attn.q_norm.weight")
    if q_norm is not None and q_norm.numel():  # as wide as a head
        n_head = q // q_norm.numel()
    if n_head is None:
        raise JourneyError(f"{where}: no shape shows how many heads there are: give --n-head")
    if n_head < 1 or not q or q % n_head or k % (q // n_head):
        raise JourneyError(f"{where}: queries of {q} and keys of {k} cannot be shared by {n_head} heads: --n-head")
    config = shape(
        where,
        family=family,
        vocab_size=V,
        n_ctx=n_ctx,
        n_layer=layers(plain, "model.layers."),
        n_head=n_head,
        n_kv_head=k // (q // n_head),
        head_dim=q // n_head,
        n_embd=C,
        n_inner=len(plain[f"{first}mlp.gate_proj.weight"]),
        rope_theta=rope_theta,
        norm_eps=families.get(family).norm_eps,
        tied=is_tied(plain, "model.embed_tokens.weight"),
    )
    notes = [f"norm epsilon {config.norm_eps:g}, as {family} has it", *type_notes(plain.values())]
    return Source(f"{family} state dict", config, fit(config, plain, where), notes=notes, unchecked=UNCHECKED)
