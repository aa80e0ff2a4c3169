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
    size = array("q").itemsize
    text = array("q", ids).tobytes()  # looked through as bytes, which C does
    last, end = text[-gram * size :], len(text) - size
    while (at := text.rfind(last, 0, end)) >= 0:
        if at % size == 0:
            after = at // size + gram
            return ids[after : after + min(most, GUESSES)]
        end = at + gram * size - 1  # it began in the middle of an id
    return []
