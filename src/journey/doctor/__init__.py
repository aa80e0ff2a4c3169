"""`journey doctor`: this machine and this installation, looked at and measured, with advice where it is wrong."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from journey.doctor import installation, selfcheck, speed
from journey.doctor.finding import REPORT, Finding

CHECKS: dict[str, dict[str, Callable[[], Finding]]] = {
    "Machine": {
        "python": installation.python,
        "cores": installation.cores,
        "memory": installation.memory,
        "disk": installation.disk,
        "gpu": installation.gpu,
        "kernel": installation.kernel,
    },
    "Packages": {
        "installed": installation.packages,
        "versions": installation.versions,
        "extras": installation.extras,
    },
    "Numbers": {
        "qwen3": partial(selfcheck.against_transformers, "qwen3"),
        "gpt2": partial(selfcheck.against_transformers, "gpt2"),
        "bpe": selfcheck.against_tokenizers,
        "generation": selfcheck.cached_against_full,
        "checkpoint": selfcheck.round_trip,
    },
    "Speed": {
        "matmul": speed.matmul,
        "reading": speed.reading,
        "training": speed.training,
    },
}


def examine(say: Callable[[str], None] = print) -> dict[str, Any]:
    """Look at everything, `say` each finding as it is made, and return {"ok", "metrics", "error"}.

    No check stops another: one that raises has failed. The error, a line, names those and the first cause.
    """
    start = time.perf_counter()
    findings: dict[str, Finding] = {}
    for title, checks in CHECKS.items():
        say(_render(title, style="bold"))
        for name, check in checks.items():
            findings[name] = _attempt(check)
            say(_row(name, findings[name]))
    failed = [name for name, finding in findings.items() if finding.ok is False]
    verdict = f"✗ wrong: {', '.join(failed)}" if failed else "✓ all is well"
    say(_render(f"{verdict} ({time.perf_counter() - start:.0f} s)", style="bold red" if failed else "bold green"))
    return {
        "ok": not failed,
        "metrics": {name: value for finding in findings.values() for name, value in finding.metrics.items()},
        "error": f"{', '.join(failed)} failed: {findings[failed[0]].found}" if failed else None,
    }


def _attempt(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except ImportError as error:
        return Finding(False, _first_line(error), "see Packages for what is missing; if nothing is, install it again")
    except Exception as error:
        return Finding(False, f"{type(error).__name__}: {_first_line(error)}", REPORT)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _row(name: str, finding: Finding) -> str:
    """`✓ name  what was found`, and under it what to do."""
    from rich.table import Table
    from rich.text import Text

    mark, color = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("·", "yellow")}[finding.ok]
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(width=10)
    table.add_column(overflow="fold")
    table.add_row(Text(mark, color), name, Text(finding.found))
    if finding.advice:
        table.add_row("", "", Text(f"→ {finding.advice}", "yellow"))
    return _render(table)


def _render(what: Any, style: str = "") -> str:
    """What rich would print, as text: in colour where stdout is a terminal."""
    from rich.console import Console

    terminal = Console(highlight=False)
    terminal.width = min(terminal.width, 110)
    with terminal.capture() as text:
        terminal.print(what, style=style, markup=False)
    return "\n".join(line.rstrip() for line in text.get().splitlines())
