"""Learning a byte-level BPE vocabulary: merge the most frequent pair of neighbours, again and again.

Sennrich, Haddow & Birch 2016, arXiv:1508.07909.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from journey.errors import JourneyError
from journey.tokenizer.codec import ALPHABET, Merge, spell, splitter

Pair = tuple[int, int]


def count_words(texts: Iterable[str], pattern: str = "gpt2") -> Counter[str]:
    """How often each piece of the split pattern occurs in the texts."""
    findall = splitter(pattern).findall
    words: Counter[str] = Counter()
    for text in texts:
        words.update(findall(text))
    return words


def train(
    words: Mapping[str, int],
    vocab_size: int,
    n_special: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Merge]:
    """Learn merges until bytes, merges and `n_special` special tokens make up `vocab_size`.

    Ties go as in the `tokenizers` library, whose merges are the same: highest count, then smaller left id,
    then smaller right id. `progress(done, total)` is called as merges are learned. A vocabulary too small for
    the bytes or too large for the corpus raises JourneyError.
    """
    n_ordinary = vocab_size - n_special
    if n_ordinary < len(ALPHABET):
        least = len(ALPHABET) + n_special
        raise JourneyError(f"vocab_size {vocab_size} is too small: bytes and special tokens are {least}")
    tokens = list(ALPHABET)
    ids = {token: i for i, token in enumerate(tokens)}
    pieces = [[ids[char] for char in spell(word)] for word in words]
    frequency = list(words.values())

    # A merge touches only the pieces that hold its pair, so counts are kept up to date, never counted again.
    counts: defaultdict[Pair, int] = defaultdict(int)
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for w, piece in enumerate(pieces):
        for pair in pairwise(piece):
            counts[pair] += frequency[w]
            where[pair].add(w)
    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)

    merges: list[Merge] = []
    for new in range(len(ALPHABET), n_ordinary):
        best = _pop_most_frequent(queue, counts)
        if best is None:
            most = new + n_special
            raise JourneyError(f"vocab_size {vocab_size} is too large for this corpus: at most {most}")
        left, right = tokens[best[0]], tokens[best[1]]
        merges.append((left, right))
        tokens.append(left + right)
        risen: set[Pair] = set()
        for w in where.pop(best):
            for pair, change in _merge(pieces[w], best, new):
                counts[pair] += change * frequency[w]
                if change > 0:
                    where[pair].add(w)
                    risen.add(pair)
        for pair in risen:
            if counts[pair] > 0:  # in a run such as "aaaa" a pair can be made and parted again
                heapq.heappush(queue, (-counts[pair], pair))
        if progress and len(merges) % 32 == 0:
            progress(len(merges), n_ordinary - len(ALPHABET))
    return merges


def _pop_most_frequent(queue: list[tuple[int, Pair]], counts: Mapping[Pair, int]) -> Pair | None:
    """The pair with the highest count now; entries of the queue may be from before their count fell."""
    while queue:
        queued, pair = heapq.heappop(queue)
        count = counts[pair]
        if count == -queued:
            return pair
        if count > 0:
            heapq.heappush(queue, (-count, pair))
    return None


def _merge(piece: list[int], pair: Pair, new: int) -> list[tuple[Pair, int]]:
    """Put `new` for the pair, in place, left to right; the pairs that this parts (-1) and makes (+1)."""
    left, right = pair
    changes = []
    i = 0
    while i < len(piece) - 1:
        if piece[i] == left and piece[i + 1] == right:
            if i > 0:
                changes += [((piece[i - 1], left), -1), ((piece[i - 1], new), 1)]
            if i + 2 < len(piece):
                changes += [((right, piece[i + 2]), -1), ((new, piece[i + 2]), 1)]
            piece[i : i + 2] = [new]
        i += 1
    return changes
