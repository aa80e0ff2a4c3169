"""A request, and how far it has come."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from journey.errors import JourneyError
from journey.infer.sampling import GREEDY, Sampling
from journey.infer.text import StopStrings

if TYPE_CHECKING:
    from journey.infer.grammar import Grammar

Finish = Literal["stop", "string", "grammar", "length", "context", "halted", "error"]
"""Why a text ends: a stop id, a stop string, its form is complete, max_new_tokens, the end of n_ctx, its reader wanted
no more, or its form cannot be followed further."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt, and how it is to be gone on with."""

    prompt: list[int]
    max_new_tokens: int
    stop: frozenset[int] = frozenset()
    """Ids that end the text, and belong to it."""
    sampling: Sampling = GREEDY
    number: int = 0
    """Which random numbers it draws: those of (sampling.seed, number), whatever else is under way."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end the text, and do not belong to it."""
    logprobs: int | None = None
    """Keep each token's log-probability, and so many likeliest beside it."""
    grammar: "Grammar | None" = None


@dataclass(eq=False)
class Sequence:
    """A request under way: its ids, and which of them stand in the cache."""

    request: Request
    limit: int  # ids at most, prompt included
    arrival: int
    ids: list[int] = field(init=False)
    computed: int = 0  # of the ids, from the first on: their keys and values are in the cache
    blocks: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)  # of whole blocks of ids, each with all before it
    draft: list[int] = field(default_factory=list)  # guessed to come next
    reused: int = 0  # of the prompt, found in the cache when it began
    preempted: int = 0  # how often it had to begin again
    finish: Finish | None = None
    logprobs: list[tuple[float, dict[int, float]]] = field(default_factory=list)
    text: StopStrings | None = None  # what is certain of the text, where the engine has a tokenizer
    shown: str = ""
    error: JourneyError | None = None

    def __post_init__(self) -> None:
        self.ids = list(self.request.prompt)
        sampling = self.request.sampling
        # Rows of one such are drawn from at once: a seed changes nothing of how.
        self.alike = GREEDY if sampling.temperature == 0 else replace(sampling, seed=0)
        self.generator = np.random.default_rng((self.request.sampling.seed, self.request.number))
        self.constraint = self.request.grammar.start() if self.request.grammar else None

    @property
    def written(self) -> list[int]:
        """The ids after the prompt."""
        return self.ids[len(self.request.prompt) :]

    @property
    def missing(self) -> int:
        """How many tokens a step has to read until the next can be drawn: 1 in the middle of a text."""
        return len(self.ids) - self.computed


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt: its ids, the stop id included when the model ended by itself."""

    ids: list[int]
    ended: bool
    finish: Finish | None = field(default=None, compare=False)
    text: str = field(default="", compare=False)  # up to a stop string, where the engine has a tokenizer
    logprobs: list[tuple[float, dict[int, float]]] = field(default_factory=list, compare=False)
    """Of each id, where they were asked for: its log-probability, and the likeliest with theirs."""

    @staticmethod
    def of(sequence: Sequence) -> "Completion":
        """What a finished sequence has written. Raises the JourneyError that ended it, if one did."""
        if sequence.error:
            raise sequence.error
        ended = sequence.finish == "stop"
        return Completion(sequence.written, ended, sequence.finish, sequence.shown, sequence.logprobs)
