"""What the rest of the code asks a family, and what holds for all of them until one says otherwise."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from journey.errors import JourneyError
from journey.model.config import GPTConfig


@dataclass(frozen=True)
class Stored:
    """A module of a saved model, or a tensor of it: its names in the two formats, and those of ours that it holds."""

    huggingface: str
    gguf: str
    ours: tuple[str, ...]  # of several, the outputs are stacked
    transposed: bool = False  # Hugging Face's file has the matrix as (in, out)
    bias: bool = False  # a module's own, in a family where not all have one

    def inside(self, huggingface: str, gguf: str, ours: str) -> "Stored":
        """The same in a block whose names begin so."""
        names = tuple(ours + name for name in self.ours)
        return replace(self, huggingface=huggingface + self.huggingface, gguf=gguf + self.gguf, ours=names)

    def tensor(self, kind: str) -> "Stored":
        """The module's `weight` or `bias`."""
        names = tuple(f"{name}.{kind}" for name in self.ours)
        turned = self.transposed and kind == "weight"
        return Stored(f"{self.huggingface}.{kind}", f"{self.gguf}.{kind}", names, turned)

    def stack(self, ours: Mapping[str, Tensor]) -> Tensor:
        """What it holds, as one tensor; a matrix is (out, in), as ours are."""
        return torch.cat([ours[name] for name in self.ours]) if len(self.ours) > 1 else ours[self.ours[0]]


class Family(ABC):
    """One family of models: what is computed, what it costs, and how it stands on disk."""

    name: ClassVar[str]  # in a recipe and on the command line
    model_type: ClassVar[str]  # in config.json
    architecture: ClassVar[str]  # Hugging Face's class
    gguf: ClassVar[str]  # llama.cpp's architecture
    config: ClassVar[type[GPTConfig]] = GPTConfig  # a family with fields of its own has a subclass
    norm_eps: ClassVar[float]  # as its models usually have it
    shares_keys: ClassVar[bool] = True  # n_kv_head may be smaller than n_head
    tokenizer: ClassVar[str | None] = None  # the one that every model of the family comes with, where there is one
    gguf_remark: ClassVar[str] = ""  # what llama.cpp computes differently

    # Hugging Face's names: what all tensors but the head's begin with, what those of blocks do, and what is outside.
    base: ClassVar[str]
    blocks: ClassVar[str]
    embedding: ClassVar[str]
    positions: ClassVar[str | None] = None  # learned ones; None: they are rotary
    norm: ClassVar[str]
    parts: ClassVar[tuple[Stored, ...]]  # the modules of a block, in the order of ours
    biases: ClassVar[bool] = False  # whether all of them and the last norm have one
    computed: ClassVar[Mapping[str, tuple[object, ...]]]  # key of config.json -> its values that we compute

    @property
    def base_architecture(self) -> str:
        """Hugging Face's class without the head."""
        return re.sub("(LMHeadModel|ForCausalLM)$", "Model", self.architecture)

    # What is computed.

    @abstractmethod
    def block(self, config: GPTConfig, layer: int) -> nn.Module:
        """A block: called as `layers.Block` is."""

    @abstractmethod
    def make_norm(self, config: GPTConfig) -> nn.Module:
        """A norm of the residual stream."""

    @abstractmethod
    def rope(self, config: GPTConfig, n: int) -> Tensor | None:
        """Cosine and signed sine of the first n positions, (2, n, width turned); None where positions are learned."""

    def init_std(self, config: GPTConfig, name: str) -> float:
        """Standard deviation of the first values of a matrix, given its parameter's name."""
        return 0.02

    # The usual shape, and what it costs.

    @abstractmethod
    def check(self, config: GPTConfig) -> None:
        """Raises JourneyError for a shape that the family cannot have."""

    @abstractmethod
    def usual_inner(self, n_embd: int) -> int:
        """Width inside the MLP."""

    def usual_heads(self, n_embd: int) -> int:
        """Heads of 64, of 32 below n_embd 512."""
        return max(1, n_embd // (64 if n_embd >= 512 else 32))

    @abstractmethod
    def n_matmul(self, config: GPTConfig) -> int:
        """Parameters that multiply every token: the blocks' matrices and the output head, tied or not."""

    @abstractmethod
    def n_params(self, config: GPTConfig) -> int:
        """All parameters, a tied matrix counted once."""

    def flops_per_key(self, config: GPTConfig) -> int:
        """Of a forward pass, for each key that a query sees: its product with the query, and its value's share."""
        return 4 * config.n_layer * config.n_head * config.head_dim

    def cached(self, config: GPTConfig) -> tuple[tuple[int, ...], ...]:
        """The shapes of what a layer's cache keeps of a token: here its key and its value."""
        return ((config.n_kv_head, config.head_dim), (config.n_kv_head, config.head_dim))

    # On disk.

    @abstractmethod
    def config_json(self, config: GPTConfig) -> dict[str, Any]:
        """The family's own keys of Hugging Face's config.json."""

    @abstractmethod
    def read_config(self, saved: Mapping[str, Any]) -> GPTConfig:
        """The shape that a config.json describes. Raises KeyError for a missing key, JourneyError for a wrong shape."""

    @abstractmethod
    def gguf_shape(self, config: GPTConfig) -> dict[str, int | float | str]:
        """Metadata of a GGUF file, without the architecture that llama.cpp wants before each key."""

    def layout(self, config: GPTConfig) -> list[Stored]:
        """Every tensor of a saved model, in the order of our parameters."""
        tables = [Stored(self.embedding, "token_embd", ("embed",))]
        if self.positions:
            tables.append(Stored(self.positions, "position_embd", ("positions",)))
        inside = [
            part.inside(f"{self.blocks}{layer}.", f"blk.{layer}.", f"blocks.{layer}.")
            for layer in range(config.n_layer)
            for part in self.parts
        ]
        last = Stored(self.norm, "output_norm", ("norm",))
        head = [] if config.tied else [Stored("lm_head", "output", ("head",))]
        return [
            *(module.tensor("weight") for module in tables),
            *(
                module.tensor(kind)
                for module in [*inside, last]
                for kind in (("weight", "bias") if self.biases or module.bias else ("weight",))
            ),
            *(module.tensor("weight") for module in head),
        ]

    def to_huggingface(self, config: GPTConfig, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by our parameters' names under Hugging Face's names, in its shapes (some share our memory)."""
        result: dict[str, Tensor] = {}
        for stored in self.layout(config):
            tensor = stored.stack(ours)
            result[stored.huggingface] = tensor.t() if stored.transposed else tensor
        return result

    def from_huggingface(
        self, config: GPTConfig, theirs: Mapping[str, Tensor], like: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The way back; `like` has tensors of our shapes by our names (they may hold no values)."""
        ours: dict[str, Tensor] = {}
        for stored in self.layout(config):
            tensor = theirs[stored.huggingface].t() if stored.transposed else theirs[stored.huggingface]
            parts = tensor.split([len(like[name]) for name in stored.ours])
            ours |= dict(zip(stored.ours, parts, strict=True))
        return ours

    def to_gguf(self, config: GPTConfig, ours: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Each tensor of a GGUF file with llama.cpp's name, one at a time; matrices are (out, in)."""
        for stored in self.layout(config):
            yield stored.gguf, self.gguf_rows(config, stored.gguf, stored.stack(ours))

    def gguf_rows(self, config: GPTConfig, name: str, tensor: Tensor) -> Tensor:
        """A tensor (out, …) of that name with its rows in llama.cpp's order."""
        return tensor


_LARGEST = 3e38  # float32 knows no larger


# A config.json can hold anything. Like transformers, these take no value for another: no "12" and no 12.0 for 12.


def whole(saved: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A whole number of a config.json; where it is missing or null, the default, if there is one.

    Raises KeyError where it is missing, JourneyError for anything else than a number.
    """
    value = saved[key] if default is None else saved.get(key)
    value = default if value is None else value
    if type(value) is not int:
        raise JourneyError(f"{key} is {value!r:.60}, where a whole number belongs")
    return value


def number(saved: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A number of a config.json; where it is missing, the default, if there is one.

    Raises KeyError where it is missing, JourneyError for anything else than a number.
    """
    value = saved[key] if default is None else saved.get(key, default)
    if type(value) not in (int, float) or not -_LARGEST < value < _LARGEST:  # NaN is in no range
        raise JourneyError(f"{key} is {value!r:.60}, where a number belongs")
    return value


def flag(saved: Mapping[str, Any], key: str, default: bool) -> bool:
    """True or false in a config.json, or the default. Raises JourneyError for anything else."""
    value = saved.get(key, default)
    if not isinstance(value, bool):
        raise JourneyError(f"{key} is {value!r:.60}, where true or false belongs")
    return value
