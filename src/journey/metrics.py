"""One number in the shape that `--json`, the lineage and the page share."""

from typing import TypeAlias

Metric: TypeAlias = dict[str, float | int | str | None]


def metric(
    value: float,
    unit: str = "",
    convention: str = "",
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
) -> Metric:
    """A number, its 95 % interval and how many items it rests on where it has one, its unit, and how it was counted."""
    return {"value": value, "low": low, "high": high, "n": n, "unit": unit, "convention": convention}
