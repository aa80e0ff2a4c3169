"""Scheduler and blocks, driven by anything: no block is lost or given twice, and every request ends with its text.

The model is a stand-in that knows what each place of the cache ought to hold: an id, and all ids before it. It looks
at every place that a real one would.
"""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.infer import blocks, engine, runner
from journey.infer.blocks import BLOCK, Blocks
from journey.infer.engine import Engine
from journey.infer.sequence import Request
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

V, N_CTX = 13, 96
MODEL = GPT(GPTConfig.make("gpt2", V, N_CTX, 1, 4, 1))


def next_id(ids) -> int:
    """Texts that wander, and now and then repeat themselves."""
    return (3 * ids[-1] + ids[len(ids) // 2] + len(ids) // 7) % V


class Stand:
    """A model whose cache holds, for each place, the ids up to there."""

    name = "stand-in"

    def __init__(self, n_blocks):
        self.cache = {}
        self.held = None

    def __call__(self, step):
        texts = []
        assert step.positions.max() < N_CTX, "beyond the context"
        for id, position, row in zip(step.ids.tolist(), step.positions.tolist(), step.rows.tolist(), strict=True):
            table = step.tables[row].tolist()
            place = lambda p, table=table: (table[p // BLOCK], p % BLOCK)  # noqa: E731
            before = self.cache[place(position - 1)] if position else ()
            assert len(before) == position, "the place before holds another position"
            self.cache[place(position)] = (*before, id)
            texts.append((table, position))
        for table, position in texts:  # after all is written, as in a layer
            whole = self.cache[(table[position // BLOCK], position % BLOCK)]
            for p in range(position + 1):
                assert self.cache[(table[p // BLOCK], p % BLOCK)] == whole[: p + 1], "somebody else's text"
        logits = torch.zeros(len(step.read), V)
        for i, at in enumerate(step.read.tolist()):
            table, position = texts[at]
            logits[i, next_id(self.cache[(table[position // BLOCK], position % BLOCK)])] = 1
        return logits


def expected(prompt, n, stop):
    ids = list(prompt)
    while len(ids) - len(prompt) < n and len(ids) < N_CTX:
        ids.append(next_id(ids))
        if ids[-1] in stop:
            break
    return ids[len(prompt) :]


def consistent(some: Engine) -> None:
    held = Counter(block for sequence in some.scheduler.running for block in sequence.blocks)
    assert held == Counter({b: n for b, n in enumerate(some.blocks.holders) if n})
    assert set(some.blocks.unheld) == {b for b, n in enumerate(some.blocks.holders) if not n}
    assert all(some.blocks.names[block] == name for name, block in some.blocks.by_name.items())
    assert sum(name is not None for name in some.blocks.names) == len(some.blocks.by_name)
    for sequence in some.scheduler.running:
        assert len(sequence.blocks) <= blocks.count(sequence.limit)


request_ = st.builds(
    lambda shared, own, n, stop: (([1, 2, 3, 4, 5, 6, 7, 8] * 8)[:shared] + own, n, stop),
    shared=st.integers(0, 50),
    own=st.lists(st.integers(0, V - 1), min_size=1, max_size=30),
    n=st.integers(1, 60),
    stop=st.sampled_from([frozenset(), frozenset({3}), frozenset({5, 6})]),
)


@settings(deadline=None, max_examples=150)
@given(
    asked=st.lists(st.tuples(request_, st.integers(0, 5)), min_size=1, max_size=10),
    n_blocks=st.integers(N_CTX // BLOCK, 14),
    tokens=st.integers(4, 40),
    sequences=st.integers(1, 4),
    guessing=st.booleans(),
    data=st.data(),
)
def test_every_request_ends_with_its_own_text(asked, n_blocks, tokens, sequences, guessing, data):
    guess = (lambda ids, most: data.draw(st.lists(st.integers(0, V - 1), max_size=min(most, 6)))) if guessing else None
    if guessing and data.draw(st.booleans()):  # guesses that come true
        guess = lambda ids, most: expected(ids, min(most, 5), ())  # noqa: E731
    some = Engine(MODEL, n_blocks=n_blocks, tokens=tokens, sequences=sequences, guess=guess)
    some.run = Stand(n_blocks)
    waiting, taken, steps = list(asked), [], 0
    while waiting or some.busy:
        while waiting and (waiting[0][1] <= steps or not some.busy):
            (prompt, n, stop), _ = waiting.pop(0)
            taken.append((some.add(Request(prompt=prompt, max_new_tokens=n, stop=stop)), prompt, n, stop))
        some.step()
        consistent(some)
        steps += 1
        assert steps < 3000
    for sequence, prompt, n, stop in taken:
        assert sequence.written == expected(prompt, n, stop)
        assert sequence.finish == ("stop" if sequence.ids[-1] in stop else "context" if len(sequence.ids) == N_CTX
                                   and len(prompt) + n > N_CTX else "length")  # fmt: skip
    assert some.blocks.free == n_blocks and not any(some.blocks.holders)


def by_stand(monkeypatch, **settings):
    monkeypatch.setattr(runner, "make", lambda model, n: Stand(n))
    return Engine(MODEL, **settings)


def test_who_came_last_makes_room_and_is_read_anew(monkeypatch):
    some = by_stand(monkeypatch, n_blocks=6, sequences=3, tokens=200)
    asked = [some.add(Request(prompt=[i, *range(1, 12)], max_new_tokens=60)) for i in range(3)]
    while some.busy:
        some.step()
        consistent(some)
    assert asked[0].preempted == 0 < asked[2].preempted
    assert [s.written for s in asked] == [expected([i, *range(1, 12)], 60, ()) for i in range(3)]


def test_a_shared_beginning_is_read_once(monkeypatch):
    read = []
    some = by_stand(monkeypatch, n_blocks=40, watch=lambda chunks, written, seconds: read.append([c.n for c in chunks]))
    beginning = [i % V for i in range(3 * BLOCK)]
    first, second = (some.add(Request(prompt=[*beginning, i], max_new_tokens=1)) for i in (1, 2))
    some.step()
    assert read == [[3 * BLOCK + 1, 1]] and (first.reused, second.reused) == (0, 3 * BLOCK)
    third = some.add(Request(prompt=beginning, max_new_tokens=1))  # its last id has to be read for its logits
    some.step()
    assert read[1] == [BLOCK] and third.reused == 2 * BLOCK


def test_who_writes_does_not_wait_for_who_reads(monkeypatch):
    read = []
    some = by_stand(monkeypatch, n_blocks=40, tokens=10, sequences=4,
                    watch=lambda chunks, written, seconds: read.append([c.n for c in chunks]))  # fmt: skip
    some.add(Request(prompt=[1], max_new_tokens=20))
    some.step()
    some.add(Request(prompt=[2] * 25, max_new_tokens=1))
    for _ in range(3):
        some.step()
    assert read == [[1], [1, 9], [1, 9], [1, 7]]


def test_guesses_end_where_the_text_must(monkeypatch):
    """At the last places of the context a pass reads no further than that, whatever is guessed."""
    for n in (200, 30):
        some = by_stand(monkeypatch, n_blocks=8, guess=lambda ids, most: expected(ids, most, ()) if most > 0 else [])
        (found,) = some.generate([Request(prompt=[1, 2], max_new_tokens=n)])
        assert found.ids == expected([1, 2], n, ())


def test_what_can_never_fit_is_refused_and_who_leaves_lets_go(monkeypatch):
    some = by_stand(monkeypatch, n_blocks=2)
    with pytest.raises(JourneyError, match="a text of 40 tokens needs 3 blocks of 16 in the cache, which has 2"):
        some.add(Request(prompt=[1] * 10, max_new_tokens=30))
    tokens = some.stream(Request(prompt=[1] * 10, max_new_tokens=20))
    assert [next(tokens), next(tokens)] == expected([1] * 10, 2, ())
    tokens.close()
    assert some.blocks.free == 2 and not some.busy
    waiting = some.add(Request(prompt=[1], max_new_tokens=2))
    some.halt(waiting)
    assert waiting.finish == "halted" and not some.busy


def test_memory_is_bounded_by_the_blocks_that_were_set():
    assert sum(each.numel() for each in _kept(Engine(MODEL, n_blocks=3).run)) <= 3 * BLOCK * 2 * 16 + 8
    assert engine.enough(MODEL, 20, 100) == 200
    assert engine.enough(MODEL, 20, 10**9) == engine.CACHE_BYTES // engine.block_bytes(MODEL)


def _kept(run):
    return run.cache.kept if run.name == "torch" else [run.keys, run.values]


def test_blocks_are_forgotten_the_longest_unused_first():
    some = Blocks(3)
    taken = [some.take() for _ in range(3)]
    for block, name in zip(taken, (b"a", b"b", b"c"), strict=True):
        some.name(block, name)
    some.release(taken[:2])  # a text's end goes before its beginning
    some.release(taken[2:])
    assert some.take() == taken[1] and some.find([b"a", b"b"]) == [taken[0]] and some.find([b"c"]) == [taken[2]]
    assert some.find([b"b", b"c"]) == []  # what comes after a gap is of no use
    some.share(taken[0])
    assert some.free == 1 and some.take() == taken[2] and some.find([b"a"]) == [taken[0]]
