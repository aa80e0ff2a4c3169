"""`journey eval --questions`: questions of several turns, answered by nodes and read by a judge, as MT-Bench has it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from journey import measuring, runner
from journey.console import Console
from journey.errors import JourneyError
from journey.evaluate import judge as judging
from journey.evaluate import statistics
from journey.evaluate.endpoint import Refused, Unanswered
from journey.evaluate.judge import Judge, Preference, Question, transcript
from journey.evaluate.statistics import Estimate
from journey.evaluate.suite.running import converse
from journey.evaluating.options import Options
from journey.evaluating.suite import subject_of, taught
from journey.files import digest, write_json
from journey.metrics import Metric, metric
from journey.report.format import MISSING, columns, without_unit

CRITERION = "It answers what was asked: helpful, right, to the point and well put."
MAX_NEW_TOKENS = 256


@dataclass
class Read:
    """What the judge read: of each node a grade for each turn of each question (None: unread or not judged), and
    against the baseline a preference for each question."""

    questions: Sequence[Question]
    baseline: str
    answers: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    grades: dict[str, list[list[int | None]]] = field(default_factory=dict)
    pairs: dict[str, list[Preference | None]] = field(default_factory=dict)
    failed: str = ""  # why the judge was asked no more


def run(nodes: Sequence[str], options: Options, workspace: Path, out: Path, console: Console) -> Read:
    """Ask every node, and the judge; writes `questions.json` into `out`. What was said is kept there, so that the same
    command goes on where a judge failed.

    Errors: JourneyError for questions in another form, by line, and where there is no judge.
    """
    assert options.questions is not None
    made = Read(judging.questions(options.questions), options.baseline_of(nodes))
    folder = out / "questions" / digest(str(options.questions.resolve()))[:12]
    folder.mkdir(parents=True, exist_ok=True)
    judge = options.judge_of(folder / "judge.jsonl")
    if judge is None:
        raise JourneyError("questions need a judge: give its URL, as in --judge http://localhost:8080/v1")
    for name in nodes:
        node = runner.find_node(name, workspace)
        console.begin(name, f"asked {len(made.questions)} questions")
        subject = subject_of(node, name, options.chat or taught(node))
        made.answers[name] = converse(subject, made.questions, folder / f"{node.id[:12]}.jsonl", MAX_NEW_TOKENS)
    try:
        _judge(made, judge, console)
    except Unanswered as error:
        made.failed = str(error)
    write_json(out / "questions.json", as_json(made))
    return made


def _judge(made: Read, judge: Judge, console: Console) -> None:
    """Grades and preferences. Errors: Unanswered where the judge fails; what it said until then is kept."""
    names = list(made.answers)
    total = sum(len(q.turns) for q in made.questions) * len(names) + len(made.questions) * (len(names) - 1)
    done = 0
    for name in names:
        made.grades[name] = [[None] * len(question.turns) for question in made.questions]
        if name != made.baseline:
            made.pairs[name] = [None] * len(made.questions)
    for i, question in enumerate(made.questions):
        for name in names:
            said = made.answers[name][i]
            for turn in range(len(question.turns)):
                asked = transcript(question.turns[: turn + 1], said[:turn])
                reference = question.references[turn] if turn < len(question.references) else ""
                with suppress(Refused):  # this one stays unread
                    made.grades[name][i][turn] = judge.grade(asked, said[turn], CRITERION, reference)
                done += 1
                measuring.progress(console, "judge", done, total, "verdicts")
        for name in made.pairs:
            a, b = made.answers[name][i], made.answers[made.baseline][i]
            with suppress(Refused):
                made.pairs[name][i] = judge.prefer(question.turns[0], a[0], b[0], CRITERION)
            done += 1
            measuring.progress(console, "judge", done, total, "verdicts")


def grade(made: Read, name: str, category: str = "") -> Estimate | None:
    """The mean grade over questions, each the mean over its turns that were read; none of fewer than two."""
    means = [
        sum(read) / len(read)
        for question, turns in zip(made.questions, made.grades[name], strict=True)
        if (not category or question.category == category) and (read := [g for g in turns if g is not None])
    ]
    return statistics.mean(means, "of 10", judging.CONVENTION) if len(means) > 1 else None


def lines(made: Read) -> Iterator[str]:
    """Grades by category, preferences against the baseline, and what is missing."""
    nodes = list(made.answers)
    categories = dict.fromkeys(question.category for question in made.questions if question.category)
    rows = [["all", *(without_unit(grade(made, node)) for node in nodes)]]
    rows += [
        [f"  {category}", *(without_unit(grade(made, node, category)) for node in nodes)] for category in categories
    ]
    yield from columns(f"Grades of 1 to 10, {len(made.questions)} questions", nodes, rows)
    for node, pairs in made.pairs.items():
        read = judging.preferences([pair for pair in pairs if pair is not None])
        swayed = f"{100 * read['disagreed']:.0f} %" if read["disagreed"] is not None else MISSING
        yield (
            f"{node} against {made.baseline}, first turns: {read['A']} better, {read['B']} worse, {read['tie']} ties, "
            f"{read['unread']} unread; the two orders disagreed on {swayed}"
        )
    for node in nodes:
        every = [g for turns in made.grades[node] for g in turns]
        missing = every.count(None)
        if missing:
            yield f"{node}: {len(every) - missing} of {len(every)} answers have a grade"
    if made.failed:
        yield f"the judge was asked no more: {made.failed}"


def metrics(made: Read) -> dict[str, Metric]:
    """The numbers as `--json` has them."""
    found = {f"{node}.grade": e.metric() for node in made.answers if (e := grade(made, node))}
    for node, pairs in made.pairs.items():
        for side, n in judging.preferences([pair for pair in pairs if pair is not None]).items():
            if n is not None:
                found[f"{node} vs {made.baseline}.{side}"] = metric(n)
    return found


def as_json(made: Read) -> Mapping[str, Any]:
    """All of it, for a file."""
    return {
        "baseline": made.baseline,
        "questions": [asdict(question) for question in made.questions],
        "answers": made.answers,
        "grades": made.grades,
        "pairs": {node: [pair and asdict(pair) for pair in pairs] for node, pairs in made.pairs.items()},
        "failed": made.failed,
        "convention": judging.CONVENTION,
    }
