"""Our engine."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from journey.benching.runtimes import Prompts, Task
from journey.infer import build
from journey.infer.engine import Engine, enough
from journey.infer.precision import convert
from journey.infer.sequence import Request
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

build.available()
huggingface.shapes(GPTConfig.make("gpt2", 8, 8, 1, 8, 2))  # a first model without memory: torch imports much for it


class Opened:
    """A model in one engine, whose cache goes from text to text as a server's does; no prompt comes twice."""

    def __init__(self, task: Task) -> None:
        model = huggingface.load(Path(task.path)).eval()
        model.n_tokens = task.n_tokens
        self.model = convert(model, task.precision)
        self.sequences = task.sequences
        self.engine = Engine(self.model, n_blocks=1, sequences=self.sequences)
        self.by = f"our engine, by {self.engine.run.name}"
        self.weights, self.read = weights(self.model)

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


def weights(model: GPT) -> tuple[int, int]:
    """Bytes of a model's weights in memory, quantized ones as they are kept, and of those that each token reads."""
    kept: dict[int, Tensor] = {}
    for module in model.modules():
        if module is not model:  # whose own is no weight: the rotary positions
            kept |= {t.data_ptr(): t for t in (*module.parameters(recurse=False), *module.buffers(recurse=False))}
    looked_up = [model.positions, None if model.config.tied else model.embed]
    every = sum(each.nbytes for each in kept.values())
    return every, every - sum(table.weight.nbytes for table in looked_up if table is not None)
