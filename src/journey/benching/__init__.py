"""`journey bench`: how fast, how large and how good a model is in each runtime and precision, on this machine."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from journey.console import Console
from journey.files import write_json, write_text

if TYPE_CHECKING:
    from journey.benching.rounds import Found
    from journey.benching.subject import Subject
    from journey.benching.work import Work
    from journey.checkpoint import Node

JSON, PAGE = "bench.json", "bench.html"


def run(
    nodes: Mapping[str, "Node | None"],
    subjects: Sequence["Subject"],
    work: "Work",
    journey: Path,
    out: Path,
    console: Console,
) -> list["Found"]:
    """Measure each node, one after the other, and write numbers and page into `out`; no node: a yardstick of this name.

    What cannot be measured is left out, and said. Errors: JourneyError for a node of which nothing can be.
    """
    from journey.benching import numbers, page, prepare, rounds
    from journey.lineage import surroundings

    out.mkdir(parents=True, exist_ok=True)
    every = []
    for name, node in nodes.items():
        with tempfile.TemporaryDirectory(prefix="journey-bench-") as folder:
            model, left_out = prepare.prepare(name, node, subjects, work.documents, journey, Path(folder), console)
            found = rounds.measure(model, subjects, work, console, left_out)
        console.end(name, f"{len(found.records)} subjects, {len(found.reading)} rounds")
        every.append(found)
        if console.stopping:
            break
    around = surroundings()
    write_json(out / JSON, {"models": [numbers.as_json(found) for found in every], **around})
    write_text(out / PAGE, page.page(every, around["machine"]["cpu"]))
    return every
