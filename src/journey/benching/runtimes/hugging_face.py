"""transformers' own model with its cache, without the rest of its `generate`."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from journey.benching.runtimes import Prompts, Task

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Opened:
    """A Hugging Face folder."""

    def __init__(self, task: Task) -> None:
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(task.path, dtype=DTYPES[task.precision])
        self.model.eval()
        self.n_tokens = task.n_tokens
        self.by = f"transformers {transformers.__version__}"
        self.weights = sum(each.nbytes for each in self.model.parameters())  # of a tied one, once
        head = self.model.get_output_embeddings().weight
        tables = [module.weight for module in self.model.modules() if isinstance(module, nn.Embedding)]
        self.read = self.weights - sum(table.nbytes for table in tables if table is not head)

    def ready(self, sequences: int, longest: int) -> None:
        """See Runtime: transformers' cache grows with the text."""

    def generate(self, prompts: Prompts, n: int) -> Iterator[list[int]]:
        """See Runtime."""
        ids, cache = torch.tensor([[*prompt] for prompt in prompts]), None  # (B, T)
        for _ in range(n):
            ids, cache = self._step(ids, cache)
            yield ids.flatten().tolist()

    @torch.inference_mode()
    def _step(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """The likeliest next ids (B, 1) after ids (B, T), and the cache that holds all."""
        out = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1, : self.n_tokens].argmax(-1, keepdim=True), out.past_key_values

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], first: int) -> Tensor:
        """See Runtime."""
        return self.model(input_ids=torch.tensor([[*ids]]), use_cache=False).logits[0, first:]
