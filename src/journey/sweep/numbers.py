"""What a sweep asks of a model: scores of its measures, on dev, where the best is chosen, and on test."""

import dataclasses
from pathlib import Path

from journey import measuring, runner
from journey.checkpoint import Node, open_node
from journey.console import Console
from journey.errors import JourneyError
from journey.measures import load
from journey.measuring import Measuring
from journey.recipe import Recipe
from journey.scores import Score, Taken
from journey.stages import a

SPLITS = ("dev", "test")
COSTS = "costs"  # the measure of what a model is and costs


@dataclasses.dataclass(frozen=True)
class Asked:
    """What to measure: scores by their keys, on texts, as a recipe measures."""

    metrics: tuple[str, ...]
    texts: dict[str, Path]
    measuring: Measuring
    seed: int
    workspace: Path

    @classmethod
    def of(cls, recipe: Recipe, metrics: tuple[str, ...], texts: dict[str, Path], workspace: Path) -> "Asked":
        """As a recipe measures, without n-gram models, which no sweep asks for. `bits_per_byte` is that of every text.

        Errors: JourneyError for a score that no measure of a model has.
        """
        every = [f"bits_per_byte.{text}" for text in texts]
        full = tuple(
            dict.fromkeys(key for named in metrics for key in (every if named == "bits_per_byte" else [named]))
        )
        names: list[str] = []
        for key in full:
            try:
                found = measuring.measures_of(key, texts)
            except JourneyError as error:
                raise JourneyError(f"sweep: {error}") from None
            of_models = [name for name in found if load(name).of == "model"]
            if not of_models:
                raise JourneyError(f"sweep: {key} is measured of {a(load(found[0]).of)}, a sweep compares models")
            names += of_models
        chosen = recipe.measuring.only(dict.fromkeys([*names, COSTS]))
        if bits := chosen.configs.get("bits_per_byte"):
            without = {"bits_per_byte": dataclasses.replace(bits, ngrams=False)}
            chosen = dataclasses.replace(chosen, configs={**chosen.configs, **without})
        return cls(full, texts, chosen, recipe.seed, workspace)


@dataclasses.dataclass(frozen=True)
class Found:
    """What was measured at one training: of each score and split what its items sum up to, (num, den), and what the
    model is and costs."""

    scores: dict[str, Score]
    sums: dict[str, dict[str, tuple[list[float], list[float]]]]  # key -> split
    facts: dict[str, float]


def stands(node: Node, asked: Asked) -> bool:
    """Whether all that is asked was measured."""
    return all(measuring.is_taken(*_of(node, asked), seed=asked.seed, split=split) for split in SPLITS)


def measure(node: Node, asked: Asked, console: Console) -> Found:
    """Measure a model, unless that is done. Errors: JourneyError where a score cannot be had of this model."""
    taken = {
        split: measuring.take(*_of(node, asked), seed=asked.seed, console=console, split=split).taken
        for split in SPLITS
    }
    costs = taken["dev"][COSTS].facts
    found = Found({}, {}, {key: float(value) for key, value in costs.items() if isinstance(value, int | float)})
    for key in asked.metrics:
        for split in SPLITS:
            score, of = _score(key, taken[split], split)
            found.scores[key] = score
            items = of.of(score)
            num = (score.times * items.numbers(score.num)).tolist()
            den = [1.0] * len(num) if score.den is None else items.numbers(score.den).tolist()
            found.sums.setdefault(key, {})[split] = (num, den)
    return found


def _score(key: str, taken: dict[str, Taken], split: str) -> tuple[Score, Taken]:
    for each in taken.values():
        for score in each.scores:
            if score.key == key and score.better and len(each.of(score)) > 1:
                return score, each
    raise JourneyError(
        f"{key} cannot be measured on {split}, or is neither better nor worse: sweep another score, or give texts that "
        "hold what it needs (answer_loss needs questions, which only documentation has)"
    )


def _of(node: Node, asked: Asked) -> tuple[Node, Node | None, dict[str, Node], Path, Measuring]:
    texts = {name: open_node(path) for name, path in asked.texts.items()}
    return node, runner.model_before(node), texts, asked.workspace, asked.measuring
