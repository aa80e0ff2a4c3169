"""The page of a life: what its stages tell, what was measured, and what each stage changed."""

from pathlib import Path

from journey.files import write_text
from journey.life.page import page
from journey.life.workspace import Life
from journey.report.render import render


def build(workspace: Path | str) -> Path:
    """Write report.html into a workspace from what its nodes recorded and what was measured; returns its path.

    Stages that have not run, or are not measured yet, are said to be so. Errors: JourneyError without a plan.json.
    """
    folder = Path(workspace)
    out = folder / "report.html"
    write_text(out, render(page(Life.read(folder))))
    return out
