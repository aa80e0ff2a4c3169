"""The tokenizer that every room uses: ids by the `tokenizers` library, and files that other tools open."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from journey import chat
from journey.chat import BOS, PAD, SPECIALS
from journey.chat import END as EOS
from journey.errors import JourneyError
from journey.files import digest, read_json, write_bytes, write_json, write_text
from journey.machine import cores
from journey.tokenizer.beside import Beside, add, kind_of, read_beside, with_tokens
from journey.tokenizer.codec import ALPHABET, CHAR_TO_BYTE, PATTERNS, Merge, check, splitter, unspell, vocabulary
from journey.tokenizer.ranks import is_safe, merges_of, ranks_of
from journey.tokenizer.reading import check_ids, open_backend, read_ids, read_merges, read_ranks
from journey.tokenizer.split import name_of, steps_of

GPT2_FILES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))  # as OpenAI and as the Hub name them
_A_TASK = 2**16  # characters that a thread encodes before it takes others: handing them out costs time too


class Tokenizer:
    """Byte-level BPE with special tokens; in `encode` the spelling of a special token is ordinary text."""

    def __init__(self, backend: tokenizers.Tokenizer, pattern: str, n_ids: int | None = None) -> None:
        """`pattern` as `split.name_of` says it; `n_ids` where special tokens beyond it have only a name."""
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        ids = backend.get_vocab()
        if missing := set(ALPHABET) - ids.keys():  # the library would drop them from a text
            raise JourneyError(f"this vocabulary lacks {len(missing)} of the 256 bytes: it is not byte-level")
        self.backend = backend
        self.pattern = pattern
        self.n_ids = 1 + max(ids.values()) if n_ids is None else n_ids
        """One more than its largest id with a row in the embedding: how many rows that needs, at least."""
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
        self.special = {token.content: i for i, token in sorted(added.items()) if token.special}

    @classmethod
    def from_merges(
        cls, merges: Sequence[Merge], pattern: str = "gpt2", specials: Sequence[str] = SPECIALS
    ) -> Tokenizer:
        """The tokenizer of these merges: 256 bytes, then the merges, then the special tokens."""
        backend = byte_level(vocabulary(merges, specials), merges, pattern)
        backend.add_special_tokens(list(specials))
        return cls(backend, pattern)

    @classmethod
    def load(cls, path: str | Path, pattern: str = "gpt2") -> Tokenizer:
        """Read a folder or its tokenizer.json, a folder of GPT-2's encoder.json and vocab.bpe, or a .tiktoken file.

        Of a folder the tokens are read too that stand beside the vocabulary, as in added_tokens.json (see `beside`).
        `pattern` is for a .tiktoken file, which does not say how text is split, unless `save_tiktoken` wrote it.
        A missing or damaged file, or one that is no byte-level BPE of a known split pattern, raises JourneyError.
        """
        path = Path(path)
        if path.is_dir() and not (path / "tokenizer.json").exists():
            for vocabulary_file, merges_file in GPT2_FILES:
                if (path / vocabulary_file).exists():
                    return cls.from_gpt2_files(path / vocabulary_file, path / merges_file)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise JourneyError(f"{file} does not exist: name a folder with a tokenizer.json")
        if file.suffix == ".tiktoken":
            return cls.from_ranks(file, pattern)
        backend = open_backend(file.read_bytes(), file)
        found = read_beside(path, {}) if path.is_dir() else None
        return cls._of(backend, found, file)

    @classmethod
    def from_gpt2_files(cls, encoder: Path, file: Path) -> Tokenizer:
        """Read GPT-2's two files: token -> id as JSON, and the merges, a pair on a line. What other files of the folder
        say is heeded: tokens that were added, and whether they are read as GPT-2, RoBERTa or Qwen2 does."""
        folder = encoder.parent
        if not file.is_file():
            raise JourneyError(f"{file} does not exist: {encoder.name} needs it beside it")
        ids = read_ids(encoder, "GPT-2's vocabulary")
        if BOS not in ids and (missing := set(ALPHABET) - ids.keys()):
            raise JourneyError(f"{encoder} is not GPT-2's vocabulary: it lacks {len(missing)} of the 256 bytes")
        merges = read_merges(file, ids)
        kind = kind_of(folder)
        found = read_beside(folder, kind.named)
        for token, i in found.ids.items():
            if ids.get(token, i) != i:
                raise JourneyError(f"{encoder}: {token!r:.60} has the id {ids[token]}, and {i} beside it: leave one")
        backend = byte_level(ids, merges, kind.pattern)
        if kind.space_before:
            backend.pre_tokenizer = pre_tokenizer(kind.pattern, add_prefix_space=True)
        if kind.nfc:
            backend.normalizer = normalizers.NFC()
        return cls._of(backend, found, encoder)

    @classmethod
    def from_ranks(cls, file: Path, pattern: str) -> Tokenizer:
        """Read tiktoken's file: a token in base64 and its rank on each line."""
        ids = read_ranks(file)
        specials = {BOS: 1 + max(ids.values(), default=-1)}
        if _rest_of(file).is_file():
            pattern, specials = _read_rest(file, ids)
        # tiktoken takes a piece that is a token as it is, without asking the merges; Llama 3 relies on it.
        backend = byte_level(ids | specials, merges_of(ids), pattern, ignore_merges=True)
        backend.add_special_tokens(list(specials))
        return cls(backend, pattern)

    @classmethod
    def _of(cls, backend: tokenizers.Tokenizer, found: Beside | None, file: Path) -> Tokenizer:
        """A tokenizer as a file has it, with the tokens beside it. JourneyError unless it is one of our kind."""
        state = json.loads(backend.to_str())
        pattern = name_of(steps_of(state))
        if state["model"]["type"] != "BPE" or not pattern:
            raise JourneyError(f"{file} is no byte-level BPE with the split pattern of {', '.join(PATTERNS)}")
        check_ids(backend.get_vocab(), file)
        if not found:
            return cls(backend, pattern)
        n_ids = 1 + max([*backend.get_vocab().values(), *found.ids.values()])
        return cls(add(backend, found, file.parent), pattern, n_ids)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and chat_template.jinja, which AutoTokenizer reads.

        A tokenizer without the special tokens of the chat format raises JourneyError.
        """
        for token in SPECIALS:
            self._special(token)
        folder = Path(folder)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "pad_token": PAD,
            # transformers 5 calls it extra_special_tokens, but reads this too; 4 reads only this.
            "additional_special_tokens": [token for token in self.special if token not in (BOS, EOS, PAD)],
            # transformers 5 ignores these beside a tokenizer.json; other readers may not.
            "add_bos_token": False,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
        }
        write_text(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        write_json(folder / "tokenizer_config.json", config)
        write_text(folder / "chat_template.jinja", chat.TEMPLATE)

    def save_tiktoken(self, path: str | Path) -> None:
        """Write tiktoken's file of ranks and, in PATH.json, what it leaves out: the split pattern and special tokens.

        `tiktoken.Encoding(mergeable_ranks=load_tiktoken_bpe(path), **json.load(open(path + ".json")))` gives the same
        ids. A tokenizer that tiktoken cannot be (see `ranks.ranks_of`) raises JourneyError.
        """
        path = Path(path)
        if path.suffix != ".tiktoken" or not path.parent.is_dir():
            raise JourneyError(f"cannot write {path}: name a file in a folder that exists, ending in .tiktoken")
        if not self._ranks:
            raise JourneyError("tiktoken knows only a split pattern and ranks: it cannot give this tokenizer's ids")
        lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in self._ranks.items()]
        rest = {"name": path.stem, "pat_str": PATTERNS[self.pattern], "special_tokens": self.special}
        write_json(_rest_of(path), rest)
        write_bytes(path, b"".join(lines))

    def with_chat_tokens(self) -> Tokenizer:
        """This tokenizer with the special tokens of the chat format that it lacks, after all its own.

        No id changes. What a tokenizer from elsewhere adds around every text (Llama 3 a <|begin_of_text|>) is turned
        off: here nothing is added that `chat.py` does not write.
        """
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        known = backend.get_vocab()
        lacking = [AddedToken(token, special=True) for token in SPECIALS if token not in self.special]
        unknown = [token.content for token in lacking if token.content not in known]
        above = 1 + max(known.values())
        backend = with_tokens(backend, lacking, {token: above + n for n, token in enumerate(unknown)})
        backend.post_processor = None
        return Tokenizer(backend, self.pattern)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, nothing added; a lone surrogate raises JourneyError."""
        return self.backend.encode(check(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text, on all cores: by tiktoken, which is four times faster, where it gives the same ids."""
        texts = [check(text) for text in texts]
        if self._tiktoken and all(map(is_safe, texts)):
            return self._tiktoken.encode_ordinary_batch(texts, num_threads=cores())
        return [found.ids for found in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of `encode_batch` as arrays of uint32: in a ninth of the memory of Python's numbers, and faster."""
        texts = [check(text) for text in texts]
        if not (self._tiktoken and all(map(is_safe, texts))):
            found = self.backend.encode_batch_fast(texts, add_special_tokens=False)
            return [np.array(encoding.ids, dtype=np.uint32) for encoding in found]
        encode = self._tiktoken.encode_to_numpy

        def some(texts: list[str]) -> list[np.ndarray]:
            return [encode(text, disallowed_special=()) for text in texts]

        with ThreadPoolExecutor(cores()) as pool:
            return [ids for part in pool.map(some, grouped(texts, _A_TASK)) for ids in part]

    @cached_property
    def _ranks(self) -> dict[bytes, int] | None:
        if self.pattern not in PATTERNS:
            return None
        return ranks_of(self.backend, pre_tokenizer(self.pattern))

    @cached_property
    def _tiktoken(self) -> tiktoken.Encoding | None:
        if not self._ranks:
            return None
        pattern = PATTERNS[self.pattern]
        return tiktoken.Encoding("", pat_str=pattern, mergeable_ranks=self._ranks, special_tokens=self.special)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, special tokens spelled out; bytes that are not UTF-8 become U+FFFD."""
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def spelled(self, token: int) -> bytes:
        """The bytes that an id stands for; none for one beyond the vocabulary, as a padded head has."""
        said = self.backend.id_to_token(token) or ""
        # A token that was added whole, as a mark may be, is not spelled in the byte alphabet.
        return unspell(said) if CHAR_TO_BYTE.keys() >= set(said) else said.encode()

    def words(self, ids: Sequence[int]) -> str:
        """The text of the ids without special tokens: what a model says by them is not in its words."""
        special = {*self.special.values()}
        return self.decode([token for token in ids if token not in special])

    @property
    def bos(self) -> int:
        """The id of <|endoftext|>: it stands before every document."""
        return self._special(BOS)

    @property
    def eos(self) -> int:
        """The id of <|end|>: it stands after every answer."""
        return self._special(EOS)

    @property
    def pad(self) -> int:
        """The id of <|pad|>: never trained on, and never the eos."""
        return self._special(PAD)

    @property
    def stop(self) -> set[int]:
        """The ids that end a generated text: <|end|> and <|endoftext|>."""
        return {self.special[token] for token in (EOS, BOS) if self.special.get(token, self.n_ids) < self.n_ids}

    @cached_property
    def merges(self) -> list[Merge]:
        """The pairs that are merged, in the order in which they were learned."""
        return [(left, right) for left, right in json.loads(self.backend.to_str())["model"]["merges"]]

    @property
    def generation(self) -> dict[str, Any]:
        """What generation_config.json says: where a text begins, where an answer ends, what pads."""
        return {"bos_token_id": self.bos, "eos_token_id": [self.eos, self.bos], "pad_token_id": self.pad}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that decides ids: the split, the vocabulary, the merges and the special tokens."""
        state = json.loads(self.backend.to_str())
        return digest({key: state[key] for key in ("added_tokens", "normalizer", "pre_tokenizer", "model")})

    def _special(self, token: str) -> int:
        if token not in self.special:
            raise JourneyError(
                f"this tokenizer has no {token} token, it was not made for chat: `journey import` adds it"
            )
        if self.special[token] >= self.n_ids:
            raise JourneyError(f"{token} has only a name in this tokenizer, and no row in its model: import it first")
        return self.special[token]


def grouped(texts: Iterable[str], characters: int) -> Iterator[list[str]]:
    """The texts, in order, in groups of about so many characters: each ends with the text that fills it."""
    group: list[str] = []
    room = characters
    for text in texts:
        group.append(text)
        room -= len(text) + 1  # so that empty texts fill it too
        if room <= 0:
            yield group
            group, room = [], characters
    if group:
        yield group


def pre_tokenizer(pattern: str, add_prefix_space: bool = False) -> pre_tokenizers.PreTokenizer:
    """What cuts text by the split pattern of this name and writes its bytes as visible characters."""
    if pattern == "gpt2":  # built into ByteLevel, and known to every reader of tokenizer.json in this form
        return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=False)
    return pre_tokenizers.Sequence([split, as_bytes])


def byte_level(
    ids: dict[str, int], merges: Sequence[Merge], pattern: str, ignore_merges: bool = False
) -> tokenizers.Tokenizer:
    """Byte-level BPE of the `tokenizers` library, nothing added. An unknown pattern raises JourneyError."""
    splitter(pattern)
    backend = tokenizers.Tokenizer(models.BPE(ids, list(merges), ignore_merges=ignore_merges))
    backend.pre_tokenizer = pre_tokenizer(pattern)
    backend.decoder = decoders.ByteLevel()
    return backend


def _rest_of(file: Path) -> Path:
    """Where the split pattern and the special tokens of a .tiktoken file stand, as JSON."""
    return file.with_name(f"{file.name}.json")


def _read_rest(file: Path, ranks: dict[str, int]) -> tuple[str, dict[str, int]]:
    """The split pattern's name and the special tokens with their ids, which no rank has."""
    rest = _rest_of(file)
    said = read_json(rest)
    try:
        named = {PATTERNS[name]: name for name in PATTERNS}
        pattern, specials = named[said["pat_str"]], dict(said["special_tokens"])
        check_ids(ranks | specials, rest)
    except (KeyError, TypeError, ValueError, JourneyError) as error:
        reason = f" ({str(error).removeprefix(f'{rest}: ')})" if isinstance(error, JourneyError) else ""
        raise JourneyError(f"{rest} does not fit {file.name}{reason}: delete it, or write both anew") from None
    return pattern, specials
