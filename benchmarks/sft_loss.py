"""Fine-tuning speed: our loss, which projects answer positions on the vocabulary, against TRL's own on the same batch.

    python benchmarks/sft_loss.py [--rounds 6]

Both are one SFTTrainer's `compute_loss`, forward and backward, in turn. The last line is JSON.
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

from journey.lineage import surroundings
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.stages.run import Run
from journey.stages.sft import SFT, AnswerTrainer, Row
from journey.tokenizer.formats import Tokenizer
from journey.train.trl import make_trainer

V, LENGTH, ANSWER, BATCH, STEPS = (
    4096,
    96,
    20,
    8,
    8,
)  # the pocket's mean conversation: about 93 tokens, 19 of them trained


def main() -> None:
    """Measure in turn and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        huggingface.save(GPT(GPTConfig.make("qwen3", V, 256, n_layer=4, n_embd=128)), folder, bos=0, eos=1, pad=2)
        Tokenizer.from_merges([]).save(folder)
        ids = torch.randint(V, (BATCH, LENGTH)).tolist()
        rows = [Row(row, [-100] * (LENGTH - ANSWER) + row[-ANSWER:]) for row in ids]
        run = Run(folder / "chat")
        run._begin("0" * 64)
        trainer = make_trainer(AnswerTrainer, folder, rows, rows, SFT(batch_size=8, lr=2e-3), run)
        model = trainer.model
        batch = trainer._prepare_inputs(trainer.data_collator([row._asdict() for row in rows]))
        count = torch.tensor(BATCH * ANSWER)
        theirs = super(AnswerTrainer, trainer).compute_loss

        def seconds(compute) -> float:
            start = time.perf_counter()
            for _ in range(STEPS):
                model.zero_grad()
                compute(model, dict(batch), num_items_in_batch=count).backward()
            return time.perf_counter() - start

        model.train()
        seconds(trainer.compute_loss), seconds(theirs)  # warm up
        pairs = [(seconds(trainer.compute_loss), seconds(theirs)) for _ in range(rounds)]
    tokens = STEPS * BATCH * LENGTH
    our_rate, their_rate = (tokens / statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    machine = surroundings()["machine"]
    print(f"{machine['cpu']}, {os.cpu_count()} cores, torch {torch.__version__}, fp32, {BATCH} rows of {LENGTH} tokens")
    print(f"answer positions only  {our_rate:8,.0f} tokens/s")
    print(f"TRL's own loss         {their_rate:8,.0f} tokens/s")
    print(f"ours / TRL's, median of {rounds} pairs: {ratio:.2f}")
    print(json.dumps({"ours": our_rate, "trl": their_rate, "ratio": ratio, "rounds": rounds, "machine": machine}))


if __name__ == "__main__":
    main()
