"""What `journey eval` may be told of benchmarks and suites."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from journey.errors import JourneyError, nearest
from journey.fields import Amount, Count, NonNegative, Positive, defaults
from journey.measures import ANY, BENCHMARKS

if TYPE_CHECKING:
    from journey.evaluate.judge import Judge

SETTINGS = ("items", "shots", "chat", "mark", "engine", "helm", "samples", "temperature", "data")  # of a benchmark


GOES_WITH = {
    "tasks": (*SETTINGS, "power", "baseline"),
    "suite": ("chat", "judge", "judge_model", "baseline"),
    "questions": ("chat", "judge", "judge_model", "baseline"),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Benchmarks and suites, and how they are asked."""

    tasks: str = ""
    """Benchmarks of papers, as in hellaswag,arc_easy,mmlu; also any task of the installed lm-eval by its name."""
    items: Amount = 0
    """How many items of each benchmark, drawn at random; 0: all."""
    shots: Amount | None = None
    """Worked examples before each item of a benchmark; none: as many as the task has."""
    chat: bool = False
    """Ask through the chat format; a suite asks those that learned it so in any case."""
    mark: bool = False
    """The document mark before every prompt, as add_bos_token=True in lm-eval."""
    engine: Literal["journey", "lm-eval"] = "journey"
    """Who computes: ours, or transformers through lm-eval (slower, the same numbers)."""
    helm: bool = False
    """HELM's views of each benchmark: calibration, and every item again with typos, capitals, spaces and the like."""
    samples: Count = 1
    """Completions of each problem of humaneval, for pass@k."""
    temperature: NonNegative = 0.0
    """Of those completions; 0: the likeliest."""
    data: str = ""
    """A folder with the benchmarks' files; none: JOURNEY_DATA/bench, else the Hub."""
    suite: Path | None = None
    """A suite of your own, a YAML file: `journey eval init` writes an example."""
    questions: Path | None = None
    """Questions of one or more turns in MT-Bench's form, graded by the judge."""
    judge: str | None = None
    """For a suite or questions: an OpenAI-compatible URL, as http://localhost:8080/v1; its key is in OPENAI_API_KEY."""
    judge_model: str = "default"
    """The judge's name there."""
    baseline: str | None = None
    """The node that the others are compared with; none: the first."""
    power: Positive | None = None
    """Ask nothing, and say how many items of the tasks it takes to see a difference of so many points."""

    def way(self) -> str:
        """Which of --tasks, --suite and --questions is asked for, if any. Errors: JourneyError for two of them, and for
        an option that does not go with it."""
        ways = {"tasks": bool(self.tasks), "suite": self.suite is not None, "questions": self.questions is not None}
        asked = [way for way, given in ways.items() if given]
        if len(asked) > 1:
            raise JourneyError(f"--{asked[0]} stands alone: leave out --{asked[1]}")
        way = asked[0] if asked else ""
        usual = defaults(Options)
        for name in usual:
            if getattr(self, name) != usual[name] and name not in (way, *GOES_WITH.get(way, ())):
                fits = " or ".join(f"--{other}" for other, names in GOES_WITH.items() if name in names)
                raise JourneyError(f"--{name.replace('_', '-')} goes with {fits}")
        return way

    def baseline_of(self, nodes: Sequence[str]) -> str:
        """The baseline among these nodes. Errors: JourneyError for a node named twice, and a baseline that is none."""
        if twice := next((name for name in nodes if list(nodes).count(name) > 1), None):
            raise JourneyError(f"{twice} is named twice")
        if self.baseline and self.baseline not in nodes:
            raise JourneyError(f"--baseline {self.baseline} is not among the nodes: {', '.join(nodes)}")
        return self.baseline or nodes[0]

    def judge_of(self, kept: Path) -> "Judge | None":
        """The judge, if one is named; what it said is kept in a file."""
        from journey.evaluate.judge import Judge

        return Judge(self.judge, self.judge_model, kept) if self.judge else None

    def measures(self) -> list[str]:
        """The measures of the tasks. Errors: JourneyError for a name twice, and for one that lm-eval does not have."""
        names = [name.strip() for name in self.tasks.split(",") if name.strip()]
        if not names:
            raise JourneyError("--tasks names nothing: give some, as in hellaswag,arc_easy")
        if self.chat and (self.helm or self.mark):
            raise JourneyError(
                "--chat asks conversations, which are neither reworded nor marked: leave out --helm, --mark"
            )
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise JourneyError(f"--tasks names {twice} twice")
        return [name if name in BENCHMARKS else _of_lm_eval(name) for name in names]


def _of_lm_eval(name: str) -> str:
    from journey.evaluate.benchmark.asking import known_tasks

    every: list[str] = [] if difflib.get_close_matches(name, BENCHMARKS, 1, 0.9) else known_tasks()  # ten seconds
    if name not in every:
        hint = nearest(name, BENCHMARKS) or nearest(name, every)
        raise JourneyError(
            f'no benchmark "{name}"{hint} (there are: {", ".join(BENCHMARKS)}, and the tasks of lm-eval)'
        )
    return f"{ANY}{name}"
