"""Training speed of our GPT: against transformers' model of the same shape, and against nanoGPT's own step.

    NANOGPT=path/to/nanoGPT python benchmarks/training_step.py [--rounds 6] [--shapes 4x128 6x384]

Against transformers: the same rows, loss and optimizer, gpt2's successor qwen3 in both, fp32. Against nanoGPT (left out
without NANOGPT): its model and AdamW, in fp32, as its train.py runs on a CPU, against ours as the loop trains: each
document alone, gradients clipped in both; gpt2 with AdamW, qwen3 with Muon, and both again in bf16 where this CPU
multiplies it fast. All take turns, so that a busy machine slows all alike. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import torch
from transformers import AutoModelForCausalLM

from journey.lineage import surroundings
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.precision import fastest, precision
from journey.train.optimizers import make_optimizers

sys.path.insert(0, str(Path(__file__).parent))
import nanogpt

V, T, STEPS = 4096, 256, 4
BATCH = {"4x128": 4, "6x384": 8}  # rows a step; 4x128 is the pocket recipe's shape
MARK = 0  # what begins a document

Step = Callable[[torch.Tensor], None]


def seconds(step: Step, rows: torch.Tensor) -> float:
    """Seconds of STEPS training steps."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step(rows)
    return time.perf_counter() - start


def our_step(family: str, optimizer: str, how: str, n_layer: int, n_embd: int) -> Step:
    """A step as the loop takes it."""
    model = GPT(GPTConfig.make(family, V, T, n_layer, n_embd))
    dtype = torch.bfloat16 if how == "bf16" else torch.float32
    optimizers = make_optimizers(model, optimizer, 1e-3, 1e-3, 0.1, dtype)

    def step(rows: torch.Tensor) -> None:
        ids, targets = rows[:, :-1], rows[:, 1:]
        with precision(model, how):
            loss = model(ids, targets, documents=(ids == MARK).cumsum(1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step()

    return step


def nanogpt_step(n_layer: int, n_embd: int) -> Step:
    """A step as nanoGPT's train.py takes it."""
    heads = GPTConfig.make("gpt2", V, T, n_layer, n_embd).n_head
    model = nanogpt.make(nanogpt.find(), V, T, n_layer, heads, n_embd)
    optimizer = nanogpt.optimizer(model, 1e-3)

    def step(rows: torch.Tensor) -> None:
        ids, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        model(ids, targets)[1].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), nanogpt.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def transformers_pair(n_layer: int, n_embd: int) -> dict[str, Step]:
    """Ours and transformers' qwen3 with the same weights, and nothing but the model's work."""
    ours = GPT(GPTConfig.make("qwen3", V, T, n_layer, n_embd))
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

    return {"transformers qwen3 adamw": their_step, "ours qwen3 adamw, no documents": our_step}


def compare(steps: dict[str, Step], B: int, rounds: int) -> dict[str, dict[str, float]]:
    """Tokens a second of each, and its ratio to the first, as the median over the rounds."""
    rows = torch.randint(V, (B, T + 1))
    for step in steps.values():
        seconds(step, rows)  # warm up
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step, rows))
    peer = next(iter(times.values()))
    return {
        name: {
            "tokens_per_second": STEPS * B * T / statistics.median(some),
            "ratio": statistics.median(theirs / ours for theirs, ours in zip(peer, some, strict=True)),
        }
        for name, some in times.items()
    }


def main() -> None:
    """Measure in turn and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--shapes", nargs="+", choices=BATCH, default=list(BATCH))
    args = parser.parse_args()
    torch.manual_seed(0)
    machine, (fast, why) = surroundings()["machine"], fastest("cpu")
    print(f"{machine['cpu']}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"V={V} T={T}; {why}")
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for shape in args.shapes:
        n_layer, n_embd = map(int, shape.split("x"))
        groups = {"transformers": transformers_pair(n_layer, n_embd)}
        if "NANOGPT" in os.environ:
            groups["nanogpt"] = {"nanoGPT adamw fp32": nanogpt_step(n_layer, n_embd)} | {
                f"ours {family} {optimizer} {how}": our_step(family, optimizer, how, n_layer, n_embd)
                for how in dict.fromkeys(("fp32", fast))
                for family, optimizer in (("gpt2", "adamw"), ("qwen3", "muon"))
            }
        found[shape] = {}
        for peer, steps in groups.items():
            found[shape][peer] = compare(steps, BATCH[shape], args.rounds)
            for name, numbers in found[shape][peer].items():
                print(f"{shape} B={BATCH[shape]}  {name:<31} {numbers['tokens_per_second']:8,.0f} tokens/s", end="")
                print(f"  {numbers['ratio']:5.2f} x {peer}")
    print(json.dumps({"found": found, "rounds": args.rounds, "machine": machine}))


if __name__ == "__main__":
    main()
