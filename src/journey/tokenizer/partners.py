"""Partners to compare a byte-level BPE with: as many entries, learned from the same text, chosen in another way.

A Unigram vocabulary (Kudo 2018, arXiv:1804.10959) begins with very many candidates and drops those that the text's
likelihood misses least. `unigram` has our own words and bytes, so that nothing but the choice of entries differs;
`sentencepiece` is what that library's users have. A partner is bytes of a file that `foreign.load` reads.
"""

import io
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any, Literal

import tokenizers
from tokenizers import decoders, models

from journey.errors import JourneyError
from journey.tokenizer.codec import ALPHABET, spell, splitter
from journey.tokenizer.foreign import INSTALL
from journey.tokenizer.formats import SPECIALS, pre_tokenizer

Partner = Literal["unigram", "sentencepiece"]
ENDINGS: dict[Partner, str] = {"unigram": ".json", "sentencepiece": ".model"}
SPACE, THEIR_SPACE = spell(" "), "▁"
LONGEST = 16  # characters of an entry, the library's limit
COVERAGE = 0.99995  # of the characters have entries, the rest are bytes: Llama 2's; by default digits are left out
_UTF8 = 4  # bytes of a character at most
_RESERVED = "▅"  # stands for an unknown token, and a sentence that holds it is skipped


def library() -> str:
    """What trains both, with its version. Errors: JourneyError where it is missing."""
    try:
        return f"sentencepiece {version('sentencepiece')}"
    except ModuleNotFoundError:
        raise JourneyError(f"--partners are trained by the package sentencepiece: {INSTALL}") from None


def train(partner: Partner, texts: Sequence[str], vocab_size: int, pattern: str) -> bytes:
    """The file of a partner with `vocab_size` entries in all, special tokens and bytes included.

    The same for the same texts. A vocabulary too large or too small for the texts raises JourneyError, and for unigram,
    which has our words, a split that is none of our patterns.
    """
    return _unigram(texts, vocab_size, pattern) if partner == "unigram" else _sentencepiece(texts, vocab_size)


def _unigram(texts: Sequence[str], vocab_size: int, pattern: str) -> bytes:
    """Learned from our words, each byte written as its character, and written as a tokenizer.json.

    Not by the UnigramTrainer of `tokenizers`, which looks for candidates in a list of different words: " and", which is
    in no other word, is none. Any BPE would win against it.
    """
    splitter(pattern)
    spare = len(SPECIALS) - 1  # the library has an <unk>, which goes away
    sentences = (sentence for text in texts for sentence in _sentences(text, pattern))
    trained = _fit(
        "unigram",
        chain([char.replace(SPACE, " ") for char in ALPHABET], sentences),  # all 256 bytes: nothing is unknown
        vocab_size,
        spare,
        character_coverage=1.0,
        max_sentencepiece_length=LONGEST * _UTF8,
        split_by_unicode_script=False,
        split_by_number=False,
        add_dummy_prefix=False,
        bos_id=-1,
        eos_id=-1,
    )
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_proto=trained)
    entries = [(token, 0.0) for token in SPECIALS]
    for i in range(1, model.vocab_size()):
        entries.append((model.id_to_piece(i).replace(THEIR_SPACE, SPACE), model.get_score(i)))
    made = tokenizers.Tokenizer(models.Unigram(entries, None, False))
    made.pre_tokenizer, made.decoder = pre_tokenizer(pattern), decoders.ByteLevel()
    made.add_special_tokens(list(SPECIALS))
    return made.to_str().encode()


def _sentences(text: str, pattern: str) -> list[str]:
    """The text's words in sentences that end where the next word does not begin with a space, or after seven words.

    Before a space the library cuts by itself. Its candidates are strings that are followed by more than one character:
    a word that always stands before a space would be none, so that now and then a sentence ends behind it.
    """
    words = map(spell, splitter(pattern).findall(text))  # which writes a new line in another character
    marked = (word if word[0] == SPACE and i % 7 else f"\n{word}" for i, word in enumerate(words))
    return "".join(marked).replace(SPACE, " ").split("\n")[1:]


def _sentencepiece(texts: Sequence[str], vocab_size: int) -> bytes:
    """A sentence is a whole document, so that new lines may be in entries."""
    sentences = (part for text in texts for part in text.split(_RESERVED))
    return _fit(
        "sentencepiece",
        sentences,
        vocab_size,
        0,
        character_coverage=COVERAGE,
        max_sentencepiece_length=LONGEST,
        byte_fallback=True,
    )


def _fit(partner: Partner, sentences: Iterable[str], vocab_size: int, spare: int, **settings: Any) -> bytes:
    """A model of `vocab_size - spare` entries that gives texts back as they were: no NFKC, no white space dropped."""
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=written,
            vocab_size=vocab_size - spare,
            model_type="unigram",
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=1 << 30,  # by default what is longer than 4,192 bytes is left out without a word
            input_sentence_size=0,  # all: what is too much has been left out before, for both alike
            num_threads=16,  # a number of its own, not the machine's: it decides in which order floats are summed
            minloglevel=2,
            **settings,
        )
    except RuntimeError as error:
        said = (
            f"{vocab_size:,} entries are too {{}} for {partner} on this text: at {{}} {{:,}}; compare a {{}} tokenizer"
        )
        if most := re.search(r"value <= (\d+)", str(error)):
            raise JourneyError(said.format("many", "most", int(most[1]) + spare, "smaller")) from None
        if least := re.search(r"\d vs (\d+)", str(error)):
            raise JourneyError(said.format("few", "least", int(least[1]) + spare, "larger")) from None
        raise JourneyError(f"{partner} cannot learn from this text ({str(error).splitlines()[-1]})") from None
    return written.getvalue()
