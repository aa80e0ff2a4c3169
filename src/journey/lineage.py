"""What a node was made from. The id is the hash of what went in; timings and machines are recorded, never hashed."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from journey.files import digest, sha256_file

PACKAGES = ("torch", "transformers", "tokenizers", "trl", "accelerate", "datasets", "lm_eval", "numpy", "safetensors")
# Modules that move bytes and show progress: they cannot change what a stage computes.
_BESIDE = frozenset(
    f"journey.{name}"
    for name in ("console", "errors", "files", "lineage", "stages.cost", "stages.inputs", "stages.run")
)


def node_id(
    stage: str, module: str, config: dict[str, Any], parents: list[str], data: dict[str, str], seed: int
) -> str:
    """The id of what a stage makes from these inputs; `data` maps a config field to what it named: the id of a
    text node or the fingerprint of raw files, so that a path can change without changing the id."""
    return digest(
        {
            "stage": stage,
            "source": source_version(module),
            "config": {key: value for key, value in config.items() if key not in data},
            "parents": parents,
            "data": data,
            "seed": seed,
        }
    )


@cache
def source_version(module: str) -> str:
    """Hash of a module's code and of every module of ours that it imports, without comments and docstrings.

    A stage's result depends on all of them (the loop, the layers, the data order), not on its own file alone.
    """
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name in _BESIDE:
            continue
        path = _module_path(name)
        if path is None:
            continue
        tree = _AtRunTime().visit(ast.parse(path.read_bytes()))
        waiting += _imports(tree, name)
        seen[name] = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()
    return digest(seen)


def _module_path(name: str) -> Path | None:
    """The file of a module of ours, found without importing it."""
    base = Path(__file__).parent.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(tree: ast.AST, module: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.startswith("journey.")]


class _AtRunTime(ast.NodeTransformer):
    """Takes out what stands under `if TYPE_CHECKING`: whoever makes such an object imports its module himself."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Those below the fields of a config too: they are its manual.
            node.body = [line for line in node.body if not _is_text(line)]
    return tree


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


def surroundings() -> dict[str, Any]:
    """What a reader needs to repeat a run: versions, machine, commit. None of it is hashed into an id."""
    return {
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)},
        "journey": importlib.metadata.version("journey-gpt") if _installed("journey-gpt") else "source",
        "python": platform.python_version(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "memory": _memory(), "system": platform.platform()},
        "git_commit": _git_commit(),
    }


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> int | None:
    """Bytes of memory in the machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that this package is run from, with `+` when it has changes."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(("git", *arguments), cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def reset_peak_memory() -> None:
    """Begin a new measurement of this process's peak memory, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_memory() -> int:
    """Bytes this process has held at most since `reset_peak_memory` (elsewhere than on Linux: ever)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
