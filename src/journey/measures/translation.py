"""Held-out pairs translated: how many exactly, how near the others come, and where the decoder looked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from journey.evaluate.conventions import WILSON
from journey.fields import Count
from journey.machine import device
from journey.measure import Bench, Seen, Subject, dots, measure, table
from journey.report.blocks import Block, Cell, Fold, Heading, Heat, Prose, Row, Table, Text
from journey.scores import JSON, Against, Items, Score, Taken, estimate

EXAMPLES, MISSES = 2, 12  # pictures of attention, and wrong translations, that are shown
LOOKS = Prose(
    "Where the decoder looks while it writes. Each row is a token that it wrote, each column one that the encoder "
    "read; the stronger the colour, the more of its attention went there, as the mean over the heads of a block. A row "
    "adds up to 1. Nobody told it which words belong together: what stands here it has found out."
)


@dataclass(frozen=True)
class Translation:
    """Settings of the measure."""

    beams: Count = 4
    """How many beginnings of a translation are kept while it is searched for (1: the likeliest token each time)."""


@measure(
    of="seq2seq",
    title="Held-out pairs, translated",
    why="Each source of the test split is translated, and what comes out is compared with the target. *Exact* is right "
    "to the last letter; *BLEU* counts the sequences of up to four words that the reference has too, *chrF* those of "
    "up to six letters, so that a near miss is nearer than a far one.",
    keys=("exact_match", "bleu", "chrf"),
    libraries=("sacrebleu",),
    version=1,
)
def translation(bench: Bench, config: Translation) -> Taken:
    """The translations of the node's held-out pairs, and the cross-attention of a few."""
    from journey.data.translations import saved
    from journey.evaluate import overlap
    from journey.evaluate import translation as scorer
    from journey.pair import open_seq2seq

    pairs = saved(bench.node.path / f"translations-{bench.split}.jsonl")
    model, tokenizer = open_seq2seq(bench.node.path)
    model.to(device())
    items = Items.of(scorer.score(model, tokenizer, pairs, config.beams))
    search = f"beam search with {config.beams}" if config.beams > 1 else "the likeliest token each time"
    greedy = Against(
        "greedy",
        "taken greedily",
        f"Does a search with {config.beams} beams get more of them right than the likeliest token each time?",
        num="greedy",
    )
    exact = Score(
        key="exact_match",
        label="held-out pairs translated exactly",
        num="exact",
        share=True,
        unit="%",
        better="higher",
        parent=True,
        against=(greedy,) if config.beams > 1 else (),
        stated="100 % would be every pair, to the last letter",
        question="How many of the held-out pairs does it translate exactly?",
        item="pairs",
        convention=f"{search}; {WILSON}",
        brief=True,
    )
    named = {"bleu": ("BLEU", "sequences of words"), "chrf": ("chrF2", "sequences of letters")}
    signatures = overlap.signatures()
    others = [
        Score(
            key=key,
            label=label,
            num=key,
            formula=cast(Any, key),
            better="higher",
            parent=True,
            stated="100 would be the references themselves",
            question=f"How much of the references' {what} do its translations hold?",
            item="pairs",
            convention=f"of the whole test split, sacrebleu {signatures[key]}; {search}; bootstrap over pairs",
            brief=True,
        )
        for key, (label, what) in named.items()
    ]
    looks: list[JSON] = [*scorer.looks(model, tokenizer, pairs, EXAMPLES)]
    return Taken({"items": items}, [exact, *others], {"looks": looks, "beams": config.beams})


@translation.chapter
def draw(seen: Seen) -> list[Block]:
    """The scores, those of each direction, what was wrong, and where the decoder looked."""
    blocks: list[Block] = [Row([dots(seen, key) for key in ("exact_match", "bleu", "chrf")]), table(seen)]
    kinds = list(dict.fromkeys(kind for taken in seen.values() for kind in _kinds(taken)))
    if len(kinds) > 1:
        rows = [[Cell(s.name), *(estimate(*_part(taken, kind)) for kind in kinds)] for s, taken in seen.items()]
        blocks.append(Table("Translated exactly, by direction, %", ["Model", *kinds], rows))
    for subject, taken in seen.items():
        blocks += [
            Heading(f"Where {subject.name} looks"),
            Text(LOOKS),
            *_pictures(subject, taken),
            _misses(subject, taken),
        ]
    return blocks


def _kinds(taken: Taken) -> list[str]:
    return list(dict.fromkeys(str(kind) for kind in taken.items["items"].columns["kind"]))


def _part(taken: Taken, kind: str) -> tuple[Taken, Score]:
    """The pairs of one direction, and the score of how many are exact."""
    items = taken.items["items"]
    some = items.taken([i for i, one in enumerate(items.columns["kind"]) if one == kind])
    return Taken({"items": some}), Score("", "", "exact", share=True, unit="%")


def _pictures(subject: Subject, taken: Taken) -> list[Block]:
    """Each example's attention by block, and folded away that of each head."""
    shown: list[Block] = []
    for look in cast(list[Mapping[str, Any]], taken.facts["looks"]):
        read, written, layers = look["read"], look["written"], look["heads"]
        title = f"{subject.name}, {look['kind']}" if look["kind"] else subject.name

        def picture(values: Any, what: str, read: Any = read, written: Any = written, title: str = title) -> Heat:
            return Heat(f"{title}: {what}", "read", "written", read, written, values, caption=what)

        means = [
            [[sum(h[t][s] for h in heads) / len(heads) for s in range(len(read))] for t in range(len(written))]
            for heads in layers
        ]
        shown.append(
            Row([picture(mean, f"block {i} of the decoder, mean of its heads") for i, mean in enumerate(means)])
        )
        every = [picture(h, f"block {i}, head {j}") for i, heads in enumerate(layers) for j, h in enumerate(heads)]
        shown.append(Fold("Each head", [Row(every)]))
    return shown


def _misses(subject: Subject, taken: Taken) -> Block:
    """What was not exact, with what was wanted."""
    wrong = [row for row in taken.items["items"].rows() if not row["exact"]]
    if not wrong:
        return Text(f"Every held-out pair came out exactly as {subject.name} should say it.", "caption")
    rows = [[str(row[column]) for column in ("source", "target", "said")] for row in wrong[:MISSES]]
    caption = f"What {subject.name} got wrong: {len(rows)} of {len(wrong)}"
    return Fold(
        "What it got wrong", [Table(caption, ["Read", "wanted", "written"], rows, "plain")], small=f"{len(wrong)}"
    )
