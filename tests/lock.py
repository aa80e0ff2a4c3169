"""`python -m tests.lock` writes versions.lock: the version that every stage and measure declares, the digest of its
source, and what the golden life gives.

A stage's version is part of the ids, its source is not: whoever changes what a stage computes has to raise its version,
or a user's nodes would pass for what they are not. So a source that has moved under the same version is let into the
lock only where the golden life gives what it gave.
"""

import json
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: one thread adds numbers up in one order
os.environ["HF_HUB_OFFLINE"] = "1"

from journey import measures, stages
from journey.fields import defaults
from journey.files import digest
from journey.lineage import PACKAGES, computing, source_version

LOCK = Path(__file__).parents[1] / "versions.lock"
LOSS, SCORE = 1e-6, 1e-3  # relative: what may differ on another machine, which rounds the last digits differently
NOTHING = 1e-6  # a score, a divergence say, this small may be all rounding
WHOLE = ("text", "tokenizer", "prepare", "translations")  # whole numbers alone: the same on every CPU

Lock = dict[str, dict[str, Any]]


def declared() -> Lock:
    """Version and digest of every stage and measure."""
    tables: tuple[tuple[str, Any, Any], ...] = (
        ("stages", stages.STAGES, stages.load),
        ("measures", measures.MEASURES, measures.load),
    )
    return {
        kind: {
            name: {
                "version": (found := load(name)).version,
                "source": source_version(found.body.__module__)[:16],
                "defaults": json.loads(json.dumps(defaults(found.config))),
            }
            for name in table
        }
        for kind, table, load in tables
    }


def made_with() -> dict[str, str]:
    """Which life it was, and what decides the last digits of its numbers and the bytes of its files."""
    life, _ = computing(Path(__file__).with_name("golden.py").read_text(encoding="utf-8"))
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    flags = [flag for flag in about.get("flags", "").split() if flag.startswith(("avx", "fma", "amx", "sse4"))]
    packages = (*PACKAGES, "pyarrow", "gguf", "xllamacpp")
    return {
        "life": digest(life)[:16],
        "cpu": " ".join([platform.machine(), about.get("vendor_id", ""), *sorted(flags)]),
        "packages": " ".join(f"{name}={metadata.version(name)}" for name in packages),
    }


def current() -> Lock:
    """All that the lock would say now."""
    from . import golden  # what a life imports takes seconds, and most often nothing has moved

    steps, scores = golden.live()
    return declared() | {"made with": made_with(), "golden": steps, "scores": scores}


def moved(lock: Lock, now: Lock) -> list[str]:
    """Each stage and measure that is not what the lock says, in words."""
    found = []
    for kind in ("stages", "measures"):
        for name in lock[kind].keys() | now[kind].keys():
            before, after = lock[kind].get(name), now[kind].get(name)
            if before is None or after is None:
                found.append(f"{kind[:-1]} {name} is {'new' if before is None else 'gone'}")
            elif before["version"] != after["version"]:
                found.append(f"{kind[:-1]} {name} has version {after['version']}, in the lock {before['version']}")
            elif before != after:
                found.append(f"{kind[:-1]} {name} has another source than in the lock, under the same version")
    return sorted(found)


def broken(lock: Lock, now: Lock) -> Iterator[str]:
    """Each stage and measure that gives other results than the lock says, or has another default, under its version.

    Only the first of a chain is told: what is made of another input may differ.
    """
    for kind in ("stages", "measures"):
        for name, was in lock[kind].items():
            if name not in now[kind] or not _declares(lock, now, kind, name):
                continue
            for key, value in was.get("defaults", {}).items():
                if now[kind][name].get("defaults", {}).get(key, value) != value:
                    yield f"{name}: the default of {key} is not {json.dumps(value)} any more"
    here = lock["made with"] == now["made with"]
    other: set[str] = set()  # steps whose outcome is not what it was
    for step, after in now["golden"].items():
        before, made_of = lock["golden"].get(step), other & {*after["of"]}
        if before is None or made_of or not _same(before, after, lock, now):
            other.add(step)
            if before and not made_of and _declares(lock, now, "stages", after["stage"]):
                yield f"{after['stage']}: {step} of the golden life is not what it was"
    for name, after in now["scores"].items():
        (step, measure), before = name.split(), lock["scores"].get(name)
        if (
            before is None
            or other & {step, *now["golden"][step]["of"]}
            or not _declares(lock, now, "measures", measure)
        ):
            continue
        if wrong := [key for key in {**before, **after} if not _near(before.get(key), after.get(key), here)]:
            yield f"{measure}: {', '.join(wrong)} of {step} in the golden life is not what it was"


def _declares(lock: Lock, now: Lock, kind: str, name: str) -> bool:
    """Whether its version is the lock's."""
    return name in lock[kind] and bool(lock[kind][name]["version"] == now[kind][name]["version"])


def _same(before: dict[str, Any], after: dict[str, Any], lock: Lock, now: Lock) -> bool:
    """Whether a step's outcome is what it was: bit by bit where both were made alike, else by its losses."""
    with_, of = now["made with"], lock["made with"]
    if with_ == of or (with_["packages"] == of["packages"] and after["stage"] in WHOLE):
        return before == after
    ours, theirs = after.get("losses", []), before.get("losses", [])
    alike = all(abs(a - b) <= LOSS * abs(b) for a, b in zip(ours, theirs, strict=False))
    return len(ours) == len(theirs) and alike


def _near(before: float | str | None, after: float | str | None, here: bool) -> bool:
    """Whether a score is what it was: exactly where both were made alike, else nearly."""
    if here or before is None or after is None:
        return before == after
    if isinstance(before, str) or isinstance(after, str):
        return True  # a hash says nothing elsewhere
    return abs(before - after) <= max(NOTHING, SCORE * abs(before))


def write(lock: Lock) -> None:
    """A line for each thing, so that a diff shows what has changed."""
    sections = [
        f"{json.dumps(name)}: {{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in rows.items()) + "\n}"
        for name, rows in lock.items()
    ]
    LOCK.write_text("{\n" + ",\n".join(sections) + "\n}\n", encoding="utf-8")


def read() -> Lock:
    """The lock as it stands."""
    lock: Lock = json.loads(LOCK.read_text(encoding="utf-8"))
    return lock


def refused(lock: Lock, now: Lock) -> list[str]:
    """Why the lock must stay as it is, if so."""
    kept = [line for line in moved(lock, now) if "under the same version" in line]
    if lock["made with"]["life"] != now["made with"]["life"]:
        why = "the golden life itself has changed and proves nothing: change it alone, or raise the versions"
        return [*kept, why] if kept else []
    wrong = [*broken(lock, now)]
    return [*wrong, "raise the version under its @stage or @measure, or put the code back"] if wrong else []


def main() -> int:
    """Write the lock, unless something gives other results under the same version."""
    now = current()
    if LOCK.exists():
        lock = read()
        if why := refused(lock, now):
            print(*why, sep="\n", file=sys.stderr)
            return 1
        if lock["made with"] != now["made with"]:
            print("the lock was made with other things: losses and scores agree, hashes say nothing", file=sys.stderr)
        print(*(moved(lock, now) or ["nothing has moved"]), sep="\n", file=sys.stderr)
    write(now)
    return 0


if __name__ == "__main__":
    sys.exit(main())
