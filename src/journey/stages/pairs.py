"""Preferences from the model itself: it answers each question several times, and a stated rule says which is better.

The rule is agreement with the documented answer (word F1). It needs no judge and no reward model; what it rewards is
the reference's own words, which is why the length bias is measured beside it.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from journey import chat
from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.fields import Count, Positive, Several, Share
from journey.files import digest, read_json, write_json
from journey.machine import device
from journey.metrics import metric
from journey.pair import open_pair
from journey.report.blocks import Cell, Sample, Samples, Shown, Table
from journey.stages.cost import Cost
from journey.stages.inputs import Input, names
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told, facts

if TYPE_CHECKING:
    from journey.data.preferences import Pair
    from journey.tokenizer.formats import Tokenizer

Messages = list[dict[str, Any]]

_CHUNK = 32  # questions answered between two saved states


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """Settings of the pairs stage."""

    data: str = names(
        "installed-docs",
        Input(("text",), files="conversations"),
        "documentation whose questions are asked, or conversations, whose last answers are the references: a file "
        "(.jsonl, .json, .csv, .parquet, …) or a set's name, as dolly-15k",
    )
    max_questions: Count | None = 1500
    """Ask no more questions of the training split than this, chosen at random."""
    held_out: Count = 256
    """Ask no more questions of the test split than this, and half as many of the dev split."""
    samples: Several = 4
    """Answers to each question."""
    temperature: Positive = 0.7
    """How freely the answers are drawn: at 1 a small model's differ most by their slips, at 0 not at all."""
    max_new_tokens: Count = 64
    """Longest answer in tokens, <|end|> included."""
    margin: Share = 0.1
    """A question's best and worst answer make a pair when their F1 differs by at least this."""
    strict: bool = False
    """Refuse a file with a row that cannot be used, instead of leaving such rows out."""

    def cost(self, before: Sequence[Any]) -> Cost:
        """Of a pocket model's answers."""
        return Cost(60, 5e6)


@dataclasses.dataclass(frozen=True)
class Prompted:
    """A question in the chat format, and the answer that others are compared with."""

    id: str
    prompt: Messages
    reference: str
    ids: list[int]


@stage(
    takes="model",
    makes="pairs",
    why=(
        "The model answers each question several times. A stated rule, not a person, scores every answer by how far "
        "it agrees with the documented one; the better of two answers is *chosen*, the other *rejected*, and pairs "
        "whose scores are nearly equal are dropped. If the chosen answers are simply the longer ones, the next stage "
        "learns to be long: so that is counted."
    ),
    example="journey pairs --parent chat --data questions.jsonl --out pairs",
    version=4,
)
def pairs(parent: Node, config: Pairs, run: Run) -> dict[str, Any]:
    """Sample answers of the parent, rank them and write pairs-{train,dev,test}.jsonl."""
    from journey.data import rows
    from journey.data.preferences import save
    from journey.evaluate.agreement import CONVENTION

    model, tokenizer = open_pair(parent.path)
    shape = model.config
    limit = shape.n_ctx - config.max_new_tokens
    if limit < 1:
        raise JourneyError(f"max_new_tokens {config.max_new_tokens} leaves no room in a context of {shape.n_ctx}")
    found, left_out = _read(config, run)
    asked = {name: _fitting(questions, tokenizer, limit, run, name) for name, questions in found.items()}
    answers = _answer(model.to(device()), asked, tokenizer, config, run)

    counts: Counter[str] = Counter()
    ranked = {}
    for name in asked:
        ranked[name], became = rank(asked[name], answers[name], tokenizer, config.margin)
        if not ranked[name]:
            raise JourneyError(_nothing(name, became, config))
        save(ranked[name], run.folder / f"pairs-{name}.jsonl")
        counts.update(became)
    metrics = {f"{name}_pairs": metric(len(found)) for name, found in ranked.items()}
    metrics |= _shares(counts) | _lengths(ranked["train"], tokenizer) | rows.metrics(left_out)
    rule = f"{CONVENTION}; the best against the worst answer where they differ by at least {config.margin}"
    beside = {"left_out": left_out} if left_out else {}
    write_json(run.folder / "pairs.json", {"rule": rule, "counts": dict(counts), "metrics": metrics} | beside)

    # The samples of a question share one reading of its prompt, and the last id written is never read. The head is
    # computed where one is written and nowhere else; a third of a training step's arithmetic is its forward pass.
    drawn = [ids for name in asked for some in answers[name] for ids, _ in some]
    written = sum(map(len, drawn))
    read = sum(len(question.ids) for name in asked for question in asked[name]) + written - len(drawn)
    head = 6 * shape.vocab_size * shape.n_embd
    flops = (read * (shape.flops_per_token(read // len(drawn)) - head) + written * head) / 3
    return {"tokens": read, "flops": flops, "metrics": metrics}


def _read(config: Pairs, run: Run) -> tuple[dict[str, list[tuple[str, Messages, str]]], dict[str, int]]:
    """The (id, prompt, reference) of each split: asked as sft asks them, with their passage and without; of a file, how
    many of its rows were left out for which reason."""
    from journey.data.conversations import load, question_messages, split

    rng = np.random.default_rng((run.seed, 3))
    left_out: dict[str, int] = {}
    if text := run.corpora.get("data"):
        if not text.questions("train"):
            raise JourneyError(f'"{config.data}" has no questions: give documentation, or a file of conversations')
        found = {
            name: [
                (f"{q.id}{'#passage' if passage else ''}", question_messages(q, passage))
                for q in text.questions(name)
                for passage in (True, False)
            ]
            for name in ("train", "dev", "test")
        }
    else:
        conversations, left_out = load(config.data, config.strict, run.say)
        found = {
            name: [(digest(messages)[:16], messages) for messages in part]
            for name, part in split(conversations, run.seed).items()
        }
    most = {"train": config.max_questions, "dev": max(1, config.held_out // 2), "test": config.held_out}
    drawn = {name: [part[i] for i in rng.permutation(len(part))[: most[name]]] for name, part in found.items()}
    return {name: [(id, *_ask(messages)) for id, messages in part] for name, part in drawn.items()}, left_out


def _ask(messages: Messages) -> tuple[Messages, str]:
    """What comes before the last answer that is worth training on, and that answer."""
    last = max(i for i, said in enumerate(messages) if said["role"] == "assistant" and said.get("weight") != 0)
    prompt = [{"role": said["role"], "content": said["content"]} for said in messages[:last]]
    return prompt, messages[last]["content"]


def _fitting(
    questions: Sequence[tuple[str, Messages, str]], tokenizer: "Tokenizer", limit: int, run: Run, name: str
) -> list[Prompted]:
    """The questions of at most `limit` tokens, each once, short ones first; what is left out is said."""
    found: dict[str, Prompted] = {}
    too_long = unasked = 0
    for id, prompt, reference in questions:
        if not prompt or prompt[-1]["role"] == "assistant":
            unasked += 1
            continue
        ids = chat.encode_prompt(prompt, tokenizer)
        if len(ids) <= limit:
            found.setdefault(digest(prompt), Prompted(id, prompt, reference, ids))
        else:
            too_long += 1
    if too_long:
        run.say(f"{too_long:,} {name} questions left out: longer than {limit} tokens, there is no room for an answer")
    if unasked:
        run.say(f"{unasked:,} {name} conversations left out: nothing is asked before the last answer")
    if not found:
        raise JourneyError(f"no {name} question of {len(questions):,} fits {limit} tokens: lower max_new_tokens")
    return sorted(found.values(), key=lambda question: (len(question.ids), question.id))


def _answer(
    model: Any, asked: dict[str, list[Prompted]], tokenizer: "Tokenizer", config: Pairs, run: Run
) -> dict[str, list[list[tuple[list[int], bool]]]]:
    """Every question's samples as (ids, whether the model ended by itself). A chunk draws from its own seed and is kept
    in run.scratch, so that what a kill interrupts goes on to the same answers."""
    from journey.infer.engine import generate
    from journey.infer.sampling import Sampling

    total = config.samples * sum(map(len, asked.values()))
    written, started = 0, time.monotonic()
    answers: dict[str, list[Any]] = {name: [] for name in asked}
    for number, name, questions in _chunks(asked):
        saved = run.scratch / f"answers-{number:05}.json"
        if not saved.exists():
            seed = int(np.random.SeedSequence((run.seed, number)).generate_state(1)[0])
            completions = generate(
                model,
                [question.ids for question in questions for _ in range(config.samples)],
                max_new_tokens=config.max_new_tokens,
                stop=tokenizer.stop,
                sampling=Sampling(temperature=config.temperature, seed=seed),
            )
            drawn = [(completion.ids, completion.ended) for completion in completions]
            write_json(saved, [drawn[i : i + config.samples] for i in range(0, len(drawn), config.samples)])
            written += sum(len(ids) for ids, _ in drawn)
        answers[name] += read_json(saved)
        done = config.samples * sum(map(len, answers.values()))
        run.progress(done, total, "answers", tokens_per_second=written / (time.monotonic() - started))
    return answers


def _chunks(asked: dict[str, list[Prompted]]) -> Iterator[tuple[int, str, list[Prompted]]]:
    number = 0
    for name, questions in asked.items():
        for start in range(0, len(questions), _CHUNK):
            yield number, name, questions[start : start + _CHUNK]
            number += 1


def rank(
    asked: Sequence[Prompted],
    answers: Sequence[Sequence[tuple[list[int], bool]]],
    tokenizer: "Tokenizer",
    margin: float,
) -> tuple[list["Pair"], Counter[str]]:
    """The best against the worst of each question's answers, where they differ by `margin`, and what became of the
    answers and questions: how many were left out for which reason."""
    from journey.data.preferences import Pair
    from journey.evaluate.agreement import f1

    found = []
    counts: Counter[str] = Counter()
    for question, drawn in zip(asked, answers, strict=True):
        counts["questions"] += 1
        counts["answers"] += len(drawn)
        scored: dict[str, float] = {}
        for ids, ended in drawn:
            body = ids[:-1]
            text = tokenizer.decode(body)
            if not ended:
                counts["not_ended"] += 1  # cut off by us: as a whole answer it would teach to stop there
            elif "\N{REPLACEMENT CHARACTER}" in text or any(token in tokenizer.special.values() for token in body):
                counts["not_text"] += 1  # half a character, or a mark of the chat format: not what its text encodes to
            else:
                counts["repeated"] += text in scored
                scored[text] = f1(text, question.reference)
        by_score = sorted(scored, key=lambda text: scored[text])  # stable: of equal ones the first drawn
        if len(scored) < 2:
            counts["one_answer"] += 1
            continue
        best, worst = by_score[-1], by_score[0]
        if scored[best] - scored[worst] < max(margin, 1e-9):
            counts["near_ties"] += 1
            continue
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in (best, worst))
        found.append(Pair(question.id, question.prompt, chosen, rejected, scored[best], scored[worst]))
    return found, counts


def _nothing(name: str, counts: Counter[str], config: Pairs) -> str:
    """Why a split has no pair, and what to change."""
    why = {
        "near_ties": (f"whose answers differ by less than {config.margin} F1", "lower margin or raise samples"),
        "one_answer": ("with fewer than two different answers", "raise max_new_tokens, temperature or samples"),
    }
    remedy = why[max(why, key=lambda key: counts[key])][1]
    return (
        f"the rule ranks nothing in the {name} split: of all {counts['questions']:,} questions there are "
        f"{counts['near_ties']:,} {why['near_ties'][0]} and {counts['one_answer']:,} {why['one_answer'][0]} "
        f"({counts['not_ended']:,} of {counts['answers']:,} answers did not end by themselves): {remedy}"
    )


def _shares(counts: Counter[str]) -> dict[str, Any]:
    """What became of the answers and the questions."""
    from journey.evaluate.statistics import proportion

    def share(part: str, whole: str, convention: str) -> dict[str, Any]:
        hits = np.arange(counts[whole]) < counts[part]
        return proportion(hits, convention=convention).metric()

    return {
        "not_ended": share("not_ended", "answers", "share of the answers cut off by max_new_tokens: left out"),
        "not_text": share("not_text", "answers", "share of the answers with marks of the chat format: left out"),
        "repeated": share("repeated", "answers", "share of the answers that repeat one to the same question"),
        "near_ties": share("near_ties", "questions", "share of the questions whose answers differ by less than margin"),
    }


def _lengths(found: Sequence["Pair"], tokenizer: "Tokenizer") -> dict[str, Any]:
    """How much the rule favours long answers, and how good the answers are."""
    from journey.data.preferences import encode
    from journey.evaluate import statistics
    from journey.evaluate.preferences import preferred

    scores = np.array([[pair.chosen_score, pair.rejected_score] for pair in found], dtype=float)  # (pairs, 2)
    lengths = [[len(ids) for ids in encode(pair, tokenizer)[1:]] for pair in found]
    longer = [chosen - rejected for chosen, rejected in lengths]
    estimates = {
        "length_bias": statistics.mean(longer, "tokens", "chosen minus rejected answer, mean over the training pairs"),
        "longer_chosen": statistics.proportion(
            preferred(longer),
            "",
            "share of the training pairs whose longer answer is the chosen one; equal counts half",
        ),
        "chosen_f1": statistics.mean(scores[:, 0], "", "training pairs"),
        "rejected_f1": statistics.mean(scores[:, 1], "", "training pairs"),
    }
    return {name: estimate.metric() for name, estimate in estimates.items()}


@pairs.tells
def tell(told: Told) -> Story:
    """How many pairs, how their two answers differ, and one of them as it is."""
    from journey.data.preferences import saved
    from journey.evaluate.statistics import Estimate, mean

    found = {name: saved(told.node.path / f"pairs-{name}.jsonl") for name in ("train", "dev", "test")}

    def gap(some: Sequence["Pair"]) -> Estimate | None:
        scored = [(pair.chosen_score or 0.0) - (pair.rejected_score or 0.0) for pair in some]
        return mean(scored, "", "score of the chosen less the rejected") if len(some) > 1 else None

    def bias(some: Sequence["Pair"]) -> Estimate | None:
        longer = [_words(pair.chosen) - _words(pair.rejected) for pair in some]
        return mean(longer, "words", "words of chosen less rejected") if len(some) > 1 else None

    rows = [[Cell(name), f"{len(some):,}", gap(some), bias(some)] for name, some in found.items()]
    head = ["Split", "pairs", "score, chosen less rejected", "words more in the chosen"]
    counted = Table("Pairs, and how their two answers differ, with 95 % intervals", head, rows)
    shown = next((some[0] for some in (found["test"], found["train"]) if some), None)
    words = {"of 1: how much better the chosen scored": gap, "more in the chosen: the length bias": bias}
    changes = [Shown("", e, "a size", said) for said, of in words.items() if (e := of(found["train"])) is not None]
    return Story(
        [facts(told), counted, *([_example(shown)] if shown else [])],
        big=f"{sum(map(len, found.values())):,}",
        what="pairs of answers, ranked",
        changes=changes,
    )


def _words(messages: Messages) -> int:
    from journey.data.words import pieces

    return sum(len(pieces(message["content"])) for message in messages)


def _example(pair: "Pair") -> Samples:
    """One pair as it is, so that the eye sees what a preference is."""
    answers = {
        f"chosen, scored {pair.chosen_score:.2f}": pair.chosen,
        f"rejected, scored {pair.rejected_score:.2f}": pair.rejected,
    }
    asked = "\n".join(message["content"] for message in pair.prompt).strip()
    return Samples([Sample(name, "".join(m["content"] for m in said)) for name, said in answers.items()], asked)
