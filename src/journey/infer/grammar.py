"""Text that must have a form: which tokens may come next, by a JSON schema or a regular expression (llguidance).

What a tokenizer spells is all that llguidance needs of it, so any tokenizer of ours will do. To the grammar a text ends
with one token of its own, which stands for every stop id; special tokens are never text, whatever their spelling.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.files import check_file, parse_json
from journey.infer.trial import MEMORY, SECONDS, compiles

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

LONGEST = 2**15  # characters of a schema or regex: where all of them must come, each token takes time for what is left
# JSON without white space, of which a model could write more and more; and no keyword that is not followed is passed
# over (which is what "lenient" and "coerce_one_of" do).
_JSON = {"whitespace_flexible": False, "lenient": False, "coerce_one_of": False}


class Grammar:
    """A JSON schema or regular expression, compiled for a tokenizer: made once, shared by requests."""

    def __init__(self, tokenizer: Tokenizer, grammar: str, what: str) -> None:
        """`grammar` as llguidance writes it; `what` opens the message of each JourneyError."""
        if not compiles(grammar):
            raise JourneyError(
                f"{what} is too complex: compiling it takes over {SECONDS} seconds or {MEMORY >> 20:,} MB; simplify it"
            )
        self.what = what
        self.n_ids, self.stop = tokenizer.n_ids, tokenizer.stop
        llguidance = _library()
        limits = llguidance.LLParserLimits(verbose_errors=False)
        self.matcher = llguidance.LLMatcher(_known(tokenizer), grammar, log_level=0, limits=limits)
        self.check(self.matcher)
        self.start().try_one()  # most that is impossible or too large is found out with the first token

    @classmethod
    def json_schema(
        cls, tokenizer: Tokenizer, schema: str | dict[str, Any] | bool, what: str = "the schema"
    ) -> Grammar:
        """JSON that a schema allows, without white space, the keys of `properties` in the schema's order.

        Raises JourneyError for what is no JSON or no schema, allows nothing, has a keyword that llguidance cannot
        follow (it says which), or is too large. Nothing is fetched for a "$ref". A key that `properties` does not name
        can come twice, of which JSON takes the last: so `minProperties` alone can be missed.
        """
        made = _library().LLMatcher.grammar_from_json_schema
        if isinstance(schema, str):
            schema = parse_json(_short(schema, what), what, "file")
        if schema is False or not isinstance(schema, dict | bool):
            why = "false allows nothing" if schema is False else "a JSON schema is an object"
            raise JourneyError(f"{what}: {why}")
        if isinstance(schema, dict) and "x-guidance" in schema:  # it could say that JSON has other commas
            raise JourneyError(f'{what}: "x-guidance" is no keyword of JSON schemas: leave it out')
        try:
            text = _short(json.dumps({} if schema is True else schema, ensure_ascii=False), what)
            return cls(tokenizer, made(text, overrides=_JSON), what)
        except (ValueError, RecursionError) as error:
            raise JourneyError(f"{what} cannot be followed: {_reason(str(error))}") from None

    @classmethod
    def json_schema_file(cls, tokenizer: Tokenizer, file: Path) -> Grammar:
        """`json_schema` of a file, which is named in errors."""
        check_file(file)
        with file.open("rb") as opened:
            data = opened.read(4 * LONGEST + 1)  # a character has at most four bytes
        if len(data) > 4 * LONGEST:
            raise _too_long(str(file))
        return cls.json_schema(tokenizer, parse_json(data, str(file), "file"), str(file))

    @classmethod
    def regex(cls, tokenizer: Tokenizer, pattern: str, what: str = "the regex") -> Grammar:
        """Text that a regular expression matches as a whole.

        The syntax is that of Rust's `regex`: as Python's, without look-around and back-references. Raises JourneyError
        for what is no such expression, matches nothing, or is too large.
        """
        made = _library().LLMatcher.grammar_from_regex
        return cls(tokenizer, made(_short(pattern, what)), what)

    def start(self) -> Constraint:
        """The state of a text of which nothing is written yet."""
        return Constraint(self)

    def check(self, matcher: Any) -> None:
        """Raises JourneyError for a matcher that has given up: asked on, it would let the text end anywhere."""
        if matcher.is_error():
            raise JourneyError(f"{self.what} cannot be followed: {_reason(matcher.get_error())}")


class Constraint:
    """What one request has written, and what it may write next. Any method can raise JourneyError: the grammar became
    too complex for llguidance's limits, or a token did not fit. Then this request is over, and no other is."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._matcher = grammar.matcher.deep_copy()
        self._next: tuple[Tensor, bool] | None = None  # of this state, once it has been asked for

    def allow(self, logits: Tensor) -> None:
        """Set logits (V,) to -inf, in place, but for the tokens that may come next; the stop ids are among them where
        the text may end here. Rows beyond the tokenizer's ids are never allowed."""
        n_ids = self._grammar.n_ids
        logits[:n_ids].masked_fill_(self._ahead()[0].to(logits.device), -torch.inf)
        logits[n_ids:] = -torch.inf

    def take(self, token: int) -> None:
        """Go on with the token that was drawn."""
        grammar = self._grammar
        if not 0 <= token < grammar.n_ids:
            raise JourneyError(f"{grammar.what}: {token} is no id of the tokenizer")
        self._consume(grammar.n_ids if token in grammar.stop else token)

    @property
    def done(self) -> bool:
        """Whether the text is complete and nothing but a stop id may follow: a tokenizer may have none."""
        return self._ahead()[1]

    def try_one(self) -> None:
        """Go on with some token that may come next."""
        excluded, done = self._ahead()
        self._consume(self._grammar.n_ids if done else int(excluded.logical_not().nonzero()[0]))

    def _ahead(self) -> tuple[Tensor, bool]:
        """Which ids must not come next (n_ids,), and whether none but the stop ids may."""
        if self._next is None:
            bias = self._matcher.compute_logit_bias()  # a byte an id, and one for the end: 0 where it must not come
            self._grammar.check(self._matcher)
            told = torch.from_numpy(np.frombuffer(bias, np.uint8) == 0)
            excluded, ends = told[:-1], not told[-1]
            done = ends and bool(excluded.all())
            excluded[[*self._grammar.stop]] = not ends
            self._next = excluded, done
        return self._next

    def _consume(self, token: int) -> None:
        self._next = None
        self._matcher.consume_token(token)
        self._grammar.check(self._matcher)


class _Spelled:
    """A tokenizer as llguidance wants to see it (its `TokenizerWrapper`)."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokens = [tokenizer.spelled(i) for i in range(tokenizer.n_ids)]
        self.eos_token_id = len(self.tokens)
        self.tokens.append(b"end")
        self.special_token_ids = [*tokenizer.special.values(), self.eos_token_id]
        self._encode = tokenizer.encode
        self._bytes = {token: i for i, token in enumerate(self.tokens) if len(token) == 1}

    def __call__(self, text: str) -> list[int]:
        """The ids of text that must come: it is then written as a model has read it, and not in other tokens."""
        ids, spelled = self._encode(text), text.encode()
        if b"".join(self.tokens[i] for i in ids) == spelled:
            return ids
        return [self._bytes[bytes([byte])] for byte in spelled]  # it normalizes text, or puts a space before it


@lru_cache(maxsize=4)  # a vocabulary of 50,000 takes a quarter of a second
def _known(tokenizer: Tokenizer) -> Any:
    return _library().LLTokenizer(_Spelled(tokenizer))


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise JourneyError('a JSON schema or regex needs llguidance: pip install "journey-gpt[grammar]"') from None
    return llguidance


def _short(text: str, what: str) -> str:
    if len(text) > LONGEST:
        raise _too_long(what)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise JourneyError(f"{what} holds a lone surrogate, which is half a character") from None
    return text


def _too_long(what: str) -> JourneyError:
    return JourneyError(f"{what} has more than {LONGEST:,} characters: give a shorter one")


def _reason(said: str) -> str:
    """What llguidance says, as one line: without its repetition of a regex, and advice to whoever calls it."""
    if said.startswith("NoExtensionBias"):
        return "no text fits it, or none that goes on from here"
    if said.startswith("panic"):
        return "it is too large"
    line = said.rpartition("(in regex): ")[2].rpartition("error: ")[2].strip().partition("\n")[0]
    for advice in ("; ", ". Enable", " at line 1 column"):
        line = line.partition(advice)[0]
    return line if len(line) <= 200 else f"{line[:199]}…"
