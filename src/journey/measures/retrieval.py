"""What an index finds, and what a found passage does to the answer."""

from journey.evaluate.conventions import ANSWER_LOSS, WILSON, WORD_F1
from journey.measure import Bench, NoSettings, Seen, measure
from journey.report.blocks import Block, Cell, Dot, Dots, Row, Table, Text
from journey.scores import Against, Items, Score, Taken, estimate, estimates

FIRST = 5  # passages that count as found
NEAR = 10  # passages among which the rank counts
GROUPS = {"named": "named", "not_named": "not named"}
FOUND = {"named": "named functions", "not_named": "functions not named"}
HANDED = {"retrieved": "found", "right": "right", "shuffled": "shuffled", "none": "none"}
OTHERS = {"none": "no passage", "shuffled": "the passage of another question", "right": "the right one"}
COLOURS = {"bm25": 4, "vectors": 5, "hybrid": 0}
SHARES = f"number right of number asked, {WILSON}"
HELPS = (
    "And what does it help? The loss of the documented answer when the model is handed the passage that was found, the "
    "right one, another question's, or none; and the words its own answer then shares with the documented one."
)


@measure(
    of="index",
    title="Retrieval and answers",
    why="Each held-out question has one passage that answers it. Is it among the first five that the search finds "
    "(*Recall@5*), and how near the top (*MRR@10*: 1 when always first, ½ when always second)? "
    "Questions that name their function and questions that only describe it are counted apart.",
    keys=(
        "recall_at_5",
        *(f"{key}.{group}" for key in ("recall_at_5", "mrr_at_10") for group in GROUPS),
        *(f"{key}.{handed}" for key in ("answer_loss", "answer_f1") for handed in HANDED),
    ),
    reads=("questions", "parent"),
    version=1,
)
def retrieval(bench: Bench, config: NoSettings) -> Taken:
    """Ranks, losses and word F1 of each held-out question about the text of the index."""
    from journey.retrieve import evaluate

    if not bench.questions or bench.before is None:
        return Taken()
    found = evaluate.measure(bench.node.path, *bench.before, bench.questions, bench.seed)
    if not found["items"]:
        return Taken()
    ways = list(found["items"][0]["rank"])
    by = found["fusion"] if found["fusion"] in ways else "hybrid"
    facts = {key: found[key] for key in ("passages", "embedder", "fusion", "convention")} | {"ways": ways, "by": by}
    rows = []
    for item in found["items"]:
        row = {key: value for key, value in item.items() if key not in ("rank", "f1")}
        row["not_named"] = not item["named"]
        for way, rank in item["rank"].items():
            row[f"found_{way}"] = rank is not None and rank <= FIRST
            row[f"near_{way}"] = 1 / rank if rank is not None and rank <= NEAR else 0.0
        rows.append(row | {f"f1_{handed}": f1 for handed, f1 in item["f1"].items()})
    others = [way for way in ways if way != by]
    scores = [_recall(by, group, found["passages"]) for group in GROUPS]
    scores += [_mrr(by, group) for group in GROUPS]
    return Taken({"items": Items.of(rows)}, [*scores, _all(by, others), *map(_loss, HANDED), *map(_f1, HANDED)], facts)


def _recall(by: str, group: str, passages: int) -> Score:
    said = GROUPS[group]
    return Score(
        key=f"recall_at_{FIRST}.{group}",
        label=f"{FOUND[group]} found in the first {FIRST}",
        num=f"found_{by}",
        where=group,
        share=True,
        unit="%",
        stated=f"of {passages:,} passages",
        question=f"Function {said}: how often is the passage that answers among the first {FIRST}?",
        item="questions",
        convention=f"{by}; Recall@{FIRST}; {SHARES}",
        brief=True,
    )


def _mrr(by: str, group: str) -> Score:
    return Score(
        key=f"mrr_at_{NEAR}.{group}",
        label=f"MRR@{NEAR}, {FOUND[group]}",
        num=f"near_{by}",
        where=group,
        stated="1: always first",
        question=f"Function {GROUPS[group]}: how near the top does it stand?",
        item="questions",
        convention=f"{by}; MRR@{NEAR}: 1 / rank of the question's own passage, 0 beyond {NEAR}; mean over questions; "
        "bootstrap over questions, 2,000 resamples",
    )


def _all(by: str, others: list[str]) -> Score:
    return Score(
        key=f"recall_at_{FIRST}",
        label=f"passages found in the first {FIRST}",
        num=f"found_{by}",
        share=True,
        unit="%",
        better="higher",
        against=tuple(
            Against(way, f"by {way}", f"Does {by} find more than {way} alone?", num=f"found_{way}") for way in others
        ),
        item="questions",
        convention=f"{by}; Recall@{FIRST}; {SHARES}",
        compared=f"Recall@{FIRST}, all questions",
    )


def _loss(handed: str) -> Score:
    question = "Is the answer easier with the passage that was found than with {}?"
    against = [Against(kind, f"with {said}", question.format(said), num=kind) for kind, said in OTHERS.items()]
    return Score(
        key=f"answer_loss.{handed}",
        label=f"answer loss, passage {HANDED[handed]}",
        num=handed,
        den="tokens",
        unit="nats/token",
        better="lower",
        against=tuple(against) if handed == "retrieved" else (),
        item="questions",
        convention=ANSWER_LOSS,
    )


def _f1(handed: str) -> Score:
    question = "Do answers given with the passage that was found share more words with the documented ones?"
    return Score(
        key=f"answer_f1.{handed}",
        label=f"answer F1, passage {HANDED[handed]}",
        num=f"f1_{handed}",
        unit="%",
        better="higher",
        against=(Against("none", "with none", question, num="f1_none"),) if handed == "retrieved" else (),
        item="questions",
        convention=WORD_F1,
    )


@retrieval.chapter
def draw(seen: Seen) -> list[Block]:
    """Every index of the life."""
    return [block for subject, taken in seen.items() for block in _index(subject.name, taken)]


def _index(name: str, taken: Taken) -> list[Block]:
    items, ways, known = taken.items["items"], taken.facts["ways"], estimates(taken)
    assert isinstance(ways, list)
    if len(items) < 2:
        return [Text(f"{name}: there were too few held-out questions to search for.", "nothing")]
    recall = {(str(way), group): estimate(taken, _recall(str(way), group, 0)) for way in ways for group in GROUPS}
    mrr = {(str(way), group): estimate(taken, _mrr(str(way), group)) for way in ways for group in GROUPS}
    found = [
        Dot(f"{way}, {GROUPS[group]}", e, COLOURS.get(way, 1))
        for group in GROUPS
        for way in map(str, ways)
        if (e := recall[way, group])
    ]
    f = taken.facts
    chosen = f", the {f['fusion']}" if f["fusion"] and f["fusion"] != f["by"] else ""
    caption = f"{f['passages']:,} passages; vectors by {f['embedder']}; answers are given from {f['by']}{chosen}."
    chart = Dots(
        f"Recall@{FIRST} by search", f"% of questions (Recall@{FIRST})", found, (), caption, str(f["convention"])
    )
    rows = [
        [Cell(way), *(recall[way, group] for group in GROUPS), *(mrr[way, group] for group in GROUPS)]
        for way in map(str, ways)
    ]
    counts = ", ".join(f"{len(items.where(group)):,} {said}" for group, said in GROUPS.items())
    head = ["Search", *(f"{s}, {g}" for s in (f"Recall@{FIRST}, %", f"MRR@{NEAR}") for g in GROUPS.values())]
    searches = Table(f"What each search finds ({counts}), with 95 % intervals", head, rows)
    charts = [
        Dots(
            "Answer loss by passage handed over",
            "nats per answer token",
            [Dot(said, known[f"answer_loss.{handed}"], 2) for handed, said in HANDED.items()],
            caption="Loss of the documented answer by the passage that the model is handed. Lower is better.",
        ),
        Dots(
            "Word F1 by passage handed over",
            "F1, %",
            [Dot(said, known[f"answer_f1.{handed}"], 2) for handed, said in HANDED.items()],
            caption="Words that its own answer shares with the documented one. Higher is better.",
        ),
    ]
    return [Row([chart, searches]), Text(HELPS), Row(charts)]
