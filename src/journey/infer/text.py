"""From ids to the text that a reader may see: whole characters as they come, up to the first stop string."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from journey.errors import JourneyError
from journey.tokenizer.codec import check

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

MOST_STOPS = 32  # each costs a comparison a character


class TextStream:
    """`tokenizer.decode` id by id: text comes as soon as its characters are whole, for a token may end inside one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._spelled = tokenizer.spelled
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that this id completes, possibly none."""
        return self._utf8.decode(self._spelled(token))

    def end(self) -> str:
        """What stands for the bytes of a character that never became whole."""
        return self._utf8.decode(b"", final=True)


class StopStrings:
    """The text of ids, up to the first stop string, which is no part of it.

    The text ends with the first character that completes a stop string, however tokens cut it: one may begin and end
    inside tokens. Of several that the same character completes, the longest counts. So one of which another is the
    beginning, or a part further in, is never reached. What may be the beginning of a stop string is held back until
    that is known. Time is linear in the text (times the number of stop strings), whatever it repeats.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        """More than `MOST_STOPS` stop strings, an empty one, or one with a lone surrogate raise JourneyError."""
        if len(stops) > MOST_STOPS:
            raise JourneyError(f"{len(stops)} stop strings: at most {MOST_STOPS} can be watched for")
        if "" in stops:
            raise JourneyError("a stop string is empty, every text would end before it began: leave it out")
        self.stopped: str | None = None
        """The stop string that has ended the text."""
        self._stream = TextStream(tokenizer)
        self._stops = [(stop, _borders(check(stop))) for stop in dict.fromkeys(stops)]
        self._matched = [0 for _ in self._stops]  # how much of each the text ends with
        self._held: deque[str] = deque()  # characters that are not shown yet

    def feed(self, token: int) -> str:
        """The text that this id makes certain, possibly none; after a stop string none ever. The id of an end
        (`tokenizer.stop`) is no text: it is not to be fed."""
        return self._certain(self._stream.feed(token))

    def end(self) -> str:
        """The rest of a text that ended otherwise: what was held back, and `TextStream.end`."""
        text = self._certain(self._stream.end()) + "".join(self._held)
        self._held.clear()
        return text

    def _certain(self, text: str) -> str:
        if not self._stops:
            return text
        if self.stopped is not None:
            return ""
        for char in text:
            self._held.append(char)
            self._follow(char)
            if complete := [stop for (stop, _), n in zip(self._stops, self._matched, strict=True) if n == len(stop)]:
                self.stopped = max(complete, key=len)
                shown = self._show(len(self._held) - len(self.stopped))
                self._held.clear()
                return shown
        return self._show(len(self._held) - max(self._matched))

    def _follow(self, char: str) -> None:
        """How much of each stop string the text ends with, after one more character (Knuth, Morris and Pratt)."""
        for i, (stop, borders) in enumerate(self._stops):
            n = self._matched[i]
            while n and stop[n] != char:
                n = borders[n]
            self._matched[i] = n + (stop[n] == char)

    def _show(self, n: int) -> str:
        return "".join(self._held.popleft() for _ in range(n))


def _borders(stop: str) -> list[int]:
    """Of each beginning of a stop string, n characters long, its longest shorter beginning that is also its end."""
    borders = [0, 0]
    for char in stop[1:]:
        n = borders[-1]
        while n and stop[n] != char:
            n = borders[n]
        borders.append(n + (stop[n] == char))
    return borders
