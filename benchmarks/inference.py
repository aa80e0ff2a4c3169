"""Generation: every runtime and precision in turn, and the ratios by which our engine is judged.

    python benchmarks/inference.py [NODE] [--rounds 6] [--tokens 32] [--prompt 512] [--only models engine sampling]

Of a pocket model (NODE, a model's folder; without one random weights of its shape) and of GPT-2's 124M with random
weights: tables as `journey bench` prints them, then each ratio as the median of the rounds' own ratios. A ratio whose
side is missing here is left out. In this process, in turn too: what a shared beginning spares, what it costs to watch,
and answers drawn as the stage pairs draws them, against transformers' `generate`. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from journey.benching import lines, numbers, prepare, rounds, yardstick
from journey.benching.rounds import Found
from journey.benching.subject import parse
from journey.benching.work import Work
from journey.checkpoint import open_node
from journey.console import make_console
from journey.evaluate.statistics import Estimate
from journey.infer import engine
from journey.infer.engine import Engine
from journey.infer.sampling import Sampling
from journey.infer.sequence import Request
from journey.lineage import surroundings
from journey.pair import open_pair
from journey.xray.record import Run

POCKET, GPT2 = "random-pocket-1m", "random-gpt2-124m"
SUBJECTS = ("ours", "llama.cpp:f16", "llama.cpp:q8_0", "llama.cpp:q4_0", "transformers")
PREFIX, OWN = 512, 16  # tokens that two prompts share, and what each has beside
PROMPTS, PROMPT, SAMPLES, NEW, TEMPERATURE = 128, 60, 4, 40, 0.7  # of pairs
ROWS = 64  # answers that transformers draws at once, as many as our engine

# Of each ratio what is divided by what: a subject, and its batch (0: the prompt).
RATIOS = {
    "decode of ours int8 / llama.cpp q8_0": (("ours:int8", 1), ("llama.cpp:q8_0", 1)),
    "decode of ours int4 / llama.cpp q4_0": (("ours:int4", 1), ("llama.cpp:q4_0", 1)),
    "decode of ours fp16 / llama.cpp f16": (("ours:fp16", 1), ("llama.cpp:f16", 1)),
    "decode of ours fp32 / transformers": (("ours:fp32", 1), ("transformers:fp32", 1)),
    "8 at once / 1, ours fp32": (("ours:fp32", 8), ("ours:fp32", 1)),
    "8 at once / 1, ours int8": (("ours:int8", 8), ("ours:int8", 1)),
    "8 at once, ours fp32 / transformers": (("ours:fp32", 8), ("transformers:fp32", 8)),
    "8 at once, ours int8 / transformers fp32": (("ours:int8", 8), ("transformers:fp32", 8)),
    "prefill, ours fp32 / transformers": (("ours:fp32", 0), ("transformers:fp32", 0)),
    "prefill, ours int8 / llama.cpp q8_0": (("ours:int8", 0), ("llama.cpp:q8_0", 0)),
}


def ratios(found: Found) -> Iterator[tuple[str, Estimate]]:
    """Those of RATIOS whose sides were both measured."""
    rates = {}
    for record in found.records:
        rates[record.subject.name, 0] = [1 / seconds for seconds in record.prefill]
        for batch, taken in record.decode.items():
            rates[record.subject.name, batch] = numbers.rates(taken, batch)
    for name, (a, b) in RATIOS.items():
        if a in rates and b in rates:
            yield name, numbers.ratio(rates[a], rates[b])


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def until_done(made: Engine, prompts: list[list[int]], n: int) -> None:
    """Go on with prompts until each has n more tokens."""
    made.generate(Request(prompt=prompt, max_new_tokens=n) for prompt in prompts)


def shared_beginning(folder: Path, count: int) -> Estimate:
    """Time to the first token of a second prompt that begins as one before it, over that one's."""
    model, _ = open_pair(folder)
    random, first, second = np.random.default_rng(0), [], []
    made = Engine(model)
    for _ in range(count + 1):
        shared = random.integers(model.n_tokens, size=PREFIX).tolist()
        for times in (first, second):
            prompt = [*shared, *random.integers(model.n_tokens, size=OWN).tolist()]
            times.append(seconds(lambda prompt=prompt: until_done(made, [prompt], 1)))
    return numbers.ratio(second[1:], first[1:])


def watching(folder: Path, count: int, tokens: int) -> Estimate:
    """Time of decoding with the X-ray on, over the time without; one text at once."""
    model, _ = open_pair(folder)
    random = np.random.default_rng(0)
    on, off = Engine(model, watch=Run(model)), Engine(model)
    times: dict[Engine, list[float]] = {on: [], off: []}
    for i in range(count + 1):
        prompt = random.integers(model.n_tokens, size=OWN).tolist()
        for made in (on, off) if i % 2 else (off, on):
            times[made].append(seconds(lambda made=made, prompt=prompt: until_done(made, [prompt], tokens)))
    return numbers.ratio(times[on][1:], times[off][1:])


def sampling(folder: Path, count: int) -> tuple[dict[str, float], Estimate]:
    """Answers a second of ours and of transformers' `generate`, and how many times faster ours draws them."""
    model, _ = open_pair(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    how = Sampling(temperature=TEMPERATURE)
    more = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": True, "temperature": TEMPERATURE, "top_k": 0}

    def ours_draws(prompts: list[list[int]]) -> None:
        each = [prompt for prompt in prompts for _ in range(SAMPLES)]
        engine.generate(model, each, max_new_tokens=NEW, stop=set(), sampling=how, batch_size=ROWS)

    def theirs_draws(prompts: list[list[int]]) -> None:
        for start in range(0, len(prompts), ROWS // SAMPLES):
            ids = torch.tensor(prompts[start : start + ROWS // SAMPLES])
            mask = torch.ones_like(ids)
            theirs.generate(ids, attention_mask=mask, num_return_sequences=SAMPLES, pad_token_id=0, **more)

    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {"ours": [], "transformers": []}
    for _ in range(count + 1):
        prompts = random.integers(model.n_tokens, size=(PROMPTS, PROMPT)).tolist()
        for name, draw in (("ours", ours_draws), ("transformers", theirs_draws)):
            times[name].append(seconds(lambda draw=draw, prompts=prompts: draw(prompts)))
    rates = {name: [PROMPTS * SAMPLES / s for s in taken[1:]] for name, taken in times.items()}
    each = {name: float(np.median(taken)) for name, taken in rates.items()}
    return each, numbers.ratio(rates["ours"], rates["transformers"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("node", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--only", nargs="+", choices=("models", "engine", "sampling"))
    args = parser.parse_args()
    wanted = args.only or ("models", "engine", "sampling")
    work = Work(prompt=args.prompt, tokens=args.tokens, rounds=args.rounds, documents=0)
    machine, console = surroundings()["machine"], make_console()
    print(f"{machine['cpu']}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    found: dict[str, Estimate] = {}
    models, each = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        pocket, gpt2 = args.node or Path(scratch) / POCKET, Path(scratch) / GPT2
        for folder in [gpt2] if args.node else [pocket, gpt2]:
            yardstick.write(folder.name, folder)
        if "models" in wanted:
            for name, node in (("pocket", args.node and open_node(args.node)), (GPT2, None)):
                files, subjects = Path(scratch) / f"{name}-files", parse(SUBJECTS)
                files.mkdir()
                named = POCKET if name == "pocket" and node is None else name
                model, left_out = prepare.prepare(named, node, subjects, 0, Path(scratch), files, console)
                of = rounds.measure(model, subjects, work, console, left_out)
                print("\n".join(lines.lines(of, machine["cpu"])))
                models.append(numbers.as_json(of))
                found |= {f"{named}: {ratio}": value for ratio, value in ratios(of)}
        if "engine" in wanted:
            found[f"{GPT2}: first token, {PREFIX} of its tokens shared / not"] = shared_beginning(gpt2, args.rounds)
            found["pocket: decode watched / not, seconds"] = watching(pocket, 5 * args.rounds, 4 * args.tokens)
            found[f"{GPT2}: decode watched / not, seconds"] = watching(gpt2, 5 * args.rounds, args.tokens)
        if "sampling" in wanted:
            each, found["pocket: answers a second, ours / transformers"] = sampling(pocket, args.rounds)
            print("answers a second:", ", ".join(f"{name} {rate:,.0f}" for name, rate in each.items()))
    for name, e in found.items():
        print(f"{e.value:7.2f} × [{e.low:.2f}, {e.high:.2f}]  {name}")
    told = {"ratios": {name: e.metric() for name, e in found.items()}, "answers_per_second": each}
    print(json.dumps(told | {"models": models, "rounds": args.rounds, "machine": machine}))


if __name__ == "__main__":
    main()
