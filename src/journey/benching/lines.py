"""What was measured, in a terminal."""

from collections.abc import Iterator, Mapping
from math import isfinite

from journey.benching.numbers import alike, figures, reading
from journey.benching.rounds import Found
from journey.evaluate.statistics import Estimate
from journey.report.format import MISSING, big, bytes_, columns, number

# Of each column its number's key and its head; decode is a column a batch.
HEADS = {
    "prefill": "prefill",
    "first": "first token",
    "decode": "decode",
    "p50": "p50",
    "p99": "p99",
    "memory": "memory",
    "weights": "weights",
    "bits_per_byte": "bits/byte",
    "worse": "change",
    "bandwidth": "bandwidth",
}
SPREAD = "±"


def table(found: Found) -> tuple[list[str], list[list[str]]]:
    """The head, and of each subject a row that it names; a column that nobody has a number for is left out."""
    made = {record.subject.name: figures(found, record) for record in found.records}
    keys = [each for key in HEADS for each in _keys(found, key)]
    keys = [key for key in keys if any(key in numbers for numbers in made.values())]
    heads = [HEADS.get(key) or f"decode ×{key.partition('.')[2]}" for key in keys]
    rows = [[name, *(cell(key, of.get(key)) for key in keys), spread(of)] for name, of in made.items()]
    return [*heads, SPREAD], rows


def _keys(found: Found, key: str) -> list[str]:
    return [f"decode.{batch}" for batch in found.work.batch] if key == "decode" else [key]


def cell(key: str, e: Estimate | None) -> str:
    """A number as a table has it."""
    if e is None:
        return MISSING
    if e.unit == "bytes":
        return bytes_(e.value)
    if e.unit == "%":
        return number(e.value, "%", decimals=0 if key == "bandwidth" else 2, sign=key == "worse")
    if e.unit == "bits/byte":
        return number(e.value, decimals=4)
    return number(e.value, decimals=0 if e.value >= 100 else 1 if e.value >= 10 else 2)


def lines(found: Found, machine: str) -> Iterator[str]:
    """A table, and what has to be said beside it."""
    heads, rows = table(found)
    yield from columns(title(found, machine), heads, rows)
    yield from remarks(found)


def title(found: Found, machine: str) -> str:
    """What was measured, and where."""
    n, threads = len(found.reading), found.records[0].about["threads"]
    speed = number(reading(found).value, "GB/s", decimals=1)
    return (
        f"{found.model.name}, {big(found.model.n_params)} parameters: tokens/s, ms and bytes, medians of {n} rounds in "
        f"turn, on {machine}, threads: {threads}, which read {speed}"
    )


def remarks(found: Found) -> Iterator[str]:
    """What was shortened, left out or came out otherwise than it should."""
    work, model = found.work, found.model
    yield f"prefill reads {work.prompt} tokens; decode goes on by {work.tokens} after {work.after(model.n_ctx)}"
    yield from found.shortened
    for name, why in found.left_out.items():
        yield f"{name} is left out: {why}"
    same = list(alike(found))
    if same and all(equal == n for _, _, equal, n in same):
        yield f"all of full precision wrote the same {same[0][3]} texts"
    for record, first, equal, n in same:
        if equal < n:
            yield f"{record.subject.name} wrote {n - equal} of {n} texts otherwise than {first.subject.name}"


def spread(numbers: Mapping[str, Estimate]) -> str:
    """The widest half of an interval of a speed, against its median."""
    timed = [e for e in numbers.values() if e.unit == "tokens/s" and isfinite(e.low)]
    return number(max(50 * (e.high - e.low) / e.value for e in timed), "%", decimals=0) if timed else MISSING
