"""GGUF: the one file that llama.cpp runs, with the weights, the tokenizer and the chat template inside."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from gguf import (
    GGML_QUANT_SIZES,
    GGML_QUANT_VERSION,
    GGMLQuantizationType,
    GGUFType,
    GGUFWriter,
    TokenType,
    quants,
    size_label,
)
from torch import Tensor

from journey.errors import JourneyError, nearest
from journey.infer import ggml, proof
from journey.infer.gguf_types import PLAIN, TYPES, UNWEIGHED, fits, stored_as, wanted
from journey.infer.importance import Importance
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer.formats import EOS, PAD, Tokenizer
from journey.tokenizer.split import name_of, steps_of

# Beside the files of a quantize node: {"types": {type: {"file", "bytes", "bits_per_weight"}}, …}.
FACTS = "quantize.json"
TAG = "text-generation"  # by which the Hub finds a model of our kind
# How text is cut (`split.name_of`) -> llama.cpp's name. It has many more, for tokenizers that ours cannot be, and knows
# no normalizer beside byte-level BPE. Qwen's own tokenizers bring text to NFC, where nearly all text is already: what
# is not, llama.cpp reads as other ids, and whoever writes such a file says so.
NORMALIZED = "NFC, qwen2"
PRE_TOKENIZERS = {
    "gpt2": "gpt-2",
    "llama3": "llama-bpe",
    "qwen2": "qwen2",
    NORMALIZED: "qwen2",
    "single digits, gpt2": "smollm",
}
NOT_NORMALIZED = (
    "llama.cpp takes a text as it stands, this tokenizer brings it to NFC first: of letters and accents that are apart "
    "it makes other ids"
)
_MOST_PADDING = 1024  # rows of the embedding without a token: Qwen pads by 271; more is another tokenizer's model


def write(
    model: GPT,
    tokenizer: Tokenizer,
    path: Path,
    type: str,
    *,
    importance: Importance | None = None,
    template: str = "",
    name: str = "",
    base_model: str = "",
    license: str = "",
    tags: Sequence[str] = (TAG,),
) -> float:
    """Write the model as one GGUF file; the bits that a weight takes in it, on average.

    `importance` weighs the errors of rounding where the type takes it (`weighed`). Beside the model, memory holds one
    tensor at a time. Raises JourneyError for a type that `check` refuses, a tokenizer of another vocabulary or one
    whose ids llama.cpp would not give (`proof`), and weights that are no numbers in this type.
    """
    check(model, [type])
    weighs = importance if weighed(model, type) else None
    family = families.get(model.config.family)
    writer = GGUFWriter(path, family.gguf)
    writer.add_type(GGUFType.MODEL)
    writer.add_name(name or path.stem)
    if license:
        writer.add_license(license)
    writer.add_tags(tags)
    if base_model:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, base_model)
    writer.add_file_type(TYPES[type][1])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    for key, value in family.gguf_shape(model.config).items():
        if isinstance(value, str):
            writer.add_string(f"{family.gguf}.{key}", value)
        elif isinstance(value, float):
            writer.add_float32(f"{family.gguf}.{key}", value)
        else:
            writer.add_uint32(f"{family.gguf}.{key}", value)
    if weighs:
        writer.add_string("quantize.imatrix.dataset", weighs.text)
        writer.add_uint32("quantize.imatrix.entries_count", len(weighs.squares))
        writer.add_uint32("quantize.imatrix.chunks_count", weighs.rows)
    pre = _pre_tokenizer(tokenizer)
    _add_tokenizer(writer, model.config, tokenizer, pre, template)

    sizes = []
    for tensor_name, tensor in tensors(model):
        stored = stored_as(tensor_name, tensor.shape, type, model.config, weighs is not None)
        block, block_bytes = GGML_QUANT_SIZES[stored]
        sizes.append(tensor.numel() // block * block_bytes)
        writer.add_tensor_info(tensor_name, tensor.shape, np.dtype(np.float32), sizes[-1], raw_dtype=stored)
    writer.add_size_label(size_label(*writer.get_total_parameter_count()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor_name, tensor in tensors(model):
        stored = stored_as(tensor_name, tensor.shape, type, model.config, weighs is not None)
        squares = weighs.squares.get(tensor_name) if weighs else None
        writer.write_tensor_data(_packed(tensor_name, tensor.cpu().numpy(), stored, squares))
    writer.close()
    try:
        proof.prove(path, tokenizer, pre, normalizes(tokenizer))
    except JourneyError:
        path.unlink()
        raise
    return 8 * sum(sizes) / model.config.n_params


def check(model: GPT, types: Iterable[str]) -> None:
    """Raises JourneyError for an unknown type, and for one that the rows of a matrix do not allow."""
    for type in types:
        if type not in TYPES:
            near = nearest(type.lower(), TYPES)
            raise JourneyError(f'unknown GGUF type "{type}"{near} (there are: {", ".join(TYPES)})')
        if misfit := _misfit(model, type):
            *others, last = (other for other in TYPES if not _misfit(model, other))
            raise JourneyError(f"{type} {misfit}: possible here are {', '.join(others)} and {last}")


def _misfit(model: GPT, type: str) -> str:
    """Why a matrix cannot be stored in a file of this type; empty where all can."""
    for name, tensor in tensors(model):
        stored = stored_as(name, tensor.shape, type, model.config)
        if not fits(tensor.size(-1), stored):
            shape = " x ".join(map(str, tensor.shape))
            return f"packs rows in blocks of {GGML_QUANT_SIZES[stored][0]}, but {name} is {shape}"
    return ""


def weighed(model: GPT, type: str) -> bool:
    """Whether importance counts in the rounding of any of the blocks' matrices in a file of this type."""
    return any(
        name.startswith("blk.") and stored_as(name, tensor.shape, type, model.config) not in UNWEIGHED
        for name, tensor in tensors(model)
    )


def fallen_back(model: GPT, type: str) -> dict[str, GGMLQuantizationType]:
    """The tensors whose rows do not fit the blocks that a type has for them, with what they are stored as."""
    found = {}
    for name, tensor in tensors(model):
        stored = stored_as(name, tensor.shape, type, model.config)
        if stored != wanted(name, tensor.shape, type, model.config):
            found[name] = stored
    return found


def tensors(model: GPT) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the file with llama.cpp's name, matrices as (out, in)."""
    ours = {name: parameter.detach() for name, parameter in model.named_parameters()}
    yield from families.get(model.config.family).to_gguf(model.config, ours)


def _packed(name: str, weights: np.ndarray, stored: GGMLQuantizationType, importance: np.ndarray | None) -> np.ndarray:
    # The scale of a block is an f16, too: a weight that f16 cannot hold spoils 32.
    limit = np.finfo(np.float32 if stored == GGMLQuantizationType.F32 else np.float16).max
    if not np.abs(weights).max() <= limit:
        raise JourneyError(f"{name} holds weights that are no numbers, or too large for {stored.name.lower()}")
    return quants.quantize(weights, stored) if stored in PLAIN else ggml.pack(weights, stored, importance)


def normalizes(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer changes a text first, as llama.cpp does not."""
    return _cut(tokenizer) == NORMALIZED


def _cut(tokenizer: Tokenizer) -> str | None:
    return name_of(steps_of(json.loads(tokenizer.backend.to_str())))


def _pre_tokenizer(tokenizer: Tokenizer) -> str:
    """llama.cpp's name for what this tokenizer does to a text before the merges; JourneyError where it has none."""
    cut = _cut(tokenizer)
    if cut not in PRE_TOKENIZERS:
        known = {step for name in PRE_TOKENIZERS if name != NORMALIZED for step in name.split(", ")}
        strange = [step for step in str(cut).split(", ") if step not in known]
        missing = " and ".join(strange) or "the order"
        raise JourneyError(
            f"llama.cpp has no name for {missing} in this tokenizer ({cut}), and would read text as other ids; it has "
            f"names for {'; '.join(PRE_TOKENIZERS)}"
        )
    return PRE_TOKENIZERS[cut]


def _add_tokenizer(writer: GGUFWriter, config: GPTConfig, tokenizer: Tokenizer, pre: str, template: str) -> None:
    """Tokens, merges and special ids: llama.cpp makes the same ids of a text, adds none, and stops where we do."""
    ids = tokenizer.backend.get_vocab(with_added_tokens=True)
    padding = config.vocab_size - tokenizer.n_ids
    if not 0 <= padding < _MOST_PADDING:
        raise JourneyError(
            f"the model has {config.vocab_size:,} token embeddings, its tokenizer ids up to {tokenizer.n_ids - 1:,}: "
            "they are not of one checkpoint"
        )
    tokens = [f"[PAD{i}]" for i in range(config.vocab_size)]
    types = [TokenType.UNUSED] * config.vocab_size
    added = tokenizer.backend.get_added_tokens_decoder()
    for token, i in ids.items():
        if i >= tokenizer.n_ids:
            continue  # it has only a name, and no row
        tokens[i] = token
        types[i] = TokenType.NORMAL
        if i in added:
            # llama.cpp finds a user-defined token in any text, a control token only where it is told to look.
            types[i] = TokenType.CONTROL if added[i].special else TokenType.USER_DEFINED
    merges = json.loads(tokenizer.backend.to_str())["model"]["merges"]
    if not merges:
        raise JourneyError(
            "this tokenizer has no merges (it is one of bytes or characters), and llama.cpp loads none without"
        )

    writer.add_tokenizer_model("gpt2")  # the kind: byte-level BPE
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    end = tokenizer.special.get(EOS, tokenizer.bos)  # a model that was never taught to chat ends its documents
    writer.add_bos_token_id(tokenizer.bos)
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)  # llama.cpp asks for this one after a turn
    if PAD in tokenizer.special:
        writer.add_pad_token_id(tokenizer.pad)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    if template:
        writer.add_chat_template(template)
