"""What a check returns."""

from dataclasses import dataclass, field
from typing import Any

REPORT = "install the pinned versions; if it stays, run `./journey test` and report this line"


@dataclass(frozen=True)
class Finding:
    """What one check saw. `ok` is None for what is worth knowing but stops nothing; `advice` says what to do."""

    ok: bool | None
    found: str
    advice: str = ""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
