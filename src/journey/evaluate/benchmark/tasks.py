"""The benchmarks that papers quote: what each asks, and how rows of known files become rows of its official form.

Prompts, options and what counts as right are lm-evaluation-harness's own task files, so that a number here is the
number there; from the Hub its rows too. Offline the rows are read from files, in the official columns or in those of
other releases that people have.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from journey.data.rows import ENDINGS, records
from journey.errors import JourneyError
from journey.files import sha256_file

Fields = Mapping[str, Any]
Form = Callable[[Fields], dict[str, Any]]  # a row of a file -> a row of the official form; KeyError where it is another


@dataclass(frozen=True)
class Benchmark:
    """A benchmark under its name in lm-evaluation-harness."""

    name: str
    title: str
    asks: str  # in a line
    metric: str  # the one that is quoted
    folder: str  # of lm-eval's tasks
    split: str = "validation"  # the one that is asked
    stem: str = ""  # what names of its local files begin with; none: its own
    text: tuple[str, ...] = ()  # official columns that are the item's own words: contamination is looked for by them
    forms: tuple[Form, ...] = ()  # of local rows, the official one first
    columns: str = ""  # those that local rows may have, in words
    group: str = ""  # the column that names the part of it that a row belongs to
    shots: int = 0  # worked examples before each item, where nobody says how many: the task file's number


def _as_is(*names: str) -> Form:
    return lambda row: {name: row[name] for name in names}


def _hellaswag(row: Fields) -> dict[str, Any]:
    """The form of llm-foundry: `query` is "activity: context". The official task capitalizes the unfinished sentence at
    its end, which is a column of its own there; where that began is told by the last full stop."""
    activity, _, context = row["query"].partition(": ")
    last = re.search(r"(?<=[.!?] )[a-z][^.!?]*$", context)
    cut = last.start() if last else len(context)
    return {
        "activity_label": activity,
        "ctx_a": context[:cut].rstrip(),
        "ctx_b": context[cut:],
        "endings": row["endings"],
        "label": str(row["label"]),
    }


def _lettered(row: Fields) -> dict[str, Any]:
    """ARC in the form of llm-foundry: `query` begins with "Question: "."""
    letters = "ABCDEFGH"[: len(row["choices"])]
    return {
        "question": row["query"].removeprefix("Question: "),
        "choices": {"text": row["choices"], "label": list(letters)},
        "answerKey": letters[row["gold"]],
    }


def _piqa(row: Fields) -> dict[str, Any]:
    """PIQA in the form of llm-foundry."""
    goal = row["query"].removeprefix("Question: ").removesuffix("\n")
    first, second = row["choices"]
    return {"goal": goal, "sol1": first, "sol2": second, "label": row["gold"]}


def _truthfulqa(row: Fields) -> dict[str, Any]:
    """The authors' table: answers stand in one cell, between semicolons."""
    best, right, wrong = row["Best Answer"].strip(), *map(_cells, (row["Correct Answers"], row["Incorrect Answers"]))
    return {
        "question": row["Question"],
        "mc1_targets": {"choices": [best, *wrong], "labels": [1, *[0] * len(wrong)]},
        "mc2_targets": {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)},
    }


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in text.split(";") if cell.strip()]


def _boolq(row: Fields) -> dict[str, Any]:
    """The authors' lines: `answer` is true or false."""
    return {"passage": row["passage"], "question": row["question"], "label": int(row["answer"])}


_arc = partial(
    Benchmark,
    folder="arc",
    split="test",
    metric="acc_norm",
    text=("question",),
    forms=(_as_is("question", "choices", "answerKey"), _lettered),
    columns="question, choices, answerKey or query, choices, gold",
)
_truth = partial(
    Benchmark,
    folder="truthfulqa",
    stem="truthfulqa",
    metric="acc",
    text=("question",),
    forms=(_as_is("question", "mc1_targets", "mc2_targets"), _truthfulqa),
    columns="question, mc1_targets, mc2_targets or Question, Best Answer, Correct Answers, Incorrect Answers",
)
BENCHMARKS = {
    each.name: each
    for each in (
        Benchmark(
            "hellaswag",
            "HellaSwag",
            "which of four endings goes on with a scene (Zellers et al. 2019)",
            "acc_norm",
            "hellaswag",
            text=("ctx_a", "ctx_b"),
            forms=(_as_is("activity_label", "ctx_a", "ctx_b", "endings", "label"), _hellaswag),
            columns="activity_label, ctx_a, ctx_b, endings, label or query, endings, label",
        ),
        _arc("arc_easy", "ARC-Easy", "science questions of grade schools (Clark et al. 2018)"),
        _arc("arc_challenge", "ARC-Challenge", "those of them that word statistics get wrong (Clark et al. 2018)"),
        _truth(
            "truthfulqa_mc1", "TruthfulQA mc1", "the true answer among falsehoods that people believe (Lin et al. 2022)"
        ),
        _truth(
            "truthfulqa_mc2", "TruthfulQA mc2", "how much of the probability lies on true answers (Lin et al. 2022)"
        ),
        Benchmark(
            "mmlu",
            "MMLU",
            "four-way questions of 57 subjects (Hendrycks et al. 2021)",
            "acc",
            "mmlu/default",
            split="test",
            text=("question",),
            forms=(_as_is("subject", "question", "choices", "answer"),),
            columns="subject, question, choices, answer and, with shots, split (dev or test)",
            group="subject",
        ),
        Benchmark(
            "lambada_openai",
            "LAMBADA",
            "the last word of a passage (Paperno et al. 2016), OpenAI's form",
            "acc",
            "lambada",
            split="test",
            text=("text",),
            forms=(_as_is("text"), lambda row: {"text": f"{row['context']} {row['continuation']}"}),
            columns="text or context, continuation",
        ),
        Benchmark(
            "piqa",
            "PIQA",
            "which of two ways to do a thing works (Bisk et al. 2020)",
            "acc_norm",
            "piqa",
            text=("goal",),
            forms=(_as_is("goal", "sol1", "sol2", "label"), _piqa),
            columns="goal, sol1, sol2, label or query, choices, gold",
        ),
        Benchmark(
            "winogrande",
            "WinoGrande",
            "whom a pronoun's blank means (Sakaguchi et al. 2020)",
            "acc",
            "winogrande",
            text=("sentence",),
            forms=(_as_is("sentence", "option1", "option2", "answer"),),
            columns="sentence, option1, option2, answer",
        ),
        Benchmark(
            "openbookqa",
            "OpenBookQA",
            "elementary science with a fact left out (Mihaylov et al. 2018)",
            "acc_norm",
            "openbookqa",
            split="test",
            text=("question_stem",),
            forms=(_as_is("question_stem", "choices", "answerKey"),),
            columns="question_stem, choices, answerKey",
        ),
        Benchmark(
            "boolq",
            "BoolQ",
            "yes or no, by a passage (Clark et al. 2019)",
            "acc",
            "super_glue/boolq",
            text=("passage", "question"),
            forms=(_as_is("passage", "question", "label"), _boolq),
            columns="passage, question, label or passage, question, answer",
        ),
        Benchmark(
            "gsm8k",
            "GSM8K",
            "sums in words, the number at the end (Cobbe et al. 2021)",
            "exact_match",
            "gsm8k",
            split="test",
            text=("question",),
            forms=(_as_is("question", "answer"),),
            columns="question, answer",
            shots=5,
        ),
        Benchmark(
            "humaneval",
            "HumanEval",
            "Python functions to be completed, run against their tests (Chen et al. 2021)",
            "pass@1",
            "humaneval",
            split="test",
            text=("prompt",),
            forms=(_as_is("task_id", "prompt", "entry_point", "test"),),
            columns="task_id, prompt, entry_point, test",
        ),
    )
}

SHOTS_FROM = ("train", "dev", "validation")  # splits that worked examples are taken from, the first that there is
_SPLIT = re.compile(r"(?:[-_.](train|dev|validation|valid|val|test))?(?:[-_.]?(?:\d+|of|00\w*))*")
_SAME = {"valid": "validation", "val": "validation"}


def find(benchmark: Benchmark, folder: Path) -> dict[str, Path]:
    """The files of a benchmark in a folder, by split; a file that names none is of the split that is asked."""
    stem = benchmark.stem or benchmark.name
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = path.name.lower()
        ending = next((ending for ending in ENDINGS if name.endswith(ending)), "")
        rest = _SPLIT.fullmatch(name[len(stem) : -len(ending)]) if name.startswith(stem) and ending else None
        if rest is None:  # of another benchmark: humaneval_plus, arc_easy_de
            continue
        split = _SAME.get(rest[1], rest[1]) or benchmark.split
        if split in found:
            raise JourneyError(f"{found[split]} and {path} are both the {split} split of {stem}: leave one")
        found[split] = path
    # Where the official test set has no answers some call the validation set test, and the other way round.
    other = {"validation": "test", "test": "validation"}.get(benchmark.split, "")
    if benchmark.split not in found and other in found:
        found[benchmark.split] = found.pop(other)
    return found


def rows(benchmark: Benchmark, path: Path) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Each row of a file in the official form, with the split that it names. Errors: JourneyError naming the line."""
    for where, record in records(path):
        if not isinstance(record, dict):
            raise JourneyError(f"{path}, {where}: no row with columns, which {benchmark.name} wants")
        named = record.get("split")
        yield _SAME.get(str(named), named), _formed(benchmark, record, f"{path}, {where}")


def _formed(benchmark: Benchmark, record: dict[str, Any], where: str) -> dict[str, Any]:
    for form in benchmark.forms:
        try:
            return form(record)
        except KeyError:
            continue
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise JourneyError(f"{where}: not as {benchmark.name} has it ({error})") from None
    has = ", ".join(list(record)[:12]) or "no columns"
    raise JourneyError(f"{where}: {benchmark.name} wants the columns {benchmark.columns}; this row has {has}")


def folder_of(given: str) -> Path | None:
    """Where files of benchmarks are looked for: in the folder given, else under JOURNEY_DATA.

    Errors: JourneyError for a folder that is given and not there.
    """
    if given:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise JourneyError(f"{given}: no such folder, where files of benchmarks should be")
        return folder
    shared = os.environ.get("JOURNEY_DATA")
    return Path(shared) / "bench" if shared else None


def fingerprint(benchmark: Benchmark, folder: Path | None) -> dict[str, str]:
    """Which rows are asked: the files by their content, or the Hub."""
    files = find(benchmark, folder) if folder else {}
    return {split: sha256_file(path) for split, path in files.items()} or {"hub": benchmark.name}
