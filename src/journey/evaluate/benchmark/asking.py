"""Asking a model the items of a task of lm-evaluation-harness, and what came of each."""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from journey.data.drawing import draw
from journey.errors import JourneyError, Stopped, nearest
from journey.evaluate.benchmark.tasks import BENCHMARKS, SHOTS_FROM, Benchmark, find, rows

SHOT_SEED = 1234  # the harness's: it draws the same worked examples everywhere
HELD_BACK = 32  # rows, the last of the file, that worked examples come from where there is no split for them


@dataclass(frozen=True)
class Answered:
    """An item and what came of it: the harness's metrics, and for choices how likely each was."""

    id: str
    part: str  # the subtask, as a subject of MMLU
    prompt: str
    metrics: Mapping[str, float]
    target: str
    options: Sequence[str] = ()
    logprobs: Sequence[float] = ()
    gold: int | None = None
    chance: float = 0.0  # what guessing would score
    written: str | None = None
    text: str = ""  # the item itself, with its right answer and without shots: contamination is looked for by it


@dataclass
class Asked:
    """What a task is made of, ready to be asked, and how it is asked, in words."""

    tasks: dict[str, Any]  # name -> lm_eval's task
    chosen: dict[str, list[int]]  # name -> the numbers of the items that are asked
    shots: int
    source: str  # where the rows and the worked examples come from
    text: Sequence[str]  # the columns that are an item's own words; none: its prompt
    numbers: dict[str, list[int]]  # name -> each item's number in its file

    def higher_is_better(self, metric: str) -> bool:
        """Whether more of a metric is better, as the task file has it."""
        told = next(iter(self.tasks.values())).higher_is_better()
        return next((better for name, better in told.items() if metric.startswith(name)), True)


def load(name: str, folder: Path | None, *, items: int = 0, shots: int | None = None, seed: int = 0) -> Asked:
    """A task by its name, from files in the folder where it is there, else from the Hub; `items` of it, drawn by the
    seed, or all (0).

    Errors: JourneyError for a name that lm-eval does not have, rows of another form, and a Hub that cannot be reached.
    """
    benchmark = BENCHMARKS.get(name)
    files = find(benchmark, folder) if benchmark and folder else {}
    if benchmark and benchmark.split in files:
        return _local(benchmark, files, items, shots, seed)
    found = _from_hub(name, benchmark.folder if benchmark else "", shots)
    chosen = _drawn({task: len(of.eval_docs) for task, of in found.items()}, items, seed)
    n_shots = max(of.config.num_fewshot or 0 for of in found.values())
    return Asked(
        {task: found[task] for task in chosen}, chosen, n_shots, "the Hub", benchmark.text if benchmark else (), chosen
    )


def _local(benchmark: Benchmark, files: Mapping[str, Path], items: int, shots: int | None, seed: int) -> Asked:
    from datasets import Dataset

    groups: dict[str, dict[str, list[tuple[int, dict[str, Any]]]]] = {}
    for split, path in files.items():
        for number, (named, row) in enumerate(rows(benchmark, path)):
            group = groups.setdefault(str(row[benchmark.group]) if benchmark.group else "", {})
            group.setdefault(named or split, []).append((number, row))
    asked = files[benchmark.split]
    if not any(group.get(benchmark.split) for group in groups.values()):
        raise JourneyError(f"{asked}: holds no row of the {benchmark.split} split, which {benchmark.name} asks")
    n_shots = benchmark.shots if shots is None else shots
    others = [split for split in SHOTS_FROM if split != benchmark.split]
    worked = next((split for split in others if any(split in g for g in groups.values())), None)
    said = f"{asked.name}"
    held_back = 0
    if n_shots:
        said += f", shots from its {worked} split" if worked else f", shots from its last {HELD_BACK} rows, not asked"
        held_back = 0 if worked else HELD_BACK
    sizes = {group: len(of.get(benchmark.split, ())) - held_back for group, of in groups.items()}
    if min(sizes.values()) < 1:
        raise JourneyError(f"{asked}: too few rows to keep {HELD_BACK} of them for shots: say --shots 0")
    chosen = _drawn(sizes, items, seed)
    specs, numbers = [], {}
    for part, picked in chosen.items():
        of = groups[part]
        every = of[benchmark.split]
        task = f"{benchmark.name}_{part}" if part else benchmark.name
        data = {benchmark.split: Dataset.from_list([every[i][1] for i in picked])}
        if n_shots:
            shown = of.get(worked, []) if worked else every[-HELD_BACK:]
            if len(shown) < n_shots:
                raise JourneyError(f"{task}: {n_shots} shots, and {len(shown)} rows to take them from")
            data["shots"] = Dataset.from_list([row for _, row in shown])
        numbers[task] = [every[i][0] for i in picked]
        specs.append(
            {
                "task": task,
                "num_fewshot": n_shots,
                "custom_dataset": partial(_given, data),
                "training_split": None,
                "validation_split": "validation" if benchmark.split == "validation" else None,
                "test_split": "test" if benchmark.split == "test" else None,
                "fewshot_split": "shots" if n_shots else None,
            }
        )
    with _quiet(), _explained(f"{asked}: lm-eval cannot make questions of {benchmark.name} of these rows"):
        found = _tasks(benchmark.folder).load([{"group": "journey", "task": specs}])["tasks"]
    return Asked(
        found, {task: list(range(len(of))) for task, of in numbers.items()}, n_shots, said, benchmark.text, numbers
    )


def _given(data: dict[str, Any], **unused: Any) -> dict[str, Any]:
    """The data set that a task asks for; it says its own settings, too."""
    return data


@cache
def _tasks(folder: str = "") -> Any:
    """lm-eval's tasks of one of its folders; of all of them (13,000 files) it takes ten seconds to know the names."""
    import lm_eval.tasks

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    root = Path(lm_eval.tasks.__file__).parent
    return lm_eval.tasks.TaskManager(include_path=str(root / folder) if folder else None, include_defaults=not folder)


def known_tasks() -> list[str]:
    """The names of all tasks and groups of the installed lm-eval."""
    with _quiet():
        return list(_tasks().all_tasks)


def _from_hub(name: str, folder: str, shots: int | None) -> dict[str, Any]:
    """The harness's task or tasks of a name, with the rows that it loads itself."""
    with _quiet():
        known = _tasks(folder)
        if name not in known.all_tasks:
            raise JourneyError(f'no benchmark "{name}"{nearest(name, [*BENCHMARKS, *known.all_tasks])}')
        of = "group" if name in known.all_groups else "task"
        wanted = {of: name} | ({} if shots is None else {"num_fewshot": shots})
        with _explained(f"{name} cannot be had from the Hub, and no file of it is at hand (--data DIR)"):
            return known.load([{"group": "journey", "task": [wanted]}])["tasks"]


def _drawn(sizes: Mapping[str, int], n: int, seed: int) -> dict[str, list[int]]:
    """Of each part the numbers of its items that are asked: n of all parts together, in order, or all (0)."""
    every = [(part, i) for part, size in sizes.items() for i in range(size)]
    chosen: dict[str, list[int]] = {}
    for part, i in draw(every, n or len(every), seed):
        chosen.setdefault(part, []).append(i)
    return chosen


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars of lm-eval and datasets, which would run across ours."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Whatever a library raises as one line of ours; a stop goes through."""
    try:
        yield
    except (JourneyError, Stopped):
        raise
    except Exception as error:
        raise JourneyError(
            f"{what} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error


def ask(lm: Any, asked: Asked, chat: bool = False) -> list[Answered]:
    """Every item of a task put to a model (`lm` as lm-eval has it), through its chat template when `chat`.

    Errors: JourneyError for a task that runs code, and for items whose right answer is none of their options.
    """
    import lm_eval

    for name, task in asked.tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise JourneyError(f"{name} runs what a model writes, without a sandbox: humaneval has one here")
        task.set_fewshot_seed(SHOT_SEED)
    with _quiet(), _explained(f"lm-eval could not ask {', '.join(asked.tasks)}"):
        result = lm_eval.evaluate(
            lm,
            {"tasks": asked.tasks},
            samples=asked.chosen,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )
    found = [
        answered
        for name, task in asked.tasks.items()
        for answered in _answered(name, task, result["samples"][name], asked.numbers[name], asked.text)
    ]
    shared = [metric for metric in found[0].metrics if all(metric in each.metrics for each in found)]
    if not shared:
        raise JourneyError(f"{', '.join(asked.tasks)}: no metric is of all of these parts, so name them one by one")
    return [replace(each, metrics={metric: each.metrics[metric] for metric in shared}) for each in found]


def _answered(
    name: str, task: Any, samples: Sequence[Mapping[str, Any]], numbers: Sequence[int], text: Sequence[str]
) -> list[Answered]:
    """The samples of a task; those of a second filter, which reads the same answers otherwise, are further metrics."""
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    found: dict[int, dict[str, float]] = {}
    first: dict[int, Mapping[str, Any]] = {}
    for sample in samples:
        i = sample["doc_id"]
        first.setdefault(i, sample)
        ending = "" if sample["filter"] == filters[0] else "_" + sample["filter"].replace("-", "_")
        values = {metric: sample[metric] for metric in sample["metrics"]}
        found.setdefault(i, {}).update(
            {k + ending: float(v) for k, v in values.items() if isinstance(v, int | float | np.number | np.bool_)}
        )
    if not found or not all(found.values()):
        raise JourneyError(
            f"{name} has no number an item ({', '.join(first[0]['metrics'])}): it is not one of ours yet"
        )
    made = []
    for (i, sample), number in zip(sorted(first.items()), numbers, strict=True):
        choices = task.OUTPUT_TYPE == "multiple_choice"
        arguments = sample["arguments"]
        gold = _whole(sample["target"]) if choices and not task.multiple_input else None
        if gold is not None and not 0 <= gold < len(arguments):
            raise JourneyError(f"{name}, item {number}: its right answer is {gold}, of {len(arguments)} options")
        own = [sample["doc"][column] for column in text] or [arguments[0][0].rpartition("\n\n")[2]]
        if gold is not None:
            own.append(arguments[gold][1])
        made.append(
            Answered(
                id=f"{name}/{number}-{sample['doc_hash'][:8]}",
                part=name,
                prompt=arguments[0][0],
                metrics=found[i],
                target=str(sample["target"]),
                options=[argument[1] for argument in arguments] if choices else (),
                logprobs=[float(logprob) for logprob, _ in sample["filtered_resps"]] if choices else (),
                gold=gold,
                chance=_chance(sample["doc"], len(arguments)),
                written=sample["resps"][0][0] if task.OUTPUT_TYPE == "generate_until" else None,
                text=" ".join(own),
            )
        )
    return made


def _chance(row: Mapping[str, Any], n: int) -> float:
    """Of one right option in n; where several are (TruthfulQA mc2, whose metric is their probability), their share."""
    labels = row["mc2_targets"]["labels"] if "mc2_targets" in row else ()
    return sum(labels) / n if len(labels) == n else 1 / n


def _whole(target: Any) -> int | None:
    try:
        return int(target)
    except (TypeError, ValueError):
        return None
