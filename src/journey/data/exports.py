"""The public name of what a package defines in private: who re-exports it, by `__init__.py` and `import *`."""

from collections.abc import Iterable, Iterator

from journey.data.documentation import Module, is_private


def public_names(modules: Iterable[Module], packages: set[str]) -> dict[str, str]:
    """From `numpy.linalg._linalg.norm` to `numpy.linalg.norm`: the shortest public path that re-exports a name."""
    known = {module.name: module for module in modules}
    names: dict[str, str] = {}

    def absolute(module: Module, target: str) -> str:
        level = len(target) - len(target.lstrip("."))
        if not level:
            return target
        parts = module.name.split(".")
        drop = level - (module.name in packages)
        return ".".join(parts[: len(parts) - drop] + ([target.lstrip(".")] if target.lstrip(".") else []))

    def offered(name: str, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
        """(name, full name where it is defined) for all that `from NAME import *` brings."""
        module = known.get(name)
        if not module or name in seen:
            return
        for local, origin in table(module, (*seen, name)).items():
            if (module.exported is None and not local.startswith("_")) or (
                module.exported and local in module.exported
            ):
                yield local, origin

    tables: dict[str, dict[str, str]] = {}

    def table(module: Module, seen: tuple[str, ...]) -> dict[str, str]:
        if module.name in tables:
            return tables[module.name]
        found = {local: f"{module.name}.{local}" for local in module.defined}
        for target, name, local in module.imported:
            source = absolute(module, target)
            if name == "*":
                found |= {k: v for k, v in offered(source, seen) if k not in found}
            elif source in known and source not in seen:
                found.setdefault(local, table(known[source], (*seen, source)).get(name, f"{source}.{name}"))
        tables[module.name] = found
        return found

    for module in known.values():
        top = module.name.split(".")[0]
        for local, origin in table(module, (module.name,)).items():
            passes_on = module.name in packages or origin.split(".")[0].startswith("_")
            path = f"{module.name}.{local}"
            same = origin.split(".")[0] == top or origin.startswith("_")
            if not (passes_on and same) or is_private(path):
                continue
            best = names.get(origin, origin)
            if is_private(best) or (path.count("."), path) < (best.count("."), best):
                names[origin] = path
    return names
