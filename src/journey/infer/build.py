"""The C kernel: built at first use where a C compiler is at hand, kept, and checked before it is trusted.

Without a compiler everything works as well, by torch, several times slower where the model is small or quantized.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from ctypes import c_float, c_int32, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("kernel.c")
# No -ffast-math: the order of each sum is the promise. What is left of it that helps: products and sums in one
# instruction, and no errno.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")
SWITCH = "JOURNEY_KERNEL"  # "off" in the environment: as if there were no compiler


class NotBuiltError(Exception):
    """Why there is no kernel."""


def library() -> ctypes.CDLL:
    """The kernel. Raises NotBuiltError where it cannot be had."""
    if isinstance(found := _found(), NotBuiltError):
        raise found
    return found


def available() -> bool:
    """Whether there is a kernel."""
    return not isinstance(_found(), NotBuiltError)


@functools.cache  # a failure, too: trying takes seconds
def _found() -> "ctypes.CDLL | NotBuiltError":
    try:
        return _load()
    except NotBuiltError as error:
        return error


def _load() -> ctypes.CDLL:
    if os.environ.get(SWITCH) == "off":
        raise NotBuiltError(f"{SWITCH} is off")
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        raise NotBuiltError(f"there is no C compiler ({', '.join(COMPILERS)}): with one, small models are much faster")
    kept = _folder() / f"kernel-{_fingerprint(compiler)}.so"
    if not kept.exists():
        _build(compiler, kept)
    try:
        return _typed(ctypes.CDLL(str(kept)))
    except OSError as error:
        raise NotBuiltError(f"{kept} cannot be loaded ({error}): delete it") from error


def usable(logits: Tensor) -> bool:
    """Whether `draw` can read these logits."""
    return logits.device.type == "cpu" and logits.dtype.itemsize == 4 and logits.stride(-1) == 1 and available()


def draw(logits: Tensor, temperature: float, uniform: list[float]) -> list[int]:
    """One id a row of (B, V): the first at which the probabilities, added up, reach that share of their sum; -1 for a
    row whose logits are no numbers."""
    B, V = logits.shape
    shares, room = torch.tensor(uniform, dtype=torch.float64), torch.empty(V + 64)  # whole vectors
    found = torch.empty(B, dtype=torch.int32)
    of = (logits.data_ptr(), logits.stride(0), B, V, temperature)
    library().draw_rows(*of, shares.data_ptr(), room.data_ptr(), found.data_ptr())
    return found.tolist()


def _folder() -> Path:
    """Where it is kept: with what else is made once for this user, or for this process where that cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "journey"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    return _own_folder()


@functools.cache
def _own_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="journey-kernel-"))


def _fingerprint(compiler: str) -> str:
    """Of all that the built file depends on: a home may be shared by machines of several kinds."""
    about = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    try:
        listed = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line for line in listed if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        cpu = platform.processor()
    parts = (SOURCE.read_text(), about, cpu, platform.machine(), platform.system(), *FLAGS)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _build(compiler: str, kept: Path) -> None:
    """Compile, with OpenMP where the compiler has it, and keep it where it computes what torch computes."""
    from journey.infer.native import check

    handle, name = tempfile.mkstemp(suffix=".so", dir=kept.parent)
    os.close(handle)
    made = Path(name)
    try:
        for extra in (("-fopenmp",), ()):
            tried = subprocess.run([compiler, *FLAGS, *extra, "-o", name, str(SOURCE), "-lm"], capture_output=True)
            if tried.returncode == 0:
                break
        else:
            said = tried.stderr.decode(errors="replace").strip().splitlines()
            raise NotBuiltError(f"{compiler} could not build the kernel: {said[-1] if said else 'it says nothing'}")
        if (off := check(_typed(ctypes.CDLL(name)))) > 1e-4:
            raise NotBuiltError(f"the kernel that {compiler} built computes other logits than torch, by {off:.1e}")
        made.replace(kept)  # whoever builds at the same time makes the same file
    finally:
        made.unlink(missing_ok=True)


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    library.vector_floats.restype = c_int32
    library.scratch_floats.restype, library.scratch_floats.argtypes = c_int64, [c_void_p, c_int32, c_int32]
    library.step.restype, library.step.argtypes = None, [c_void_p, c_void_p]
    library.draw_rows.restype = None
    library.draw_rows.argtypes = [c_void_p, c_int64, c_int32, c_int32, c_float, c_void_p, c_void_p, c_void_p]
    return library
