"""vLLM's engine, step by step, in this very process."""

import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

# Before it is imported: no second process, whose memory nobody would see; a GB of cache; no word to its makers.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import vllm
from torch import Tensor

from journey.benching.runtimes import Prompts, Task

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class Opened:
    """A Hugging Face folder."""

    def __init__(self, task: Task) -> None:
        opened = vllm.LLM(
            model=task.path,
            dtype=DTYPES[task.precision],
            max_model_len=task.longest,
            max_num_seqs=task.sequences,
            enable_prefix_caching=False,
        )
        self.engine, self.numbers = opened.llm_engine, count()
        self.by = f"vLLM {vllm.__version__}"
        # By the files, which are in fp32: tables that are only looked up are among them.
        share = 1 if task.precision == "fp32" else 2
        self.weights = self.read = sum(file.stat().st_size for file in Path(task.path).glob("*.safetensors")) // share

    def ready(self, sequences: int, longest: int) -> None:
        """See Runtime: vLLM has made all the room there is."""

    def generate(self, prompts: Prompts, n: int) -> Iterator[list[int]]:
        """See Runtime."""
        asked = vllm.SamplingParams(temperature=0, max_tokens=n, ignore_eos=True)
        written: dict[str, list[int]] = {str(next(self.numbers)): [] for _ in prompts}
        for name, prompt in zip(written, prompts, strict=True):
            self.engine.add_request(name, {"prompt_token_ids": [*prompt]}, asked)
        for i in range(n):
            while any(len(ids) <= i for ids in written.values()):
                for each in self.engine.step():
                    written[each.request_id] = [*each.outputs[0].token_ids]
            yield [ids[i] for ids in written.values()]

    def logits(self, ids: Sequence[int], first: int) -> Tensor:
        """See Runtime; nobody asks for them (subject.SCORED)."""
        raise NotImplementedError("vLLM gives texts and no logits")
