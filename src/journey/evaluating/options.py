"""What `journey eval --tasks` may be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from journey.errors import JourneyError, nearest
from journey.fields import Amount, Positive
from journey.measures import BENCHMARKS


@dataclass(frozen=True, kw_only=True)
class Options:
    """Benchmarks, and how they are asked."""

    tasks: str = ""
    """Benchmarks of papers, as in hellaswag,arc_easy,mmlu; also any task of the installed lm-eval by its name."""
    items: Amount = 0
    """How many items of each, drawn at random (default: all)."""
    shots: Amount | None = None
    """Worked examples before each item (default: as the task has it)."""
    chat: bool = False
    """Ask through the chat format."""
    mark: bool = False
    """The document mark before every prompt, as add_bos_token=True in lm-eval."""
    engine: Literal["journey", "lm-eval"] = "journey"
    """Who computes: ours, or transformers through lm-eval (slower, the same numbers)."""
    data: Path | None = None
    """A folder with the benchmarks' files (default: JOURNEY_DATA/bench, else the Hub)."""
    baseline: str | None = None
    """The node that the others are compared with (default: the first)."""
    power: Positive | None = None
    """Only say how many items it takes to see a difference of so many points."""

    def names(self) -> list[str]:
        """The measures of the tasks. Errors: JourneyError for a name twice, and for one that lm-eval does not have."""
        names = [name.strip() for name in self.tasks.split(",") if name.strip()]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise JourneyError(f"--tasks names {twice} twice")
        return [name if name in BENCHMARKS else _of_lm_eval(name) for name in names]


def _of_lm_eval(name: str) -> str:
    from journey.evaluate.benchmark.asking import known_tasks

    if nearest(name, BENCHMARKS) or name not in (every := known_tasks()):
        hint = nearest(name, BENCHMARKS) or nearest(name, every)
        raise JourneyError(
            f'no benchmark "{name}"{hint} (there are: {", ".join(BENCHMARKS)}, and the tasks of lm-eval)'
        )
    return f"lm_eval:{name}"
