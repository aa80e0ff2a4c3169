"""The whole model, LoRA and QLoRA at GPT-2's 124M: speed, peak memory and what is left on the disk, a few steps each.

    python benchmarks/adapters.py [--conversations 24] [--rounds 1] [--data FILE]

The weights are random: what a step costs does not depend on them, and no loss is told. (`journey sweep full-lora-qlora`
has losses, for a model that knows something.) Each training is a process of its own, in turn; the last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from journey.checkpoint import open_node
from journey.lineage import surroundings
from journey.train.log import LOG
from journey.train.tail import Tail

WAYS = {"whole model": ["sft"], "LoRA": ["lora"], "QLoRA": ["lora", "--quantize", "nf4"]}
N_CTX, A_STEP = 512, 8


def main() -> None:
    """Train each way and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--conversations", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1)
    data = Path(os.environ.get("JOURNEY_DATA", ""), "instruct/dolly-15k.jsonl.gz")
    parser.add_argument("--data", default=str(data))
    asked = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journey("import", "random-gpt2", "--n-ctx", str(N_CTX), "--out", str(folder / "mine"))
        for i in range(asked.rounds):
            for way, (verb, *more) in WAYS.items():
                out = folder / f"{verb}-{len(more)}-{i}"
                some = ["--data", asked.data, "--max-examples", str(asked.conversations), "--batch-size", str(A_STEP)]
                journey(verb, str(folder / "mine"), *some, "--dev-examples", "8", *more, "--out", str(out))
                found[way].append(took(out))
    machine = surroundings()["machine"]
    print(
        f"{machine['cpu']}, {os.cpu_count()} cores: GPT-2 124M, {A_STEP} conversations a step of at most {N_CTX} tokens"
    )
    for way, runs in found.items():
        least = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"{way:<12} {least['tokens_per_second']:7,.0f} tokens/s  {least['peak_memory'] / 1e9:5.2f} GB  "
            f"{least['checkpoint'] / 1e6:7,.1f} MB on the disk  {least['trained']:13,.0f} parameters trained"
        )
    print(json.dumps({"found": found, "machine": machine}))


def journey(*arguments: str) -> None:
    """A command line, in a process of its own."""
    subprocess.run([sys.executable, "-m", "journey", *arguments], check=True, stdout=subprocess.DEVNULL)


def took(out: Path) -> dict[str, float]:
    """What a training took: the median of its steps after the first, and the rest from its lineage."""
    lineage: Any = open_node(out).lineage
    speeds = [line["tokens_per_second"] for line in Tail(out / LOG).new() if line.get("tokens_per_second")]
    weights = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    trained = lineage["metrics"].get("trained_parameters", {}).get("value", weights / 4)
    return {
        "tokens_per_second": statistics.median(speeds[1:] or speeds),
        "peak_memory": lineage["peak_memory"],
        "checkpoint": weights,
        "trained": trained,
    }


if __name__ == "__main__":
    main()
