"""Guesses at what comes next, which cost next to nothing: what came last time (Saxena 2023, prompt lookup decoding).

The engine checks them all in one pass and keeps those that it would have drawn itself, so the text is the same. Where a
text repeats itself, or its prompt, a step writes several tokens for the price of reading the weights once.
"""

from array import array

GUESSES = 8  # at most: each costs a token's arithmetic
GRAM = 3  # ids that have to have stood there before


def repeat(ids: list[int], most: int, gram: int = GRAM) -> list[int]:
    """What followed when the last `gram` ids last stood there before; empty where they did not."""
    if len(ids) <= gram or most < 1:
        return []
    text = array("i", ids).tobytes()
    size = array("i").itemsize
    at = len(text) - size  # the last id belongs to what is looked for
    while (at := text.rfind(text[-gram * size :], 0, at + gram * size - 1)) >= 0:
        if at % size == 0:
            after = at // size + gram
            return ids[after : after + min(most, GUESSES)]
    return []
