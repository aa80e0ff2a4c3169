"""Multiple choice at GPT-2 124M: our scorer against lm-evaluation-harness with transformers, in turn, item by item.

    JOURNEY_DATA=… python benchmarks/evaluation.py [NODE] [--task hellaswag] [--items 500] [--shots N] [--parts 5]

Without a NODE a GPT-2 124M of random weights, with GPT-2's own tokenizer. The items are asked in parts, each by both
before the next, so that a busy moment hits both alike; loading, tokenizing included, counts for both. Both compute in
fp32. The last line is JSON.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import numpy as np
import torch

from journey.data import vocabularies
from journey.evaluate.benchmark import asking
from journey.evaluate.benchmark.lm import Ours
from journey.evaluate.harness import transformers_lm
from journey.lineage import surroundings
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.sizes import SIZES
from journey.pair import open_pair


def main() -> None:
    """Ask both, compare, and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("node", type=Path, nargs="?")
    parser.add_argument("--task", default="hellaswag")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--shots", type=int)
    parser.add_argument("--parts", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(os.environ["JOURNEY_DATA"]) / "bench"
    with tempfile.TemporaryDirectory() as scratch:
        node = arguments.node or _random_gpt2(Path(scratch))
        ours, theirs = Ours(*open_pair(node)), transformers_lm(node, mark=False)
        seconds = {"ours": 0.0, "lm-eval": 0.0}
        furthest, other, n = 0.0, 0, 0
        for part in range(arguments.parts):
            found = {}
            for name, lm in (("ours", ours), ("lm-eval", theirs))[:: 1 if part % 2 else -1]:
                asked = asking.load(
                    arguments.task, folder, items=arguments.items // arguments.parts, shots=arguments.shots, seed=part
                )
                start = time.perf_counter()
                with contextlib.redirect_stderr(io.StringIO()):
                    found[name] = asking.ask(lm, asked)
                seconds[name] += time.perf_counter() - start
            for a, b in zip(found["ours"], found["lm-eval"], strict=True):
                furthest = max(furthest, *np.abs(np.subtract(a.logprobs, b.logprobs)))
                other += any(
                    abs(value - b.metrics[key]) > 0.5 for key, value in a.metrics.items() if key != "perplexity"
                )
            n += len(found["ours"])
            print(f"part {part + 1}: " + ", ".join(f"{name} {value:.1f} s so far" for name, value in seconds.items()))
    ratio = seconds["lm-eval"] / seconds["ours"]
    where = surroundings()["machine"]
    print(
        f"{where['cpu']}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; {arguments.task}, {n} items"
    )
    for name, value in seconds.items():
        print(f"{name:<8} {value:7.1f} s  {n / value:6.2f} items/s")
    print(f"ours is {ratio:.2f} x as fast; log-probabilities differ by {furthest:.1e} at most, {other} items' outcomes")
    print(json.dumps({"task": arguments.task, "items": n, "seconds": seconds, "ratio": ratio, "differ": other} | where))


def _random_gpt2(folder: Path) -> Path:
    """GPT-2 124M with random weights and its own tokenizer."""
    torch.manual_seed(0)
    tokenizer = vocabularies.find(None)[0].with_chat_tokens()
    model = GPT(GPTConfig.make(vocab_size=tokenizer.n_ids, **SIZES["gpt2-124m"]))
    huggingface.save(model, folder, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    tokenizer.save(folder)
    return folder


if __name__ == "__main__":
    main()
