"""A training that goes on from a node: with its optimizer's state where the node has kept it, else with a fresh one."""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.fields import defaults, differing
from journey.files import read_json
from journey.pair import open_pair
from journey.stages.inputs import part
from journey.stages.run import Run
from journey.stages.training import STATE, Training
from journey.train.history import HISTORY

if TYPE_CHECKING:
    from journey.model.gpt import GPT
    from journey.stages.pretrain import Pretrain
    from journey.tokenizer.formats import Tokenizer

_SHAPE = (
    "family",
    "n_layer",
    "n_embd",
    "n_head",
    "n_kv_head",
    "n_inner",
    "n_ctx",
    "rope_theta",
    "vocab_multiple",
    "size",
    "depth",
)
# These do not change what the steps before were.
_FREE = (
    "data",  # compared by what it names
    "tokens",
    "epochs",
    "flops",
    "evaluations",
    "evaluate_every",
    "dev_documents",
    "dev_rows",
    "target",
    "measures",
    "keep",
    "keep_state",
    "resume_from",
)


def resumed(node: Node, tokenizer: "Tokenizer", config: "Pretrain", run: Run) -> "tuple[GPT, Path | None]":
    """The model of a node whose training goes on and, where the node has kept it, the folder of its state.

    Errors: JourneyError for another tokenizer, for a shape that is said again and differs, and for other settings,
    another text or another seed than its own, unless they are meant (`run.fork`).
    """
    model, own = open_pair(node.path)
    if own.hash != tokenizer.hash:
        raise JourneyError(f"{node.path} has another vocabulary than the parent: give its own tokenizer as the parent")
    usual, was = defaults(config), node.lineage.get("config", {})
    for name in _SHAPE:
        if getattr(config, name) not in (usual[name], was.get(name)):
            raise JourneyError(f"the shape is that of {node.name}, whose training goes on: leave {name} out")
    state = node.path / STATE
    if not state.is_dir():
        run.say(f"{run.name}: {node.name} holds no training state: its weights go on with a fresh optimizer")
        return model, None
    if other := _other(node, config, run):
        if not run.fork:
            raise JourneyError(f"{node.name} was trained with {other}: give its own settings, or --fork to change them")
        run.say(f"{run.name}: {node.name} was trained with {other}: it goes on with that changed")
    return model, state


def _other(node: Node, config: "Pretrain", run: Run) -> str:
    """What of this run is not as the node was trained, in words."""
    was_data = node.lineage["config"]["data"]
    was, now = (
        {k: v for k, v in c.items() if k not in (*_SHAPE, *_FREE)}
        for c in (node.lineage["config"], dataclasses.asdict(config))
    )
    told = [differing(was, now, type(config))]
    if node.lineage["seed"] != run.seed:
        told.append(f"seed {node.lineage['seed']}, now {run.seed}")
    before = _read(was_data, {f: (e["id"], e["name"]) for f, e in node.lineage["data"].items() if "id" in e})
    after = _read(config.data, {field: (made.id, made.name) for field, made in run.given.items()})
    if [(share, id) for share, id, _ in before] != [(share, id) for share, id, _ in after]:
        told.append(f"the text {_named(before)}, now {_named(after)}")
    return ", ".join(filter(None, told))


def _read(data: str, nodes: Mapping[str, tuple[str, str]]) -> list[tuple[Fraction, str, str]]:
    """Share, id and name of each text that a setting names, a mixture or one."""
    from journey.data.mixture import is_mixture, parse

    if "data" in nodes or not is_mixture(data):
        return [(Fraction(1), *nodes["data"])]
    return [(share, *nodes[part("data", text)]) for text, share in parse(data).items()]


def _named(texts: list[tuple[Fraction, str, str]]) -> str:
    return ", ".join(f"{name} {float(share):.3g}" if len(texts) > 1 else name for share, _, name in texts)


def say_rates(state: Path, config: Training, T: int, run: Run) -> None:
    """Where a longer run would have had other learning rates from its start on, what goes on is not that run."""
    from journey.train.schedule import share_of_peak

    done, steps = len(read_json(state / HISTORY)), config.tokens // (config.batch_size * T)
    rule = (config.schedule, config.warmup, config.decay, config.floor)
    if any(share_of_peak(step, done, *rule) != share_of_peak(step, steps, *rule) for step in range(done)):
        run.say(
            f"{run.name}: a run of {steps:,} steps would have had other learning rates in its first {done:,}: exact is "
            "what goes on at a level rate (schedule constant, the warm-up in steps)"
        )
