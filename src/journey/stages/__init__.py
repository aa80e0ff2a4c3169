"""One file a stage. The table is read without importing any of them, so that `journey --help` stays quick."""

import dataclasses
import importlib
import keyword
from collections.abc import Callable

from journey.checkpoint import Node
from journey.errors import JourneyError, nearest

# name -> (its line of help, whether its first parent is a "tokenizer", a "model", or it has none)
STAGES = {
    "text": ("read, deduplicate and split a text", None),
    "tokenizer": ("train a byte-level BPE", None),
    "prepare": ("encode a text into token shards", "tokenizer"),
    "pretrain": ("train a GPT from random weights", "tokenizer"),
    "continue": ("go on training a model on another text", "model"),
    "sft": ("teach a model to answer (TRL)", "model"),
    "pairs": ("sample answers and rank them into pairs", "model"),
    "dpo": ("teach a model to prefer (TRL)", "model"),
    "quantize": ("write GGUF files for llama.cpp", "model"),
    "index": ("make a text searchable, to answer from it", "model"),
    "import": ("bring a checkpoint from elsewhere", None),
}
MODELS = ("pretrain", "continue", "sft", "dpo", "import")  # those that make one


def load(name: str) -> tuple[Callable[..., Node], type]:
    """The stage's function and its config class. Errors: JourneyError for a name that is no stage."""
    if name not in STAGES:
        raise JourneyError(f'unknown stage "{name}"{nearest(name, STAGES)} (there are: {", ".join(STAGES)})')
    module = importlib.import_module(f"journey.stages.{_identifier(name)}")
    function = getattr(module, _identifier(name))
    config = function.body.__annotations__["config"]
    assert dataclasses.is_dataclass(config)
    return function, config  # type: ignore[return-value]


def _identifier(name: str) -> str:
    """`continue` and `import` are words of Python's own."""
    return f"{name}_" if keyword.iskeyword(name) else name
