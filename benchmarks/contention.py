"""Training speed beside other programs, by how torch's threads wait for each other.

    python benchmarks/contention.py [--seconds 2.5] [--rounds 4] [--spins 1000 300]

Each setting has a process of its own that trains the pocket recipe's model. One at a time trains, alone and beside one
and two processes that only count; the settings take turns and begin each round with another, so that whatever else the
machine does slows all alike. The last line is JSON.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

from journey import machine
from journey.lineage import surroundings

DEFAULT = "GOMP_SPINCOUNT=300000"  # libgomp's
OURS = f"GOMP_SPINCOUNT={machine.SPINS}"
SPINS = (3_000, 1_000, 900, 800, 300, 0)  # 0 is what OMP_WAIT_POLICY=passive means
BESIDE = (0, 1, 2)  # busy processes
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(1_000_000))"

V, B, T = 4096, 4, 256  # the pocket recipe's shape


def train() -> None:
    """The child: for every line of seconds on stdin, trains for so long and prints its tokens per second."""
    import torch

    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT
    from journey.train.loop import accumulate_gradients
    from journey.train.optimizers import make_optimizers

    torch.manual_seed(0)
    model = GPT(GPTConfig.make("qwen3", V, T, n_layer=4, n_embd=128))
    optimizers = make_optimizers(model, "muon", lr=3e-3, muon_lr=0.02, weight_decay=0.1)
    rows = torch.randint(1, V, (B, T + 1))

    def step() -> None:
        accumulate_gradients(model, rows, parts=1, mark=0)
        optimizers.step()

    step()
    print("ready", flush=True)
    for line in sys.stdin:
        step()  # not counted: the processes beside have only just begun
        steps, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < float(line):
            step()
            steps += 1
        print(steps * B * T / took, flush=True)


@contextlib.contextmanager
def trainer(setting: str) -> Iterator[Callable[[float], float]]:
    """A process that trains under a setting, KEY=VALUE; gives seconds -> tokens per second."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    plain |= [setting.split("=")]
    command = [sys.executable, __file__, "--child"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=plain, text=True, bufsize=1
    ) as process:
        assert process.stdin and process.stdout
        stdin, stdout = process.stdin, process.stdout
        if stdout.readline() != "ready\n":
            raise SystemExit(f"the training process ended under {setting}")

        def speed(seconds: float) -> float:
            print(seconds, file=stdin)
            return float(stdout.readline())

        yield speed  # leaving the block closes its stdin, which ends it


@contextlib.contextmanager
def busy(n: int) -> Iterator[None]:
    """`n` processes that count beside."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(settings: list[str], seconds: float, rounds: int) -> dict[str, dict[int, float]]:
    """Tokens per second of each setting beside 0, 1 and 2 busy processes: the median of all rounds."""
    speeds: dict[tuple[str, int], list[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        trainers = {setting: stack.enter_context(trainer(setting)) for setting in settings}
        for i in range(rounds):
            first = i % len(settings)
            for n in BESIDE:
                with busy(n):
                    for setting in settings[first:] + settings[:first]:
                        speeds[setting, n].append(trainers[setting](seconds))
    return {setting: {n: statistics.median(speeds[setting, n]) for n in BESIDE} for setting in settings}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.5, help="of each training")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--spins", type=int, nargs="*", default=SPINS, help="beside libgomp's default and Journey's")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return train()

    where, load = surroundings()["machine"], os.getloadavg()[0]
    quiet = "quiet" if load < 0.3 else "NOT quiet: these speeds are too low, and the shares may mislead"
    print(f"{where['cpu']}, {machine.cores()} cores; load {load:.2f} at the start: {quiet}")
    print(f"tokens/s, median of {args.rounds} rounds, and what share that is of libgomp's default alone")
    spins = [f"GOMP_SPINCOUNT={n}" for n in sorted({*args.spins, machine.SPINS}, reverse=True)]
    speeds = measure([DEFAULT, *spins, "OMP_NUM_THREADS=1"], args.seconds, args.rounds)
    idle = speeds[DEFAULT][0]
    print(f"{'':<24}{'alone':>16}{'beside one':>16}{'beside two':>16}")
    for setting, by_load in speeds.items():
        cells = "".join(f"{f'{by_load[n]:,.0f} ({by_load[n] / idle:.0%})':>16}" for n in BESIDE)
        print(f"{setting:<24}{cells}{'  <- Journey' if setting == OURS else ''}")
    shares = {setting: {n: speed / idle for n, speed in by_load.items()} for setting, by_load in speeds.items()}
    print(json.dumps({"tokens_per_second": speeds, "share": shares, "ours": OURS, "load": load, "machine": where}))


if __name__ == "__main__":
    main()
