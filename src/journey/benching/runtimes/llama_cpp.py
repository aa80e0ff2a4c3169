"""llama.cpp by its own defaults: keys and values in f16, flash attention."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from gguf import GGUFReader
from torch import Tensor

from journey.benching.runtimes import Prompts, Task
from journey.infer import llamacpp

llamacpp.library()


class Opened:
    """A GGUF file."""

    def __init__(self, task: Task) -> None:
        self.path = Path(task.path)
        self.llama = llamacpp.LlamaCpp(self.path, 1)
        self.by = f"llama.cpp ({llamacpp.version()})"
        sizes = {tensor.name: int(tensor.n_bytes) for tensor in GGUFReader(task.path).tensors}
        looked_up = ["position_embd.weight", *(["token_embd.weight"] if "output.weight" in sizes else [])]
        self.weights = sum(sizes.values())
        self.read = self.weights - sum(sizes.get(name, 0) for name in looked_up)

    def ready(self, sequences: int, longest: int) -> None:
        """See Runtime. It reserves its cache as a whole, so each number of texts gets its own."""
        if (sequences, longest) != (self.llama.sequences, self.llama.n_ctx):
            self.llama.close()
            self.llama = llamacpp.LlamaCpp(self.path, longest, sequences=sequences)
            next(self.llama.greedy_together([[0]] * sequences))  # its threads are there then

    def generate(self, prompts: Prompts, n: int) -> Iterator[list[int]]:
        """See Runtime."""
        return islice(self.llama.greedy_together(prompts), n)

    def logits(self, ids: Sequence[int], first: int) -> Tensor:
        """See Runtime."""
        return torch.from_numpy(self.llama.logits(ids, first))
