"""What a run did, pass by pass, and the same prompt with one thing changed at a time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

from journey.errors import JourneyError
from journey.infer import blocks
from journey.infer.engine import Engine, Written, cache_bytes_per_token, enough
from journey.infer.precision import PRECISIONS, convert
from journey.infer.scheduler import Chunk
from journey.infer.sequence import Request
from journey.infer.speculate import repeat
from journey.infer.timeline import flops, moved
from journey.model.gpt import GPT

TOGETHER = (1, 2, 4, 8, 16, 32)  # texts at once
_TOKENS = 16  # written after the first, in each comparison
_SECONDS = 6.0  # after which a comparison goes no further


@dataclass(frozen=True)
class Read:
    """Tokens of one request that a pass reads."""

    request: int
    start: int
    n: int
    prompt: bool  # still of its prompt: known before anything was written


@dataclass(frozen=True)
class Pass:
    """One pass over the model."""

    seconds: float
    read: tuple[Read, ...]
    wrote: tuple[tuple[int, int], ...]  # (request, id)
    asked: int  # positions whose logits were computed

    @property
    def prefill(self) -> bool:
        """Whether it read of any prompt."""
        return any(one.prompt for one in self.read)

    @property
    def tokens(self) -> int:
        """Read at once."""
        return sum(one.n for one in self.read)

    @property
    def seen(self) -> int:
        """Positions of the cache that its requests hold after it."""
        return sum(one.start + one.n for one in self.read)

    def flops(self, model: GPT) -> int:
        """By timeline.CONVENTION, the head at the positions that were asked for."""
        config = model.config
        head = 2 * config.vocab_size * config.n_embd
        return sum(flops(config, one.n, one.start + one.n) - head for one in self.read) + self.asked * head

    def bytes(self, model: GPT) -> int:
        """By timeline.CONVENTION: the weights once, whoever reads; keys and values of each."""
        return moved(model, self.tokens, self.seen)


@dataclass
class Run:
    """An engine's passes, in order: give it as `watch`."""

    model: GPT
    seen: list[tuple[list[Chunk], list[Written], float]] = field(default_factory=list)

    def __call__(self, chunks: list[Chunk], written: list[Written], seconds: float) -> None:
        """Remember a pass. What it means is worked out when the text is done."""
        self.seen.append((chunks, written, seconds))

    @cached_property
    def passes(self) -> list[Pass]:
        """All of them."""
        found = []
        for chunks, written, seconds in self.seen:
            read = tuple(
                Read(c.sequence.arrival, c.start, c.n, c.start < len(c.sequence.request.prompt)) for c in chunks
            )
            wrote = tuple((one.sequence.arrival, one.token) for one in written)
            found.append(Pass(seconds, read, wrote, sum(c.asked for c in chunks)))
        return found

    @property
    def reused(self) -> int:
        """Tokens of prompts that the cache had already."""
        sequences = {id(c.sequence): c.sequence for chunks, _, _ in self.seen for c in chunks}
        return sum(sequence.reused for sequence in sequences.values())

    def cache_bytes(self) -> list[int]:
        """What the cache holds after each pass, of all that still write."""
        held: dict[int, int] = {}
        found = []
        for each in self.passes:
            held |= {one.request: one.start + one.n for one in each.read}
            found.append(sum(held[one.request] for one in each.read) * cache_bytes_per_token(self.model))
        return found


@dataclass(frozen=True)
class Saved:
    """The same prompt, with one thing changed at a time; seconds are medians."""

    together: dict[int, float]  # texts at once -> of a step that writes a token of each
    first: float  # to the first token of the prompt
    again: float  # to the first token of the same prompt, with what the cache has of it
    reused: int  # tokens that it had
    precisions: dict[str, tuple[float, int]]  # -> of a step, bytes of the weights
    guessed: tuple[int, int, float, float]  # tokens, passes, seconds with guesses, seconds without


def warm(model: GPT, prompt: list[int]) -> None:
    """Read the prompt and write two tokens: the first pass also wakes threads and touches memory."""
    Engine(model, n_blocks=enough(model, len(prompt) + 2, 1), sequences=1).generate(
        [Request(prompt=prompt, max_new_tokens=2)]
    )


def compare(model: GPT, prompt: list[int], written: list[int], say: Callable[[str], None]) -> Saved:
    """Run them, each for some seconds at most."""
    n = max(1, min(_TOKENS, model.config.n_ctx - len(prompt) - 1))
    say("xray: the same prompt, several texts at once")
    together: dict[int, float] = {}
    begin = time.monotonic()
    for texts in TOGETHER:
        if together and time.monotonic() - begin > _SECONDS:
            break
        together[texts] = _step(model, prompt, n, texts)
    say("xray: the same prompt again")
    first, again, reused = _first(model, prompt)
    precisions = {"fp32": (together[1], _weights(model))}
    for name in PRECISIONS:
        try:
            smaller = convert(model, name)
        except JourneyError as error:  # of rows that no group divides, or a model that has few bits already
            say(f"xray: no weights in {name}: {error}")
            continue
        say(f"xray: weights in {name}")
        precisions[name] = (_step(smaller, prompt, n, 1), _weights(smaller))
    say("xray: guessing ahead")
    return Saved(together, first, again, reused, precisions, _guessed(model, prompt, len(written)))


def _step(model: GPT, prompt: list[int], n: int, texts: int) -> float:
    """Median seconds of a step that writes a token of each of so many texts."""
    run = Run(model)
    longest = len(prompt) + n + 1
    engine = Engine(model, n_blocks=enough(model, longest, texts), sequences=texts, watch=run)
    engine.generate(Request(prompt=prompt, max_new_tokens=n + 1, number=i) for i in range(texts))
    times = [each.seconds for each in run.passes if not each.prefill and len(each.read) == texts]
    return median(times) if times else run.passes[-1].seconds


def _first(model: GPT, prompt: list[int]) -> tuple[float, float, int]:
    """Median seconds to the first token: of a prompt that is new, and of the same with an engine that has read it."""
    new, again, reused = [], [], 0
    for _ in range(5):
        run = Run(model)
        engine = Engine(model, n_blocks=2 * blocks.count(len(prompt) + 1), sequences=1, watch=run)
        for _ in range(2):
            engine.generate([Request(prompt=prompt, max_new_tokens=1)])
        half = next(i for i, each in enumerate(run.passes, 1) if each.wrote)
        new.append(sum(each.seconds for each in run.passes[:half]))
        again.append(sum(each.seconds for each in run.passes[half:]))
        reused = run.reused
    return median(new), median(again), reused


def _guessed(model: GPT, prompt: list[int], n: int) -> tuple[int, int, float, float]:
    """Tokens, passes with guesses, and the seconds of the greedy text with guesses and without."""
    seconds: list[float] = []
    passes = tokens = 0
    for guess in (repeat, None):
        run = Run(model)
        engine = Engine(model, n_blocks=enough(model, len(prompt) + n, 1), sequences=1, watch=run, guess=guess)
        (done,) = engine.generate([Request(prompt=prompt, max_new_tokens=n)])
        seconds.append(sum(each.seconds for each in run.passes))
        passes, tokens = (len(run.passes), len(done.ids)) if guess else (passes, tokens)
    return tokens, passes, seconds[0], seconds[1]


def _weights(model: GPT) -> int:
    """Bytes of the weights that a step reads: not of a table in which it looks something up."""
    return moved(model, 0, 0)
