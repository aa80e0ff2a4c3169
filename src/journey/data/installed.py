"""Text that is on this machine: the documentation of what is installed, and the code of the standard library."""

import os
import sysconfig
from collections.abc import Iterator, Set
from importlib.util import find_spec
from pathlib import Path

from journey import machine
from journey.data.code import without_docstrings, without_licence
from journey.data.documentation import collect, is_private
from journey.data.exports import public_names
from journey.data.source import Document, Files, Progress, Source

# Fixed, and only what the package itself depends on: installing anything else must not change a corpus.
PACKAGES = ("numpy", "torch", "transformers", "huggingface_hub", "datasets", "accelerate", "trl")
# Tests; other people's code inside torch; torch's compiler, all private and a quarter of the parsing time.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "__pycache__", "_internal", "_vendor", "_inductor", "_dynamo"}
# Debian ships most of these apart from the standard library (python3-venv brings ensurepip): without them the corpus
# is the same wherever the Python is. encodings and pydoc_data are tables.
SKIPPED_STDLIB = {
    *("site-packages", "dist-packages", "ensurepip", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3"),
    *("distutils", "encodings", "pydoc_data", "__phello__", "sitecustomize.py", "usercustomize.py"),
}


def python_files(folder: Path, skipped: Set[str] = frozenset()) -> Iterator[tuple[str, Path]]:
    for root, folders, names in os.walk(folder):
        here = Path(root)
        ignore = SKIPPED_FOLDERS | (skipped if here == folder else set())
        folders[:] = [name for name in folders if name not in ignore]
        for name in names:
            # transformers keeps a modular_*.py beside the modeling_*.py that is generated from it
            if name.endswith(".py") and name not in ignore and not name.startswith(("modular_", "_sysconfigdata")):
                yield (here / name).relative_to(folder).as_posix(), here / name


def standard_library() -> list[tuple[str, Path]]:
    return list(python_files(Path(sysconfig.get_path("stdlib")), SKIPPED_STDLIB))


def documented() -> list[tuple[str, Path]]:
    """The standard library's files and those of PACKAGES."""
    found = standard_library()
    for package in PACKAGES:
        spec = find_spec(package)
        if spec and spec.origin:
            found += [(f"{package}/{name}", path) for name, path in python_files(Path(spec.origin).parent)]
    return found


def documentation(found: Files, progress: Progress) -> Iterator[Document]:
    """One document a docstring: a line with its qualified name and signature, a blank line, the cleaned text."""
    modules, packages = [], set()
    for name, path in found:
        parts = name.removesuffix(".py").split("/")
        if parts[-1] == "__init__":
            parts.pop()
            packages.add(".".join(parts))
        if parts[-1] != "__main__":
            modules.append((".".join(parts), str(path)))
    parsed = collect(modules, machine.cores(), lambda done, total: progress(done, total, unit="files"))
    names = public_names(parsed, packages)
    seen = set()
    for module in parsed:
        for entry in module.entries:
            first, _, rest = entry.name.partition(".")
            full = f"{entry.module}.{first}" if first else entry.module
            name = names.get(full, full) + ("." + rest if rest else "")
            if name not in seen and not is_private(name):
                seen.add(name)
                text = f"{name}{entry.signature}\n\n{entry.doc}\n"
                yield Document(name, text, entry.doc, name, entry.kind, tuple(entry.parameters))


def code(found: Files, progress: Progress) -> Iterator[Document]:
    """One document a file of the standard library, without docstrings, under a comment with its path."""
    for number, (name, path) in enumerate(found, 1):
        try:
            source = without_licence(without_docstrings(path.read_text("utf-8")))
        except (SyntaxError, UnicodeDecodeError):  # a few files of the library are broken on purpose, or Latin-1
            continue
        if len(source) > 200:
            yield Document(name, f"# Lib: {name}\n{source}", source)
        progress(number, len(found), unit="files")


DOCUMENTATION = Source("docs", documented, documentation)
CODE = Source("code", standard_library, code)
