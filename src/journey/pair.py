"""A model and the tokenizer that fits it."""

from pathlib import Path
from typing import TYPE_CHECKING

from journey.checkpoint import open_tokenizer

if TYPE_CHECKING:
    from journey.model.gpt import GPT
    from journey.model.seq2seq import Seq2Seq
    from journey.tokenizer.formats import Tokenizer


def open_pair(folder: Path) -> tuple["GPT", "Tokenizer"]:
    """The model in a folder, ready to compute, and its tokenizer. Errors: those of `open_tokenizer`, and of weights.

    An embedding may have more rows than the tokenizer has ids, for speed; `model.n_tokens` says how many have a text.
    """
    from journey.model import huggingface

    huggingface.load_config(folder, as_quantized=True)  # first: a folder that holds no model is told as that
    tokenizer = open_tokenizer(folder)
    model = huggingface.load(folder).eval()
    model.n_tokens = tokenizer.n_ids
    return model, tokenizer


def open_seq2seq(folder: Path) -> tuple["Seq2Seq", "Tokenizer"]:
    """The encoder–decoder in a folder, ready to compute, and its tokenizer."""
    from journey.model import marian

    marian.load_config(folder)
    tokenizer = open_tokenizer(folder)
    return marian.load(folder).eval(), tokenizer
