"""The folder on disk: a standard Hugging Face checkpoint, written and read without transformers."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from journey.errors import JourneyError
from journey.files import read_json, write_json
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

ARCHITECTURES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}

# Inside a block: their module's name -> ours. One of theirs that holds several of ours stacks their outputs.
GPT2_BLOCK = {
    "ln_1": ["attention_norm"],
    "attn.c_attn": ["attention.q", "attention.k", "attention.v"],
    "attn.c_proj": ["attention.o"],
    "ln_2": ["mlp_norm"],
    "mlp.c_fc": ["mlp.up"],
    "mlp.c_proj": ["mlp.down"],
}
LLAMA_BLOCK = {
    "input_layernorm": ["attention_norm"],
    "self_attn.q_proj": ["attention.q"],
    "self_attn.k_proj": ["attention.k"],
    "self_attn.v_proj": ["attention.v"],
    "self_attn.o_proj": ["attention.o"],
    "post_attention_layernorm": ["mlp_norm"],
    "mlp.gate_proj": ["mlp.gate"],
    "mlp.up_proj": ["mlp.up"],
    "mlp.down_proj": ["mlp.down"],
}
QK_NORM = {"self_attn.q_norm": ["attention.q_norm"], "self_attn.k_norm": ["attention.k_norm"]}


def layout(config: GPTConfig) -> dict[str, list[str]]:
    """Every tensor of the saved model: Hugging Face's name -> the names of ours that it holds."""
    gpt2 = config.family == "gpt2"
    prefix = "transformer.h" if gpt2 else "model.layers"
    block = GPT2_BLOCK if gpt2 else LLAMA_BLOCK | (QK_NORM if config.family == "qwen3" else {})
    inside = {  # the modules that have a bias in gpt2
        f"{prefix}.{layer}.{theirs}": [f"blocks.{layer}.{name}" for name in ours]
        for layer in range(config.n_layer)
        for theirs, ours in block.items()
    } | {"transformer.ln_f" if gpt2 else "model.norm": ["norm"]}
    outside = {"transformer.wte" if gpt2 else "model.embed_tokens": ["embed"]}
    if gpt2:
        outside["transformer.wpe"] = ["positions"]
    if not config.tied:
        outside["lm_head"] = ["head"]
    names = {f"{theirs}.weight": [f"{name}.weight" for name in ours] for theirs, ours in (outside | inside).items()}
    if gpt2:
        names |= {f"{theirs}.bias": [f"{name}.bias" for name in ours] for theirs, ours in inside.items()}
    return names


def transposed(name: str) -> bool:
    """GPT-2's matrices (c_attn, c_fc, c_proj) are stored as (in, out), everyone else's as (out, in)."""
    return ".c_" in name and name.endswith("weight")


def tensors(model: GPT) -> dict[str, Tensor]:
    """The model's weights under Hugging Face's names and in its shapes (to read: some share our memory)."""
    ours = {name: parameter.detach() for name, parameter in model.named_parameters()}
    result: dict[str, Tensor] = {}
    for theirs, names in layout(model.config).items():
        tensor = torch.cat([ours[name] for name in names]) if len(names) > 1 else ours[names[0]]
        result[theirs] = tensor.t() if transposed(theirs) else tensor
    return result


def config_json(config: GPTConfig, bos: int | None, eos: int | None, pad: int | None) -> dict[str, Any]:
    """Hugging Face's config.json for our shape."""
    common = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "initializer_range": 0.02,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "dtype": "float32",
    }
    if config.family == "gpt2":
        return common | {
            "n_positions": config.n_ctx,
            "n_ctx": config.n_ctx,  # llama.cpp's converter reads this one
            "n_embd": config.n_embd,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_inner": config.n_inner,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": config.norm_eps,
            # Hugging Face's default is 0.1: a later stage would then train with a dropout that we did not.
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }
    return common | {
        "max_position_embeddings": config.n_ctx,
        "hidden_size": config.n_embd,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "intermediate_size": config.n_inner,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        # transformers 5 reads rope_parameters; transformers 4 and llama.cpp's converter read rope_theta.
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,
        "attention_bias": False,
        "attention_dropout": 0.0,
    }


def save(model: GPT, folder: Path, *, bos: int | None = None, eos: int | None = None, pad: int | None = None) -> None:
    """Write config.json and model.safetensors for AutoModelForCausalLM to open; the ids are the tokenizer's."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_json(model.config, bos, eos, pad))
    weights = {name: tensor.contiguous().cpu() for name, tensor in tensors(model).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path) -> GPT:
    """The GPT in a Hugging Face folder, in fp32 on the CPU.

    Raises JourneyError for a model that we would compute differently, and for weights that are missing, cut off or
    of another shape than config.json says.
    """
    config = load_config(folder)
    wanted, saved = layout(config), load_tensors(folder)
    # A model saved without its head (AutoModel) has no prefix.
    prefix = "transformer." if config.family == "gpt2" else "model."
    saved = {name if name.startswith((prefix, "lm_head.")) else prefix + name: saved[name] for name in saved}
    for name in saved.keys() - wanted.keys():
        tied_head = config.tied and name == "lm_head.weight"
        # Old files carry constants along: GPT-2's causal masks, Llama's frequencies.
        if not tied_head and not name.endswith((".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")):
            raise JourneyError(f"{folder}: the tensor {name} is not part of a {config.family} model as we compute it")

    with torch.device("meta"):  # shapes alone: no time spent on random weights, none of the caller's seed used up
        model = GPT(config)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    state: dict[str, Tensor] = {}
    for theirs, ours in wanted.items():
        if theirs not in saved:
            raise JourneyError(f"{folder}: the tensor {theirs} is missing from the weights")
        tensor = saved[theirs].t() if transposed(theirs) else saved[theirs]
        rows = [shapes[name][0] for name in ours]
        shape = (sum(rows), *shapes[ours[0]][1:])
        if tensor.shape != shape:
            raise JourneyError(f"{folder}: {theirs} is {tuple(tensor.shape)}, config.json says {tuple(shape)}")
        parts = [
            part.to(torch.float32, memory_format=torch.contiguous_format, copy=True) for part in tensor.split(rows)
        ]
        state |= dict(zip(ours, parts, strict=True))
    if config.tied:
        state["head.weight"] = state["embed.weight"]
    model.load_state_dict(state, assign=True)
    if config.tied:  # assigning has made two parameters of one
        model.head.weight = model.embed.weight
    return model


def load_config(folder: Path) -> GPTConfig:
    """The shape that a folder's config.json describes; what we do not compute is refused by name."""
    path = folder / "config.json"
    if not path.is_file():
        raise JourneyError(f"{folder} is no checkpoint: it has no config.json")
    saved = read_json(path)
    family = saved.get("model_type")
    architecture = (saved.get("architectures") or [ARCHITECTURES.get(family)])[0]  # old files name none
    if family not in ARCHITECTURES or architecture != ARCHITECTURES[family]:
        known = ", ".join(ARCHITECTURES.values())
        raise JourneyError(f"{path}: unknown architecture {architecture}, model_type {family}; known: {known}")

    def require(key: str, *allowed: object) -> None:
        if key in saved and saved[key] not in allowed:
            raise JourneyError(f"{path}: {key} is {saved[key]!r}, we compute {allowed[0]!r} alone")

    try:
        if family == "gpt2":
            require("activation_function", "gelu_new", "gelu_pytorch_tanh")
            require("scale_attn_weights", True)
            require("scale_attn_by_inverse_layer_idx", False)
            require("add_cross_attention", False)
            return GPTConfig(
                family=family,
                vocab_size=saved["vocab_size"],
                n_ctx=saved["n_positions"],
                n_layer=saved["n_layer"],
                n_head=saved["n_head"],
                n_kv_head=saved["n_head"],
                head_dim=saved["n_embd"] // saved["n_head"],
                n_embd=saved["n_embd"],
                n_inner=saved.get("n_inner") or 4 * saved["n_embd"],
                norm_eps=saved.get("layer_norm_epsilon", 1e-5),
                tied=saved.get("tie_word_embeddings", True),
            )
        require("hidden_act", "silu")
        require("attention_bias", False)
        require("mlp_bias", False)
        require("use_sliding_window", False)
        rope = saved.get("rope_parameters") or saved.get("rope_scaling") or {}
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise JourneyError(f"{path}: rotary positions are scaled ({rope}), which we do not compute")
        n_head = saved["num_attention_heads"]
        return GPTConfig(
            family=family,
            vocab_size=saved["vocab_size"],
            n_ctx=saved["max_position_embeddings"],
            n_layer=saved["num_hidden_layers"],
            n_head=n_head,
            n_kv_head=saved.get("num_key_value_heads") or n_head,
            head_dim=saved.get("head_dim") or saved["hidden_size"] // n_head,
            n_embd=saved["hidden_size"],
            n_inner=saved["intermediate_size"],
            rope_theta=rope.get("rope_theta", saved.get("rope_theta", 10000.0)),
            norm_eps=saved.get("rms_norm_eps", 1e-6),
            tied=saved.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise JourneyError(f"{path}: the key {error} is missing") from error


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor by its saved name, from model.safetensors or from the shards that its index names."""
    index, shards = folder / "model.safetensors.index.json", ["model.safetensors"]
    if index.is_file():
        shards = sorted(set(read_json(index)["weight_map"].values()))
    result: dict[str, Tensor] = {}
    for path in (folder / shard for shard in shards):
        if not path.is_file():
            raise JourneyError(f"{path} is missing")
        try:
            with safe_open(path, framework="pt") as file:
                result |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise JourneyError(f"{path} is damaged or cut off ({error}): copy or make it again") from error
    return result
