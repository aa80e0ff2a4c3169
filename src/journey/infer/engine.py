"""Generation: requests are read and gone on with together, each step one pass over the model, until each stops."""

import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.infer import blocks, runner
from journey.infer.blocks import Blocks
from journey.infer.sampling import GREEDY, Sampling, penalize, sample
from journey.infer.scheduler import Chunk, Scheduler
from journey.infer.sequence import Completion, Finish, Request, Sequence
from journey.infer.text import StopStrings
from journey.model.gpt import GPT

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

CACHE_BYTES = 1 << 30  # of keys and values at most, where nobody says otherwise
NO_NUMBERS = "the model's logits are no numbers: its weights are damaged, or something overflowed"
SEQUENCES, TOKENS = 64, 512  # at once, and a step


@dataclass(frozen=True)
class Written:
    """A token that a step has made."""

    sequence: Sequence
    token: int
    text: str = ""  # that is certain now and was not before, where the engine has a tokenizer


class Engine:
    """A model that many requests share. `add` takes them, each `step` goes on with all."""

    def __init__(
        self,
        model: GPT,
        tokenizer: "Tokenizer | None" = None,
        *,
        n_blocks: int | None = None,
        tokens: int = TOKENS,
        sequences: int = SEQUENCES,
        guess: Callable[[list[int], int], list[int]] | None = None,
        watch: Callable[[list[Chunk], list[Written], float], None] | None = None,
    ) -> None:
        """With a tokenizer, what is written comes as text too. `n_blocks` of blocks.BLOCK tokens bound the memory of
        the cache. `guess` (ids, at most) says which ids may come next, as infer.speculate does: they are checked in one
        pass, and the text is the same. `watch` is shown what each step read and wrote, and its seconds."""
        self.model, self.config, self.tokenizer = model, model.config, tokenizer
        if n_blocks is None:
            n_blocks = enough(model, self.config.n_ctx, sequences)
        self.blocks = Blocks(n_blocks)
        self.scheduler = Scheduler(self.blocks, max(tokens, sequences), sequences)
        self.run = runner.make(model, n_blocks)
        self.guess, self.watch = guess, watch
        self.arrivals = 0

    def add(self, request: Request) -> Sequence:
        """Take a request. Raises JourneyError for a prompt that is empty, leaves no room in the context or has ids of
        another vocabulary, and for a text that the cache could never hold."""
        n, n_ctx = len(request.prompt), self.config.n_ctx
        if not n:
            raise JourneyError("the prompt is empty: begin with the bos token")
        if n >= n_ctx:
            raise JourneyError(f"the prompt has {n} tokens, the context {n_ctx}: shorten the prompt")
        if not 0 <= min(request.prompt) <= max(request.prompt) < self.config.vocab_size:
            raise JourneyError(f"the prompt has an id that the model lacks: it has 0 to {self.config.vocab_size - 1}")
        sequence = Sequence(request, min(n_ctx, n + max(0, request.max_new_tokens)), self.arrivals)
        self.arrivals += 1
        if self.tokenizer:
            sequence.text = StopStrings(self.tokenizer, request.stop_strings)
        elif request.stop_strings:
            raise ValueError("to find stop strings the engine needs a tokenizer")
        if request.max_new_tokens < 1:
            sequence.finish = "length"
        else:
            self.scheduler.add(sequence)
        return sequence

    def halt(self, sequence: Sequence) -> None:
        """Its reader wants no more."""
        if sequence.finish is None:
            self._end(sequence, "halted")

    @property
    def busy(self) -> bool:
        """Whether anybody waits for a token."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    @torch.inference_mode()
    def step(self) -> list[Written]:
        """One pass: the tokens that it made, in the order of the sequences."""
        begin = time.perf_counter()
        if self.guess:
            for sequence in self.scheduler.running:
                room = sequence.limit - len(sequence.ids) - 1
                guessing = room > 0 and sequence.missing == 1
                sequence.draft = self.guess(sequence.ids, room) if guessing else []
        chunks = self.scheduler.schedule()
        if not chunks:
            return []
        logits = self.run(runner.Step.of(chunks))[:, : self.model.n_tokens]
        written = self._draw(chunks, logits)
        if self.watch:
            self.watch(chunks, written, time.perf_counter() - begin)
        return written

    def _draw(self, chunks: list[Chunk], logits: Tensor) -> list[Written]:
        """The next token of all whose ids have been read; of one with guesses more, as long as they come true."""
        first = 0
        drawing: list[tuple[Sequence, int, int]] = []  # whose, first row, rows
        for chunk in chunks:
            chunk.sequence.computed += chunk.n - max(0, chunk.asked - 1)  # guesses one by one below
            if chunk.asked:
                drawing.append((chunk.sequence, first, chunk.asked))
                first += chunk.asked
        tokens: dict[int, int] = {}
        alike: dict[Sampling, list[tuple[Sequence, int]]] = {}
        for sequence, row, n in drawing:
            if n == 1 and not (sequence.constraint or sequence.request.sampling.penalizes):
                alike.setdefault(sequence.alike, []).append((sequence, row))
        for sampling, group in alike.items():
            rows = [row for _, row in group]
            some = logits if len(rows) == len(logits) else logits[rows]
            found = sample(some, sampling, [sequence.generator for sequence, _ in group])
            tokens.update(zip(rows, found, strict=True))
        written = []
        for sequence, row, n in drawing:
            guesses = sequence.draft
            for i in range(n):
                token = tokens.get(row + i)
                try:
                    token = self._one(sequence, logits[row + i]) if token is None else token
                    if token < 0:
                        self._clear(sequence)
                        raise JourneyError(NO_NUMBERS)
                    text = self._take(sequence, token, logits[row + i])
                except JourneyError as error:  # of this request: the others go on
                    sequence.error = error
                    self._end(sequence, "error")
                    break
                written.append(Written(sequence, token, text))
                if sequence.finish or i == n - 1 or token != guesses[i]:
                    break
                sequence.computed += 1
            sequence.draft = []
        return written

    def _one(self, sequence: Sequence, logits: Tensor) -> int:
        """Draw from one row (V,) that the sequence's own past changes."""
        sampling = sequence.request.sampling
        if sequence.constraint or sampling.penalizes:
            logits = logits.clone()
            penalize(logits, sampling, sequence.request.prompt, sequence.written)
            if sequence.constraint:
                sequence.constraint.allow(logits)
        return sample(logits[None], sampling, [sequence.generator])[0]

    def _take(self, sequence: Sequence, token: int, logits: Tensor) -> str:
        """Go on with a token, and see whether it is the last; the text that is certain now."""
        request, text = sequence.request, sequence.text
        sequence.ids.append(token)
        if request.logprobs is not None:
            sequence.logprobs.append(_logprobs(logits, token, request.logprobs))
        new = text.feed(token) if text and token not in request.stop else ""
        if sequence.constraint:
            sequence.constraint.take(token)
        if token in request.stop:
            self._end(sequence, "stop")
        elif text and text.stopped is not None:
            self._end(sequence, "string")
        elif sequence.constraint and sequence.constraint.done:
            self._end(sequence, "grammar")
        elif len(sequence.ids) == sequence.limit:
            full = len(sequence.ids) == self.config.n_ctx < len(request.prompt) + request.max_new_tokens
            self._end(sequence, "context" if full else "length")
        if text and sequence.finish:
            new += text.end()
        sequence.shown += new
        return new

    def _clear(self, sequence: Sequence) -> None:
        """Leave nothing of a text that became no numbers in the cache, for whoever has its blocks next."""
        own = [block for block in sequence.blocks if self.blocks.holders[block] == 1]
        self.run.clear(own)
        for block in own:
            self.blocks.forget(block)

    def _end(self, sequence: Sequence, why: Finish) -> None:
        sequence.finish = why
        self.scheduler.finish(sequence)

    def generate(
        self, requests: Iterable[Request], until: Callable[[list[int]], bool] | None = None
    ) -> list[Completion]:
        """The completion of each, in their order; `until` that holds of the ids written."""
        sequences = [self.add(request) for request in requests]
        while self.busy:
            for one in self.step():
                if until and one.sequence.finish is None and until(one.sequence.written):
                    self.halt(one.sequence)
        return [Completion.of(sequence) for sequence in sequences]

    def stream(self, request: Request) -> Iterator[int]:
        """The ids of one request, each as soon as it is known. Who stops listening lets go of the cache."""
        sequence = self.add(request)
        try:
            while sequence.finish is None:
                for one in self.step():
                    if one.sequence is sequence:
                        yield one.token
            if sequence.error:
                raise sequence.error
        finally:
            self.halt(sequence)


def generate(
    model: GPT,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    stop: set[int],
    sampling: Sampling = GREEDY,
    batch_size: int = SEQUENCES,
    numbers: Many[int] | None = None,
    until: Callable[[list[int]], bool] | None = None,
) -> list[Completion]:
    """Each prompt's completion: up to the first stop id (which it includes), max_new_tokens, or the end of n_ctx, or
    until that holds of its ids. Its number, else its place, says which random numbers it draws.

    Raises JourneyError for a prompt that is empty or leaves no room in the context.
    """
    request = partial(Request, max_new_tokens=max_new_tokens, stop=frozenset(stop), sampling=sampling)
    each = zip(prompts, range(len(prompts)) if numbers is None else numbers, strict=True)
    requests = [request(prompt=prompt, number=number) for prompt, number in each]
    longest = max((min(model.config.n_ctx, len(p) + max_new_tokens) for p in prompts), default=1)
    engine = Engine(model, n_blocks=enough(model, longest, min(batch_size, len(prompts))), sequences=batch_size)
    return engine.generate(requests, until)


def stream(
    model: GPT, prompt: list[int], *, max_new_tokens: int, stop: set[int], sampling: Sampling = GREEDY
) -> Iterator[int]:
    """The ids of `generate` for one prompt, each as soon as it is known."""
    longest = min(model.config.n_ctx, len(prompt) + max_new_tokens)
    engine = Engine(model, n_blocks=enough(model, longest, 1), sequences=1)
    request = Request(prompt=prompt, max_new_tokens=max_new_tokens, stop=frozenset(stop), sampling=sampling)
    return engine.stream(request)


def enough(model: GPT, longest: int, sequences: int) -> int:
    """Blocks for so many texts of that length at once, or for as many as CACHE_BYTES hold, but for one at least."""
    one = blocks.count(max(longest, 1))
    return max(one, min(one * max(sequences, 1), CACHE_BYTES // block_bytes(model)))


def block_bytes(model: GPT) -> int:
    """Of the keys and values of a block's tokens, in fp32."""
    return blocks.BLOCK * cache_bytes_per_token(model)


def cache_bytes_per_token(model: GPT) -> int:
    """What all layers keep of a token (mostly a key and a value for each key head), in fp32, as the cache is."""
    return model.config.n_cached * torch.float32.itemsize


def _logprobs(logits: Tensor, token: int, n: int) -> tuple[float, dict[int, float]]:
    """Of the logits as the model gave them (V,): the token's log-probability, and the n likeliest with theirs."""
    found = logits.double().log_softmax(-1)
    top = found.topk(min(n, len(found)))
    return float(found[token]), dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
