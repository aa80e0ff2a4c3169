"""Numbers in English words and in digits: a small translation task that needs no download and has a right answer."""

from collections.abc import Iterator

import numpy as np

LARGEST = 999_999
# fmt: off
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on


def words(n: int) -> str:
    """A number from 0 to 999,999 in words: 412 is "four hundred and twelve", 20007 "twenty thousand and seven"."""
    if not 0 <= n <= LARGEST:
        raise ValueError(f"{n} is not from 0 to {LARGEST}")
    if n < 20:
        return _SMALL[n]
    if n < 100:
        return _TENS[n // 10 - 2] + (f"-{_SMALL[n % 10]}" if n % 10 else "")
    unit, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    rest = n % unit
    joint = " and " if rest < 100 else " "
    return f"{words(n // unit)} {name}" + (f"{joint}{words(rest)}" if rest else "")


def drawn(n: int, seed: int) -> Iterator[int]:
    """Different numbers, n of them or all that there are: of each number of digits as many as of any other, as far as
    there are so many."""
    rng, left = np.random.default_rng((seed, 5)), min(n, LARGEST + 1)
    for digits in range(1, 7):
        low = 10 ** (digits - 1) if digits > 1 else 0
        take = min(10**digits - low, -(-left // (7 - digits)))
        yield from (low + rng.permutation(10**digits - low)[:take]).tolist()
        left -= take
