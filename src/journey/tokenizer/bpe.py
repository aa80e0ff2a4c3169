"""Learning a byte-level BPE vocabulary: merge the most frequent pair of neighbours, again and again.

Sennrich, Haddow & Birch 2016, arXiv:1508.07909. `plain.py` has the same algorithm in its simplest form; here counts
are kept and only what a merge changes is changed.
"""

import gc
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import add

from journey.errors import JourneyError
from journey.tokenizer.codec import ALPHABET, Merge, check_size, spell
from journey.tokenizer.words import count_words

__all__ = ["count_words", "train"]


@contextmanager
def _without_collection() -> Iterator[None]:
    """Python looks for cycles among all lists each time their number has grown; here are a million, and no cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_collection()  # a sixth of the time
def train(
    words: Mapping[str, int],
    vocab_size: int,
    n_special: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Merge]:
    """Learn merges until bytes, merges and `n_special` special tokens make up `vocab_size`.

    Ties go as in the `tokenizers` library, whose merges are the same: highest count, then smaller left id,
    then smaller right id. Counts are exact at any size. `progress(done, total)` is called as merges are learned.
    No words, and a vocabulary too small for the bytes or too large for the corpus, raise JourneyError.
    """
    check_size(vocab_size, n_special)
    n_ordinary = vocab_size - n_special
    if not words:
        raise JourneyError("the corpus is empty: a vocabulary is learned from text")

    # A token is one character, chr(id). So a word is a string and a pair a string of two, which Python finds, cuts
    # and hashes in C.
    tokens = list(ALPHABET)
    to_id = {ord(char): i for i, char in enumerate(tokens)}
    ordered = sorted(words.items())  # alike words lie side by side in memory, which is faster
    pieces = [spell(word).translate(to_id) for word, _ in ordered]
    times = [count for _, count in ordered].__getitem__

    # A merge touches only the pieces that hold its pair, so counts are kept up to date, never counted again.
    where: defaultdict[str, list[int]] = defaultdict(list)  # a piece as often as it holds the pair
    for i, piece in enumerate(pieces):
        for pair in map(add, piece, piece[1:]):
            where[pair].append(i)
    counts = {pair: sum(map(times, found)) for pair, found in where.items()}
    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)

    merges: list[Merge] = []
    for id in range(len(ALPHABET), n_ordinary):
        best = _pop_most_frequent(queue, counts)
        if best is None:
            raise JourneyError(f"vocab_size {vocab_size} is too large for this corpus: at most {id + n_special}")
        left, right, new = best[0], best[1], chr(id)
        before, after, beside = _merge(pieces, where.pop(best), best, new)
        changes = [(char + new, char + left, found) for char, found in before.items()]
        changes += [(new + char, right + char, found) for char, found in after.items()]
        changes += [(new + new, right + left, beside)] if beside else []
        for made, parted, found in changes:
            counts[made] = count = sum(map(times, found))
            counts[parted] -= count
            where[made] = found
            heapq.heappush(queue, (-count, made))
        counts[best] = 0

        merges.append((tokens[ord(left)], tokens[ord(right)]))
        tokens.append("".join(merges[-1]))
        if progress and len(merges) % 32 == 0:
            progress(len(merges), n_ordinary - len(ALPHABET))
    return merges


def _pop_most_frequent(queue: list[tuple[int, str]], counts: Mapping[str, int]) -> str | None:
    """The pair with the highest count now; entries of the queue may be from before their count fell."""
    while queue:
        queued, pair = heapq.heappop(queue)
        count = counts[pair]
        if count == -queued:
            return pair
        if count > 0:
            heapq.heappush(queue, (-count, pair))
    return None


def _merge(
    pieces: list[str], found: list[int], pair: str, new: str
) -> tuple[dict[str, list[int]], dict[str, list[int]], list[int]]:
    """Put `new` for the pair in the pieces where it was found, from left to right; which tokens now stand before and
    after `new`, and in which pieces, and in which ones `new` stands beside itself: a piece as often as it happens."""
    before, after = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    beside = []
    for i in set(found):
        parts = pieces[i].split(pair)
        if len(parts) == 1:  # another merge has taken the pair's tokens since
            continue
        pieces[i] = new.join(parts)
        first, *between, last = parts
        if first:
            before[first[-1]].append(i)
        if last:
            after[last[0]].append(i)
        for part in between:
            if part:
                after[part[0]].append(i)
                before[part[-1]].append(i)
            else:
                beside.append(i)
    return before, after, beside
