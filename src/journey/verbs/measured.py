"""What was measured: at a node, from one node to another, and of this machine."""

import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction

from journey import runner
from journey.console import Console, make_console
from journey.errors import JourneyError
from journey.evaluating.options import Options
from journey.measures import BENCHMARKS, MEASURES
from journey.verbs.common import Result, Workspace, home

_NAMES = ", ".join(name for name in MEASURES if name not in BENCHMARKS)


def eval(
    nodes: Annotated[
        Positional[list[str]],
        tyro.conf.arg(
            metavar="NODE",
            help="stages' names, beginnings of ids, or folders; with --tasks .gguf files and NODE@URL; or: init FILE",
        ),
    ],
    /,
    measure: Annotated[
        UseAppendAction[list[str]],
        tyro.conf.arg(metavar="NAME", help=f"take {_NAMES} or a benchmark (default: what a journey takes)"),
    ] = [],  # noqa: B006  (tyro reads the default, nobody changes it)
    text: Annotated[
        UseAppendAction[list[str]],
        tyro.conf.arg(
            metavar="TEXT",
            help="on this text: files (all of them, unless it was trained on them), a text node, or a built-in source",
        ),
    ] = [],  # noqa: B006
    asking: OmitArgPrefixes[Options] = Options(),  # noqa: B008
    workspace: Workspace = None,
    out: Annotated[
        Path,
        tyro.conf.arg(metavar="DIR", help="where pages, items and answers go, and measurements that are no journey's"),
    ] = Path("measured"),
) -> Result:
    """Show what was measured at nodes on the test split, each number with its 95 % interval, and measure what was not.

    Of a node of a journey on the journey's texts; of any node or Hugging Face folder on the texts that are named, and
    on the benchmarks of papers, side by side with which differences are real.

    journey eval base chat
    journey eval base chat --tasks hellaswag,arc_easy,lambada_openai --items 500
    journey eval base chat --tasks hellaswag --power 2
    journey eval init my-suite.yaml
    journey eval base chat --suite my-suite.yaml
    journey eval chat preferred --questions mt-bench.jsonl --judge http://localhost:8080/v1
    journey eval base coder --text file.txt --measure perplexity
    journey eval path/to/gpt2 --measure bits_per_byte --measure repeats --text installed-docs
    """
    from journey.evaluating.nodes import evaluate
    from journey.scores import estimates

    if not nodes:
        raise JourneyError("name at least one node: `journey eval base`")
    console = make_console()
    if nodes[0] == "init":
        return _init(nodes[1:])
    if way := asking.way():
        if measure or text:
            raise JourneyError(f"--{way} stands alone: leave out --measure and --text")
        ask = {"tasks": _benchmarks, "suite": _suite, "questions": _questions}[way]
        return ask(nodes, asking, home(workspace, must=False), out, console)
    with console.listening():
        place = home(workspace, must=False)
        found = {name: evaluate(name, measure, text, place, out, console) for name in nodes}
    summaries = {
        name: {key: e.metric() for each in taken.values() for key, e in estimates(each).items()}
        for name, (_, taken) in found.items()
    }
    for name, metrics in summaries.items():
        print(name)
        for key, m in metrics.items():
            print(f"  {key:<44} {m['value']:.4g} [{m['low']:.4g}, {m['high']:.4g}] {m['unit']}  n={m['n']}")
        if not metrics:
            print(f"  no number with an interval: {', '.join(found[name][1]) or 'nothing applies'}", file=sys.stderr)
    shown = _page(found, out) if text else None
    only = found[nodes[0]][0].id if len(nodes) == 1 else None
    metrics = summaries[nodes[0]] if only else {f"{n}.{k}": m for n, s in summaries.items() for k, m in s.items()}
    return Result(only, shown, metrics=metrics)


def _page(found: dict[str, Any], out: Path) -> Path:
    """The chapters of what was measured."""
    from journey.evaluating.chapters import page
    from journey.files import write_text

    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "eval.html", page(found))
    print(f"page: {out / 'eval.html'}", file=sys.stderr)
    return out / "eval.html"


def _benchmarks(nodes: list[str], options: Options, place: Path, out: Path, console: Console) -> Result:
    """`--tasks`: a table, a page and every item in a file; with `--power` only how many items are needed."""
    from journey.evaluating import benchmarks, lines

    if options.power is not None:
        found = benchmarks.standing(nodes, options, place, out)
        counts = dict(benchmarks.needed(options.power, found, options.baseline_of(nodes)))
        print(f"items to see a difference of {options.power:g} points 80 times in 100:")
        for said, n in counts.items():
            print(f"  {'none are enough' if n is None else f'{n:,}':>15}  {said}")
        return Result(more={"items": counts})
    with console.listening():
        board, found = benchmarks.run(nodes, options, place, out, console)
    print("\n".join(lines.lines(board, found)).lstrip("\n"))
    page = out / "evaluation.html"
    print(f"page: {page}, every item: {out / 'evaluation.json'}", file=sys.stderr)
    return Result(path=page, metrics=lines.metrics(board))


def _init(names: list[str]) -> Result:
    """`journey eval init [FILE]`: the annotated example of a suite."""
    from journey.evaluate.suite.example import example
    from journey.files import write_text

    path = Path(names[0] if names else "suite.yaml")
    if len(names) > 1:
        raise JourneyError("journey eval init writes one file: name one, as in suite.yaml")
    if path.exists():
        raise JourneyError(f"{path} is there already: name another file")
    if not path.absolute().parent.is_dir():
        raise JourneyError(f"cannot write {path}: there is no folder {path.parent}")
    write_text(path, example())
    print(f"{path}: edit it, then `journey eval NODE --suite {path}`", file=sys.stderr)
    return Result(path=path)


def _suite(nodes: list[str], options: Options, place: Path, out: Path, console: Console) -> Result:
    """`--suite`: HELM's views of each node, what flipped, what failed, and a page."""
    from journey.evaluating import suite, suite_lines

    with console.listening():
        made = suite.run(nodes, options, place, out, console)
    print("\n".join(suite_lines.lines(made)).lstrip("\n"))
    print(f"page: {out / 'suite.html'}, every answer: {out / 'suite.json'}", file=sys.stderr)
    return Result(path=out / "suite.html", metrics=suite_lines.metrics(made), more={"screens": made.screens})


def _questions(nodes: list[str], options: Options, place: Path, out: Path, console: Console) -> Result:
    """`--questions`: answers of each node, graded and compared by a judge."""
    from journey.evaluating import questions

    with console.listening():
        made = questions.run(nodes, options, place, out, console)
    print("\n".join(questions.lines(made)).lstrip("\n"))
    print(f"every answer: {out / 'questions.json'}", file=sys.stderr)
    return Result(path=out / "questions.json", metrics=questions.metrics(made), more={"failed": made.failed or None})


def diff(a: Positional[str], b: Positional[str], /, workspace: Workspace = None) -> Result:
    """What changed from node A to node B: each effect, paired over the same test items, with its 95 % interval.

    journey diff base chat
    """
    from journey import measuring

    place = home(workspace)
    old, new = (runner.find_node(name, place) for name in (a, b))
    for name, node in ((a, old), (b, new)):
        if not measuring.read(node, place):
            raise JourneyError(f'"{name}" has not been measured: `journey run` measures every model')
    effects = measuring.between(old, new, place)
    if not effects:
        raise JourneyError(
            f'nothing was measured at both "{a}" and "{b}": compare two models, as in journey diff base chat'
        )
    for e in effects:
        size = f"{e.size.value:+.3f} [{e.size.low:+.3f}, {e.size.high:+.3f}] {e.size.unit}"
        print(f"{e.key:<36} {size:<44} {e.verdict:<30} {e.compare} (n = {e.size.n:,})")
    return Result(new.id, metrics={e.key: e.metric() for e in effects})


def doctor() -> Result:
    """Look at machine and installation: versions, cores, memory, GPU, a numerical self-check, what is missing.

    journey doctor
    """
    from journey.doctor import examine

    found = examine(print)
    return Result(metrics=found["metrics"], ok=found["ok"], error=found["error"])
