"""The page that shows what each stage changed: one self-contained HTML file, made from the files of the nodes."""

from pathlib import Path

from journey.files import write_text
from journey.report.life import Life
from journey.report.page import page


def build(workspace: Path | str) -> Path:
    """Write report.html into a workspace from what its nodes recorded and what was measured; returns its path.

    Stages that have not run, or are not measured yet, are said to be so. Errors: JourneyError without a plan.json.
    """
    folder = Path(workspace)
    out = folder / "report.html"
    write_text(out, page(Life.read(folder)))
    return out
