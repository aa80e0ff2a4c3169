"""A process that holds one subject and does what it is told, a JSON line each way. It ends with what has begun it."""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from journey import child
from journey.benching.runtimes import MODULES, Runtime, Task
from journey.errors import JourneyError
from journey.lineage import peak_memory, reset_peak_memory

BAD_INPUT = 2  # exit code


class Worker:
    """A subject and what can be asked of it."""

    runtime: Runtime

    def open(self, runtime: str, **task: Any) -> dict[str, Any]:
        """Open the model. Memory: what the process holds before, and at most while it opens."""
        opened = importlib.import_module(f"journey.benching.runtimes.{MODULES[runtime]}").Opened
        reset_peak_memory()
        imports = peak_memory()
        self.runtime = opened(Task(**task))
        opening = peak_memory()
        _give_back()
        reset_peak_memory()
        made = self.runtime
        return {
            **{"by": made.by, "weights": made.weights, "read": made.read, "threads": torch.get_num_threads()},
            "memory": {"imports": imports, "opening": opening},
        }

    def generate(self, prompts: list[list[int]], n: int) -> dict[str, Any]:
        """The next n ids of each prompt; seconds until all had their first, their second, …; and the most memory that
        the process has held since the model was opened."""
        self.runtime.ready(len(prompts), len(prompts[0]) + n)
        steps, seconds = [], []
        before = time.perf_counter()
        for ids in self.runtime.generate(prompts, n):
            now = time.perf_counter()
            seconds.append(now - before)
            steps.append(ids)
            before = now
        written = [list(row) for row in zip(*steps, strict=True)]
        return {"ids": written, "seconds": seconds, "running": peak_memory()}

    def score(self, rows: list[tuple[list[int], int]]) -> dict[str, Any]:
        """-ln p of each row's ids after its first so many, which are known (`perplexity.windows`)."""
        self.runtime.ready(1, max(len(ids) for ids, _ in rows))
        nats = []
        for ids, known in rows:
            logits = self.runtime.logits(ids[:-1], known - 1).float()  # (predicted, V)
            nats.append(F.cross_entropy(logits, torch.tensor(ids[known:]), reduction="none").double().sum().item())
        return {"nats": nats}


def _give_back() -> None:
    """What opening needed and nobody holds any more, to the system, where the allocator can (glibc): else a model that
    was made smaller would look as large as it was."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _serve() -> int:
    commands: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(commands.put,), daemon=True).start()
    worker = Worker()
    with child.wire() as out:
        while True:
            command: Mapping[str, Any] = json.loads(commands.get())
            try:
                answer = getattr(worker, command["do"])(**command["with"])
            except JourneyError as error:
                print(json.dumps({"error": str(error)}), file=out, flush=True)
                return BAD_INPUT
            print(json.dumps(answer), file=out, flush=True)


def _listen(hear: Callable[[str], None]) -> None:
    """Hear commands, and end this process when no more can come, whatever it is at."""
    with os.fdopen(os.dup(0), encoding="utf-8") as commands:  # not sys.stdin, whose lock would be held at exit
        for line in commands:
            hear(line)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(_serve())
