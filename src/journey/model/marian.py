"""An encoder–decoder on disk: a folder of transformers' MarianMTModel, written and read without transformers.

Marian (Junczys-Dowmunt et al. 2018) is the paper's Transformer as it stands in thousands of translation models: sines
in two halves, norms after the sums, one embedding for source, target and head.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from journey.errors import JourneyError
from journey.files import write_json
from journey.model.families.family import number, whole
from journey.model.opening import is_seq2seq, read_config
from journey.model.seq2seq import Seq2Seq, Seq2SeqConfig
from journey.model.weights import check_tensor, load_tensors, without_wrappers

# Key of config.json -> the value that we compute, and what transformers takes where the key is missing.
_COMPUTED: dict[str, tuple[Any, Any]] = {
    "activation_function": ("relu", "gelu"),
    "scale_embedding": (True, False),
    "share_encoder_decoder_embeddings": (True, True),
    "tie_word_embeddings": (True, True),
}
_ATTENTION = (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "out_proj"))
_BIAS = "final_logits_bias"
# What transformers makes itself, and older versions saved.
_MADE = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
_TIED = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")


def config_json(config: Seq2SeqConfig, start: int, eos: int) -> dict[str, Any]:
    """Hugging Face's config.json for our shape; a target begins after `start` and ends with `eos`."""
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "decoder_vocab_size": config.vocab_size,
        "max_position_embeddings": config.n_ctx,
        "d_model": config.n_embd,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.n_head,
        "decoder_attention_heads": config.n_head,
        "encoder_ffn_dim": config.n_inner,
        "decoder_ffn_dim": config.n_inner,
        "activation_function": "relu",
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "pad_token_id": config.pad,
        "bos_token_id": start,
        "eos_token_id": eos,
        "decoder_start_token_id": start,
        "forced_eos_token_id": None,  # transformers' default is id 0
        "dtype": "float32",
    }


def generation_json(config: Seq2SeqConfig, start: int, eos: int) -> dict[str, Any]:
    """What generation_config.json says: where a target begins and ends, and that pad is never written."""
    return {
        "bos_token_id": start,
        "decoder_start_token_id": start,
        "eos_token_id": eos,
        "pad_token_id": config.pad,
        "bad_words_ids": [[config.pad]],
        "max_length": config.n_ctx,
    }


def save(model: Seq2Seq, folder: Path, *, start: int, eos: int) -> None:
    """Write config.json, generation_config.json and model.safetensors for AutoModelForSeq2SeqLM to open."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_json(model.config, start, eos))
    write_json(folder / "generation_config.json", generation_json(model.config, start, eos))
    weights = {theirs: tensor.detach().contiguous().cpu() for theirs, tensor in tensors(model).items()}
    weights[_BIAS] = torch.zeros(1, model.config.vocab_size)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def tensors(model: Seq2Seq) -> dict[str, Tensor]:
    """The model's parameters under Hugging Face's names."""
    ours = dict(model.named_parameters())
    return {theirs: ours[name] for name, theirs in _names(model.config)}


def load(folder: Path) -> Seq2Seq:
    """The encoder–decoder in a folder, in fp32 on the CPU. Raises JourneyError for what we compute otherwise, and for
    weights that are missing, left over or of another shape than config.json says."""
    config, where = load_config(folder), str(folder)
    saved = without_wrappers(load_tensors(folder), where)
    shared = "model.shared.weight"
    for name in _TIED:
        tensor = saved.pop(name, None)
        if tensor is not None and not torch.equal(tensor, saved.setdefault(shared, tensor)):
            raise JourneyError(f"{where}: {name} is another than {shared}: we compute one embedding for all")
    bias = saved.pop(_BIAS, None)
    if bias is not None and bias.any():
        raise JourneyError(f"{where}: its {_BIAS} is not zero: we compute none")
    needed = list(_names(config, saved, where))
    with torch.device("meta"):
        model = Seq2Seq(config)
    shapes, state = dict(model.named_parameters()), {}
    for name, theirs in needed:
        check_tensor(saved, theirs, shapes[name].shape, where)
        state[name] = saved.pop(theirs).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    if over := [name for name in saved if name not in _MADE]:
        raise JourneyError(f"{where}: {over[0]:.120} is no part of an encoder–decoder as we compute it")
    model.load_state_dict(state, assign=True)
    return model


def load_config(folder: Path) -> Seq2SeqConfig:
    """The shape that a folder's config.json describes; what we do not compute is refused by name."""
    path, saved = folder / "config.json", read_config(folder)
    if not is_seq2seq(saved):
        raise JourneyError(f"{path}: model_type {saved.get('model_type')!s:.60}, where marian is read")
    for key, (computed, default) in _COMPUTED.items():
        if (value := saved.get(key, default)) != computed:
            raise JourneyError(f"{path}: {key} is {value!r:.60}, we compute {computed!r} alone")
    try:
        heads, inner = (
            [whole(saved, f"{side}_{what}") for side in ("encoder", "decoder")]
            for what in ("attention_heads", "ffn_dim")
        )
        if heads[0] != heads[1] or inner[0] != inner[1]:
            raise JourneyError("heads and ffn_dim of encoder and decoder differ: we compute equal ones")
        return Seq2SeqConfig(
            vocab_size=whole(saved, "vocab_size"),
            n_ctx=whole(saved, "max_position_embeddings"),
            encoder_layers=whole(saved, "encoder_layers"),
            decoder_layers=whole(saved, "decoder_layers"),
            n_head=heads[0],
            n_embd=whole(saved, "d_model"),
            n_inner=inner[0],
            pad=whole(saved, "pad_token_id"),
            dropout=number(saved, "dropout", 0.1),
        )
    except KeyError as error:
        raise JourneyError(f"{path}: the key {error} is missing") from None
    except JourneyError as error:
        raise JourneyError(f"{path}: {error}") from None


def _names(
    config: Seq2SeqConfig, saved: Mapping[str, Tensor] | None = None, where: str = ""
) -> Iterator[tuple[str, str]]:
    """(our parameter, Hugging Face's tensor), in the order of ours."""
    if saved is not None:  # before names are made: a damaged config.json could ask for a billion blocks
        for side, n in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
            found = {name.split(".")[3] for name in saved if name.startswith(f"model.{side}.layers.")}
            if len(found) < n:
                raise JourneyError(f"{where}: {n:,} blocks of the {side} are needed, {len(found)} are there")
    yield "embed.weight", "model.shared.weight"
    own = [(f"attention.{ours}", f"self_attn.{theirs}") for ours, theirs in _ATTENTION]
    own.append(("attention_norm", "self_attn_layer_norm"))
    cross = [(f"cross.{ours}", f"encoder_attn.{theirs}") for ours, theirs in _ATTENTION]
    cross.append(("cross_norm", "encoder_attn_layer_norm"))
    mlp = [("mlp.up", "fc1"), ("mlp.down", "fc2"), ("mlp_norm", "final_layer_norm")]
    for side, n, parts in (
        ("encoder", config.encoder_layers, [*own, *mlp]),
        ("decoder", config.decoder_layers, [*own, *cross, *mlp]),
    ):
        for layer in range(n):
            for ours, theirs in parts:
                for kind in ("weight", "bias"):
                    yield f"{side}.{layer}.{ours}.{kind}", f"model.{side}.layers.{layer}.{theirs}.{kind}"
