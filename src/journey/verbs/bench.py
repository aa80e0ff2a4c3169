"""How fast models are on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from journey.benching.work import Work
from journey.console import make_console
from journey.errors import JourneyError
from journey.verbs.common import Result, Workspace, find_gpt, home


def bench(
    nodes: Annotated[
        Positional[list[str]],
        tyro.conf.arg(metavar="NODE", help="models, or random weights of a size: random-gpt2-124m, random-pocket-1m"),
    ],
    /,
    subjects: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            name="with",
            metavar="RUNTIME:PRECISION",
            help="ours (fp32, fp16, int8, int4), llama.cpp (f32, f16, q8_0, …), transformers and vllm (fp32, fp16, "
            "bf16); a runtime alone is all that is usual of it (default: all that are installed)",
        ),
    ] = (),
    work: OmitArgPrefixes[Work] = Work(),  # noqa: B008
    workspace: Workspace = None,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="where bench.json and bench.html go")] = Path("bench"),
) -> Result:
    """Measure how fast, how large and how good a model is in each runtime and precision, on this machine's CPU.

    Each in a process of its own, in turn, with the same weights, prompts and threads: tokens a second of reading a
    prompt and of writing 1, 8 and 32 texts at once, time to the first token and between tokens, memory, bytes, bits
    per byte of the journey's held-out text, and how much of the speed of memory is used.

    journey bench preferred
    journey bench random-gpt2-124m
    journey bench base preferred --with ours:fp32 ours:int8 llama.cpp:q8_0 transformers --batch 1 8 --rounds 10
    """
    from journey.benching import JSON, PAGE, run, yardstick
    from journey.benching.lines import lines
    from journey.benching.numbers import figures
    from journey.benching.subject import parse
    from journey.lineage import surroundings

    if not nodes:
        raise JourneyError("name at least one model: `journey bench base`, or random-gpt2-124m")
    if twice := next((name for name in nodes if nodes.count(name) > 1), None):
        raise JourneyError(f"{twice} is named twice")
    wanted = parse(subjects)
    named = {name: None if yardstick.is_one(name) else find_gpt(name, workspace) for name in nodes}
    console = make_console()
    with console.listening():
        every = run(named, wanted, work, home(workspace, must=False), out, console)
    machine = surroundings()["machine"]["cpu"]
    print("\n".join(line for found in every for line in lines(found, machine)).lstrip("\n"))
    print(f"page: {out / PAGE}, every time that was taken: {out / JSON}", file=sys.stderr)
    metrics = {
        f"{found.model.name}.{record.subject.name}.{key}": number.metric()
        for found in every
        for record in found.records
        for key, number in figures(found, record).items()
    }
    left_out = {found.model.name: found.left_out for found in every}
    only = named[nodes[0]] if len(nodes) == 1 else None
    return Result(only.id if only else None, out / PAGE, metrics=metrics, more={"left_out": left_out})
