"""A LoRA adapter as llama.cpp takes it: a GGUF file of two thin matrices for each that it changes, beside its base's.

    llama-server --model base-q8_0.gguf --lora adapter-lora.gguf

llama.cpp adds alpha / r · B A to the matrix of that name, with one alpha for all and r from the file. What it cannot
say is refused: it would read DoRA's magnitudes and trained norms as not there, and none of the rest at all. Rows that
were trained whole are a LoRA too, whose rank is their number; of a head that is tied it knows none, and would abort.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from gguf import GGUFType, GGUFWriter
from torch import Tensor

from journey.errors import JourneyError
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.lora import Adapter
from journey.model.weights import HEAD

TYPE = "lora"


def check(adapter: Adapter, config: GPTConfig) -> None:
    """JourneyError for an adapter that is more than LoRA of the blocks' matrices and rows of embedding and head."""
    inside = {stored.huggingface for stored in families.get(config.family).layout(config) if stored.gguf[:4] == "blk."}
    if any(pair.magnitude is not None for pair in adapter.pairs.values()):
        more = "DoRA's magnitudes"
    elif config.tied and adapter.rows:
        more = f"trained rows of {next(iter(adapter.rows))}, to which the head is tied"
    elif strange := adapter.rows.keys() - _tables(config).keys():
        more = f"trained rows of {strange.pop()}"
    elif adapter.saved:
        more = f"the whole of {next(iter(adapter.saved))}"
    elif outside := [module for module in adapter.pairs if f"{module}.weight" not in inside]:
        more = f"an update of {outside[0]}"
    else:
        return
    raise JourneyError(
        f"llama.cpp's LoRA files cannot hold {more}: leave out lora, and its merged files have all of it"
    )


def _tables(config: GPTConfig) -> dict[str, str]:
    """llama.cpp's names of the modules that have a row a token."""
    return {families.get(config.family).embedding: "token_embd.weight", HEAD.removesuffix(".weight"): "output.weight"}


def write(
    adapter: Adapter, config: GPTConfig, weights: Mapping[str, Tensor], path: Path, *, name: str, base: str
) -> None:
    """Write the adapter of a base of this shape, in f32; `weights` are the base's, by their full names in Hugging
    Face's files. Raises JourneyError for what `check` refuses."""
    check(adapter, config)
    family = families.get(config.family)
    first = next(iter(adapter.pairs.values()))
    alpha = first.scale * len(first.A)
    writer = GGUFWriter(path, family.gguf)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for stored in family.layout(config):
        if (pair := adapter.pairs.get(stored.huggingface.removesuffix(".weight"))) is None:
            continue
        # Where patterns or rsLoRA give a matrix another scale than alpha / r, B has the rest of it.
        B = family.gguf_rows(config, stored.gguf, pair.B.float() * (pair.scale * len(pair.A) / alpha))
        for end, tensor in (("lora_a", pair.A.float()), ("lora_b", B)):
            writer.add_tensor(f"{stored.gguf}.{end}", tensor.contiguous().numpy())
    for module, (ids, rows) in adapter.rows.items():
        before, table = weights[f"{module}.weight"], _tables(config)[module]  # (V, C)
        gained = (rows.float() - before[ids].float()) * (len(ids) / alpha)  # (n, C)
        picked = torch.zeros(len(before), len(ids)).index_put_(
            (torch.tensor(ids), torch.arange(len(ids))), torch.ones(1)
        )
        # A of an embedding is looked up by token, and so it lies the other way round.
        A, B = (picked, gained.T) if table.startswith("token") else (gained, picked)
        writer.add_tensor(f"{table}.lora_a", A.contiguous().numpy())
        writer.add_tensor(f"{table}.lora_b", B.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
