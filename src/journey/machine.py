"""What this process may use of the machine."""

import os
import shutil
import subprocess
from collections.abc import Callable

# How often a thread of torch (OpenMP, libgomp) looks for new work before it sleeps. libgomp's default, 300,000, keeps a
# core busy for milliseconds that the thread it waits for would need, so beside another program training falls to a
# fraction. Fewer cost speed on an idle machine, for waking takes long: benchmarks/contention.py prints both.
SPINS = 1000


def share_cores() -> None:
    """Let torch's threads make room for other programs. It changes no number that is computed.

    `import journey` calls it, before torch is imported: libgomp reads the environment once, when it is loaded. Child
    processes inherit it. GOMP_SPINCOUNT and OMP_WAIT_POLICY that a user has set stay as they are.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory in the machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


_WORKING = 1.25  # of a model's bytes: what is computed with it takes room too


def device(needs: float = 0) -> str:
    """Where models compute: a GPU where torch has one, else the CPU; and the CPU for a model of `needs` bytes for which
    the GPU has no room."""
    import torch  # seconds, and whoever asks is about to use it

    if not torch.cuda.is_available():
        return "cpu"
    if not needs:
        return "cuda"
    torch.cuda.empty_cache()  # what torch keeps for its own use counts as taken
    return "cuda" if torch.cuda.mem_get_info()[0] >= _WORKING * needs else "cpu"


def reading(device: str) -> tuple[Callable[[], object], int]:
    """What reads memory as fast as it can be read, and how many bytes: numbers that no cache holds are added up."""
    import torch

    numbers = torch.ones(8192, 8192, device=device)
    return lambda: numbers.sum(1), numbers.nbytes


def is_out_of_memory(error: BaseException) -> bool:
    """Of Python and of a GPU it has a class of its own, of a CPU's allocator in torch only its words."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "can't allocate memory" in str(error)


def gpus() -> list[str]:
    """The NVIDIA GPUs this process may use, as CUDA_VISIBLE_DEVICES names them, without loading CUDA."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()
    return [str(i) for i, line in enumerate(line for line in listed if line.startswith("GPU "))]
