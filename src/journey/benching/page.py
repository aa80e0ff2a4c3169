"""The page of `journey bench`: how fast, how large and how good each runtime and precision is, in one HTML file."""

from collections.abc import Mapping, Sequence

from journey.benching.lines import SPREAD, remarks, table, title
from journey.benching.numbers import MEANINGS, figures, told
from journey.benching.rounds import Found
from journey.evaluate.statistics import Estimate
from journey.report.blocks import (
    Block,
    Curves,
    Dot,
    Dots,
    Line,
    Page,
    Place,
    Points,
    Prose,
    Row,
    Section,
    Table,
    Text,
)
from journey.report.format import estimate, join
from journey.report.render import render

COLOURS = {"ours": 0, "llama.cpp": 1, "transformers": 2, "vllm": 3}
LEAD = (
    "All take turns, round by round, each in a process of its own, with the same weights, prompts and threads; "
    "greedily. An interval is that of a median over the rounds (95 %, sign test): it says how steady the machine was, "
    "and nothing of another machine. Threads of ours that wait soon fall asleep, those of others when libgomp "
    "lets them: beside other busy programs that costs them much, so measure on a machine that has nothing else to do."
)
NAMES = {
    "prefill": "prefill",
    "first": "first token",
    "decode": "decode ×B",
    "memory": "memory",
    "worse": "change",
    "bits_per_byte": "bits/byte",
}


def page(every: Sequence[Found], machine: str) -> str:
    """The whole HTML."""
    names = join([found.model.name for found in every])
    return render(
        Page(
            title=f"{names}: speed",
            heading=names,
            lede=f"Speed, size and quality in each runtime and precision on {machine}.",
            sections=[_section(i, found, machine) for i, found in enumerate(every)],
            made_by="journey bench",
        )
    )


def _section(i: int, found: Found, machine: str) -> Section:
    made = {record.subject.name: figures(found, record) for record in found.records}
    heads, rows = table(found)
    plots: list[Block] = [_decode(found, made)]
    for key, name, note in (
        ("prefill", "tokens/s of a prompt", ""),
        ("bandwidth", "% of the speed of memory", ""),
        ("worse", "% more bits per byte", "With 95 % intervals over the documents, which are the same for all."),
    ):
        if any(key in numbers for numbers in made.values()):
            plots.append(_dots(found, made, key, name, note))
    meanings = [f"**{NAMES.get(key, key)}**: {told(found, key)}." for key in MEANINGS if _shown(key, made)]
    meanings.append(f"**{SPREAD}**: The widest half of an interval among the speeds of a row, against its median.")
    return Section(
        f"model-{i}",
        found.model.name,
        [
            Row(plots),
            Table(title(found, machine), ["", *heads], rows),
            Points([f"{said}." for said in remarks(found)], "findings"),
            Text("What each number says", "caption"),
            Points([Prose(meaning) for meaning in meanings]),
            Points([f"{record.subject.name}: {record.about['by']}" for record in found.records], "sources"),
        ],
        "" if i else LEAD,
    )


def _shown(key: str, made: Mapping[str, Mapping[str, Estimate]]) -> bool:
    return any(each.partition(".")[0] == key for numbers in made.values() for each in numbers)


def _decode(found: Found, made: Mapping[str, Mapping[str, Estimate]]) -> Curves:
    """A line a subject: tokens/s over the number of texts at once."""
    lines = []
    for record in found.records:
        name, places = record.subject.name, []
        for batch in found.work.batch:
            if e := made[name].get(f"decode.{batch}"):
                places.append(Place(batch, e.value, e.low, e.high, f"{name}, {batch} at once: {estimate(e)}"))
        lines.append(Line(name, places, COLOURS[record.subject.runtime]))
    caption = "What is read for one text serves many: until arithmetic is the limit, more at once are more in all."
    return Curves(
        "Tokens written in a second, over texts at once",
        "texts at once",
        "tokens/s of all together",
        lines,
        caption=caption,
        values=found.work.batch,
        log=True,
    )


def _dots(found: Found, made: Mapping[str, Mapping[str, Estimate]], key: str, unit: str, note: str) -> Dots:
    rows = [
        Dot(record.subject.name, e, COLOURS[record.subject.runtime])
        for record in found.records
        if (e := made[record.subject.name].get(key))
    ]
    return Dots(unit, unit, rows, caption=note)
