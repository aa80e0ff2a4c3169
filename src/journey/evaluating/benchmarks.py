"""`journey eval --tasks`: nodes on benchmarks, compared."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from journey import measuring, runner
from journey.checkpoint import open_tokenizer
from journey.console import Console
from journey.errors import JourneyError
from journey.evaluate import significance
from journey.evaluating import elsewhere
from journey.evaluating.board import Board, Found, board, quoted, visible
from journey.evaluating.nodes import evaluate
from journey.evaluating.options import SETTINGS, Options
from journey.fields import defaults
from journey.files import read_json, write_json, write_text
from journey.measures import load
from journey.report.format import number
from journey.scores import Taken
from journey.stages import a, kind_of

CHANCE = 0.25  # of a right answer, where nothing is known yet: four options


def run(nodes: Sequence[str], options: Options, workspace: Path, out: Path, console: Console) -> tuple[Board, Found]:
    """Ask every node, and compare. Writes `evaluation.html` and `evaluation.json` into `out`.

    Errors: JourneyError for a baseline that is not among the nodes, and those of `evaluate`.
    """
    from journey.evaluating.lines import every_item
    from journey.evaluating.page import page

    tasks = options.measures()
    baseline = options.baseline_of(nodes)
    for name in nodes:
        _check(name, tasks, options, workspace)
    configs = {task: _config(task, options) for task in tasks}
    for line in promise(options, len(tasks) * (len(nodes) - 1)):
        console.say(line)
    names = elsewhere.labels(nodes)
    found = {label: _ask(name, configs, workspace, out, console) for name, label in names.items()}
    made = board(found, tasks, names[baseline])
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "evaluation.html", page(made, found))
    write_json(out / "evaluation.json", every_item(made, found))
    return made, found


def _ask(name: str, configs: Mapping[str, Any], workspace: Path, out: Path, console: Console) -> dict[str, Taken]:
    """What each benchmark found: those that the journey's recipe has with these settings, then the others."""
    if elsewhere.is_named(name):
        return elsewhere.ask(name, list(configs), configs, workspace, out, console)
    plan = runner.standing_plan(workspace)
    planned = measuring.Measuring.read(plan["measure"]).configs if plan else {}
    groups = [{t: c for t, c in configs.items() if (planned.get(t) == c) is own} for own in (True, False)]
    return {
        task: taken
        for group in groups
        if group
        for task, taken in evaluate(name, list(group), [], workspace, out, console, group)[1].items()
    }


def _check(name: str, tasks: Sequence[str], options: Options, workspace: Path) -> None:
    """What can be told of a model before hours of work: that it is there, can be asked, and knows the chat format."""
    if elsewhere.is_named(name):
        elsewhere.check(name, workspace)
        return
    node = runner.find_node(name, workspace)
    for task in tasks:
        if load(task).of != kind_of(node):
            raise JourneyError(f"{task} is taken of {a(load(task).of)}, {name} is {a(kind_of(node))}")
    if options.chat:
        from journey.evaluate.benchmark.lm import check_chat

        check_chat(open_tokenizer(node.path), name)


def _config(task: str, options: Options) -> Any:
    """The settings of a benchmark. Errors: JourneyError for an option that it does not have."""
    kind = load(task).config
    known, usual = defaults(kind), defaults(Options)
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) != usual[name]}
    if unknown := next((name for name in given if name not in known), None):
        raise JourneyError(f"{task} has no --{unknown}: ask it apart from the others")
    return kind(**given)


def promise(options: Options, comparisons: int) -> Iterator[str]:
    """What so many items can show, said before they are asked."""
    if not options.items or not comparisons:
        return
    alike, apart = visible(options.items, CHANCE, comparisons)
    of = f" ({comparisons} comparisons under Holm's rule)" if comparisons > 1 else ""
    yield (
        f"with {options.items:,} items {_seen(apart[1])} between nodes that answer independently, {_seen(alike[1])} "
        f"where they differ on {100 * alike[0]:.0f} % of items{of}"
    )


def _seen(share: float | None) -> str:
    if share is None:
        return "no difference can be seen"
    return f"a difference of {number(100 * share, decimals=1)} points can be seen (80 times in 100)"


def standing(nodes: Sequence[str], options: Options, workspace: Path, out: Path) -> Found:
    """What stands already of these nodes on these tasks, by whatever settings; nothing is asked."""
    found: dict[str, dict[str, Taken]] = {}
    for name in nodes:
        node = runner.find_node(name, workspace)
        for task in options.measures():
            folders = [workspace, *sorted(path.parents[1] for path in out.glob("*/measurements/*") if path.is_dir())]
            for path in (measuring.place(node, folder, task) for folder in folders):
                if path.exists():
                    found.setdefault(name, {})[task] = Taken.read(read_json(path))
    return found


def needed(points: float, found: Found, baseline: str) -> Iterator[tuple[str, int | None]]:
    """How many items it takes to see a difference of so many points, 80 times in 100: by what is assumed before
    anything is measured, and by the share of items on which nodes that were measured differed."""
    apart = significance.expected_discordant(CHANCE)
    for said, share in (("nodes that answer independently (of four options)", apart), ("that differ on 10 %", 0.1)):
        yield said, _needed(points, share)
    before = found.get(baseline, {})
    for node, of in found.items():
        for task, taken in of.items():
            if node != baseline and task in before:
                ours, theirs = taken.of(quoted(taken)).paired(before[task].of(quoted(taken)))
                num = quoted(taken).num
                differ = float((ours.numbers(num) != theirs.numbers(num)).mean()) if len(ours) else 0.0
                yield f"{task}, {node} and {baseline}: they differed on {100 * differ:.1f} %", _needed(points, differ)


def _needed(points: float, share: float) -> int | None:
    return significance.items_needed(points / 100, share) if points / 100 <= share else None
