"""What the index finds, and what a found passage does to the answer."""

from journey.report import words
from journey.report.chapters.parts import figure, figures, nothing
from journey.report.charts import Dot, dots
from journey.report.estimates import Item, answer_loss, asked, mrr, passage_f1, recall
from journey.report.later import FIRST, GROUPS, used
from journey.report.life import Life, Stage
from journey.report.lists import Notes
from journey.report.markup import MISSING, escape, estimate, table

HANDED = {"retrieved": "found", "right": "right", "shuffled": "shuffled", "none": "none"}
COLOURS = {"bm25": 4, "vectors": 5, "hybrid": 0}


def retrieval(life: Life, notes: Notes) -> str:
    """Every index of the life."""
    stages = [s for s in life.measured if s.measurement.get("retrieval")]
    return "".join(_index(s, notes) for s in stages) or nothing("No index has been measured yet.")


def _index(stage: Stage, notes: Notes) -> str:
    measured = stage.measurement["retrieval"]
    items: list[Item] = measured["items"]
    if len(items) < 2:
        return nothing(f"{escape(stage.name)}: there were too few held-out questions to search for.")
    ways = list(items[0]["rank"])
    groups = {named: said for named, said in GROUPS.items() if len(asked(items, named)) > 1}
    found = [
        Dot(f"{way}, {said}", recall(items, way, named, FIRST), COLOURS.get(way, 1))
        for named, said in groups.items()
        for way in ways
    ]
    chart = dots(found, title=f"Recall@{FIRST} by search", unit=f"% of questions (Recall@{FIRST})")
    how, fusion = measured.get("convention", ""), measured.get("fusion")
    caption = (
        f"{measured['passages']:,} passages; vectors by {escape(measured['embedder'])}; answers are given from "
        f"<b>{escape(used(stage.measurement))}</b>"
        + (f", the {escape(fusion)}" if fusion else "")
        + f".{notes.mark(how)}"
    )
    losses = [Dot(said, answer_loss(items, key), 2) for key, said in HANDED.items()]
    made = [
        figure(chart, caption),
        figure(
            dots(losses, title="Answer loss by passage handed over", unit="nats per answer token"),
            "Loss of the documented answer by the passage that the model is handed. Lower is better.",
        ),
    ]
    if all("f1" in i for i in items):
        shared = [Dot(said, passage_f1(items, key), 2) for key, said in HANDED.items()]
        chart = dots(shared, title="Word F1 by passage handed over", unit="F1, %")
        made.append(figure(chart, "Words that its own answer shares with the documented one. Higher is better."))
    return f"{figures([made[0], _searches(items, ways, groups)])}<p>{words.HANDED}</p>{figures(made[1:])}"


def _searches(items: list[Item], ways: list[str], groups: dict[bool, str]) -> str:
    rows = [
        [
            escape(way),
            *(estimate(recall(items, way, named, FIRST)) if named in groups else MISSING for named in GROUPS),
            *(estimate(mrr(items, way, named)) if named in groups else MISSING for named in GROUPS),
        ]
        for way in ways
    ]
    head = [
        "Search",
        *(f"{score}, {said}" for score in (f"Recall@{FIRST},&nbsp;%", "MRR@10") for said in GROUPS.values()),
    ]
    counts = ", ".join(f"{len(asked(items, named)):,} {said}" for named, said in GROUPS.items())
    return table(f"What each search finds ({counts}), with 95 % intervals", head, rows, style="numbers")
