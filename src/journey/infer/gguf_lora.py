"""A LoRA adapter as llama.cpp takes it: a GGUF file of two thin matrices for each that it changes, beside its base's.

    llama-server --model base-q8_0.gguf --lora adapter-lora.gguf

llama.cpp adds alpha / r · B A to the matrix of that name, with one alpha for all and r from the file. What it cannot
say is refused: it would read DoRA's magnitudes and trained norms as not there, and none of the rest at all.
"""

from pathlib import Path

from gguf import GGUFType, GGUFWriter

from journey.errors import JourneyError
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.lora import Adapter

TYPE = "lora"


def check(adapter: Adapter, config: GPTConfig) -> None:
    """JourneyError for an adapter that is more than LoRA of the blocks' matrices."""
    inside = {stored.huggingface for stored in families.get(config.family).layout(config) if stored.gguf[:4] == "blk."}
    if any(pair.magnitude is not None for pair in adapter.pairs.values()):
        more = "DoRA's magnitudes"
    elif adapter.rows:
        more = f"trained rows of {next(iter(adapter.rows))}"
    elif adapter.saved:
        more = f"the whole of {next(iter(adapter.saved))}"
    elif outside := [module for module in adapter.pairs if f"{module}.weight" not in inside]:
        more = f"an update of {outside[0]}"
    else:
        return
    raise JourneyError(
        f"llama.cpp's LoRA files cannot hold {more}: leave out lora, and its merged files have all of it"
    )


def write(adapter: Adapter, config: GPTConfig, path: Path, *, name: str, base: str) -> None:
    """Write the adapter of a base of this shape, in f32. Raises JourneyError for what `check` refuses."""
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
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
