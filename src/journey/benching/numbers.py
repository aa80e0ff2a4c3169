"""What was timed, as numbers: medians over the rounds, each with its unit and how it was counted."""

from collections.abc import Iterator, Sequence
from math import log, nan
from typing import Any

import numpy as np

from journey.benching.rounds import Found, Record
from journey.evaluate import statistics
from journey.evaluate.statistics import Estimate, median
from journey.scores import scaled

# Of each number a sentence; {…} are those of the work.
MEANINGS = {
    "prefill": "Tokens of a prompt of {prompt} that are read in a second, until the first token of the answer is known",
    "first": "Milliseconds until that first token is known",
    "decode": "Tokens written in a second by so many texts together, each going on by {tokens} after a prompt of "
    "{after}; the reading of the prompts is not counted",
    "p50": "Milliseconds from one token of a text to its next, at one text at once: half of them take no longer",
    "p99": "The same, of which 99 in 100 take no longer",
    "memory": "The most that its process held while it computed, less what it held with all imports before the model "
    "was opened: weights, cache and scratch",
    "weights": "Bytes of all weights, as they lie in memory or in the file",
    "bits_per_byte": "Bits that it needs for a byte of held-out text",
    "worse": "Bits per byte against the first of the list on the same documents",
    "bandwidth": "Bytes of weights that each token reads, times tokens a second at one text at once, over the speed at "
    "which all threads together read memory here; above 100 % the weights lie in the caches",
}


def figures(found: Found, record: Record) -> dict[str, Estimate]:
    """Every number of a subject by its key; decode.8 is of eight texts at once."""
    said = {key: told(found, key) for key in MEANINGS}
    prompt, batches = found.work.prompt, record.decode
    made = {
        "prefill": median([prompt / s for s in record.prefill], "tokens/s", said["prefill"]),
        "first": median([1000 * s for s in record.prefill], "ms", said["first"]),
    }
    for batch, rounds in batches.items():
        made[f"decode.{batch}"] = median(rates(rounds, batch), "tokens/s", said["decode"])
    if alone := [1000 * s for steps in batches.get(1, ()) for s in steps]:
        for name, share in (("p50", 50), ("p99", 99)):
            made[name] = Estimate(float(np.percentile(alone, share)), nan, nan, len(alone), "ms", said[name])
    made["memory"] = Estimate(record.running, nan, nan, 1, "bytes", said["memory"])
    made["weights"] = Estimate(record.about["weights"], nan, nan, 1, "bytes", said["weights"])
    if record.nats:
        bits = [nats / log(2) for nats in record.nats]
        made["bits_per_byte"] = statistics.ratio(bits, found.model.n_bytes, "bits/byte", said["bits_per_byte"])
        if (first := next(each for each in found.records if each.nats)) is not record:
            change = statistics.change(record.nats, first.nats, "", f"{said['worse']}: {first.subject.name}")
            made["worse"] = scaled(change, 100, "%")
    if 1 in batches:
        read = record.about["read"]
        shares = [100 * read * r / speed for r, speed in zip(rates(batches[1], 1), found.reading, strict=True)]
        made["bandwidth"] = median(shares, "%", said["bandwidth"])
    return made


def told(found: Found, key: str) -> str:
    """What a number says, of this work."""
    work = found.work
    return MEANINGS[key].format(prompt=work.prompt, tokens=work.tokens, after=work.after(found.model.n_ctx))


def reading(found: Found) -> Estimate:
    """How fast memory is read, in GB/s."""
    return median([speed / 1e9 for speed in found.reading], "GB/s", "memory read by all threads, once a round")


def rates(rounds: Sequence[Sequence[float]], batch: int) -> list[float]:
    """Tokens a second of all texts together, of each round."""
    return [batch * len(steps) / sum(steps) for steps in rounds]


def ratio(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """How many times b a is: the median over the rounds, in which both took their turn."""
    return median([x / y for x, y in zip(a, b, strict=True)], "×", "the median of the rounds' own ratios")


def alike(found: Found) -> Iterator[tuple[Record, Record, int, int]]:
    """Of each exact subject but the first, with the first: how many of its texts are that one's, id for id, and of how
    many."""
    exact = [record for record in found.records if record.subject.is_exact]
    for record in exact[1:]:
        same = sum(a == b for a, b in zip(exact[0].texts, record.texts, strict=True))
        yield record, exact[0], same, len(record.texts)


def as_json(found: Found) -> dict[str, Any]:
    """All of it: numbers, and every time that they were made of."""
    model, work = found.model, found.work
    same = {record.subject.name: {"equal": equal, "n": n} for record, _, equal, n in alike(found)}
    return {
        "name": model.name,
        "parameters": model.n_params,
        "n_ctx": model.n_ctx,
        "work": {"prompt": work.prompt, "tokens": work.tokens, "after": work.after(model.n_ctx)},
        "rounds": len(found.reading),
        "documents": len(model.n_bytes),
        "reading": reading(found).metric(),
        "subjects": {
            record.subject.name: {
                "metrics": {key: number.metric() for key, number in figures(found, record).items()},
                **record.about,
                "same_texts": same.get(record.subject.name),
                "seconds": {"prefill": record.prefill, "decode": record.decode},
                "nats": record.nats,
            }
            for record in found.records
        },
        "shortened": found.shortened,
        "left_out": found.left_out,
    }
