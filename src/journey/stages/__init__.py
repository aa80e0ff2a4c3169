"""One file a stage. The table is read without importing any of them, so that `journey --help` stays quick."""

import importlib
import keyword
from typing import TYPE_CHECKING

from journey.checkpoint import LINEAGE, Node
from journey.errors import JourneyError, nearest
from journey.model.adapter import is_adapter

if TYPE_CHECKING:
    from journey.stages.run import Stage

# name -> its line in `journey --help`; all else stands in its file, under `@stage`
STAGES = {
    "text": "read, deduplicate and split a text",
    "tokenizer": "train a byte-level BPE",
    "prepare": "encode a text into token shards",
    "pretrain": "train a GPT from random weights",
    "continue": "go on training a model on another text",
    "sft": "teach a model to answer, by TRL",
    "lora": "teach an adapter of a model to answer, by PEFT",
    "pairs": "sample answers and rank them into pairs",
    "dpo": "teach a model to prefer, by TRL",
    "merge": "make a whole model of an adapter",
    "ptq": "round a model's weights to 8 or 4 bits",
    "quantize": "write GGUF files for llama.cpp",
    "index": "make a text searchable, to answer from it",
    "translations": "make or read pairs of texts that mean the same",
    "seq2seq": "train an encoder and decoder to translate",
    "import": "bring a checkpoint from elsewhere",
}


def load(name: str) -> "Stage":
    """The stage of this name. Errors: JourneyError for a name that is no stage."""
    if name not in STAGES:
        raise JourneyError(f'unknown stage "{name}"{nearest(name, STAGES)} (there are: {", ".join(STAGES)})')
    module = importlib.import_module(f"journey.stages.{_identifier(name)}")
    stage: Stage = getattr(module, _identifier(name))
    return stage


def kind_of(node: Node) -> str:
    """What a node is: what its stage makes; a folder from elsewhere is a model or, without config.json, a tokenizer."""
    if (node.path / LINEAGE).exists():
        return load(node.stage).makes
    return "model" if (node.path / "config.json").exists() or is_adapter(node.path) else "tokenizer"


def a(kind: str) -> str:
    """`a model`, `an index`, `tokens`, for sentences."""
    return kind if kind.endswith("s") else f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def goes_on_from(takes: str, kind: str) -> bool:
    """Whether a stage that takes one kind can go on from another: a model brings its tokenizer."""
    return kind == takes or (takes, kind) == ("tokenizer", "model")


def _identifier(name: str) -> str:
    """`continue` and `import` are words of Python's own."""
    return f"{name}_" if keyword.iskeyword(name) else name
