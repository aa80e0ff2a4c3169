"""What a model's training took: parameters that moved, speed, memory, and what it leaves on the disk."""

import numpy as np

from journey.measure import Bench, NoSettings, measure
from journey.model import adapter
from journey.scores import Items, Score, Taken
from journey.train.log import LOG
from journey.train.tail import Tail

PARTS = 4
# key -> what it is called, its unit, how it is counted, which is better
_SCORES = {
    "trained_parameters": ("parameters trained", "parameters", "those that the optimizer moves", "lower"),
    "tokens_per_second": ("training speed", "tokens/s", "mean of its steps, without evaluating and saving", "higher"),
    "peak_memory": ("peak memory", "MB", "of the whole process, its libraries among it", "lower"),
    "checkpoint": ("checkpoint", "MB", "the weights that the node holds; of an adapter, that alone", "lower"),
}


@measure(
    of="model",
    title="What training took",
    why="What each way of training asks of a machine, and what it leaves behind: an adapter moves few parameters and "
    "is small on the disk; in four bits the model beside it is small in memory, too.",
    keys=tuple(f"training.{key}" for key in _SCORES),
    version=1,
    default=False,
)
def training(bench: Bench, config: NoSettings) -> Taken:
    """From the node's lineage, its log and its files. The items are equal parts of the training, as many of a short one
    as of a long one, so that the two can be compared; but for the speed they are all alike."""
    node = bench.node
    logged = Tail(node.path / LOG).new() if (node.path / LOG).is_file() else []
    speeds = [line["tokens_per_second"] for line in logged if line.get("tokens_per_second")]
    if len(speeds) < PARTS:
        return Taken()
    trained = node.lineage["metrics"].get("trained_parameters", {}).get("value")
    found = {
        "trained_parameters": trained or bench.model.config.n_params,
        "peak_memory": node.lineage["peak_memory"] / 1e6,
        "checkpoint": adapter.n_bytes(node.path) / 1e6,
    }
    parts = np.array_split(np.array(speeds), PARTS)
    rows = [{"id": str(i), "tokens_per_second": float(part.mean()), **found} for i, part in enumerate(parts, 1)]
    scores = [
        Score(
            key=f"training.{key}",
            label=label,
            num=key,
            unit=unit,
            better=better,  # type: ignore[arg-type]
            stated="",
            question=f"{label[:1].upper()}{label[1:]}?",
            item="parts of the training",
            convention=convention,
        )
        for key, (label, unit, convention, better) in _SCORES.items()
    ]
    return Taken({"items": Items.of(rows)}, scores)
