"""Training speed of our GPT against transformers' model of the same shape: the same rows, loss and optimizer.

    python benchmarks/training_step.py [--rounds 6]

The two take turns, so that a busy machine slows both. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import torch
from transformers import AutoModelForCausalLM

from journey.lineage import surroundings
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.train.optimizers import make_optimizers

V, T, B, STEPS = 4096, 256, 4, 8  # the pocket recipe's shape


def seconds(step, rows) -> float:
    """Seconds of STEPS training steps."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step(rows)
    return time.perf_counter() - start


def main() -> None:
    """Measure in turn and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    ours = GPT(GPTConfig.make("qwen3", V, T, n_layer=4, n_embd=128))
    with tempfile.TemporaryDirectory() as folder:
        huggingface.save(ours, Path(folder), bos=0, eos=1, pad=2)
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()
    our_optimizer = make_optimizers(ours, "adamw", 1e-3, 0.0, 0.1)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)

    def our_step(rows: torch.Tensor) -> None:
        ours(rows[:, :-1], rows[:, 1:]).backward()
        our_optimizer.step()

    def their_step(rows: torch.Tensor) -> None:
        logits = theirs(input_ids=rows[:, :-1], use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        their_optimizer.step()
        their_optimizer.zero_grad()

    rows = torch.randint(V, (B, T + 1))
    seconds(our_step, rows), seconds(their_step, rows)  # warm up
    pairs = [(seconds(our_step, rows), seconds(their_step, rows)) for _ in range(rounds)]
    tokens = STEPS * B * T
    our_rate, their_rate = (tokens / statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    machine = surroundings()["machine"]
    print(f"{machine['cpu']}, {os.cpu_count()} cores, torch {torch.__version__}, fp32, V={V} T={T} B={B} d=128 L=4")
    print(f"ours          {our_rate:8,.0f} tokens/s")
    print(f"transformers  {their_rate:8,.0f} tokens/s")
    print(f"ours / transformers, median of {rounds} pairs: {ratio:.2f}")
    print(
        json.dumps({"ours": our_rate, "transformers": their_rate, "ratio": ratio, "rounds": rounds, "machine": machine})
    )


if __name__ == "__main__":
    main()
