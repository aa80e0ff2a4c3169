"""Who computes: each module opens a model's folder or file and goes on with many texts, a token of each at a time,
greedily. A module imports all that its runtime needs: so what that takes can be told from what the model takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

MODULES = {"ours": "ours", "llama.cpp": "llama_cpp", "transformers": "hugging_face", "vllm": "vllm_engine"}
Prompts = Sequence[Sequence[int]]  # all of one length


@dataclass(frozen=True)
class Task:
    """What is to be opened, and for how much."""

    path: str  # a Hugging Face folder; of llama.cpp a GGUF file
    precision: str
    n_tokens: int  # ids that have a text: no other is written
    sequences: int  # at once, at most
    longest: int  # tokens of a text, at most, prompt included


class Runtime(Protocol):
    """A model that has been opened; each module has one, `Opened`."""

    by: str  # who computes, in words
    weights: int  # bytes of all weights
    read: int  # bytes of those that each token reads: without tables in which only a row is looked up

    def __init__(self, task: Task) -> None: ...

    def ready(self, sequences: int, longest: int) -> None:
        """Make room for so many texts of so many tokens: before the clock runs."""

    def generate(self, prompts: Prompts, n: int) -> Iterator[list[int]]:
        """The n next ids of each prompt, all first ones, then all second ones, …; nothing ends a text."""

    def logits(self, ids: Sequence[int], first: int) -> "Tensor":
        """Logits (T - first, V) of the positions from `first` on of T ids."""
