"""HumanEval: Python functions completed by the model, and run against their tests where they can do no harm."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from journey.data.drawing import draw
from journey.errors import JourneyError
from journey.evaluate.benchmark.tasks import BENCHMARKS, find, fingerprint, folder_of, rows
from journey.evaluate.conventions import WILSON
from journey.evaluate.passing import CONVENTION, pass_at_k
from journey.fields import Amount, Count, NonNegative
from journey.machine import cores
from journey.measure import Bench, measure
from journey.scores import JSON, Items, Score, Taken, Value

if TYPE_CHECKING:
    from journey.evaluate.sandbox import Problem

UNTIL = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]  # the harness's, after Chen et al.
LONGEST = 512  # tokens of a completion; the longest of HumanEval's own solutions has 460 of GPT-2's
KS = (1, 10, 100)  # those that papers quote
FENCE = re.compile(r"```(?:python|py)?\n(.*?)(?:```|$)", re.DOTALL)
HUB = "openai/openai_humaneval"


@dataclass(frozen=True)
class HumanEval:
    """Settings of HumanEval."""

    items: Amount = 0
    """How many of its problems are asked, drawn at random by the seed; 0: all 164."""
    samples: Count = 1
    """Completions of each problem: pass@k needs k at least."""
    temperature: NonNegative = 0.0
    """0: the likeliest completion; with several samples 0.2 to 0.8 is usual."""
    chat: bool = False
    """Ask through the chat format, and take the code block of the answer."""
    mark: bool = False
    """The document mark before every prompt."""
    data: str = ""
    """A folder with the benchmark's file; none: JOURNEY_DATA/bench where that has it, else the Hub."""

    def __post_init__(self) -> None:
        if self.samples > 1 and not self.temperature:
            raise JourneyError("humaneval: several samples at temperature 0 are the same one: give temperature, as 0.2")


@measure(
    of="model",
    title="HumanEval",
    why="164 Python functions, each with its docstring; the model writes the body, and it runs against tests that it "
    "has not seen, in a sandbox. *pass@k*: how often at least one of k completions passes. A model of this size hardly "
    "ever writes one that does.",
    keys=("humaneval.pass@1", "humaneval.pass@10", "humaneval.pass@100"),
    version=1,
    default=False,
    data=lambda config: fingerprint(BENCHMARKS["humaneval"], folder_of(config.data)),
)
def humaneval(bench: Bench, config: HumanEval) -> Taken:
    """What came of every completion of every problem."""
    from lm_eval.api.instance import Instance

    from journey.evaluate import sandbox
    from journey.evaluate.benchmark.lm import Ours, check_chat
    from journey.evaluate.kept import Kept
    from journey.evaluate.trained_on import items_read

    walls = sandbox.isolation()
    if config.chat:
        check_chat(bench.tokenizer, bench.node.name)
    source, chosen = _problems(config, bench.seed)
    kept = Kept(bench.scratch / "humaneval-answers.jsonl" if bench.node.is_model else None)
    lm = Ours(bench.model, bench.tokenizer, mark=config.mark, kept=kept, progress=bench.progress)
    how = {
        "until": [] if config.chat else UNTIL,
        "max_gen_toks": LONGEST,
        "do_sample": config.temperature > 0,
        "temperature": config.temperature,
        "top_p": 0.95,
    }
    again = range(config.samples)
    prompts = [_asked(lm, problem) if config.chat else problem.prompt for _, problem in chosen]
    requests = [Instance("generate_until", {}, (prompt, how), i) for i, prompt in enumerate(prompts) for _ in again]
    written = lm.generate_until(requests)
    problems = [problem for _, problem in chosen for _ in again]
    bodies = [_code(text, p.entry_point) if config.chat else text for text, p in zip(written, problems, strict=True)]
    judged = sandbox.run_all(
        list(zip(problems, bodies, strict=True)),
        workers=cores(),
        progress=lambda done: bench.progress(done, len(bodies), "programs"),
    )
    ks = [k for k in KS if k <= config.samples]
    table: list[dict[str, Value]] = []
    shown: list[JSON] = []
    for i, (id, problem) in enumerate(chosen):
        first = i * config.samples
        right = sum(outcome.passed for outcome in judged[first : first + config.samples])
        table.append({"id": id, "right": right, **{f"pass@{k}": pass_at_k(config.samples, right, k) for k in ks}})
        said: dict[str, JSON] = {"id": id, "prompt": problem.prompt[-600:], "target": ""}
        shown.append(said | {"written": bodies[first], "why": judged[first].why})
    read, columns = items_read(bench.node, [problem.prompt for _, problem in chosen])
    table = [row | dict(zip(columns, each, strict=True)) for row, *each in zip(table, *columns.values(), strict=True)]
    convention = _convention(config, source, len(chosen), len(lm.cut), walls)
    kept.forget()
    facts: dict[str, JSON] = {"convention": convention, "shots": 0, "cut": len(lm.cut), "read": read, "items": shown}
    return Taken({"items": Items.of(table)}, _scores(ks, table, convention), facts)


def _problems(config: HumanEval, seed: int) -> tuple[str, "list[tuple[str, Problem]]"]:
    """Where the problems come from, and those that are asked, each with its id."""
    from journey.evaluate.sandbox import Problem

    folder = folder_of(config.data)
    files = find(BENCHMARKS["humaneval"], folder) if folder else {}
    every: Sequence[Mapping[str, Any]]
    if "test" in files:
        source, every = files["test"].name, [row for _, row in rows(BENCHMARKS["humaneval"], files["test"])]
    else:
        import datasets

        try:
            source, every = "the Hub", list(datasets.load_dataset(HUB, split="test"))
        except Exception as error:  # whatever a library raises, as one line
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            raise JourneyError(
                f"humaneval cannot be had from the Hub, and no file of it is at hand ({cause})"
            ) from error
    chosen = draw(every, config.items or len(every), seed)
    return source, [(row["task_id"], Problem(row["prompt"], row["test"], row["entry_point"])) for row in chosen]


def _asked(lm: Any, problem: "Problem") -> str:
    """The question that a chat model is asked."""
    content = f"Complete this Python function. Answer with its whole code.\n\n```python\n{problem.prompt}\n```"
    return str(lm.apply_chat_template([{"role": "user", "content": content}]))


def _code(answer: str, name: str) -> str:
    """What goes on after the prompt: of an answer with code the block. One that begins with the function again defines
    it anew behind the prompt's, which has nothing but its docstring."""
    block = FENCE.search(answer)
    code = block[1] if block else answer
    return f"    pass\n\n{code}" if f"def {name}" in code else code


def _scores(ks: Sequence[int], table: Sequence[Mapping[str, Value]], said: str) -> list[Score]:
    whole = {k: all(row[f"pass@{k}"] in (0, 1) for row in table) for k in ks}
    first = Score(
        key="humaneval.pass@1",
        label="HumanEval, pass@1",
        num="pass@1",
        share=whole[1],
        unit="%",
        better="higher",
        parent=True,
        question="Does it complete more functions right than {parent}?",
        item="problems",
        convention=f"{CONVENTION}; {said}" + (f"; {WILSON}" if whole[1] else ""),
        compared=said,
        full=10.0,
    )
    more = [
        replace(first, key=f"humaneval.pass@{k}", label=f"HumanEval, pass@{k}", num=f"pass@{k}", share=hit, full=None)
        for k, hit in whole.items()
        if k > 1
    ]
    return [first, *more]


def _convention(config: HumanEval, source: str, n: int, n_cut: int, walls: str) -> str:
    """How it was asked and run."""
    drawn = (
        f"{config.samples} samples at temperature {config.temperature:g}, top-p 0.95"
        if config.temperature
        else "greedy"
    )
    parts = [
        f"0-shot; {drawn}",
        f"{n:,} problems drawn at random by the seed" if config.items and n == config.items else f"all {n:,} problems",
        f"rows of {source}",
        "asked in the chat format" if config.chat else "asked plainly",
        f"run in a sandbox: {walls}",
    ]
    if n_cut:
        parts.append(f"{n_cut:,} prompts lost their beginning, being longer than the context")
    return "; ".join(parts)
