"""The folder on disk: a standard Hugging Face checkpoint, written and read without transformers."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from journey.errors import JourneyError
from journey.files import write_json
from journey.model import adapter, compressed, families, lora, quantized
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.opening import read_config
from journey.model.quiet import quiet
from journey.model.weights import CONSTANTS, HEAD, check_tensor, load_tensors, put, tie, without_wrappers


def tensors(model: GPT) -> dict[str, Tensor]:
    """The model's weights under Hugging Face's names and in its shapes (to read: some share our memory); quantized ones
    as what they are computed with."""
    return families.get(model.config.family).to_huggingface(model.config, quantized.weights(model))


def shapes(config: GPTConfig) -> dict[str, torch.Size]:
    """The shape of each of them by its name, without making any."""
    return {name: tensor.shape for name, tensor in tensors(_empty(config)).items()}


def config_json(config: GPTConfig, bos: int | None, eos: int | None, pad: int | None) -> dict[str, Any]:
    """Hugging Face's config.json for our shape."""
    family = families.get(config.family)
    common = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "initializer_range": 0.02,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "dtype": "float32",
    }
    return common | family.config_json(config)


def save(model: GPT, folder: Path, *, bos: int | None = None, eos: int | None = None, pad: int | None = None) -> None:
    """Write config.json and model.safetensors for AutoModelForCausalLM to open; the ids are the tokenizer's."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(model, config_json(model.config, bos, eos, pad), folder)


def save_like(model: GPT, like: Path, folder: Path) -> None:
    """Write a model that was made of the one in another folder, which may be an adapter, with that one's tokenizer and
    all else that its files say."""
    said = read_config(adapter.holding(like, "config.json"))
    said.pop("torch_dtype", None)  # as older files have it
    _write(model, said | {"dtype": "float32", "tie_word_embeddings": model.config.tied}, folder)
    adapter.copy(like, (*adapter.TOKENIZER_FILES, "added_tokens.json", "generation_config.json"), folder)


def _write(model: GPT, said: dict[str, Any], folder: Path) -> None:
    made = tensors
    if quantized.is_quantized(model):
        said, made = said | {compressed.KEY: compressed.settings(model)}, compressed.tensors
    write_json(folder / "config.json", said)
    weights = {name: tensor.contiguous().cpu() for name, tensor in made(model).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path) -> GPT:
    """The GPT in a Hugging Face folder, in fp32 on the CPU; what is quantized there, stays so.

    Raises JourneyError for a model that we would compute differently, and for weights that are missing, cut off or
    of another shape than config.json says.
    """
    config, saved = read(folder, as_quantized=True)
    said = read_config(adapter.holding(folder, "config.json")).get(compressed.KEY)
    packed = compressed.take(config, saved, said, str(folder)) if said else {}
    saved = fit(config, saved, str(folder))
    model = _empty(config)
    ours = families.get(config.family).from_huggingface(config, saved, dict(model.named_parameters()))
    del saved  # an adapter's merged matrices are in memory: each goes as its copy is made
    state = {
        name: ours.pop(name).to(torch.float32, memory_format=torch.contiguous_format, copy=True) for name in list(ours)
    }
    if config.tied:
        state["head.weight"] = state["embed.weight"]
    model.load_state_dict(state, assign=True)
    if config.tied:  # assigning has made two parameters of one
        model.head.weight = model.embed.weight
    compressed.fill(model, packed)
    return model


def read(folder: Path, as_quantized: bool = False) -> tuple[GPTConfig, dict[str, Tensor]]:
    """Shape and tensors of a Hugging Face folder, by their full names; of an adapter, its base's with it merged in.
    Quantized ones, which no adapter is merged into, only for who takes them as they are."""
    whole, *adapters = reversed(adapter.chain(folder))
    config, saved = named(load_config(whole, as_quantized and not adapters), load_tensors(whole), str(whole))
    for each in adapters:
        config, saved = lora.merge(each, config, saved)
    return config, saved


@quiet()
def in_transformers(folder: Path) -> Any:
    """The model of a folder as transformers computes it, in fp32; an adapter is merged in, as `read` has it, and
    quantized weights are what we compute with (of LLM.int8() the inputs are not rounded, too).

    transformers opens an adapter's folder too, but takes whatever weights are at its base's path now, and (5.23) begins
    DoRA's magnitudes anew without an error. Quantized ones it opens where compressed-tensors or bitsandbytes is there.
    """
    import transformers

    as_ours: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    if not adapter.is_adapter(folder) and not is_quantized(folder):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **as_ours)
    merged, shaped = load(folder), adapter.holding(folder, "config.json")
    config = transformers.AutoConfig.from_pretrained(shaped)
    if hasattr(config, compressed.KEY):
        delattr(config, compressed.KEY)
    config.tie_word_embeddings = merged.config.tied
    kind = getattr(transformers, families.get(merged.config.family).architecture)
    made = kind.from_pretrained(None, config=config, state_dict=tensors(merged), **as_ours)
    made.name_or_path = made.config.name_or_path = str(shaped)  # PEFT would look for one named "None" on the Hub
    return made


def _empty(config: GPTConfig) -> GPT:
    """Shapes alone: no time spent on random weights, none of the caller's seed used up."""
    with torch.device("meta"):
        return GPT(config)


def named(config: GPTConfig, saved: dict[str, Tensor], where: str) -> tuple[GPTConfig, dict[str, Tensor]]:
    """A folder's tensors by their full names, as transformers would take them, and its shape as they have it.

    A model saved without its head (AutoModel) has no prefix; of a tied pair one may be missing; and where
    both are there and differ, the pair is not tied, whatever config.json says.
    """
    family = families.get(config.family)
    full: dict[str, Tensor] = {}
    for name, tensor in without_wrappers(saved, where).items():
        put(full, name if name.startswith((family.base, "lm_head.")) else family.base + name, tensor, where)
    if config.tied:
        embedding = f"{family.embedding}.weight"
        full = tie(full, embedding)
        config = replace(config, tied=embedding not in full or is_tied(full, embedding))
    return config, full


def is_tied(tensors: Mapping[str, Tensor], embedding: str) -> bool:
    """Whether the output head is the token embedding: there is none of its own, or it is the same."""
    head = tensors.get(HEAD)
    return head is None or torch.equal(head, tensors[embedding])


def fit(config: GPTConfig, saved: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors that a model of this shape has, under Hugging Face's names; all of them there, and no other.

    Raises JourneyError for a tensor that is missing, left over, of another shape, or of no floating-point type.
    """
    # Before the shapes are made: a damaged config.json could ask for a billion blocks.
    if (found := layers(saved, families.get(config.family).blocks)) < config.n_layer:
        raise JourneyError(f"{where}: {config.n_layer:,} blocks are needed, {found} are there: tensors are missing")
    wanted = shapes(config)
    over = [n for n in saved if n not in wanted and not (config.tied and n == HEAD) and not n.endswith(CONSTANTS)]
    if over:
        hint = "; biases on q, k and v are Qwen2's" if over[0].endswith(("q_proj.bias", "k_proj.bias")) else ""
        raise JourneyError(
            f"{where}: {over[0]:.120} is no part of a {config.family} as we compute it{hint}: {architectures()}"
        )
    for name, shape in wanted.items():
        check_tensor(saved, name, shape, where)
    return {name: saved[name] for name in wanted}


def layers(names: Iterable[str], prefix: str) -> int:
    """How many blocks `prefix0.`, `prefix1.`, … there are."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)})


def architectures() -> str:
    """Hugging Face's names of all that we compute."""
    return ", ".join(family.architecture for family in families.table().values())


def is_quantized(folder: Path) -> bool:
    """Whether the weights in a folder are quantized."""
    return bool(read_config(adapter.holding(folder, "config.json")).get(compressed.KEY))


def load_config(folder: Path, as_quantized: bool = False) -> GPTConfig:
    """The shape that a folder's config.json describes; what we do not compute is refused by name, and quantized weights
    where the caller cannot do with them."""
    folder = adapter.holding(folder, "config.json")
    path, saved = folder / "config.json", read_config(folder)
    family = families.find(model_type := saved.get("model_type"))
    listed = saved.get("architectures") or [family and family.architecture]  # old files name none
    if not isinstance(listed, list):
        raise JourneyError(f"{path}: architectures is {listed!r:.60}, where a list of names belongs")
    # The base class is what AutoModel saves: the same model without its head.
    if family is None or listed[0] not in (family.architecture, family.base_architecture):
        known = architectures()
        raise JourneyError(
            f"{path}: unknown architecture {listed[0]!s:.60}, model_type {model_type!s:.60}; known: {known}"
        )
    if (how := saved.get(compressed.KEY)) and not as_quantized:
        raise JourneyError(f"{path}: its weights are quantized: this wants the model that they were made of")
    for key, allowed in family.computed.items():
        if key in saved and saved[key] not in allowed:
            raise JourneyError(f"{path}: {key} is {saved[key]!r:.60}, we compute {allowed[0]!r} alone")
    try:
        if how:
            compressed.check(how)
        return family.read_config(saved)
    except KeyError as error:
        raise JourneyError(f"{path}: the key {error} is missing") from error
    except JourneyError as error:
        raise JourneyError(f"{path}: {error}") from None
