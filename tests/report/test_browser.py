"""The page in a real browser, opened from disk: silent, alone, whole, and no wider than a phone."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journey import life

from ..life.conftest import write_life

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe"
)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
DESKTOP = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")


class Browser:
    """A headless Chromium, spoken to in its debugging protocol over a pipe: JSON messages that end in a zero byte."""

    def __init__(self, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        command = ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', str(CHROMIUM)]
        self.process = subprocess.Popen(
            [*command, *FLAGS.split(), f"--user-data-dir={folder}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self._read, self._count, self._session = b"", 0, ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result; events that come before it are kept."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, page: Path, screen: dict[str, Any]) -> None:
        """Open a file on a screen, and wait until it is loaded."""
        self.ask("Emulation.setDeviceMetricsOverride", **screen)
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is, in the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def close(self) -> None:
        self._out.close()
        self._in.close()
        self.process.terminate()
        self.process.wait(10)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            some = os.read(self._in.fileno(), 1 << 16)
            assert some, "the browser went away"
            self._read += some
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


@pytest.fixture(scope="module", params=[("index", "index"), ("chat", "chat"), ("docs", "index")], ids=lambda p: p[0])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole life, one whose recipe ends with the chat model, and one that has only begun."""
    until, planned = request.param
    return life.build(write_life(tmp_path_factory.mktemp("life"), until=until, planned=planned))


@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_is_silent_alone_and_whole(browser: Browser, page: Path, screen: dict[str, Any]) -> None:
    browser.open(page, screen)
    said = [e for e in browser.events if e.get("method") in ("Runtime.consoleAPICalled", "Log.entryAdded")]
    thrown = [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown"]
    assert said == [] and thrown == []
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("file:")] == [] and len(asked) == 1
    ids = re.findall(r'<section id="([^"]+)"', page.read_text(encoding="utf-8"))
    assert len(ids) > 10
    assert browser.value(f"{json.dumps(ids)}.filter(id => !document.getElementById(id)?.offsetHeight)") == []
    assert browser.value("document.documentElement.scrollWidth") <= screen["width"]
    beyond = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, details') && "
    beyond += f"e.getBoundingClientRect().right > {screen['width']} + 1).map(e => e.outerHTML.slice(0, 120))"
    assert browser.value(beyond) == []


def test_folded_parts_open_within_the_phone(browser: Browser, page: Path) -> None:
    browser.open(page, PHONE)
    folded = "const all = document.querySelectorAll('details'); all.forEach(d => { d.open = true }); all.length"
    assert browser.value(folded) > 0
    assert browser.value("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_whole_life_is_seen_at_once(browser: Browser, page: Path) -> None:
    """Every stage's row stands on the first screen of a laptop."""
    browser.open(page, DESKTOP)
    bottom = browser.value("document.querySelector('.life').getBoundingClientRect().bottom")
    assert bottom <= DESKTOP["height"]


def _brightness(colour: str) -> float:
    """Relative luminance of `rgb(…)`, as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_can_be_read_by_day_and_by_night(browser: Browser, page: Path, scheme: str) -> None:
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page, DESKTOP)
    ground = _brightness(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.1) == (scheme == "dark")
    for what in ("body", ".lede", ".chip.good", ".chip.bad", ".chip.unsure", ".chip.size", "nav a", "footer p"):
        ink = _brightness(browser.value(f"getComputedStyle(document.querySelector({what!r})).color"))
        lighter, darker = max(ink, ground), min(ink, ground)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, what
    browser.ask("Emulation.setEmulatedMedia", features=[])


def test_on_paper_it_is_white_whatever_the_screen_and_has_no_links_to_click(browser: Browser, page: Path) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.ask("Emulation.setEmulatedMedia", media="print", features=dark)
    browser.open(page, DESKTOP)
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.ask("Emulation.setEmulatedMedia", media="", features=[])


def test_the_watch_would_see_what_it_watches_for(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><script>console.warn('w')</script><img src='none.png'>"
        "<p style='width: 900px'>wide</p><script>missing()</script>"
    )
    browser.open(bad, PHONE)
    methods = {e.get("method") for e in browser.events}
    assert {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"} <= methods
    assert sum(e.get("method") == "Network.requestWillBeSent" for e in browser.events) == 2
    assert browser.value("document.documentElement.scrollWidth") > PHONE["width"]
