"""What a model answers by itself: whether it ends, how long it is, and what it shares with the documented answer."""

from journey.evaluate.conventions import WILSON, WORD_F1
from journey.measure import Bench, NoSettings, Seen, dots, measure, score_keys
from journey.report.blocks import Block, Mark, Row
from journey.scores import Items, Score, Taken

SHARES = f"number ended of number asked, {WILSON}"
CAPTIONS = {
    "ends_by_itself": "An answer should end. The share of answers in which the model itself writes a stop token within "
    "the limit, instead of running on. Limit here: {limit} tokens.",
    "answer_f1": "The words that a greedy answer, given without a passage, shares with the documented one (F1: the "
    "harmonic mean of how many of its words are right and how many of the right words it has). It sees words, not "
    "truth.",
    "answer_length": "How long the greedy answers are, the stop token included. Preference training is known to make "
    "answers longer.",
}


@measure(
    of="model",
    title="Its own answers",
    why="Each held-out question is asked without a passage, and the model writes the likeliest token until it ends.",
    keys=("ends_by_itself", "answer_f1", "answer_length"),
    reads=("questions",),
    version=1,
)
def greedy(bench: Bench, config: NoSettings) -> Taken:
    """The greedy answers of the held-out questions."""
    from journey.evaluate.answers import MAX_NEW_TOKENS, endings

    if not bench.questions:
        return Taken()
    items = Items.of(endings(bench.model, bench.tokenizer, bench.questions))
    limit = MAX_NEW_TOKENS
    ends = Score(
        key="ends_by_itself",
        label="answers that end by themselves",
        num="ended",
        share=True,
        unit="%",
        better="higher",
        parent=True,
        question="Do more of its answers end by themselves than those of {parent}?",
        item="questions",
        convention=SHARES,
        compared=f"either stop token within {limit} tokens",
        full=60.0,
        brief=True,
    )
    f1 = Score(
        key="answer_f1",
        label="answer F1",
        num="f1",
        unit="%",
        better="higher",
        parent=True,
        question="Do its answers share more words with the documented ones than those of {parent}?",
        item="questions",
        convention=WORD_F1,
        compared=f"{WORD_F1}, without a passage",
        full=20.0,
    )
    length = Score(
        key="answer_length",
        label="answer length",
        num="tokens",
        unit="tokens",
        parent=True,
        question="Are its answers longer than those of {parent}?",
        item="questions",
        compared=f"greedy answers without a passage, {limit} tokens at most",
        full=20.0,
    )
    return Taken({"items": items}, [ends, f1, length], {"limit": limit})


@greedy.chapter
def draw(seen: Seen) -> list[Block]:
    """Endings, words and length, each across all models."""
    limit = next(iter(seen.values())).facts["limit"]
    marks = {"ends_by_itself": [Mark(90.0, "mark 90 %")]}
    return [Row([dots(seen, k, CAPTIONS[k].format(limit=limit), marks.get(k, ())) for k in score_keys(seen)])]
