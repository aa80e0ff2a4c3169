"""Perplexity beside bits per byte, of one set of windows, and a chapter that shows what the scores say."""

import json
import math
import random

import numpy as np
import pytest
import torch

from journey.checkpoint import Node
from journey.data import corpus
from journey.errors import JourneyError
from journey.measure import Bench, Drawn, Subject
from journey.measures.bits_per_byte import BitsPerByte, bits_per_byte
from journey.measures.perplexity import Perplexity, perplexity
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.report import curves
from journey.report.blocks import Curves, Dots, Fold, Row, Table
from journey.scores import Taken, changes, comparisons, estimates
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

N_CTX = 32
WORDS = (
    "array", "file", "matrix", "reader", "index", "value", "server", "thread",
    "window", "buffer", "model", "token", "parser", "list", "queue",
)  # fmt: skip


def prose():
    rng = random.Random(2)
    lengths = [rng.randrange(3, 8) if i % 3 else rng.randrange(20, 120) for i in range(240)]  # short ones, long ones
    return [" ".join(rng.choice(WORDS) for _ in range(length)) for length in lengths]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_merges(bpe.train(bpe.count_words(prose()), 300, len(SPECIALS)))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prose")
    (folder / "prose.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in prose()))
    made = folder / "made"
    made.mkdir()
    corpus.build(str(folder / "prose.jsonl"), made, test=0.2)
    return Node(made)


@pytest.fixture(scope="module")
def bench(text, tokenizer, tmp_path_factory):
    """A bench with a model whose random weights attend to what came before."""

    def of(n_ctx=N_CTX, seed=0):
        torch.manual_seed(seed)
        model = GPT(GPTConfig.make("qwen3", tokenizer.vocab_size, n_ctx, 1, 32, n_head=2))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(8)
        made = Bench(Node(text.path), None, {"prose": text}, drawn=Drawn(), seed=0, split="test", scratch=text.path)
        made.opened = (model, tokenizer)
        made.reads = ("documents",)
        return made

    return of


@pytest.fixture(scope="module")
def taken(bench):
    return perplexity.body(bench(), Perplexity())


def test_it_is_the_exp_of_nats_per_token_with_an_interval_over_documents(taken):
    found, items = estimates(taken)["perplexity.prose"], taken.items["prose"]
    nats, tokens = items.numbers("bits") * math.log(2), items.numbers("tokens")
    assert found.value == pytest.approx(math.exp(nats.sum() / tokens.sum()))
    rng = np.random.default_rng(4)
    drawn = rng.integers(len(items), size=(4000, len(items)))
    ends = np.quantile(np.exp(nats[drawn].sum(1) / tokens[drawn].sum(1)), [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(ends, rel=0.02) and found.n == len(items) > 15


def test_bits_per_byte_are_those_of_the_measure_of_that_name_where_stride_and_cut_agree(bench):
    theirs = estimates(bits_per_byte.body(bench(), BitsPerByte(ngrams=False)))["bits_per_byte.prose"]
    key = "perplexity.prose.bits_per_byte"
    same = perplexity.body(bench(), Perplexity(stride=N_CTX // 2, bytes=2048))
    assert estimates(same)[key].value == pytest.approx(theirs.value, rel=1e-5)
    assert next(s.convention for s in same.scores if s.key == key) == theirs.convention
    cut = perplexity.body(bench(), Perplexity(bytes=40))
    assert max(cut.items["prose"].columns["bytes"]) == 40 and "the first 40 bytes" in estimates(cut)[key].convention


def test_only_bits_per_byte_are_compared_with_the_parents(bench, taken):
    other = perplexity.body(bench(seed=1), Perplexity())
    assert [e.key for e in changes(other, taken, "base", "chat")] == ["perplexity.prose.bits_per_byte"]
    assert {e.key for e in comparisons(taken, "chat")} == {"perplexity.prose", "perplexity.prose.context vs none"}


def test_what_context_saves_is_counted_over_documents_that_are_longer_than_a_window(taken):
    items = taken.items["prose"]
    found = estimates(taken)["perplexity.prose.context"]
    long = [row for row in items.rows() if row["tokens"] > N_CTX]
    assert found.n == len(long) < len(items)
    assert found.value == pytest.approx(sum(row["saved"] for row in long) / sum(row["again"] for row in long))


def test_where_no_document_is_longer_nothing_is_said_of_further_context(bench):
    found = perplexity.body(bench(n_ctx=1024), Perplexity())
    assert set(estimates(found)) == {"perplexity.prose", "perplexity.prose.bits_per_byte"}
    shown = every(Curves, perplexity.drawn({Subject("base", "pretrain", 0): found}))
    assert [curve.y_unit for curve in shown] == ["nats per token"]


def test_a_stride_beyond_the_context_is_refused(bench):
    with pytest.raises(JourneyError, match="stride 64"):
        perplexity.body(bench(), Perplexity(stride=64))


def every(kind, blocks):
    inside = [every(kind, block.blocks) for block in blocks if isinstance(block, Row | Fold)]
    return [block for block in blocks if isinstance(block, kind)] + [block for found in inside for block in found]


def test_the_chapter_shows_all_models_on_one_axis_of_context_and_the_hardest_documents(bench, taken):
    other = Taken.read(perplexity.body(bench(n_ctx=48, seed=1), Perplexity(stride=12)).json())  # as from the disk
    shown = perplexity.drawn({Subject("base", "pretrain", 0): taken, Subject("chat", "sft", 1): other})
    scored, saved = every(Curves, shown)
    assert [line.label for line in scored.lines] == ["base", "chat"] == [line.label for line in saved.lines]
    assert scored.values == [1, 2, 4, 8, 16, 32] and curves.curves(scored) and curves.curves(saved)
    items = taken.items["prose"]
    point = scored.lines[0].points[2]
    assert point.y == pytest.approx(items.numbers("nats.4").sum() / items.numbers("tokens.4").sum())
    assert point.low <= point.y <= point.high and "4–7 tokens of context" in point.said
    assert [dots.title for dots in every(Dots, shown)] == [
        "Perplexity, prose",
        "Bits per byte by the stride of 16, prose",
    ]
    table, *hardest = every(Table, shown)
    assert [row[-1] for row in table.rows] == ["32 every 16", "48 every 12"]
    cost = items.numbers("bits") / items.numbers("bytes")
    worst = items.rows()[int(cost.argmax())]
    assert len(hardest) == 2 and len(hardest[0].rows) == 5
    assert hardest[0].rows[0] == [worst["begins"], f"{cost.max():.3f}", f"{worst['bytes']:,}", f"{worst['tokens']:,}"]
