"""The number that counts: wall time to the held-out loss that nanoGPT's own recipe reaches, ours against nanoGPT's.

    NANOGPT=path/to/nanoGPT [JOURNEY_DATA=…] python benchmarks/time_to_loss.py [--shape 4x128] [--tokens 1900000]
        [--seeds 3] [--precision fp32] [--rates 2e-3 4e-3 8e-3] [--shares 0.2 0.3 0.45 0.7 1] [--work DIR]

Text: the books of JOURNEY_DATA, 20 MB of them, else the documentation of the installed packages; its tokens (V=4,096)
are made once, by `journey run`, and kept in --work. Both draw the same batches: windows of 256 tokens at random places,
as nanoGPT's train.py does. nanoGPT trains in fp32 (as it does on a CPU) for --tokens tokens, once for each rate, with
the first seed; the best rate then for every seed. What it has at its end is the goal. Ours (qwen3, Muon, the defaults
of `journey pretrain`) trains for a share of those tokens, the smallest of --shares with which it reaches the goal, and
stops where it does; what is looked for with the first seed (a rate, a share) is counted for neither. Held-out loss:
nats a token over the same windows of dev documents; ours keeps documents apart, there too, nanoGPT cannot. Time is that
of the training steps, evaluations counted for neither. In minutes: --tokens 300000 --seeds 1 --rates 4e-3.
The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import numpy as np
import torch

from journey.lineage import surroundings
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.precision import PRECISIONS, precision
from journey.stages.pretrain import Pretrain
from journey.train.optimizers import make_optimizers
from journey.train.schedule import share_of_peak

sys.path.insert(0, str(Path(__file__).parent))
import nanogpt

V, T = 4096, 256
BATCH = {"4x128": 4, "6x384": 8}
HELD_OUT = 100  # windows
EVALUATIONS = 25  # of ours on its way
RECIPE = """\
name: tokens
stages:
  - {{name: text, stage: text, with: {{source: {source}, max_bytes: 20_000_000}}}}
  - {{name: tokenizer, stage: tokenizer, with: {{data: text, vocab_size: {V}}}}}
  - {{name: tokens, stage: prepare, parents: [tokenizer], with: {{data: text}}}}
"""


@dataclass(frozen=True)
class Text:
    """The ids of training and of held-out text, one after the other, and what begins a document."""

    train: np.ndarray
    dev: np.ndarray
    mark: int

    @staticmethod
    def make(work: Path) -> "Text":
        """Tokens as `journey data prepare` writes them; made again only where they are not there."""
        books = Path(os.environ.get("JOURNEY_DATA", "")) / "text" / "books"
        source = books if "JOURNEY_DATA" in os.environ and books.is_dir() else "installed-docs"
        work.mkdir(parents=True, exist_ok=True)
        recipe = work / "tokens.yaml"
        recipe.write_text(RECIPE.format(source=source, V=V))
        command = [sys.executable, "-m", "journey", "run", str(recipe), "--workspace", str(work / "made"), "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (node,) = (work / "made" / "nodes").glob("tokens-*")
        train, dev = (np.fromfile(node / f"{split}-00000.bin", dtype="<u2") for split in ("train", "dev"))
        return Text(train, dev, json.loads((node / "shards.json").read_text())["mark"])

    def batch(self, step: int, seed: int, B: int) -> torch.Tensor:
        """The rows of a step, (B, T + 1)."""
        starts = np.random.default_rng((seed, step)).integers(0, len(self.train) - T, B)
        return torch.from_numpy(np.stack([self.train[start : start + T + 1] for start in starts]).astype(np.int64))

    def held_out(self) -> torch.Tensor:
        """Windows spread evenly over the dev documents, (HELD_OUT, T + 1)."""
        starts = np.linspace(0, len(self.dev) - T - 1, HELD_OUT).astype(int)
        return torch.from_numpy(np.stack([self.dev[start : start + T + 1] for start in starts]).astype(np.int64))


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    loss: float  # nats a held-out token
    seconds: float  # of its steps
    tokens: int


@torch.no_grad()
def held_out_loss(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], rows: torch.Tensor) -> float:
    """Mean over the windows."""
    parts = [loss(part[:, :-1].contiguous(), part[:, 1:].contiguous()).item() * len(part) for part in rows.split(10)]
    return sum(parts) / len(rows)


def train_nanogpt(text: Text, shape: str, steps: int, rate: float, seed: int) -> Trained:
    """Its recipe from beginning to end."""
    torch.manual_seed(seed)
    n_layer, n_embd = map(int, shape.split("x"))
    heads = GPTConfig.make("gpt2", V, T, n_layer, n_embd).n_head
    model = nanogpt.make(nanogpt.find(), V, T, n_layer, heads, n_embd)
    optimizer = nanogpt.optimizer(model, rate)
    start = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * nanogpt.share(step, steps)
        rows = text.batch(step, seed, BATCH[shape])
        model(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())[1].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), nanogpt.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    loss = held_out_loss(lambda ids, targets: model(ids, targets)[1], text.held_out())
    return Trained(loss, seconds, steps * BATCH[shape] * T)


def train_ours(text: Text, shape: str, steps: int, how: str, seed: int, goal: float) -> Trained:
    """Until the goal is reached, or the steps are over."""
    torch.manual_seed(seed)
    n_layer, n_embd = map(int, shape.split("x"))
    given = Pretrain()
    model = GPT(GPTConfig.make(given.family, V, T, n_layer, n_embd))
    dtype = torch.bfloat16 if how == "bf16" else torch.float32
    optimizers = make_optimizers(model, given.optimizer, given.lr, given.muon_lr, given.weight_decay, dtype)

    def loss(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with precision(model, how):
            return model(ids, targets, documents=(ids == text.mark).cumsum(1))

    held_out, every = text.held_out(), max(1, steps // EVALUATIONS)
    seconds, start, found = 0.0, time.perf_counter(), float("inf")
    for step in range(steps):
        optimizers.set_lr(share_of_peak(step, steps, given.schedule, given.warmup, given.decay, given.floor))
        rows = text.batch(step, seed, BATCH[shape])
        loss(rows[:, :-1], rows[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), given.clip)
        optimizers.step()
        # Early on, the goal is far, and each look costs as much as seven steps.
        if ((step + 1) % every == 0 and step + 1 > steps // 2) or step + 1 == steps:
            seconds += time.perf_counter() - start
            found = held_out_loss(loss, held_out)
            if found <= goal:
                break
            start = time.perf_counter()
    return Trained(found, seconds, (step + 1) * BATCH[shape] * T)


def main() -> None:
    """Tune both with the first seed, then train both with each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=BATCH, default="4x128")
    parser.add_argument("--tokens", type=int, default=1_900_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 4e-3, 8e-3])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.3, 0.45, 0.7, 1.0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "journey-time-to-loss")
    args = parser.parse_args()
    nanogpt.find()
    text, machine = Text.make(args.work), surroundings()["machine"]
    steps = args.tokens // (BATCH[args.shape] * T)
    print(f"{machine['cpu']}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{len(text.train):,} tokens of text; {args.shape}, V={V} T={T} B={BATCH[args.shape]}, {steps} steps at most")

    tried = {rate: train_nanogpt(text, args.shape, steps, rate, 0) for rate in args.rates}
    for rate, trained in tried.items():
        print(f"nanoGPT at {rate:g}: {trained.loss:.4f} nats/token, {trained.seconds:.1f} s", flush=True)
    rate = min(tried, key=lambda rate: tried[rate].loss)
    theirs, ours, shares = [], [], sorted(args.shares)
    for seed in range(args.seeds):
        theirs.append(tried[rate] if seed == 0 else train_nanogpt(text, args.shape, steps, rate, seed))
        while True:
            planned = max(1, round(steps * shares[0]))
            trained = train_ours(text, args.shape, planned, args.precision, seed, theirs[-1].loss)
            reached = trained.loss <= theirs[-1].loss
            print(
                f"seed {seed}: nanoGPT {theirs[-1].loss:.4f} in {theirs[-1].seconds:.1f} s; ours, planned for ", end=""
            )
            print(f"{shares[0]:g} of its tokens, {trained.loss:.4f} in {trained.seconds:.1f} s", flush=True)
            if reached or len(shares) == 1:
                break
            shares.pop(0)  # the seeds after this one begin here
        ours.append(trained if reached else None)
    ratios = [mine.seconds / other.seconds for mine, other in zip(ours, theirs, strict=True) if mine is not None]
    if len(ratios) == len(theirs):
        print(f"ours / nanoGPT, wall time to its loss, median of {len(ratios)} seeds: {statistics.median(ratios):.2f}")
    else:
        print(f"ours reached its loss with {len(ratios)} of {len(theirs)} seeds: give --shares above {shares[0]:g}")
    result = {"shape": args.shape, "tokens": args.tokens, "precision": args.precision, "rate": rate, "share": shares[0]}
    result |= {"nanogpt": [vars(one) for one in theirs], "ours": [one and vars(one) for one in ours]}
    result |= {"ratios": ratios, "tried": {str(key): one.loss for key, one in tried.items()}, "machine": machine}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
