"""The same prompts, continued by every model with the same seed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from journey.measure import Bench, NoSettings, Seen, measure
from journey.report import blocks
from journey.report.blocks import Block, Fold, Sample
from journey.scores import Taken

if TYPE_CHECKING:
    from journey.data.corpus import Document, Question


@measure(
    of="model",
    title="Samples side by side",
    why="A few prompts, each continued by every model with the same seed. One sample proves nothing: read them for "
    "what kind of text comes out, not for whether it is true. A model of this size knows shapes, not facts.",
    reads=("documents", "questions"),
    version=1,
    first=True,
)
def samples(bench: Bench, config: NoSettings) -> Taken:
    """What is written after each of six prompts."""
    from journey.evaluate import answers

    asked = prompts(bench.documents, bench.questions)
    written = answers.samples(bench.model, bench.tokenizer, asked, bench.seed) if asked else []
    return Taken(facts={"samples": [dict(sample) for sample in written]} if written else {})


def prompts(documents: "Mapping[str, Sequence[Document]]", asked: "Sequence[Question]") -> list[tuple[str, str]]:
    """Six prompts: beginnings of held-out documents to go on with and, where there are questions, three to answer."""
    from journey.data.conversations import question_messages

    chats = [q for q in asked if q.named][:2] + [q for q in asked if not q.named][:1]
    # Named ones from memory, the one that names nothing with its passage: without it, no one could know.
    answered = [("chat", question_messages(q, with_passage=not q.named)[0]["content"]) for q in chats]
    n = 6 - len(answered)
    # From each corpus in turn, and from all over it: neighbours in a corpus are of one package.
    spread = [
        [held_out[len(held_out) * i // n] for i in range(min(n, len(held_out)))] for held_out in documents.values()
    ]
    turns = [document for row in zip(*spread, strict=False) for document in row]
    return [("text", _beginning(document.text)) for document in turns[:n]] + answered


def _beginning(text: str) -> str:
    """A document's heading with the blank line after it (of documentation: name and parameters), or its first words."""
    heading, blank, _ = text[:160].partition("\n\n")
    return heading + blank if blank else text[:60].rpartition(" ")[0] or text[:60]


@samples.chapter
def draw(seen: Seen) -> list[Block]:
    """Each prompt with what every model made of it; beyond the first of each kind they are folded."""
    written = [(s, x) for s, taken in seen.items() for x in _written(taken)]
    prompts = dict.fromkeys((x["kind"], x["prompt"]) for _, x in written)
    firsts = dict(reversed(list(prompts)))  # the first of a kind is put in last, and stays
    shown: list[Block] = []
    more: list[Block] = []
    for kind, prompt in prompts:
        texts = [Sample(s.name, x["text"], s.colour) for s, x in written if (x["kind"], x["prompt"]) == (kind, prompt)]
        title = {"chat": "Asked in the chat format", "text": "To be continued"}[kind]
        (shown if firsts[kind] == prompt else more).append(blocks.Samples(texts, prompt.rstrip(), title))
    return [*shown, *([Fold(f"{len(more)} more prompts", more)] if more else [])]


def _written(taken: Taken) -> list[dict[str, str]]:
    found = taken.facts["samples"]
    assert isinstance(found, list)
    return found  # type: ignore[return-value]
