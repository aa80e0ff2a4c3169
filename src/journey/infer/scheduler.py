"""Who is read in the next step, and how much of it: continuous batching (Yu et al. 2022, Orca), with long prompts in
chunks (Agrawal et al. 2023, arXiv 2308.16369) so that nobody who writes waits for one who reads.
"""

from collections import deque
from dataclasses import dataclass

from journey.errors import JourneyError
from journey.infer.blocks import BLOCK, Blocks, count, names
from journey.infer.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """Tokens of a sequence that a step reads: `n` from `start` on, its guesses among them."""

    sequence: Sequence
    start: int
    n: int
    asked: int  # of the last of them: what comes after each is to be known; 0 in the middle of a prompt


class Scheduler:
    """First come, first served: at most `sequences` at once, at most `tokens` a step. Where blocks run out, who came
    last goes back to the queue and is read anew later; the first never does, so that each comes to its end."""

    def __init__(self, blocks: Blocks, tokens: int, sequences: int) -> None:
        if tokens < sequences:
            raise JourneyError(f"{tokens} tokens a step are too few for {sequences} sequences: each writes one a step")
        self.blocks, self.tokens, self.sequences = blocks, tokens, sequences
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the queue; JourneyError where all blocks together cannot hold it."""
        if (needed := count(sequence.limit)) > self.blocks.n:
            raise JourneyError(
                f"a text of {sequence.limit} tokens needs {needed} blocks of {BLOCK} in the cache, which has "
                f"{self.blocks.n}: give it more, or write fewer tokens"
            )
        self.waiting.append(sequence)

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step; empty when nobody is left."""
        chunks: list[Chunk] = []
        writing = sum(sequence.missing == 1 for sequence in self.running)
        left = self.tokens - writing  # for who reads; who writes has a token anyway
        i, crowded = 0, False
        while i < len(self.running):
            sequence = self.running[i]
            if sequence.missing == 1:
                n = 1 + min(len(sequence.draft), left)
                left -= n - 1
            else:
                left -= (n := min(sequence.missing, left))
            sequence.draft = sequence.draft[: max(0, n - sequence.missing)]
            while n and count(sequence.computed + n) - len(sequence.blocks) > self.blocks.free:
                crowded = True
                self._send_back(self.running[-1])
                if i >= len(self.running):
                    return chunks  # it was this one
            if n:
                chunks.append(self._chunk(sequence, n))
            i += 1
        while self.waiting and left > 0 and len(self.running) < self.sequences and not crowded:
            sequence = self.waiting[0]
            self._begin(sequence)
            n = min(sequence.missing, left)
            if count(sequence.computed + n) - len(sequence.blocks) > self.blocks.free:
                self._forget(sequence)
                break
            self.running.append(self.waiting.popleft())
            left -= n
            chunks.append(self._chunk(sequence, n))
        return chunks

    def finish(self, sequence: Sequence) -> None:
        """Let go of a sequence, running or waiting."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._forget(sequence)

    def _begin(self, sequence: Sequence) -> None:
        """Hold what the cache has of its beginning, but for its last id, which has to be read for its logits."""
        sequence.keys = names(sequence.ids, sequence.keys)
        found = self.blocks.find(sequence.keys[: (len(sequence.ids) - 1) // BLOCK])
        for block in found:
            self.blocks.share(block)
        sequence.blocks, sequence.computed = found, BLOCK * len(found)
        if not sequence.preempted:
            sequence.reused = sequence.computed

    def _chunk(self, sequence: Sequence, n: int) -> Chunk:
        """Room for n more tokens. Blocks that they fill have their names from here on: all keys and values of a layer
        are written before any is looked at, so who shares them in this very step finds them."""
        end = sequence.computed + n
        while len(sequence.blocks) < count(end):
            sequence.blocks.append(self.blocks.take())
        known = min(end, len(sequence.ids)) // BLOCK  # whole blocks
        if known > sequence.computed // BLOCK:
            sequence.keys = names(sequence.ids[: known * BLOCK], sequence.keys)
            for i in range(sequence.computed // BLOCK, known):
                self.blocks.name(sequence.blocks[i], sequence.keys[i])
        return Chunk(sequence, sequence.computed, n, max(0, end - len(sequence.ids) + 1))

    def _send_back(self, sequence: Sequence) -> None:
        """Preempt: what it has written stays, what the cache has of it may go."""
        self.running.remove(sequence)
        self._forget(sequence)
        sequence.preempted += 1
        self.waiting.appendleft(sequence)

    def _forget(self, sequence: Sequence) -> None:
        self.blocks.release(sequence.blocks)
        sequence.blocks, sequence.computed, sequence.draft = [], 0, []
