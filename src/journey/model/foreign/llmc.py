"""llm.c's model file: 256 integers, then every tensor of GPT-2 in one fixed order."""

import mmap
import re
from pathlib import Path

import torch

from journey.errors import JourneyError
from journey.model.foreign import gpt2
from journey.model.foreign.source import Source

MAGIC, LLAMA_MAGIC = 20240326, 20240803
TYPES = {3: torch.float32, 5: torch.bfloat16}
_HEADER = 256  # integers of 4 bytes


def read(path: Path) -> Source:
    """The GPT-2 in a `model_….bin` or `gpt2_124M.bin` of llm.c, float32 (version 3) or bfloat16 (version 5).

    The vocabulary is padded in the file (50,304 rows for 50,257 tokens). Raises JourneyError for another version and
    for a file that is not exactly as long as its header says.
    """
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if len(content) < 4 * _HEADER:
        raise JourneyError(f"{path} is cut off: it ends inside its header")
    magic, version, n_ctx, vocab, n_layer, n_head, C, V = torch.frombuffer(content, dtype=torch.int32, count=8).tolist()
    if magic == LLAMA_MAGIC:
        raise JourneyError(f"{path} is llm.c's Llama 3: import the Hugging Face folder that it was made from")
    if version not in TYPES:
        raise JourneyError(f"{path} has version {version}: only 3 (float32) and 5 (bfloat16) are read")
    if min(n_ctx, vocab, n_layer, n_head, C, V) < 1 or vocab > V or max(n_ctx, n_layer, C, V) > 1 << 24:
        raise JourneyError(f"{path}: its header makes no sense: it is damaged")
    # Inside a section the layers stand one after the other.
    sections: list[tuple[str, tuple[int, ...]]] = [
        ("ln_1.weight", (C,)),
        ("ln_1.bias", (C,)),
        ("attn.c_attn.weight", (3 * C, C)),
        ("attn.c_attn.bias", (3 * C,)),
        ("attn.c_proj.weight", (C, C)),
        ("attn.c_proj.bias", (C,)),
        ("ln_2.weight", (C,)),
        ("ln_2.bias", (C,)),
        ("mlp.c_fc.weight", (4 * C, C)),
        ("mlp.c_fc.bias", (4 * C,)),
        ("mlp.c_proj.weight", (C, 4 * C)),
        ("mlp.c_proj.bias", (C,)),
    ]
    dtype = TYPES[version]
    expected = 4 * _HEADER + dtype.itemsize * (V * C + n_ctx * C + n_layer * (12 * C * C + 13 * C) + 2 * C)
    if len(content) != expected:
        raise JourneyError(f"{path} has {len(content):,} bytes, its header says {expected:,}: copy or save it again")
    order: list[tuple[str, tuple[int, ...]]] = [("wte.weight", (V, C)), ("wpe.weight", (n_ctx, C))]
    order += [(f"h.{layer}.{name}", shape) for name, shape in sections for layer in range(n_layer)]
    order += [("ln_f.weight", (C,)), ("ln_f.bias", (C,))]
    tensors, at = {}, 4 * _HEADER
    for name, shape in order:
        n = torch.Size(shape).numel()
        tensors[name] = torch.frombuffer(content, dtype=dtype, count=n, offset=at).view(shape)
        at += n * dtype.itemsize
    source = gpt2.read(tensors, str(path), "llm.c", {"n_head": n_head})
    if step := re.fullmatch(r"model_(\d+)", path.stem):
        source.facts["step"] = int(step[1])
    return source
