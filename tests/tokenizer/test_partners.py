"""Partners of a BPE: as many entries, lossless where they say so, learned from all of the text, the same each time."""

import itertools
import json
import random
from importlib.metadata import PackageNotFoundError

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.tokenizer import bpe, foreign, partners
from journey.tokenizer.formats import SPECIALS, Tokenizer

pytest.importorskip("sentencepiece")
SIZE = 450
WORDS = ["and", "they", "Ελλάδα", "been", "zebra", "reading", "reader", "1999", "don't", "naïve", "upon", "very"]
ODD = "a b  c\n\n\tx 中文 é ▅ \0 <s> <|end|> <unk> \r\n   "


@pytest.fixture(scope="module")
def texts():
    """Words of which none holds another one, but those of reading, in documents of 5 kB, one with a reserved mark."""
    rng = random.Random(1)
    rare = ["".join(rng.choices("abcdefghij", k=rng.randrange(2, 9))) for _ in range(400)]
    weights = [60] * len(WORDS) + [1] * len(rare)

    def written(words, weights=None):  # what follows a word must vary, or the library does not see its end
        return (
            "".join(f" {word}{rng.choice([*'.,;!', *[''] * 6])}" for word in rng.choices(words, weights, k=800)) + "\n"
        )

    return [*(written([*WORDS, *rare], weights) for _ in range(30)), f"▅{written(['quokka', 'quagga'])}" * 2]


@pytest.fixture(scope="module")
def trained(texts, tmp_path_factory):
    found = {}
    for name in partners.ENDINGS:
        file = tmp_path_factory.mktemp("partners") / f"x{partners.ENDINGS[name]}"
        file.write_bytes(partners.train(name, texts, SIZE, "gpt2"))
        found[name] = foreign.load(file, name)
    return found


def test_they_are_as_large_as_what_they_are_compared_with(trained):
    assert [(v.kind, len(v.tokens)) for v in trained.values()] == [
        ("byte-level Unigram", SIZE),
        ("SentencePiece", SIZE),
    ]
    unigram = trained["unigram"]
    assert unigram.tokens.count(None) == len(SPECIALS) and len(unigram.content) == SIZE - len(SPECIALS)
    assert {bytes([b]) for b in range(256)} <= unigram.content  # also those that no UTF-8 holds


@pytest.mark.parametrize("name", partners.ENDINGS)
def test_every_document_is_learned_from_whole(trained, name):
    """SentencePiece leaves out documents of more than 4,192 bytes, and those with its own marks, without a word."""
    assert b" quokka" in trained[name].content


def test_frequent_words_are_entries_although_no_other_word_holds_them(trained):
    """Where `tokenizers`' trainer fails: of distinct words it finds only what two of them share."""
    assert all(f" {word}".encode() in trained["unigram"].content for word in ("and", "they", "been", "upon", "very"))


def test_unigram_is_no_straw_man(trained, texts):
    """It lies near the BPE of its size; the trainer of `tokenizers` is far worse on the same words."""
    words = bpe.count_words(texts, "gpt2")
    ours = Tokenizer.from_merges(bpe.train(words, SIZE, len(SPECIALS)))
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = ours.backend.pre_tokenizer
    made.train_from_iterator(
        texts,
        tokenizers.trainers.UnigramTrainer(vocab_size=SIZE, initial_alphabet=partners.ALPHABET, show_progress=False),
    )
    n = [sum(len(encode(text)) for text in texts) for encode in (trained["unigram"].encode, ours.encode)]
    theirs = sum(len(made.encode(text).ids) for text in texts)
    assert 0.9 * n[1] < n[0] < 1.1 * n[1] < 0.9 * theirs


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_unigram_gives_every_text_back(trained, text):
    unigram = trained["unigram"]
    ids = unigram.encode(text)
    assert unigram.decode(ids) == text and b"".join(unigram.pieces(text, ids)) == text.encode()


def test_what_comes_back_of_odd_text(trained):
    unigram, sentencepiece = trained["unigram"], trained["sentencepiece"]
    assert unigram.decode(unigram.encode(ODD)) == ODD
    assert sentencepiece.decode(sentencepiece.encode(ODD)) == ODD
    assert sentencepiece.decode(sentencepiece.encode("a ▁ b")) == "a   b"  # its mark of a space comes back as one
    assert {*sentencepiece.encode("中")} & sentencepiece.fallback and {*unigram.encode("中")} & unigram.fallback


@pytest.mark.parametrize("pattern", ["gpt2", "llama3", "qwen2"])
def test_unigram_cuts_words_as_our_pattern_does(texts, pattern, tmp_path):
    (tmp_path / "x.json").write_bytes(partners.train("unigram", texts, 400, pattern))
    unigram, ours = foreign.load(tmp_path / "x.json", "unigram"), Tokenizer.from_merges([], pattern)
    text = "reader's 1999,\n\n  they've been"
    ends = {*itertools.accumulate(map(len, unigram.pieces(text)))}
    words = ours.backend.pre_tokenizer.pre_tokenize_str(text)
    assert {*itertools.accumulate(len(word) for word, _ in words)} <= ends  # a visible character for each byte


@pytest.mark.parametrize("name", partners.ENDINGS)
def test_the_same_texts_make_the_same_file(texts, name):
    a, b = (partners.train(name, texts, SIZE, "gpt2") for _ in range(2))
    assert a == b


@pytest.mark.parametrize("name", partners.ENDINGS)
def test_a_vocabulary_that_does_not_fit_is_one_line_with_the_limit(name, texts):
    with pytest.raises(
        JourneyError, match=rf"100,000 entries are too many for {name} .* at most [\d,]+; compare a s"
    ) as e:
        partners.train(name, texts, 100_000, "gpt2")
    most = int(str(e.value).split("at most ")[1].split(";")[0].replace(",", ""))
    assert partners.train(name, texts, most, "gpt2")
    with pytest.raises(JourneyError, match=rf"too few for {name} .* at least 2\d\d; compare a larger") as e:
        partners.train(name, texts, 262, "gpt2")
    assert "\n" not in str(e.value)


def test_special_tokens_are_those_of_ours(trained, texts):
    state = json.loads(partners.train("unigram", texts, SIZE, "gpt2"))
    assert [token["content"] for token in state["added_tokens"]] == list(SPECIALS)
    assert trained["unigram"].pieces("<|end|>") != [b"<|end|>"]


def test_without_the_library_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    assert partners.library().startswith("sentencepiece 0.")
    monkeypatch.setattr(partners, "version", missing)
    with pytest.raises(
        JourneyError, match=r"by the package sentencepiece: install the extra: pip install \"journey-gpt"
    ):
        partners.library()


def test_a_tokenizer_that_cuts_in_another_way_has_no_partner_with_its_words():
    with pytest.raises(JourneyError, match='no split pattern "single digits, gpt2"'):
        partners.train("unigram", ["abc"], 300, "single digits, gpt2")
