"""Byte-level BPE in its plainest form: count all pairs, merge the most frequent one, begin again.

Read this one to learn the algorithm. `bpe.train` learns the same merges thousands of times faster, because it keeps
the counts and changes only what a merge has changed.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from journey.tokenizer.codec import ALPHABET, Merge, spell, splitter


def train(texts: Iterable[str], vocab_size: int, pattern: str = "gpt2") -> list[Merge]:
    """Learn merges until they and the 256 bytes are `vocab_size` tokens, or nothing is left to merge."""
    # 1. Cut the texts into words, so that no token spans two of them; the same word is worked on once.
    words = Counter(word for text in texts for word in splitter(pattern).findall(text))

    # 2. Every word begins as its UTF-8 bytes, each written as a visible character. Every byte is a token, so that
    #    any text can be encoded, whatever was in the texts.
    split = {word: list(spell(word)) for word in words}
    ids = {byte: i for i, byte in enumerate(ALPHABET)}

    merges: list[Merge] = []
    while len(ids) < vocab_size:
        # 3. Count each pair of neighbours, as often as its word occurs.
        counts: Counter[Merge] = Counter()
        for word, tokens in split.items():
            for pair in pairwise(tokens):
                counts[pair] += words[word]
        if not counts:
            break

        # 4. The most frequent pair becomes a token; of equally frequent ones that of the lowest ids.
        best = min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(best)
        ids["".join(best)] = len(ids)

        # 5. Put it in wherever the pair stands.
        split = {word: merge(tokens, best) for word, tokens in split.items()}
    return merges


def merge(tokens: list[str], pair: Merge) -> list[str]:
    """The tokens with each occurrence of the pair joined, from left to right: of "aaa" the third stays alone."""
    merged: list[str] = []
    i = 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            merged.append("".join(pair))
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return merged
