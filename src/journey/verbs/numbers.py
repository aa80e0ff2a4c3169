"""What was measured: at a node, from one node to another, and of this machine."""

from tyro.conf import Positional

from journey import runner
from journey.errors import JourneyError
from journey.verbs.common import Result, Workspace, home


def eval(nodes: Positional[list[str]], /, workspace: Workspace = None) -> Result:
    """Show what was measured at nodes on the test split, each number with its 95 % interval.

    journey eval base chat
    """
    from journey import measure
    from journey.report import summary

    if not nodes:
        raise JourneyError("name at least one node: `journey eval base`")
    place = home(workspace)
    summaries = {name: summary.summary(measure.read(runner.find_node(name, place), place)) for name in nodes}
    for name, metrics in summaries.items():
        print(name)
        for key, m in metrics.items():
            interval = f" [{m['low']:.4g}, {m['high']:.4g}]" if m["low"] is not None else ""
            print(f"  {key:<44} {m['value']:.4g}{interval} {m['unit']}  n={m['n']}")
    only = runner.find_node(nodes[0], place).id if len(nodes) == 1 else None
    metrics = summaries[nodes[0]] if only else {f"{n}.{k}": m for n, s in summaries.items() for k, m in s.items()}
    return Result(only, metrics=metrics)


def diff(a: Positional[str], b: Positional[str], /, workspace: Workspace = None) -> Result:
    """What changed from node A to node B: each effect, paired over the same test items, with its 95 % interval.

    journey diff base chat
    """
    from journey import measure
    from journey.report.effects import compare

    place = home(workspace)
    old, new = (measure.read(runner.find_node(name, place), place) for name in (a, b))
    effects = compare(old, new)
    if not effects:
        raise JourneyError(
            f'nothing was measured at both "{a}" and "{b}": compare two models, as in journey diff base chat'
        )
    for effect in effects:
        print(effect.line())
    return Result(new["node"], metrics={effect.name: effect.metric() for effect in effects})


def doctor() -> Result:
    """Look at machine and installation: versions, cores, memory, GPU, a numerical self-check, what is missing.

    journey doctor
    """
    from journey.doctor import examine

    found = examine(print)
    return Result(metrics=found["metrics"], ok=found["ok"], error=found["error"])
