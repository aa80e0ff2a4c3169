"""Asking the Hub with patience, and a file of it that is read where it lies, a part at a time."""

import email.utils
import io
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from journey.console import Console
from journey.data.hub import refusals
from journey.errors import JourneyError

TRIES = 6  # with waits of 1, 2, 4, 8 and 16 seconds between them, where the Hub asks for none
MOST_WAIT = 900  # seconds that the Hub may ask for
TIMEOUT = 30  # seconds without a byte
BLOCK = 8 << 20  # bytes that are asked for at once
_BUSY = (408, 429, 500, 502, 503, 504)

Answer = TypeVar("Answer")
_sleep = time.sleep


class Away(JourneyError):
    """The Hub gave no answer, however often it was asked."""


def patiently(ask: Callable[[], Answer], what: str, tries: int = TRIES) -> Answer:
    """What `ask` gives. A Hub that is busy (429, 5xx) or does not answer is asked so many times, each wait twice the
    last one or as long as it says itself, and a line tells of each.

    Errors: Away when it stays so, or asks for more than MOST_WAIT; what else `ask` raises goes through.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    for number in range(1, tries + 1):
        asked: float | None = None
        try:
            return ask()
        except OfflineModeIsEnabled:
            raise Away(f"{what}: HF_HUB_OFFLINE is set: unset it to ask the Hub") from None
        except HfHubHTTPError as error:
            if error.response is None or error.response.status_code not in _BUSY:
                raise
            said, asked = f"answers {error.response.status_code}", _wait_asked(error.response.headers)
        except (httpx2.TransportError, _BrokeOff) as error:
            said = f"does not answer ({type(error).__name__.strip('_')})"
        if asked is not None and asked > MOST_WAIT:
            raise Away(f"{what}: the Hub {said} and asks to wait for {asked:,.0f} s: run it again then") from None
        if number < tries:
            seconds = 2 ** (number - 1) if asked is None else asked
            Console().say(f"{what}: the Hub {said}, waits {seconds:.0f} s (try {number} of {tries})")
            _sleep(seconds)
    raise Away(f"{what}: the Hub {said}, in {tries} tries: run it again later, or give files of your own")


def _wait_asked(headers: Any) -> float | None:
    """How many seconds an answer asks to wait: by Retry-After, or by the Hub's own rate limit."""
    from huggingface_hub.utils import parse_ratelimit_headers

    if (after := retry_after(headers)) is not None:
        return after
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that any server's answer asks to wait by its Retry-After, a number or a date; None where it does not."""
    after = headers.get("Retry-After", "").strip()
    if after.isdecimal() and after.isascii():
        return float(after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError):  # empty, or no date
        return None


class _BrokeOff(Exception):
    """An answer that ended before its end."""


class RemoteFile(io.RawIOBase):
    """A file of a data set at one commit, readable from any place; nothing of it is kept.

    Put an `io.BufferedReader` of BLOCK bytes around it: each `readinto` is a request.
    """

    def __init__(self, repository: str, commit: str, file: str) -> None:
        """Errors: JourneyError for a file that is not there or not given, Away."""
        from huggingface_hub import hf_hub_url

        self._repository, self._file, self._place = repository, file, 0
        with refusals(repository, "dataset", file):  # it refuses a name that is none
            self._url = hf_hub_url(repository, file, repo_type="dataset", revision=commit)
        _, self.size = self._part(0, 1)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError("a place before the beginning of the file")  # as files have it
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        stop = min(self.size, self._place + len(buffer))
        if stop <= self._place:
            return 0
        data, _ = self._part(self._place, stop)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _part(self, start: int, stop: int) -> tuple[bytes, int]:
        """Bytes start to stop, and how many the file has. Of an empty file there are none."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        what = f"{self._file} of the dataset {self._repository}"

        def ask() -> tuple[bytes, int]:
            wanted = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
            headers = build_hf_headers() | wanted
            with get_session().stream("GET", self._url, headers=headers, timeout=TIMEOUT) as answer:
                if answer.status_code == 416 and start == 0:
                    return b"", 0
                if answer.status_code >= 400:
                    answer.read()
                    hf_raise_for_status(answer)
                place, _, size = answer.headers.get("Content-Range", "").partition("/")
                if answer.status_code != 206 or not size.isdigit():
                    raise JourneyError(f"{what}: the Hub gives no parts of it: download it, and give its path")
                data = answer.read()
            if place != f"bytes {start}-{stop - 1}" or len(data) != stop - start:
                raise _BrokeOff  # nothing, say, which would be taken for the end of the file
            return data, int(size)

        with refusals(self._repository, "dataset", self._file):
            return patiently(ask, what)
