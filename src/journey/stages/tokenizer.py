"""Tokenizer: learn which bytes belong together, from the training split alone."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from journey.chat import SPECIALS
from journey.errors import JourneyError
from journey.fields import Count
from journey.files import digest
from journey.metrics import metric
from journey.report.blocks import Cell, Pieces, Table
from journey.report.format import interval, number
from journey.stages.cost import Cost
from journey.stages.inputs import Input, names
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told
from journey.tokenizer.codec import check_size

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.data.translations import Translations
    from journey.tokenizer.formats import Tokenizer

EXAMPLE = "numpy.linalg.norm(x, ord=None): Return the matrix or vector norm of x."


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """Settings of the tokenizer stage."""

    data: str = names("installed-docs", Input(("text", "translations")), "the text to learn from")
    vocab_size: Count = 4096
    """Entries in all: 256 bytes, the merges and the special tokens."""
    pattern: Literal["gpt2", "llama3", "qwen2"] = "gpt2"
    """How text is cut into words before any merge; llama.cpp knows these three."""
    vocabulary: str = ""
    """Take this one instead of learning: gpt2, or a tokenizer's folder or file. Chat tokens are added behind it."""
    strict: bool = False
    """Refuse a text in which a special token is spelled out, instead of learning it as ordinary text."""

    def __post_init__(self) -> None:
        check_size(self.vocab_size, len(SPECIALS))  # here, so that no text is read for a vocabulary that cannot be

    def inputs(self) -> dict[str, str]:
        """What the vocabulary to take holds, whatever it is called."""
        if not self.vocabulary:
            return {}
        from journey.data.vocabularies import fingerprint

        return {"vocabulary": fingerprint(self.taken()[0])}

    def taken(self) -> "tuple[Tokenizer, str]":
        """The vocabulary to take, and where it was found."""
        from journey.data import vocabularies

        return vocabularies.find(None, self.vocabulary, ask="name in its place")

    def cost(self, before: Sequence[Any]) -> Cost:
        """The merges, by their number."""
        return Cost(5 + self.vocab_size / 400, 1e6)


@stage(
    makes="tokenizer",
    why=(
        "A model reads numbers, not letters. The tokenizer cuts text into pieces and numbers them. Byte-pair encoding "
        "starts from the 256 bytes and joins, again and again, the two neighbours that stand side by side most often, "
        "until the vocabulary is full. Longer pieces mean fewer steps for the same text."
    ),
    example="journey tokenizer train --data my-texts/ --vocab-size 4096 --out tok",
    version=1,
)
def tokenizer(parent: None, config: TokenizerConfig, run: Run) -> dict[str, Any]:
    """Make a tokenizer node that every tool opens: tokenizer.json, its config and the chat template."""
    text, learned = _text(run), {}
    if config.vocabulary:
        found, where = config.taken()
        made = found.with_chat_tokens()
        run.say(f"{run.name}: {found.n_ids:,} tokens from {where}, nothing is learned")
    else:
        made, n_words = _learned(config, run)
        learned = {"distinct_words": metric(n_words, "words")}
    made.save(run.folder)
    texts = text.texts("dev")
    n_bytes = sum(len(t.encode()) for t in texts)
    n_tokens = sum(len(ids) for ids in made.encode_batch(texts))
    return {
        "metrics": {
            "bytes_per_token": metric(
                n_bytes / n_tokens, "bytes", "UTF-8 bytes of the dev split per token, document marks not counted"
            ),
            **learned,
        }
    }


def _text(run: Run) -> "Corpus | Translations":
    """What to learn from."""
    from journey.data.translations import Translations

    return run.corpora.get("data") or Translations(run.given["data"].path)


def _learned(config: TokenizerConfig, run: Run) -> "tuple[Tokenizer, int]":
    """By our own byte-pair encoding, from the training split, and of how many distinct words; what was counted before a
    kill is found again."""
    from journey.machine import cores
    from journey.tokenizer import bpe
    from journey.tokenizer.formats import Tokenizer
    from journey.tokenizer.words import Saved

    text = _text(run)
    if spelled := text.facts["special_spellings"]:
        found = f"{text.name} spells out special tokens such as {SPECIALS[0]} {spelled:,} times"
        if config.strict:
            raise JourneyError(f"{found}: take them out, or leave --strict away to learn them as ordinary text")
        run.say(f"{run.name}: {found}; they are learned and encoded as ordinary text")
    saved = Saved(run.scratch / "counts.json", digest([run.given["data"].id, config.pattern]))
    if saved.path.exists():
        run.say(f"{run.name}: going on from the words that an interrupted run has counted")
    n = text.facts["splits"]["train"]["documents"]
    words = bpe.count_words(
        text.stream("train"),
        config.pattern,
        cores(),
        saved,
        progress=lambda done: run.progress(done, n, "documents"),
    )
    merges = bpe.train(
        words,
        config.vocab_size,
        len(SPECIALS),
        progress=lambda done, total: run.progress(done, total, "merges"),
    )
    return Tokenizer.from_merges(merges, config.pattern), len(words)


@tokenizer.tells
def tell(told: Told) -> Story:
    """How long its tokens are on each text, and one sentence cut by it, so that the eye sees what a token is."""
    from journey.scores import estimates
    from journey.tokenizer.formats import Tokenizer

    made = Tokenizer.load(told.node.path)
    ids = made.encode(EXAMPLE)
    said = f"{len(EXAMPLE)} characters as {len(ids)} tokens (· is a space)."
    cut = Pieces([made.decode([i]).replace(" ", "·") for i in ids], caption=said)
    size = f"{number(made.n_ids, decimals=0)} tokens in the vocabulary"
    found = {score: e for taken in told.taken.values() for score, e in estimates(taken).items()}
    lengths = Table(
        "Bytes of text per token, test split",
        ["Text", "bytes per token"],
        [[Cell(key.partition(".")[2]), e] for key, e in found.items()],
    )
    main = found.get(f"bytes_per_token.{told.text}")
    if main is None:
        return Story([cut], big=number(made.n_ids, decimals=0), what="tokens")
    return Story(
        [lengths, cut],
        big=number(main.value, decimals=2),
        what=f"bytes of text per token {interval(main.low, main.high, main.unit)}",
        said=f"1 would be bytes alone; {size}",
    )
