"""The one error that a person sees: bad input, told in one line."""

import difflib
from collections.abc import Iterable


class JourneyError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do. The command line exits with 2."""


def nearest(word: str, options: Iterable[str]) -> str:
    """`, did you mean "x"?` for the option most like `word`, or an empty string when none is near."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return f', did you mean "{close[0]}"?' if close else ""


class Stopped(Exception):
    """The user asked to stop (Ctrl-C). What was done is saved; the same command goes on from there."""
