"""Our engine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from journey.benching.runtimes import Prompts, Task
from journey.infer import build
from journey.infer.engine import Engine, enough
from journey.infer.precision import Precision, convert
from journey.infer.sequence import Request
from journey.infer.timeline import moved, weight_bytes
from journey.model import huggingface
from journey.model.config import GPTConfig

EXACT = "fp32"  # the model as it is

build.available()
huggingface.shapes(GPTConfig.make("gpt2", 8, 8, 1, 8, 2))  # a first model without memory: torch imports much for it


class Opened:
    """A model in one engine, whose cache goes from text to text as a server's does; no prompt comes twice."""

    def __init__(self, task: Task) -> None:
        model = huggingface.load(Path(task.path)).eval()
        model.n_tokens = task.n_tokens
        self.model = model if task.precision == EXACT else convert(model, cast(Precision, task.precision))
        self.sequences = task.sequences
        self.engine = Engine(self.model, n_blocks=1, sequences=self.sequences)
        self.by = f"our engine, by {self.engine.run.name}"
        self.weights, self.read = weight_bytes(self.model), moved(self.model, 0, 0)

    def ready(self, sequences: int, longest: int) -> None:
        """See Runtime. An engine with room enough is kept."""
        needed = enough(self.model, longest, sequences)
        if needed > self.engine.blocks.n:
            self.engine = Engine(self.model, n_blocks=needed, sequences=self.sequences)

    def generate(self, prompts: Prompts, n: int) -> Iterator[list[int]]:
        """See Runtime."""
        asked = [self.engine.add(Request(prompt=[*prompt], max_new_tokens=n)) for prompt in prompts]
        for at in range(len(prompts[0]), len(prompts[0]) + n):
            while any(len(each.ids) <= at for each in asked):
                self.engine.step()
            yield [each.ids[at] for each in asked]

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], first: int) -> Tensor:
        """See Runtime."""
        return self.model(torch.tensor([[*ids]]))[0, first:]
