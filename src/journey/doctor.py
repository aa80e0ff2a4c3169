"""`journey doctor`: this machine and this installation, looked at and measured, with what to do where something is wrong."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey.lineage import surroundings
from journey.stages.run import metric

if TYPE_CHECKING:
    import torch

    from journey.model.gpt import GPT

# What the package needs (pyproject.toml names the same), and what for.
NEEDED = {
    "torch": "the models and their training",
    "transformers": "opening checkpoints, and the mark ours are held to",
    "tokenizers": "fast encoding",
    "trl": "supervised fine-tuning",
    "accelerate": "supervised fine-tuning",
    "datasets": "supervised fine-tuning",
    "lm_eval": "the multiple-choice benchmark by the common harness",
    "safetensors": "the weights on disk",
    "numpy": "numbers everywhere",
    "pyarrow": "texts in parquet",
    "pyyaml": "recipes",
    "jinja2": "the chat template",
    "regex": "splitting text into words",
    "rich": "the live view",
    "tyro": "the command line",
}
EXTRAS = {
    "test": (("pytest", "hypothesis", "tiktoken", "ruff", "mypy", "import-linter"), "the tests: `./journey test` installs it"),
}

TOLERANCE = 1e-4  # fp32, the largest difference to transformers that is rounding
_POCKET_MEMORY = 4e9  # bytes that the pocket recipe may take
_POCKET_DISK = 1e9
_SECONDS = {"matmul": 0.7, "reading": 0.7, "training": 2.0}
_VOCABULARY, _CONTEXT = 512, 64  # of the small models that the self-check compares
_TEXT = "The cat sat on the mat; the cats' mats aren't flat.\n\n    def naïve(x):  # 中文 🙂 123\n        return x ** 2\n" * 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check saw. `ok` is None for what is worth knowing but stops nothing; `advice` says what to do."""

    ok: bool | None
    found: str
    advice: str = ""
    metrics: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def examine(say: Callable[[str], None] = print) -> dict[str, Any]:
    """Look at everything, `say` it as lines of text, and return {"ok", "metrics", "error"}: the error names what failed.

    No check stops another: one that raises is a failed one.
    """
    sections: dict[str, dict[str, Callable[[], Finding]]] = {
        "Machine": {"python": python, "cores": cores, "memory": memory, "disk": disk, "gpu": gpu},
        "Packages": {"installed": packages, "versions": versions, "extras": extras},
        "Numbers": {
            "qwen3": lambda: against_transformers("qwen3"),
            "gpt2": lambda: against_transformers("gpt2"),
            "bpe": against_tokenizers,
            "generation": cached_against_full,
            "checkpoint": round_trip,
        },
        "Speed": {"matmul": matmul, "reading": reading, "training": training},
    }
    findings: dict[str, Finding] = {}
    for title, checks in sections.items():
        start = time.perf_counter()
        these = {name: _attempt(check) for name, check in checks.items()}
        say(_table(f"{title} ({time.perf_counter() - start:.1f} s)", these))
        findings |= these
    failed = [name for name, finding in findings.items() if finding.ok is False]
    say(f"✗ wrong: {', '.join(failed)}" if failed else "✓ all is well")
    metrics = {name: value for finding in findings.values() for name, value in finding.metrics.items()}
    error = f"failed: {', '.join(failed)} ({findings[failed[0]].found})" if failed else None
    return {"ok": not failed, "metrics": metrics, "error": error}


def _attempt(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except ImportError as error:
        return Finding(False, _first_line(error), "see Packages above for what is missing; if nothing is, install it again")
    except Exception as error:
        return Finding(False, f"{type(error).__name__}: {_first_line(error)}", _REPORT)


_REPORT = "install the pinned versions; if it stays, run the tests and report this line"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _table(title: str, findings: dict[str, Finding]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(min_width=11)
    table.add_column(overflow="fold")
    marks = {True: Text("✓", "green"), False: Text("✗", "bold red"), None: Text("·", "yellow")}
    for name, finding in findings.items():
        table.add_row(marks[finding.ok], name, Text(finding.found))
        if finding.advice:
            table.add_row("", "", Text(f"→ {finding.advice}", "yellow"))
    terminal = Console(highlight=False, width=min(110, shutil.get_terminal_size((110, 24)).columns))
    with terminal.capture() as text:
        terminal.print(Text(title, "bold"), table)
    return text.get().rstrip("\n")


def python() -> Finding:
    """The interpreter."""
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding(good, f"{platform.python_version()}, {sys.executable}", "" if good else "use Python 3.11, 3.12 or 3.13")


def cores() -> Finding:
    """The processor, and how many of its cores this process may use."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    held = limit is not None and limit.isdigit() and int(limit) < here
    return Finding(
        None if held else True,
        f"{here}, {surroundings()['machine']['cpu']}",
        f"OMP_NUM_THREADS={limit} holds torch to {limit} of them: unset it to train faster" if held else "",
        {"cores": metric(here)},
    )


def memory() -> Finding:
    """Memory in the machine, or in the container when that has less."""
    total, free = surroundings()["machine"]["memory"] or 0, 0
    if (info := Path("/proc/meminfo")).exists():
        free = next(int(line.split()[1]) * 1024 for line in info.read_text().splitlines() if line.startswith("MemAvailable"))
    if (limit := Path("/sys/fs/cgroup/memory.max")).exists() and (bytes_ := limit.read_text().strip()).isdigit():
        total = min(total, int(bytes_))
        used = Path("/sys/fs/cgroup/memory.current")
        free = min(free, total - int(used.read_text())) if used.exists() else min(free, total)
    free = free or total  # not Linux: what is free is not known
    enough = free >= _POCKET_MEMORY
    return Finding(
        True if enough else None,
        f"{total / 1e9:.1f} GB, {free / 1e9:.1f} GB free",
        "" if enough else "the pocket recipe takes up to 4 GB: close something first",
        {"memory": metric(total, "bytes"), "memory_free": metric(free, "bytes")},
    )


def disk() -> Finding:
    """Room where a workspace would stand: the current folder."""
    free = shutil.disk_usage(".").free
    enough, writable = free >= _POCKET_DISK, os.access(".", os.W_OK)
    advice = "" if enough else "free 1 GB, or give --workspace on another disk"
    if not writable:
        advice = "this folder cannot be written: give --workspace elsewhere"
    found = f"{free / 1e9:.1f} GB free at {Path.cwd()}"
    return Finding(enough and writable or None, found, advice, {"disk_free": metric(free, "bytes")})


def gpu() -> Finding:
    """The GPU that torch sees."""
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        found = f"{device.name}, {device.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}, torch {torch.__version__}"
        more = torch.cuda.device_count() - 1
        return Finding(True, found + (f", and {more} more" if more else ""), metrics={"gpu_memory": metric(device.total_memory, "bytes")})
    if shutil.which("nvidia-smi"):
        advice = "install a CUDA build (pytorch.org), or update the driver"
        return Finding(None, f"there is an NVIDIA driver, but torch {torch.__version__} cannot use it", advice)
    return Finding(True, "none: the CPU does the work, in fp32")


def packages() -> Finding:
    """What the package needs: each there or not, with its version."""
    found = {name: _version(name) for name in NEEDED}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        purposes = ", ".join(f"{name} ({NEEDED[name]})" for name in missing)
        return Finding(False, f"missing: {purposes}", _pip(missing))
    return Finding(True, ", ".join(f"{name} {version}" for name, version in found.items()))


def versions() -> Finding:
    """Every installed package against the versions that Journey was tested with."""
    file = constraints_file()
    if file is None:
        return Finding(None, "no constraints.txt beside this package: versions are not compared")
    pinned = read_constraints(file)
    installed = {name: version for name in pinned if (version := _version(name)) is not None}
    different = [name for name, version in installed.items() if not _same(version, pinned[name])]
    counted = {"versions_different": metric(len(different), n=len(installed))}
    if not different:
        return Finding(True, f"all {len(installed)} that are installed are as pinned", metrics=counted)
    shown = ", ".join(f"{name} {installed[name]} (pinned {pinned[name]})" for name in different[:8])
    more = f" and {len(different) - 8} more" if len(different) > 8 else ""
    return Finding(None, f"{len(different)} of {len(installed)} differ: {shown}{more}", _pip(different[:8]), counted)


def extras() -> Finding:
    """What can be installed besides."""
    missing = {extra: [name for name in names if _version(name) is None] for extra, (names, _) in EXTRAS.items()}
    lines = [f"{extra}: {', '.join(names)} missing, for {EXTRAS[extra][1]}" for extra, names in missing.items() if names]
    return Finding(None if lines else True, "; ".join(lines) or f"{', '.join(EXTRAS)}: complete")


def constraints_file() -> Path | None:
    """The pinned versions: inside the installed package, or at the root of the checkout it is run from."""
    here = Path(__file__).resolve().parent
    return next((file for file in (here / "constraints.txt", here.parents[1] / "constraints.txt") if file.is_file()), None)


def read_constraints(file: Path) -> dict[str, str]:
    """Package -> version for the lines `name==version`, whatever follows them; other lines pin nothing."""
    found = re.findall(r"^\s*([\w.-]+)(?:\[[^]]*\])?\s*==\s*([^\s;#]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(found)


def _same(installed: str, pinned: str) -> bool:
    """A build for another device (2.13.0+cpu) is the same version, unless the pin names one."""
    return installed == pinned or installed.split("+")[0] == pinned


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pip(names: list[str]) -> str:
    file = constraints_file()
    pins = read_constraints(file) if file else {}
    lower = {name.lower(): version for name, version in pins.items()}
    wanted = [f"{name}=={lower[name.lower()]}" if name.lower() in lower else name for name in names]
    return shlex.join([sys.executable, "-m", "pip", "install", *wanted])


def _small_model(family: str) -> "GPT":
    """Random weights so large that attention and logits are far from even, and no norm or bias is idle."""
    import torch

    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT

    kv = None if family == "gpt2" else 2
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, _VOCABULARY, _CONTEXT, 2, 64, n_head=4, n_kv_head=kv))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def against_transformers(family: str) -> Finding:
    """Our logits and gradients against transformers', from a folder that we saved."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from journey.model import huggingface

    model = _small_model(family)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        huggingface.save(model, Path(folder))
        reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(_VOCABULARY, (2, _CONTEXT), generator=torch.Generator().manual_seed(1))
    output = reference(ids, labels=ids)
    output.loss.backward()
    model(ids[:, :-1], ids[:, 1:]).backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    logits = (model(ids) - output.logits).abs().max().item()
    gradients = 0.0
    for theirs, names in huggingface.layout(model.config).items():
        gradient = torch.cat([ours[name] for name in names])
        if huggingface.transposed(theirs):
            gradient = gradient.t()
        gradients = max(gradients, (gradient - reference.get_parameter(theirs).grad).abs().max().item())
    equal = logits <= TOLERANCE and gradients <= TOLERANCE  # false for NaN too
    convention = f"largest absolute difference to transformers, fp32, random weights; rounding is at most {TOLERANCE}"
    return Finding(
        equal,
        f"logits within {logits:.0e} and gradients within {gradients:.0e} of transformers'",
        "" if equal else f"this is more than {TOLERANCE}: {_REPORT}",
        {
            f"{family}_logits": metric(logits, convention=convention, n=output.logits.numel()),
            f"{family}_gradients": metric(gradients, convention=convention, n=model.config.n_params),
        },
    )


def against_tokenizers() -> Finding:
    """Our BPE's merges and ids against the tokenizers library's, on a small text."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    from journey.tokenizer import bpe
    from journey.tokenizer.codec import Codec

    reference = tokenizers.Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    reference.train_from_iterator([_TEXT], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    theirs = [tuple(merge) for merge in json.loads(reference.to_str())["model"]["merges"]]
    merges = bpe.train(bpe.count_words([_TEXT]), 300)
    codec = Codec(merges)
    ids = codec.encode(_TEXT)
    same_merges, same_ids = merges == theirs, ids == reference.encode(_TEXT).ids
    exact = codec.decode(ids) == _TEXT
    if same_merges and same_ids and exact:
        found = f"{len(merges)} merges and {len(ids)} ids are tokenizers' own, and decode to the text"
        return Finding(True, found, metrics={"bpe_equal_ids": metric(len(ids), "tokens")})
    wrong = [what for what, good in (("merges", same_merges), ("ids", same_ids), ("the decoded text", exact)) if not good]
    return Finding(False, f"{' and '.join(wrong)} differ from the tokenizers library's", _REPORT)


def cached_against_full() -> Finding:
    """Greedy text from the key/value cache, two prompts at once, against the whole model run anew for each token."""
    import torch

    from journey.infer.engine import generate

    model = _small_model("qwen3")
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11]]
    n = 24
    cached = generate(model, prompts, max_new_tokens=n, stop=set())
    full = [list(prompt) for prompt in prompts]
    with torch.inference_mode():
        for row in full:
            for _ in range(n):
                row.append(int(model(torch.tensor([row]))[0, -1].argmax()))
    equal = [prompt + completion.ids for prompt, completion in zip(prompts, cached, strict=True)] == full
    if equal:
        found = f"{n * len(prompts)} tokens with the cache are those of the full forward pass"
        return Finding(True, found, metrics={"generation_equal_tokens": metric(n * len(prompts), "tokens")})
    return Finding(False, "greedy text with the cache differs from that of the full forward pass", _REPORT)


def round_trip() -> Finding:
    """A checkpoint written and read again: the same shape, and every weight the same to the bit."""
    import torch

    from journey.model import huggingface

    model = _small_model("gpt2")
    with tempfile.TemporaryDirectory() as folder:
        huggingface.save(model, Path(folder))
        again = huggingface.load(Path(folder))
    before, after = huggingface.tensors(model), huggingface.tensors(again)
    changed = [name for name in before if name not in after or not torch.equal(before[name], after[name])]
    if not changed and model.config == again.config:
        found = f"{len(before)} tensors saved and read again are the same to the bit"
        return Finding(True, found, metrics={"checkpoint_equal_tensors": metric(len(before), "tensors")})
    return Finding(False, f"a checkpoint read again has changed: {', '.join(changed) or 'its config'}", _REPORT)


def _device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _speeds(work: Callable[[], Any], amount: float, seconds: float) -> list[float]:
    """`amount` per second of each call of `work` (at least 3) over about `seconds`, after one that does not count."""
    import torch

    finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    work()
    finish()
    end, speeds = time.perf_counter() + seconds, []
    while len(speeds) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        finish()
        speeds.append(amount / (time.perf_counter() - start))
    return speeds


def _speed(name: str, speeds: list[float], unit: str, what: str) -> Finding:
    value = statistics.median(speeds)
    convention = f"{what}; the median of n runs, low and high the slowest and the fastest"
    measured = metric(value, unit, convention, low=min(speeds), high=max(speeds), n=len(speeds))
    return Finding(True, f"{value:,.0f} {unit} ({what})", metrics={name: measured})


def matmul() -> Finding:
    """How fast arithmetic can be here: a square fp32 matrix product."""
    import torch

    n, device = 1024 if _device().type == "cpu" else 8192, _device()
    a = torch.randn(n, n, device=device)
    speeds = _speeds(lambda: a @ a, 2 * n**3 / 1e9, _SECONDS["matmul"])
    return _speed("matmul", speeds, "GFLOP/s", f"fp32 product of {n} × {n} matrices, {device.type}, {torch.get_num_threads()} threads")


def reading() -> Finding:
    """How fast memory can be read: what bounds generation, which reads every weight for every token."""
    import torch

    n, device = 8192, _device()
    a, x = torch.ones(n, n, device=device), torch.ones(n, device=device)
    speeds = _speeds(lambda: a @ x, a.nbytes / 1e9, _SECONDS["reading"])
    return _speed("memory_bandwidth", speeds, "GB/s", f"fp32 matrix of {a.nbytes / 1e6:.0f} MB times a vector, {device.type}")


def training() -> Finding:
    """Steps of the pocket recipe's shape on random tokens, optimizer and all."""
    import torch

    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT
    from journey.train.loop import accumulate_gradients
    from journey.train.optimizers import make_optimizers

    V, B, T, device = 4096, 4, 256, _device()
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("qwen3", V, T, 4, 128)).to(device)
    optimizers = make_optimizers(model, "muon", 3e-3, 0.02, 0.1)
    tokens = torch.randint(V, (B, T + 1), device=device)

    def step() -> None:
        accumulate_gradients(model, tokens, 1, mark=0)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step()

    speeds = _speeds(step, B * T, _SECONDS["training"])
    what = f"{model.config.n_params / 1e6:.2f} M parameters, {B} × {T} tokens a step, Muon, {device.type}"
    return _speed("training", speeds, "tokens/s", what)
