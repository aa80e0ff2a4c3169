"""What chapters share: figures, and the dots of a measurement across all models."""

from collections.abc import Mapping, Sequence

from journey.evaluate.statistics import Estimate
from journey.report.charts import Dot, Mark, dots
from journey.report.life import Life, Stage


def figures(made: Sequence[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="figures">{"".join(made)}</div>'


def figure(chart: str, caption: str) -> str:
    """A chart and its caption, both HTML."""
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"


def nothing(why: str) -> str:
    """Why a chapter is empty."""
    return f'<p class="nothing">{why}</p>'


def by_model(
    life: Life, found: Mapping[Stage, Estimate], title: str, unit: str, caption: str, marks: Sequence[Mark] = ()
) -> str:
    """One number of every model, as a figure; the caption is HTML."""
    rows = [Dot(s.name, e, life.colour(s)) for s, e in found.items()]
    return figure(dots(rows, title=title, unit=unit, marks=marks), caption)
