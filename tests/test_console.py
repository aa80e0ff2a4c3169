"""What a person sees, and how Ctrl-C is heard."""

import io
import os
import signal

import pytest
from rich.console import Console as Terminal

from journey import console
from journey.console import Console, LiveConsole, Meter, clock


class Clock:
    """Time that a test moves."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(console.time, "monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (42, "0:42"), (725, "12:05"), (59.6, "1:00"), (11045, "3:04:05")]
)
def test_seconds_as_a_person_reads_them(seconds, text):
    assert clock(seconds) == text


def test_the_meter_tells_rate_and_time_left(monkeypatch):
    time, meter = Clock(monkeypatch), Meter()
    meter.update(0, 1_000_000)
    time.now += 10
    meter.update(50_000, 1_000_000)
    assert meter.text("tokens", {"loss": 3.21449}) == (
        "  5 %  50,000 of 1,000,000 tokens  loss 3.214  5,000 tokens/s  3:10 left"
    )


def test_the_rate_is_that_of_the_last_seconds_and_not_of_what_a_resumed_run_had_done(monkeypatch):
    time, meter = Clock(monkeypatch), Meter()
    for second in range(60):
        meter.update(500_000 + (second * 10 if second < 30 else 300 + (second - 30) * 100), 1_000_000)
        time.now += 1
    assert "100 tokens/s" in meter.text("tokens", {})


def test_counting_something_else_begins_a_new_rate(monkeypatch):
    """A stage that first encodes documents and then trains on tokens must not mix the two."""
    time, meter = Clock(monkeypatch), Meter()
    meter.update(1, 300)
    time.now += 10
    meter.update(300, 300)
    time.now += 1
    meter.update(1_000, 1_000_000)
    time.now += 1
    meter.update(2_000, 1_000_000)
    assert "1,000 tokens/s" in meter.text("tokens", {})


def test_plain_lines_are_few(monkeypatch, capsys):
    time, shown = Clock(monkeypatch), Console()
    shown.begin("base", "pretrain")
    for step in range(100):
        shown.progress("base", step, 100, "tokens", {})
        time.now += 0.5
    shown.end("base", "0:50")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "base: pretrain" and lines[-1] == "base: 0:50"
    assert 3 <= len(lines[1:-1]) <= 5


@pytest.fixture
def live():
    shown = LiveConsole()
    shown._terminal = Terminal(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    return shown


def test_the_live_view_shows_what_is_written_as_it_is(live):
    """Brackets in a path are no markup."""
    live.begin("base", "pretrain")
    live.progress("base", 5, 10, "tokens", {"loss": 1.0})
    live.say("a [note]")
    live.end("base", "/texts[/1]/out")
    text = live._terminal.file.getvalue()
    assert "a [note]" in text and "/texts[/1]/out" in text and "✓" in text
    assert live._live is None


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_first_ctrl_c_asks_and_a_second_one_stops_at_once(capsys, kind):
    shown = Console()
    with pytest.raises(KeyboardInterrupt), shown.listening():
        os.kill(os.getpid(), kind)
        assert shown.stopping
        os.kill(os.getpid(), kind)
    assert "stopping at the next safe point" in capsys.readouterr().err


def test_the_signals_are_given_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Console().listening():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
