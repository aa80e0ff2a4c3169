"""What a node was made from. The id is the hash of what went in; source, timings and machines are recorded."""

import ast
import hashlib
import importlib.metadata
import io
import os
import platform
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path
from typing import Any

from journey.files import digest, sha256_file
from journey.machine import memory

PACKAGES = (
    *("torch", "transformers", "tokenizers", "trl", "peft", "accelerate", "datasets", "lm_eval", "numpy"),
    "safetensors",
)
# Modules that move bytes, show progress, or draw: they cannot change what a stage or a measure finds.
_BESIDE = (
    "console",
    "errors",
    "files",
    "lineage",
    "report",
    "stages.cost",
    "stages.inputs",
    "stages.run",
    "stages.story",
    "train.layers",
    "train.log",
    "train.peak",
    "train.tail",
    "train.trackers",
)


def node_id(
    stage: str, version: int, config: dict[str, Any], parents: list[str], data: dict[str, str], seed: int
) -> str:
    """The id of what a stage makes from these inputs, the same on every Python. `version` is the stage's declared one;
    `data` maps a config field to what it named: the id of a node or the fingerprint of raw files, so that a path can
    change without changing the id."""
    return digest(
        {
            "stage": stage,
            "version": version,
            "config": {key: value for key, value in config.items() if key not in data},
            "parents": parents,
            "data": data,
            "seed": seed,
        }
    )


@cache
def source_version(module: str) -> str:
    """Hash of the code of a module and of every module of ours that it imports, the same on every Python.

    A stage's result depends on all of them (the loop, the layers, the data order), not on its own file alone. It is
    written down, and never part of an id: most edits change no result, and those that do raise the stage's version.
    """
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        beside = f"{name}.".startswith(tuple(f"journey.{each}." for each in _BESIDE))
        if name in seen or beside or (path := _module_path(name)) is None:
            continue
        seen[name], imported = _code(path)
        waiting += imported
    return digest(seen)


def _module_path(name: str) -> Path | None:
    """The file of a module of ours, found without importing it."""
    base = Path(__file__).parent.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _code(path: Path) -> tuple[str, list[str]]:
    text, imported = computing(path.read_text(encoding="utf-8"))
    return hashlib.sha256(text.encode()).hexdigest(), imported


def computing(source: str) -> tuple[str, list[str]]:
    """The lines of a module that a result can depend on, and the modules of ours that they import.

    Without comments, blank lines and docstrings, without imports for type checking, and without what a stage or a
    measure only says of itself: its declaration, what it should cost, how it is told. Text, not a syntax tree: what
    `ast` makes of the same source is another on each Python, but where it begins and ends is not.
    """
    lines: list[str | None] = list(source.split("\n"))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = token.line[:column].rstrip() or None
    beside = _Beside()
    tree = beside.visit(ast.parse(source))
    for row in beside.rows:
        lines[row - 1] = None
    verbatim: set[int] = set()  # rows of text over several lines, of which blank ones are a part
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Constant) and (node.end_lineno or 0) > node.lineno:
            verbatim |= set(range(node.lineno, node.end_lineno or 0))
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    kept = [
        line if row in verbatim else line.rstrip()
        for row, line in enumerate(lines, 1)
        if line is not None and (line.strip() or row in verbatim)
    ]
    return "\n".join(kept), [name for name in imported if name.startswith("journey.")]


class _Beside(ast.NodeTransformer):
    """Takes out of a module what no result depends on, and notes its rows; each part stands on lines of its own."""

    def __init__(self) -> None:
        self.rows: set[int] = set()

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr):
            return node  # nothing to take out: spared for speed
        match node:
            case (
                ast.Expr(value=ast.Constant(value=str()))  # those below the fields of a config too: its manual
                | ast.If(test=ast.Name(id="TYPE_CHECKING"))
                | ast.FunctionDef(name="cost", returns=ast.Name(id="Cost"))
                | ast.FunctionDef(decorator_list=[ast.Attribute(attr="tells" | "chapter"), *_])
            ):
                return self._cut(node)
            case ast.FunctionDef(decorator_list=[ast.Call(func=ast.Name(id="stage" | "measure")) as declared, *others]):
                self._cut(declared)
                node.decorator_list = others
        return self.generic_visit(node)

    def _cut(self, node: ast.stmt | ast.expr) -> None:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        self.rows |= set(range(first, (node.end_lineno or first) + 1))


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
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "memory": memory(), "system": platform.platform()},
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
