"""Pre-training: a GPT from random weights learns to predict the next token of a text."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.fields import Count, Positive, check_multiple
from journey.machine import memory
from journey.model.families import FamilyName
from journey.model.sizes import SIZES, SizeName, by_depth
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.resume import resumed, say_rates
from journey.stages.rows import open_rows
from journey.stages.run import Run, stage
from journey.stages.training import Training, fit

if TYPE_CHECKING:
    from journey.model.config import GPTConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain(Training):
    """Settings of the pretrain stage."""

    data: str = names(
        "installed-docs",
        Input(("text", "tokens"), mixes=True),
        "the text to train on, or its tokens, or a mixture of several: docs=0.7,code=0.3",
    )
    family: FamilyName = "qwen3"
    """Architecture, saved under its standard Hugging Face name."""
    n_layer: Count = 4
    """Blocks."""
    n_embd: Count = 128
    """Width of the residual stream."""
    n_head: Count | None = None
    """Attention heads (none: the family's usual number for this width)."""
    n_kv_head: Count | None = None
    """Heads of keys and values (none: as many as n_head)."""
    n_inner: Count | None = None
    """Width inside the MLP (none: the family's usual for this width)."""
    n_ctx: Count = 256
    """Longest sequence, and the length of a training row."""
    rope_theta: Positive = 10_000.0
    """Base of the rotary positions; llama, qwen2 and qwen3 have them."""
    vocab_multiple: Count = 1
    """Fill the embedding up to a multiple of this many rows that no text uses: a GPU is fastest at 128."""
    size: SizeName | None = None
    """A shape by name, in place of the settings above: family, layers, width, heads and context."""
    depth: Count | None = None
    """Layers, where the width is to follow from them: 64 a layer, in heads of 64."""
    epochs: Positive | None = None
    """Read the text this many times, instead of a number of tokens."""
    flops: Positive | None = None
    """Train for this much arithmetic, instead of a number of tokens."""
    resume_from: str = names(
        "", Input(("model",)), "a model whose training goes on, in place of random weights; tokens count from its start"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.flops is not None:
            raise JourneyError("epochs and flops both say how long to train: leave one of them out")
        self._take_shape()
        if self.n_head:
            check_multiple(self, "n_embd", "n_head")
        if self.n_kv_head:
            check_multiple(self, "n_head", "n_kv_head")

    def _take_shape(self) -> None:
        """Put the settings that a size or a depth stands for in their places: the model is the same as with those."""
        said = [name for name in ("size", "depth") if getattr(self, name) is not None]
        if not said:
            return
        if len(said) == 2:
            raise JourneyError("size and depth both say the shape: leave one of them out")
        meant = SIZES[self.size] if self.size else by_depth(self.depth or 1)
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        for name, value in meant.items():
            if name == "n_ctx" and self.n_ctx != usual["n_ctx"]:
                continue  # a size's longest context is not always wanted
            if getattr(self, name) not in (usual[name], value):
                raise JourneyError(f"{said[0]} and {name} both say the shape: leave one of them out")
            object.__setattr__(self, name, value)
        object.__setattr__(self, said[0], None)

    def shape(self, vocab_size: int) -> "GPTConfig":
        """The model's shape with so many rows of the embedding, filled up."""
        from journey.model.config import GPTConfig

        shape = GPTConfig.make(
            self.family,
            -(-vocab_size // self.vocab_multiple) * self.vocab_multiple,
            self.n_ctx,
            self.n_layer,
            self.n_embd,
            n_head=self.n_head,
            n_kv_head=self.n_kv_head,
        )
        return dataclasses.replace(shape, n_inner=self.n_inner or shape.n_inner, rope_theta=self.rope_theta)

    def cost(self, before: Sequence[Any]) -> Cost:
        """By tokens or FLOPs, on this machine."""
        return training([self, *before], self.tokens, self.flops)


@stage(
    takes="tokenizer",
    makes="model",
    why=(
        "The model starts from random weights and learns one thing: given the text so far, how likely is each next "
        "token. Whatever it knows of words, signatures and layout, it learned because it helps with that."
    ),
    example=(
        "journey pretrain tok --data my-texts/ --tokens 1e6 --out base\n"
        "journey pretrain tok --data web=0.7,code=0.3 --size pocket-12m --tokens 20e6 --keep-state --out base\n"
        "journey pretrain --resume-from base --data web=0.7,code=0.3 --tokens 40e6 --out more"
    ),
    shows=("bits_per_byte.{data} vs bigram", "bits_per_byte.{data} vs trigram"),
    goal="a language model",
    version=3,
)
def pretrain(parent: Node, config: Pretrain, run: Run) -> dict[str, Any]:
    """Train a GPT on the parent tokenizer's tokens and save it as a Hugging Face folder."""
    import torch

    from journey.model.gpt import GPT

    tokenizer = open_tokenizer(parent.path)
    start = None
    if config.resume_from:
        model, start = resumed(run.given["resume_from"], tokenizer, config, run)
    else:
        shape = config.shape(tokenizer.n_ids)
        check_memory(shape.n_params)
        torch.manual_seed(run.seed)
        model = GPT(shape)
        model.n_tokens = tokenizer.n_ids
    T = model.config.n_ctx
    rows, dev = open_rows("data", config, tokenizer, T, run)
    tokens = budget(config, len(rows), model.config.flops_per_token(T))
    config = dataclasses.replace(config, tokens=tokens)
    if start:
        say_rates(start, config, T, run)
    return fit(model, tokenizer, rows, dev, config, run, start)


def check_memory(n_params: int) -> None:
    """JourneyError for a model whose weights, gradients and AdamW's two moments, in fp32, no memory here holds."""
    needed, there = 16 * n_params, memory()
    if there is not None and needed > there:
        raise JourneyError(
            f"a model of {n_params:,} parameters takes {needed / 1e9:,.0f} GB to train, this machine has "
            f"{there / 1e9:,.0f} GB: choose fewer or narrower blocks (n_layer, n_embd)"
        )


def budget(config: Pretrain, epoch: int, flops_per_token: float) -> int:
    """How many tokens to train on, where an epoch has `epoch` of them."""
    if config.epochs is not None:
        return round(config.epochs * epoch)
    return round(config.flops / flops_per_token) if config.flops is not None else config.tokens
