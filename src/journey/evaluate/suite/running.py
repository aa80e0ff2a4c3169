"""A suite asked of a model: every item, under every variant, each answer kept as it comes and checked."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from journey.evaluate.endpoint import Refused, Unanswered
from journey.evaluate.judge import Judge, Question
from journey.evaluate.kept import Kept
from journey.evaluate.suite.checks import Choice, Judged, Verdict
from journey.evaluate.suite.reading import Item, Suite, filled, filled_rule
from journey.evaluate.suite.variants import perturbed
from journey.files import digest

AT_ONCE = 32  # prompts between two writes: what a kill can lose
CONVENTION = (
    "greedy; a prompt longer than the context loses its beginning; a choice is the option of the highest total "
    "log-probability, and two that are equally likely are no choice"
)


@dataclass(frozen=True)
class Prompt:
    """What is asked: `text` to go on with, and the same as the `messages` of a chat, none where the suite does not
    want the chat format. `options` are continuations to be scored."""

    text: str
    messages: tuple[Mapping[str, str], ...]
    max_new_tokens: int
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """An answer, its tokens with the one that ended it, whether the model ended it, and how many tokens the prompt
    lost at its beginning because it did not fit."""

    text: str
    tokens: int
    ended: bool
    cut: int = 0


@dataclass(frozen=True)
class Scored:
    """ln p of each option after the prompt, and how many tokens the prompt lost at its beginning."""

    logprobs: tuple[float, ...]
    cut: int = 0


class Subject(Protocol):
    """A model that can be asked.

    A node that was taught the chat format goes by a prompt's messages, if there are any; any other by its text. In
    the chat format nothing stands between the mark and an answer, so there an option loses the space before it.
    """

    id: str  # of the weights and how they are asked: kept answers of another one are not taken

    def write(self, prompts: Sequence[Prompt]) -> Sequence[Written]:
        """The greedy answer to each."""
        ...

    def logprobs(self, prompts: Sequence[Prompt]) -> Sequence[Scored]:
        """ln p of each prompt's options."""
        ...


@dataclass(frozen=True)
class Asked:
    """An item under a variant: "" as it stands, "swap 1" with its second filling, else the name of a perturbation."""

    item: Item
    variant: str
    question: str
    filling: Mapping[str, str]
    prompt: Prompt


def plan(suite: Suite) -> list[Asked]:
    """Everything that is asked: each item as it stands, with its other fillings, and under its perturbations, where
    one changes anything. An item that a judge reads is not perturbed: each variant would be paid for."""
    asked = []
    for item in suite.items:
        fillings = item.swaps or ({},)
        question = filled(item.prompt, fillings[0])
        variants = [("", question, fillings[0])]
        variants += [(f"swap {i}", filled(item.prompt, f), f) for i, f in enumerate(fillings[1:], 1)]
        if item.checks and not any(isinstance(check.rule, Judged) for check in item.checks):
            said = [(kind, perturbed(question, kind, item.id), fillings[0]) for kind in item.robustness]
            variants += [each for each in said if each[1] != question]
        asked += [Asked(item, name, text, f, _prompt(suite, item, text)) for name, text, f in variants]
    return asked


def run(
    suite: Suite,
    subject: Subject,
    kept: Path | None = None,
    judge: Judge | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """A row for each of `plan`, {"id", "variant", "tags", "prompt", "output", "checks", "passed", "tokens", "ended",
    "cut", "seconds", "asked" (a digest of prompt and checks)}, of an item with choices also {"options", "logprobs",
    "picked", "gold"}.

    A check is {"check", "where", "passed", "reason"}. `passed` is None where a check could not be decided and no other
    failed, and for an item without checks. What the file `kept` answers is not asked again; checks are made anew,
    so that one can be corrected. A judge that fails is asked no more: the rest is undecided, and a later run goes on.
    `progress` gets the number of answers so far and of all.
    """
    asked, store = plan(suite), Kept(kept)
    to_write = [each.prompt for each in asked if _wants_text(each.item)]
    to_score = [each.prompt for each in asked if each.item.choices]
    total, done = len(to_write) + len(to_score), 0
    found: dict[str, list[dict[str, Any]]] = {"write": [], "logprobs": []}
    for how, prompts in (("write", to_write), ("logprobs", to_score)):
        for answers in _answers(subject, how, prompts, store):
            found[how] += answers
            done += len(answers)
            progress(done, total)
    written, scored, referee = iter(found["write"]), iter(found["logprobs"]), _Referee(judge)
    rows = []
    for each in asked:
        text = next(written) if _wants_text(each.item) else None
        scores = next(scored) if each.item.choices else None
        rows.append(_row(each, text, scores, referee))
    return rows


def converse(
    subject: Subject, questions: Sequence[Question], kept: Path | None, max_new_tokens: int
) -> list[tuple[str, ...]]:
    """The answers to the turns of each question, each turn asked with the turns and answers before it."""
    store, said = Kept(kept), [tuple[str, ...]() for _ in questions]
    for turn in range(max((len(question.turns) for question in questions), default=0)):
        going = [i for i, question in enumerate(questions) if turn < len(question.turns)]
        prompts = [_turn(questions[i], said[i], max_new_tokens) for i in going]
        answers = (answer for batch in _answers(subject, "write", prompts, store) for answer in batch)
        for i, answer in zip(going, answers, strict=True):
            said[i] = (*said[i], answer["text"])
    return said


def flips(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Ids of the items that `after` "gained" and "lost", and those that cannot be compared: "undecided" on a side,
    "changed" in what is asked or checked, or "missing" on one. Rows are those of `run`; variants are left aside."""
    sides = [{row["id"]: row for row in rows if not row["variant"]} for rows in (before, after)]
    found: dict[str, list[str]] = {"gained": [], "lost": [], "undecided": [], "changed": [], "missing": []}
    for id in dict.fromkeys([*sides[0], *sides[1]]):
        if id not in sides[0] or id not in sides[1]:
            found["missing"].append(id)
            continue
        old, new = sides[0][id], sides[1][id]
        if not new["checks"] and not old["checks"]:
            continue  # it is there for the bias between its fillings alone
        if old["asked"] != new["asked"]:
            found["changed"].append(id)
        elif old["passed"] is None or new["passed"] is None:
            found["undecided"].append(id)
        elif old["passed"] != new["passed"]:
            found["gained" if new["passed"] else "lost"].append(id)
    return found


class _Referee:
    """The judge, who is asked no more once it has failed."""

    def __init__(self, judge: Judge | None) -> None:
        self._judge = judge
        self._failed = "there is no judge: give its URL with --judge"

    def check(self, rule: Judged, question: str, output: str) -> Verdict:
        if self._judge is None:
            return None, self._failed
        try:
            if rule.least is None:
                met = self._judge.meets(question, output, rule.criterion)
                return met, "" if met else _unread(met, f"the judge finds that it does not meet: {rule.criterion}")
            grade = self._judge.grade(question, output, rule.criterion)
        except Refused as error:
            return None, f"not judged: {error}"
        except Unanswered as error:
            self._judge, self._failed = None, f"not judged: {error}"
            return None, self._failed
        if grade is None:
            return None, _unread(None, "")
        return grade >= rule.least, "" if grade >= rule.least else f"the judge gives {grade}, expected {rule.least}"


def _unread(verdict: bool | None, reason: str) -> str:
    return "the judge's answer has no verdict that can be read" if verdict is None else reason


def _prompt(suite: Suite, item: Item, question: str) -> Prompt:
    shots = [item.template.replace("{prompt}", shot.prompt) + shot.answer for shot in suite.shots]
    text = "\n\n".join([*shots, item.template.replace("{prompt}", question)])
    turns = [turn for shot in suite.shots for turn in (("user", shot.prompt), ("assistant", shot.answer.lstrip()))]
    messages = _messages([*turns, ("user", question)]) if suite.chat else ()
    return Prompt(text, messages, item.max_new_tokens, item.choices)


def _turn(question: Question, answers: Sequence[str], max_new_tokens: int) -> Prompt:
    """The next turn of a question, after the turns that have answers."""
    turns = question.turns[: len(answers) + 1]
    said = [
        pair for turn, answer in zip(turns, answers, strict=False) for pair in (("user", turn), ("assistant", answer))
    ]
    text = "\n\n".join(f"Question: {turn}\nAnswer:{answer}" for turn, answer in zip(turns, [*answers, ""], strict=True))
    return Prompt(text, _messages([*said, ("user", turns[-1])]), max_new_tokens)


def _messages(turns: Sequence[tuple[str, str]]) -> tuple[Mapping[str, str], ...]:
    return tuple({"role": role, "content": content} for role, content in turns)


def _wants_text(item: Item) -> bool:
    return any(not isinstance(check.rule, Choice) for check in item.checks)


def _answers(subject: Subject, how: str, prompts: Sequence[Prompt], store: Kept) -> Iterator[list[dict[str, Any]]]:
    """What the subject answers, in batches and in order; only what is not in the store is asked, and then kept."""
    for start in range(0, len(prompts), AT_ONCE):
        batch = prompts[start : start + AT_ONCE]
        keys = [digest([subject.id, how, asdict(prompt)]) for prompt in batch]
        new = {key: prompt for key, prompt in zip(keys, batch, strict=True) if key not in store}
        if new:
            began = time.perf_counter()
            answers: Sequence[Any] = getattr(subject, how)(list(new.values()))
            seconds = (time.perf_counter() - began) / len(new)
            store.add({key: asdict(answer) | {"seconds": seconds} for key, answer in zip(new, answers, strict=True)})
        yield [store[key] for key in keys]


def _row(
    asked: Asked, written: Mapping[str, Any] | None, scored: Mapping[str, Any] | None, referee: _Referee
) -> dict[str, Any]:
    item = asked.item
    row: dict[str, Any] = {"id": item.id, "variant": asked.variant, "tags": list(item.tags), "prompt": asked.question}
    picked: int | None = None
    if scored is not None:
        picked = _picked(scored["logprobs"])
        gold = next(
            (item.choices.index(check.rule.option) for check in item.checks if isinstance(check.rule, Choice)), None
        )
        row |= {"options": list(item.choices), "logprobs": list(scored["logprobs"]), "picked": picked, "gold": gold}
    choice = "" if picked is None else item.choices[picked]
    output = choice if written is None else written["text"]
    checks: list[dict[str, Any]] = []
    for check in item.checks:
        rule = filled_rule(check.rule, asked.filling)
        if isinstance(rule, Judged):
            passed, reason = referee.check(rule, asked.question, output)
        elif isinstance(rule, Choice):
            passed, reason = _choice(rule, row["logprobs"], choice)
        else:
            passed, reason = rule.check(output)
        checks.append({"check": check.kind, "where": check.where, "passed": passed, "reason": reason})
    answers = [answer for answer in (written, scored) if answer is not None]
    return row | {
        "output": output,
        "checks": checks,
        "passed": _all(check["passed"] for check in checks),
        "tokens": 0 if written is None else written["tokens"],
        "ended": None if written is None else written["ended"],
        "cut": max(answer["cut"] for answer in answers),
        "seconds": sum(answer["seconds"] for answer in answers),
        "asked": digest([asdict(asked.prompt), [[check.kind, repr(check.rule)] for check in item.checks]]),
    }


def _choice(rule: Choice, logprobs: Sequence[float], choice: str) -> Verdict:
    if any(math.isnan(logprob) for logprob in logprobs):
        return None, "the model gives no log-probability (nan)"
    return rule.check(choice) if choice else (False, "no choice: the likeliest ones are equally likely")


def _picked(logprobs: Sequence[float]) -> int | None:
    """The place of the highest log-probability; None where it is not one alone, or not known."""
    best = max(logprobs)
    return None if any(map(math.isnan, logprobs)) or list(logprobs).count(best) > 1 else list(logprobs).index(best)


def _all(verdicts: Iterator[bool | None]) -> bool | None:
    """False where one is, else None where one is not known or there is none, else True."""
    known = list(verdicts)
    return False if False in known else None if None in known or not known else True
