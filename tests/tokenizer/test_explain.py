"""The merges that are shown are those that the `tokenizers` library and tiktoken make."""

import argparse
import base64
import inspect
import io
import json
import os
import random
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tokenizers import AddedToken, normalizers
from tokenizers import Tokenizer as Backend
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

from journey.errors import JourneyError
from journey.tokenizer import bpe
from journey.tokenizer.codec import PATTERNS, Merge, unspell
from journey.tokenizer.explain import Word, as_json, draw, excerpt, explain, label, spelled_specials
from journey.tokenizer.formats import SPECIALS, Tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent"))
GPT2 = DATA / "tokenizer" / "gpt2"
needs_gpt2 = pytest.mark.skipif(not GPT2.is_dir(), reason="JOURNEY_DATA is not set")

FRAGMENTS = [
    *(
        "don't",
        "'LL",
        " ",
        " " * 9,
        "\n",
        "\r\n",
        "\x00",
        "\x1b[31m",
        "e\u0301",
        "\u0301",
        "é",
        "中文",
        "हिन्दी",
        "العربية",
    ),
    *(
        "👩‍👩‍👧‍👦",
        "🇩🇪",
        "👍🏽",
        "\U0010ffff",
        "12345",
        "x" * 30,
        "=" * 40,
        "<|endoftext|>",
        "<|end|>",
        " the",
        "Tokenization",
    ),
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=8).map("".join)


@cache
def tokenizer(pattern: str) -> Tokenizer:
    words = bpe.count_words([inspect.getsource(argparse), "é 中文 don't 👍"], pattern)
    return Tokenizer.from_merges(bpe.train(words, 700, len(SPECIALS)), pattern)


@cache
def gpt2() -> tuple[Tokenizer, Tokenizer, tiktoken.Encoding]:
    lines = (GPT2 / "gpt2.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    encoding = tiktoken.Encoding("gpt2", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens={})
    return Tokenizer.load(GPT2), Tokenizer.load(GPT2 / "gpt2.tiktoken"), encoding


def ids_of(words: list[Word]) -> list[int]:
    return [id for word in words for id in word.ids]


def check_steps(words: list[Word], merges: list[Merge]) -> None:
    """Each step joins the two neighbours learned first, and at the end no neighbours are left that were learned."""
    names = {(unspell(left), unspell(right)): rank for rank, (left, right) in enumerate(merges)}
    for word in words:
        rows = list(word.rows())
        assert rows[0] == ([bytes([byte]) for byte in word.text.encode()], None)
        for (before, _), (after, made), step in zip(rows, rows[1:], word.steps, strict=False):
            ranks = [names.get(pair, len(names)) for pair in pairwise(before)]
            assert (step.rank, step.at) == (min(ranks), ranks.index(min(ranks)))
            assert made == step.at and after == [*before[:made], before[made] + before[made + 1], *before[made + 2 :]]
        assert len(rows) == len(word.steps) + 1 and not names.keys() & set(pairwise(rows[-1][0]))
        assert word.tokens == rows[-1][0] and len(word.ids) == len(word.tokens)


@given(text=texts, pattern=st.sampled_from(list(PATTERNS)))
@settings(max_examples=300, deadline=None)
def test_the_merges_end_in_the_ids_of_the_library(text: str, pattern: str) -> None:
    words = explain(text, tokenizer(pattern))
    assert ids_of(words) == tokenizer(pattern).encode(text)
    assert "".join(word.text for word in words) == text
    check_steps(words, tokenizer(pattern).merges)


@needs_gpt2
@given(text=st.lists(texts, max_size=4).map("".join))
@settings(max_examples=12, deadline=None)
def test_gpt2s_merges_end_in_tiktokens_ids(text: str) -> None:
    from_files, from_ranks, encoding = gpt2()
    words = explain(text, from_files)
    assert ids_of(words) == encoding.encode_ordinary(text) == ids_of(explain(text, from_ranks))
    check_steps(words, from_files.merges)


@needs_gpt2
def test_gpt2s_ranks_are_the_lines_of_its_file_whatever_form_it_was_read_from() -> None:
    from_files, from_ranks, _ = gpt2()
    lines = (GPT2 / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    (merged,), (looked_up,) = explain("tokenization", from_files), explain("tokenization", from_ranks)
    (word,) = as_json([merged])["words"]
    assert len(word["merges"]) == len("tokenization") - len(word["ids"])
    assert [lines[m["rank"]] for m in word["merges"]] == [f"{m['left']} {m['right']}" for m in word["merges"]]
    assert merged.steps == looked_up.steps and not merged.whole and not looked_up.whole
    (whole,) = explain("hello", from_ranks)
    assert whole.whole and whole.steps == [] and whole.tokens == [b"hello"] and whole.ids == [31373]


@given(seed=st.integers(0, 10_000), text=st.text("abc", max_size=12))
@settings(max_examples=200, deadline=None)
def test_merges_in_an_order_that_no_training_gives(seed: int, text: str) -> None:
    """Where a merge ranks before those that make its halves, one place after another differs from all at once."""
    rng = random.Random(seed)
    merges: list[Merge] = []
    tokens = ["a", "b", "c"]
    for _ in range(8):
        pair = (rng.choice(tokens), rng.choice(tokens))
        if "".join(pair) not in tokens:
            merges.append(pair)
            tokens.append("".join(pair))
    rng.shuffle(merges)
    made = Tokenizer.from_merges(merges, specials=[])
    words = explain(text, made)
    assert ids_of(words) == made.encode(text)
    check_steps(words, merges)


def test_a_word_by_hand() -> None:
    made = Tokenizer.from_merges([("a", "n"), ("an", "a"), ("b", "an")], specials=[])
    (word,) = explain("banana", made)
    assert [tokens for tokens, _ in word.rows()] == [
        [b"b", b"a", b"n", b"a", b"n", b"a"],
        [b"b", b"an", b"a", b"n", b"a"],
        [b"b", b"an", b"an", b"a"],
        [b"b", b"an", b"ana"],
        [b"ban", b"ana"],
    ]
    assert [(step.rank, step.at) for step in word.steps] == [(0, 1), (0, 2), (1, 2), (2, 0)]


def test_a_special_token_spelled_out_is_text_and_is_said_to_be() -> None:
    made = tokenizer("gpt2")
    assert not set(ids_of(explain("a<|end|>b", made))) & set(made.special.values())
    assert spelled_specials("a<|end|>b", made).startswith("<|end|>: ")
    assert spelled_specials("a <|end b", made) == ""


def changed(change: dict) -> Tokenizer:
    state = json.loads(tokenizer("gpt2").backend.to_str())
    return Tokenizer(Backend.from_str(json.dumps(state | change)), "gpt2")


def test_a_text_is_normalised_where_the_tokenizer_does_it() -> None:
    made = changed({"normalizer": {"type": "NFC"}})
    assert isinstance(made.backend.normalizer, normalizers.NFC)
    words = explain("cafe\u0301", made)
    assert ids_of(words) == made.encode("cafe\u0301") and "".join(word.text for word in words) == "caf\u00e9"


def test_what_cannot_be_explained_is_refused() -> None:
    made = changed({})
    made.backend.add_tokens([AddedToken("<think>", special=False)])
    assert ids_of(explain("a think", made)) == made.encode("a think")
    with pytest.raises(JourneyError, match="more than split and merge"):
        explain("a <think>", made)
    with pytest.raises(JourneyError, match=r"lone surrogate \(U\+D83D at character 1\)"):
        explain("a\ud83d", made)
    with pytest.raises(JourneyError, match="4,098 bytes: explain shows every merge of at most 4,096"):
        explain("é" * 2049, made)
    assert explain("", made) == []


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (b" the", "␣the"),
        (b"\xc3", r"\xC3"),
        (b" \xe4\xb8", r"␣\xE4\xB8"),
        ("中".encode(), "中"),
        (b"\n\t\r\x00\x1b\x7f", r"\n\t\r\u{0}\u{1B}\u{7F}"),
        ("\u200b\u202e\u0085\u3000".encode(), r"\u{200B}\u{202E}\u{85}\u{3000}"),
        ("\u0301".encode(), "◌\u0301"),
        ("e\u0301".encode(), "e\u0301"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(token: bytes, shown: str) -> None:
    assert label(token) == shown


@given(token=st.binary(max_size=9))
def test_no_token_can_move_a_cursor(token: bytes) -> None:
    assert label(token).isprintable()


def printed(text: str, made: Tokenizer, **options: bool) -> str:
    out = io.StringIO()
    terminal = Console(file=out, highlight=False, **options)
    for line in draw(explain(text, made)):
        terminal.print(line, markup=False, soft_wrap=True)
    return out.getvalue()


def test_what_a_terminal_shows() -> None:
    made = Tokenizer.from_merges([("a", "n"), ("an", "a"), ("b", "an")], specials=[])
    plain = printed("banana ana ana é", made)
    assert "\x1b" not in plain
    for line in (
        "4 words: banana ␣ana ␣ana ␣é",
        "  1  banana   62 61 6E 61 6E 61",
        "     bytes               b a n a n a",
        "     rank 0     a + n    b an a n a",
        "     rank 0     a + n    b an an a",
        "     rank 1     an + a   b an ana",
        "     rank 2     b + an   ban ana",
        f"     ids        ban {made.encode('ban')[0]}  ana {made.encode('ana')[0]}",
        "  3  ␣ana   as word 2",
        r"     bytes      ␣ \xC3 \xA9",
        f"ids: {' '.join(map(str, made.encode('banana ana ana é')))}",
    ):
        assert line in plain.splitlines()
    coloured = printed("banana", made, force_terminal=True)
    assert "\x1b[1;32mban\x1b[0m" in coloured


def test_a_long_word_is_shown_around_the_merge() -> None:
    made = Tokenizer.from_merges([("a", "b")], specials=[])
    (word,) = explain("x" * 50 + "ab" + "y" * 50, made)
    (_, row) = word.rows()
    before, labels, new, after = excerpt(row)
    assert labels == ["x"] * 16 + ["ab"] + ["y"] * 16 and (before, new, after) == (34, 16, 34)
    assert f"… 34 more … {' '.join(labels)} … 34 more …" in printed(word.text, made)
    assert len(printed("ab" * 2048, made)) < 1_000_000


def test_a_program_gets_the_same() -> None:
    made = tokenizer("qwen2")
    text = "return é 中文 <|end|>"
    told = json.loads(json.dumps(as_json(explain(text, made))))
    assert told["ids"] == made.encode(text) == [id for word in told["words"] for id in word["ids"]]
    vocabulary = made.backend.get_vocab()
    for word in told["words"]:
        assert [vocabulary[token] for token in word["tokens"]] == word["ids"]
        assert [tuple(made.merges[m["rank"]]) for m in word["merges"]] == [
            (m["left"], m["right"]) for m in word["merges"]
        ]


def test_other_cuts_are_shown_as_they_are():
    """Single digits, as SmolLM has them; and cuts inside characters, which no word can show."""
    plain = Tokenizer.from_merges([("Ġ", "a"), ("1", "2")], specials=[])
    digits, byte_level = Digits(individual_digits=True), ByteLevel(add_prefix_space=False)
    for steps, ids in ([digits, byte_level], True), ([byte_level, digits], False):
        backend = Backend.from_str(plain.backend.to_str())
        backend.pre_tokenizer = Sequence(steps)
        own = Tokenizer(backend, "their own")
        assert [id for word in explain("a 12", own) for id in word.ids] == own.encode("a 12")
        if ids:
            assert [word.text for word in explain("a 12²", own)] == ["a", " ", "1", "2", "²"]
        else:
            with pytest.raises(JourneyError, match="cuts inside characters"):
                explain("a\u00b2", own)
