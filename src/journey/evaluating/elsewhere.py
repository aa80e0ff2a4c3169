"""Benchmarks of what is no node of ours: a GGUF file in llama.cpp, and a node that a server runs (`NODE@URL`)."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from journey import measuring, runner
from journey.console import Console
from journey.errors import JourneyError
from journey.fields import chosen
from journey.files import check_file, digest, read_json, sha256_file, write_json
from journey.measures import load
from journey.measures.benchmarks import asked_of
from journey.model import huggingface
from journey.scores import Taken


def is_named(name: str) -> bool:
    """Whether a name on the command line means such a model."""
    return name.endswith(".gguf") or "@http://" in name or "@https://" in name


def labels(names: Sequence[str]) -> dict[str, str]:
    """What each is called in a table: of a file its name alone, where no two have the same."""
    short = [Path(name).name if name.endswith(".gguf") else name for name in names]
    return dict(zip(names, names if len(set(short)) < len(short) else short, strict=True))


def ask(
    name: str, tasks: Sequence[str], configs: Mapping[str, Any], workspace: Path, out: Path, console: Console
) -> dict[str, Taken]:
    """What each benchmark found. What was answered is kept in `out` until a benchmark is whole.

    Errors: JourneyError for a benchmark that this engine cannot be asked, and for a node or server that is not there.
    """
    from journey.evaluate.kept import Kept

    if other := next((task for task in tasks if not hasattr(configs[task], "engine")), None):
        raise JourneyError(f"{other} runs on nodes alone, not on {name}")
    if other := next((task for task in tasks if configs[task].engine != "journey" or configs[task].mark), None):
        raise JourneyError(f"{name} is its own engine: leave out --engine and --mark ({other})")
    found = {}
    plan = runner.standing_plan(workspace)
    seed = plan["seed"] if plan else 0  # the nodes' own items
    console.begin(name, "measuring")
    for task in tasks:
        rows = load(task).data
        assert rows is not None  # of every benchmark
        key = digest([_identity(name, workspace), task, chosen(configs[task]), rows(configs[task]), seed])
        place = out / "elsewhere" / f"{key[:16]}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            kept = Kept(place.with_suffix(".jsonl"))
            progress = partial(measuring.progress, console, f"{labels([name])[name]} {task}")
            with _opened(name, workspace, kept, progress) as (lm, engine):
                write_json(place, asked_of(task, lm, engine, configs[task], seed).json())
            kept.forget()
        found[task] = Taken.read(read_json(place))
    return found


def check(name: str, workspace: Path) -> None:
    """JourneyError for a file or a node that is not there."""
    if name.endswith(".gguf"):
        check_file(Path(name))
    else:
        runner.find_node(name.partition("@")[0], workspace)


def _identity(name: str, workspace: Path) -> list[str]:
    """What answers: the file by its content, or the node and the URL. What runs behind a URL nobody can tell."""
    if name.endswith(".gguf"):
        return [sha256_file(Path(name))]
    node, _, url = name.partition("@")
    return [runner.find_node(node, workspace).id, url]


@contextlib.contextmanager
def _opened(name: str, workspace: Path, kept: Any, progress: Any) -> Any:
    """The model as lm-eval calls it, and what it is in words."""
    from journey.checkpoint import open_tokenizer
    from journey.evaluate.benchmark.elsewhere import AtUrl, InLlamaCpp
    from journey.infer.llamacpp import LlamaCpp, version

    if name.endswith(".gguf"):
        with LlamaCpp(Path(name)) as llama:
            yield InLlamaCpp(llama, kept=kept, progress=progress), f"{Path(name).name} in llama.cpp ({version()})"
        return
    node, _, url = name.partition("@")
    folder = runner.find_node(node, workspace).path
    n_ctx = huggingface.load_config(folder, as_quantized=True).n_ctx
    lm = AtUrl(url, node, open_tokenizer(folder), n_ctx, kept=kept, progress=progress)
    yield lm, f"{node} at {lm.endpoint.shown}"
