"""The public name of what a package defines in private: who re-exports it, by `__init__.py` and `import *`."""

from collections.abc import Iterable

from journey.data.documentation import Module, is_private


def public_names(modules: Iterable[Module], packages: set[str]) -> dict[str, str]:
    """From `numpy.linalg._linalg.norm` to `numpy.linalg.norm`: the shortest public path that re-exports a name.

    `packages` are the modules that are an `__init__.py`.
    """
    known = {module.name: module for module in modules}
    tables: dict[str, dict[str, str]] = {}  # module -> name there -> where it is defined

    def table(module: Module, waiting: tuple[str, ...] = ()) -> dict[str, str]:
        """`waiting` are the modules whose tables need this one: imports go round in circles."""
        if module.name not in tables:
            found = {name: f"{module.name}.{name}" for name in module.defined}
            for target, name, here in module.imported:
                source = known.get(absolute(module.name, target, module.name in packages))
                if source is None or source.name in (*waiting, module.name):
                    continue
                theirs = table(source, (*waiting, module.name))
                if name == "*":
                    found = {k: v for k, v in theirs.items() if is_offered(k, source)} | found
                else:
                    found.setdefault(here, theirs.get(name, f"{source.name}.{name}"))
            tables[module.name] = found
        return tables[module.name]

    names: dict[str, str] = {}
    for module in known.values():
        for name, origin in table(module).items():
            # A package speaks for what lies below it; any module for a private one, as decimal does for _pydecimal.
            package, top = module.name.split(".")[0], origin.split(".")[0]
            speaks = (module.name in packages and top == package) or top.startswith("_")
            path = f"{module.name}.{name}"
            best = names.get(origin, origin)
            if speaks and not is_private(path) and (is_private(best) or rank(path) < rank(best)):
                names[origin] = path
    return names


def absolute(module: str, target: str, is_package: bool) -> str:
    """The full name of `target` (".sub", "..other", "numpy.lib") where `module` imports from it."""
    level = len(target) - len(target.lstrip("."))
    if not level:
        return target
    parts = module.split(".")
    below = [target.lstrip(".")] if target.lstrip(".") else []
    return ".".join(parts[: len(parts) - level + is_package] + below)


def is_offered(name: str, module: Module) -> bool:
    """True for a name that `from module import *` brings."""
    return name in module.exported if module.exported is not None else not name.startswith("_")


def rank(path: str) -> tuple[int, str]:
    return path.count("."), path
