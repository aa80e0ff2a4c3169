"""The benchmarks that papers quote, each a measure under its name in lm-evaluation-harness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from journey.errors import JourneyError
from journey.evaluate.conventions import WILSON
from journey.evaluate.suite.variants import KINDS
from journey.evaluate.suite.views import calibration, confidence
from journey.fields import Amount
from journey.measure import Bench, Measure, measure
from journey.measures import ANY
from journey.scores import Against, Items, Score, Taken, Value

if TYPE_CHECKING:
    from journey.evaluate.benchmark.asking import Answered, Asked

ROUNDED = 1e-6  # a sum of probabilities may be so much above 1
CHANCE = Against("chance", "by guessing", "Is it right more often than by guessing?", num="chance")
READS = {  # metrics of the harness -> how each is counted
    "acc": "the option of the highest log-probability",
    "acc_norm": "the option of the highest log-probability by characters (lm-eval's acc_norm)",
    "acc_tokens": "the option of the highest log-probability by tokens (build-nanogpt's and llm.c's acc_norm)",
    "exact_match": "the number after ####, as lm-eval's strict match",
    "exact_match_flexible_extract": "the last number of the answer, as lm-eval's flexible extract",
}


@dataclass(frozen=True)
class Benchmark:
    """Settings of a benchmark."""

    items: Amount = 0
    """How many of its items are asked, drawn at random by the seed; 0: all."""
    shots: Amount | None = None
    """Worked examples before each item; none: as many as the task file says."""
    chat: bool = False
    """Ask through the chat format, as a chat model was trained; the harness's --apply_chat_template."""
    mark: bool = False
    """The document mark before every prompt; the harness's add_bos_token=True."""
    engine: Literal["journey", "lm-eval"] = "journey"
    """Who computes: ours, or transformers through lm-eval (slower, the same number)."""
    helm: bool = False
    """HELM's views beside the accuracy: calibration, and every item again with typos, capitals, spaces and the like."""
    data: str = ""
    """A folder with the benchmark's files; none: JOURNEY_DATA/bench where that has them, else the Hub."""


def named(name: str) -> Measure:
    """The measure of a benchmark: one of the table, or `lm_eval:` and the name of any task of the harness."""
    from journey.evaluate.benchmark.tasks import BENCHMARKS, fingerprint, folder_of

    known = BENCHMARKS.get(name)
    task = name.removeprefix(ANY)
    metrics = [*READS, "perplexity"] if known else []
    metrics += [f"{metric}.{part}" for metric in metrics for part in ("clean", "overlapping", *KINDS, "worst")]

    def fingerprints(config: Benchmark) -> Mapping[str, str]:
        return fingerprint(known, folder_of(config.data)) if known else {"hub": task}

    def body(bench: Bench, config: Benchmark) -> Taken:
        return _take(task, bench, config)

    body.__name__, body.__doc__ = name, "What came of each item."
    title = known.title if known else f"{task} (lm-eval)"
    why = f"{known.title}: {known.asks}." if known else f"The task *{task}* of the installed lm-eval."
    return measure(
        of="model",
        title=title,
        why=f"{why} The questions and what counts as right are those of lm-evaluation-harness. A small model is mostly "
        "at chance: read the interval first.",
        keys=tuple(dict.fromkeys(f"{task}.{metric}" for metric in metrics)),
        libraries=("lm_eval", "transformers"),
        version=1,
        default=False,
        data=fingerprints,
    )(body)


def _take(task: str, bench: Bench, config: Benchmark) -> Taken:
    """Ask, and count."""
    from journey.evaluate.benchmark import asking
    from journey.evaluate.kept import Kept
    from journey.evaluate.trained_on import items_read

    asked = _load(task, config, bench.seed)
    kept = Kept(bench.scratch / f"{task.replace('/', '%2F')}-answers.jsonl" if bench.node.is_model else None)
    lm = _lm(bench, config, kept)
    answered = asking.ask(lm, asked, config.chat)
    n_cut = len(getattr(lm, "cut", ()))  # before the prompts are reworded
    read, columns = items_read(bench.node, [each.text for each in answered])
    if config.helm:
        columns |= _reworded(task, lm, config, bench.seed, answered)
    engine = "lm-eval with transformers" if config.engine == "lm-eval" else "journey"
    found = _counted(task, asked, answered, lm, config, engine, columns, n_cut)
    kept.forget()
    return replace(found, facts={**found.facts, "read": read})


def _reworded(task: str, lm: Any, config: Benchmark, seed: int, answered: "Sequence[Answered]") -> dict[str, list[Any]]:
    """What is quoted of each item, asked again under each change of its wording, whether that changed its prompt, and
    the least of them all."""
    from journey.evaluate.benchmark import asking
    from journey.evaluate.benchmark.lm import Reworded

    if config.chat:
        raise JourneyError(f"{task}: with chat the prompts are conversations, which are not reworded: leave out helm")
    metric = _quoted(task, answered)
    clean = [each.metrics[metric] for each in answered]
    columns: dict[str, list[Any]] = {}
    for kind in KINDS:
        reworded = Reworded(lm, kind)
        found = asking.ask(reworded, _load(task, config, seed))
        columns[kind] = [each.metrics[metric] for each in found]
        columns[f"{kind}.changed"] = [each.prompt in reworded.changed for each in found]
    return columns | {"worst": [min(each) for each in zip(clean, *(columns[kind] for kind in KINDS), strict=True)]}


def _load(task: str, config: Benchmark, seed: int) -> "Asked":
    from journey.evaluate.benchmark import asking
    from journey.evaluate.benchmark.tasks import folder_of

    return asking.load(task, folder_of(config.data), items=config.items, shots=config.shots, seed=seed)


def asked_of(task: str, lm: Any, engine: str, config: Benchmark, seed: int) -> Taken:
    """The same of a model that is no node: `lm` as the harness calls it, and what it is, in words."""
    from journey.evaluate.benchmark import asking

    asked = _load(task, config, seed)
    answered = asking.ask(lm, asked, config.chat)
    found = _counted(task, asked, answered, lm, config, engine, {}, len(lm.cut))
    return replace(found, facts={**found.facts, "read": {"unknown": [f"what {engine} was trained on"]}})


def _counted(
    task: str,
    asked: "Asked",
    answered: "Sequence[Answered]",
    lm: Any,
    config: Benchmark,
    engine: str,
    columns: Mapping[str, Sequence[Any]],
    n_cut: int,
) -> Taken:
    """Items and scores of what was answered; `columns` are further ones, an entry an item."""
    tokens = getattr(lm, "tokens", {})
    rows = [_row(each, [tokens.get((each.prompt, option)) for option in each.options]) for each in answered]
    rows = [row | dict(zip(columns, values, strict=True)) for row, *values in zip(rows, *columns.values(), strict=True)]
    said = _convention(asked, config, len(answered), n_cut, engine)
    facts: dict[str, Any] = {
        "convention": said,
        "shots": asked.shots,
        "cut": n_cut,
        "items": [_shown(each) for each in answered],
    }
    if config.helm and all(each.options and each.metrics.get("acc") in (0, 1) for each in answered):
        right = [bool(each.metrics["acc"]) for each in answered]  # of the likeliest option, which confidence is of
        facts["calibration"] = calibration([confidence(each.logprobs) for each in answered], right)
    return Taken({"items": Items.of(rows)}, _scores(task, asked, rows, answered, said), facts)


def _lm(bench: Bench, config: Benchmark, kept: Any) -> Any:
    """The model as the harness calls it."""
    from journey.evaluate.benchmark.lm import Ours, check_chat

    if config.chat:
        check_chat(bench.tokenizer, bench.node.name)
    if config.engine == "lm-eval":
        from journey.evaluate.harness import transformers_lm

        return transformers_lm(bench.node.path, config.mark)
    return Ours(bench.model, bench.tokenizer, mark=config.mark, kept=kept, progress=bench.progress)


def _quoted(task: str, answered: "Sequence[Answered]") -> str:
    """The metric that is quoted of a task."""
    from journey.evaluate.benchmark.tasks import BENCHMARKS

    metrics = [metric for metric in answered[0].metrics if metric != "perplexity"]  # which is no percent
    return BENCHMARKS[task].metric if task in BENCHMARKS else next(iter(metrics), "perplexity")


def _row(each: "Answered", tokens: Sequence[int | None]) -> dict[str, Value]:
    """An item's columns: the harness's metrics, what guessing would bring, and for choices what was picked."""
    row: dict[str, Value] = {"id": each.id, "part": each.part, **each.metrics}
    if "perplexity" in each.metrics:  # the harness's number for an item is ln p of the word
        nats = -each.metrics["perplexity"]
        row |= {"perplexity.0": nats, "perplexity.1": 1.0, "perplexity": nats}
    if each.options:
        row |= {"chance": each.chance, "gold": each.gold, "picked": _best(each.logprobs)}
        if "acc_norm" in each.metrics and each.gold is not None and None not in tokens:
            by_tokens = [p / max(1, n or 1) for p, n in zip(each.logprobs, tokens, strict=True)]
            row |= {"acc_tokens": float(_best(by_tokens) == each.gold)}
    return row


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)  # the first of equals, as the harness has it


def _shown(each: "Answered") -> dict[str, Any]:
    """An item for the file that holds every one; of a long prompt the end."""
    shown: dict[str, Any] = {"id": each.id, "prompt": each.prompt[-600:]}
    if each.options:
        return shown | {"options": [*each.options], "logprobs": [*each.logprobs], "gold": each.gold}
    return shown | {"target": each.target, "written": each.written}


def _scores(
    task: str, asked: "Asked", rows: Sequence[Mapping[str, Value]], answered: Sequence["Answered"], said: str
) -> list[Score]:
    """A score for each metric; the one that is quoted is in the matrix of changes, and compared with guessing."""
    from journey.evaluate.benchmark.tasks import BENCHMARKS

    known = BENCHMARKS.get(task)
    title, quoted = known.title if known else task, _quoted(task, answered)
    made = []
    for metric in [*answered[0].metrics, *(["acc_tokens"] if "acc_tokens" in rows[0] else [])]:
        if metric == "perplexity":
            counted = f"e to the mean -ln p of what follows; {said}"
            name = f"{title}, perplexity"
            made.append(
                Score(f"{task}.{metric}", name, metric, formula="perplexity", better="lower", convention=counted)
            )
            continue
        counted = f"{READS[metric]}; {said}" if known and metric in READS else said
        share = all(-ROUNDED <= float(row[metric] or 0) <= 1 + ROUNDED for row in rows)
        grouped = len({row["part"] for row in rows}) > 1
        wilson = all(row[metric] in (0, 1) for row in rows) and not grouped
        made.append(
            Score(
                key=f"{task}.{metric}",
                label=title if metric == quoted else f"{title}, {metric}",
                num=metric,
                share=wilson,
                unit="%" if share else "",
                better="higher" if asked.higher_is_better(metric) else "lower",
                parent=True,
                against=(CHANCE,) if metric == quoted and "chance" in rows[0] else (),
                question=f"Is it better at {title} ({metric}) than {{parent}}?",
                convention=f"{counted}; {WILSON}" if wilson else counted,
                compared=counted,
                item="subjects" if grouped else "items",
                cluster="part" if grouped else "",
                full=10.0 if metric == quoted else None,
            )
        )
    main = next(score for score in made if score.key == f"{task}.{quoted}")
    return [*made, *_of_rewordings(main, rows), *_by_training(main, rows)]


def _of_rewordings(main: Score, rows: Sequence[Mapping[str, Value]]) -> list[Score]:
    """The number under each change of the wording, of the items that it changes, beside the same items unchanged."""
    if "worst" not in rows[0]:
        return []
    asks = "Does a change of the wording cost it right answers?"
    alone = replace(main, against=(Against("unchanged", "unchanged", asks, num=main.num),), parent=False, full=None)
    made = [
        replace(alone, key=f"{main.key}.{k}", label=f"{main.label}, {k}", num=k, where=f"{k}.changed") for k in KINDS
    ]
    return [*made, replace(alone, key=f"{main.key}.worst", label=f"{main.label}, under every change", num="worst")]


def _by_training(main: Score, rows: Sequence[Mapping[str, Value]]) -> list[Score]:
    """The number on items that stand in training, and on those that do not."""
    if not any(row.get("overlapping") for row in rows):
        return []
    apart = {"clean": "not in training", "overlapping": "in training"}
    alone = replace(main, against=(), parent=False, full=None)
    return [
        replace(alone, key=f"{main.key}.{column}", label=f"{main.label}, items {told}", where=column)
        for column, told in apart.items()
    ]


def _convention(asked: "Asked", config: Benchmark, n: int, n_cut: int, engine: str) -> str:
    """How it was asked, in words that belong beside the number."""
    parts = [
        f"{asked.shots}-shot",
        f"{n:,} items drawn at random by the seed" if config.items and n == config.items else f"all {n:,} items",
        f"rows of {asked.source}",
        "asked in the chat format" if config.chat else "asked plainly",
        "the document mark before each prompt" if config.mark else "no mark before the prompt",
        f"computed by {engine}",
    ]
    if n_cut:
        parts.append(f"{n_cut:,} prompts lost their beginning, being longer than the context")
    return "; ".join(parts)
