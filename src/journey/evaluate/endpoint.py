"""An OpenAI-compatible server, asked with patience: one that is busy or away is asked again."""

import json
import os
import time
from typing import Any
from urllib.parse import urlsplit

from journey.data.remote import retry_after
from journey.errors import JourneyError
from journey.evaluate.suite.lines import one_line

TRIES = 5  # with waits of 1, 2, 4 and 8 seconds between them, where the server asks for none
MOST_WAIT = 120  # seconds that a server may ask for
TIMEOUT = 120.0  # seconds without a byte
_BUSY = (408, 425, 429, 500, 502, 503, 504, 529)
_sleep = time.sleep


class Unanswered(JourneyError):
    """The server cannot be asked."""


class Refused(Unanswered):
    """The server does not take this one question: too long, say. It can be asked others."""


class Endpoint:
    """One path of a server's API, `url` being the API's base (http://localhost:8080/v1) or the whole.

    The key is read from the environment variable `key_from_env`, and none is sent where that is not set. `who` opens
    the messages: "the judge".
    """

    def __init__(self, url: str, path: str, who: str, key_from_env: str = "OPENAI_API_KEY", tries: int = TRIES) -> None:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a bracket that is not closed, a port that is no number
            good = False
        if not good:
            raise JourneyError(f"{who}'s URL {one_line(url, 80)} is none: give one as http://localhost:8080/v1")
        ending = "" if parts.path.endswith(path) else path
        self.url, self.who, self.tries = url.rstrip("/") + ending, who, tries
        self.shown = f"{parts.hostname}{parts.path}"  # a query or a user's name may be secret
        self._key = os.environ.get(key_from_env, "").strip()
        self._key_from = key_from_env

    def post(self, body: dict[str, Any]) -> bytes:
        """What is answered. A server that is busy or away is asked `tries` times, each wait twice the last.

        Errors: Refused for this one question, Unanswered where there is no answer to be had.
        """
        import httpx2

        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        data = json.dumps(body).encode()  # half a character of a broken answer is spelled out
        said = ""
        for number in range(1, self.tries + 1):
            wait: float = 2 ** (number - 1)
            try:
                answer = httpx2.post(self.url, content=data, headers=headers, timeout=TIMEOUT)
            except httpx2.RequestError as error:
                said = f"does not answer ({type(error).__name__})"
            except (httpx2.InvalidURL, ValueError) as error:
                raise Unanswered(f"{self.who} at {self.shown} cannot be asked: {one_line(str(error))}") from None
            else:
                if answer.status_code == 200:
                    return answer.content
                said = f"answers {answer.status_code}"
                if answer.status_code in (400, 413, 422):
                    raise Refused(f"{self.who} at {self.shown} {said}: {one_line(answer.text, 100)}")
                if answer.status_code not in _BUSY:
                    raise Unanswered(
                        f"{self.who} at {self.shown} {said}: {self._advice(answer.status_code, answer.text)}"
                    )
                wait = retry_after(answer.headers) or wait
            if wait > MOST_WAIT:
                raise Unanswered(f"{self.who} at {self.shown} {said} and asks to wait {wait:,.0f} s: run it again then")
            if number < self.tries:
                _sleep(wait)
        raise Unanswered(
            f"{self.who} at {self.shown} {said}, in {self.tries} tries: run it again, it goes on from here"
        )

    def _advice(self, status: int, text: str) -> str:
        if status in (401, 403):
            return f"set {self._key_from} to a key that it takes"
        if status == 404:
            return "there is no such address, or no such model"
        return one_line(text, 100) or "it says no more"
